//! The command line.

use clap::{Parser, Subcommand};

use crate::exit::EXIT_HELP;

/// Firefox OS's TCPSocket, from the shell.
#[derive(Debug, Parser)]
#[command(name = "tcpsocket", version, after_help = EXIT_HELP)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Plays a client and a server over loopback, shows every call and event, and checks what it saw.
    Demo,
    /// Opens a connection: standard input is sent, what arrives goes to standard output.
    #[command(after_help = EXIT_HELP)]
    Open(Open),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Open {
    /// The host to reach: a name, or an IPv4 or IPv6 address (without brackets).
    pub(crate) host: String,
    /// The port to reach, 1 to 65535.
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: u16,
    /// When the input ends, send what is left and close. Otherwise the connection stays until the peer closes it.
    ///
    /// The interface has no half-close, so an answer that is still on its way is not shown.
    #[arg(long)]
    pub(crate) close_on_eof: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn ports_are_1_to_65535() {
        for (port, fine) in [
            ("0", false),
            ("1", true),
            ("65535", true),
            ("65536", false),
            ("http", false),
        ] {
            let parsed = Args::try_parse_from(["tcpsocket", "open", "127.0.0.1", port]);
            assert_eq!(parsed.is_ok(), fine, "{port}");
        }
    }
}

//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use clap_complete::Shell;
use tcpsocket::StartTls;

use crate::{exit, help};

/// Firefox OS's TCPSocket, from the shell.
#[derive(Debug, Parser)]
#[command(name = "tcpsocket", version, max_term_width = 100, after_help = help::top())]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Plays a client and a server over loopback, and checks what it sees.
    ///
    /// Shows every call and every event, with the state and the buffered bytes right after it.
    #[command(after_help = exit::help())]
    Demo,
    /// Opens a connection: standard input is sent, what arrives goes to standard output.
    #[command(after_help = exit::help(), after_long_help = help::OPEN.long())]
    Open(Open),
    /// Waits for a connection: standard input is sent, what arrives goes to standard output.
    #[command(after_help = exit::help(), after_long_help = help::LISTEN.long())]
    Listen(Listen),
    /// Prints a completion script for a shell.
    #[command(after_long_help = help::COMPLETIONS.long())]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Prints the manual page, as roff.
    #[command(after_long_help = help::MAN.long())]
    Man,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Open {
    /// The host to reach: a name, or an IPv4 or IPv6 address.
    ///
    /// An IPv6 address is written without brackets, a link-local one with its zone: fe80::1%eth0.
    pub(crate) host: String,
    /// The port to reach, 1 to 65535.
    #[arg(value_parser = port_to_reach, allow_negative_numbers = true)]
    pub(crate) port: u16,
    /// TLS from the first byte, as in HTTPS or IMAPS.
    ///
    /// The certificate must be for HOST, and from an authority that is trusted. There is no way to go on without.
    #[arg(long, group = "encryption")]
    pub(crate) tls: bool,
    /// TLS after a few words in clear, as mail servers want it.
    ///
    /// The words are said here, and their answers not shown. After that, greet anew: EHLO, CAPABILITY or CAPA.
    #[arg(long, value_name = "PROTOCOL", group = "encryption", value_parser = starttls())]
    pub(crate) starttls: Option<StartTls>,
    /// The name of this machine in SMTP's EHLO, before TLS [default: [127.0.0.1]].
    ///
    /// A domain, or an address in brackets; some servers refuse the latter. Everybody on the way can read it.
    #[arg(long, value_name = "NAME", requires = "starttls", value_parser = ehlo)]
    pub(crate) ehlo: Option<String>,
    /// Trust the certificates in this file (PEM), and no others.
    ///
    /// Each is trusted itself, if the server shows just that one, as those that `openssl req -x509` makes; and as an authority, if it
    /// says that it is one. Host and dates are checked as ever. Without this, the authorities of the operating system are trusted.
    #[arg(long, value_name = "FILE", requires = "encryption", value_hint = clap::ValueHint::FilePath)]
    pub(crate) ca: Option<PathBuf>,
    /// Offer this protocol by ALPN, such as h2 or http/1.1.
    ///
    /// May be given several times, the preferred one first. --trace shows which was agreed on.
    #[arg(long, value_name = "PROTOCOL", requires = "encryption")]
    pub(crate) alpn: Vec<String>,
    /// Give up when there is no connection after so many seconds [default: 30].
    ///
    /// Looking the name up and --tls count. With --starttls, what is said in clear counts, and the handshake after it may
    /// take as long again. More than 0 and at most 86400 (a day); fractions are fine.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) connect_timeout: Option<Duration>,
    /// When the input ends, send what is left and close.
    ///
    /// Without this, the connection stays until the peer closes it. The interface has no half-close, so an answer that is
    /// still on its way is not shown. Exit code 0 means that the operating system has all of it, not that the peer has.
    #[arg(long)]
    pub(crate) close_on_eof: bool,
    /// Print every call and every event on standard error.
    ///
    /// Each is a line: milliseconds since the beginning, the state and the buffered bytes right after it, and what it was.
    #[arg(long)]
    pub(crate) trace: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Listen {
    /// The port to listen on, 1 to 65535, or 0 to have one chosen.
    ///
    /// Standard error tells which one it is.
    #[arg(value_parser = port, allow_negative_numbers = true)]
    pub(crate) port: u16,
    /// The address to listen on.
    ///
    /// 0.0.0.0 and :: are all addresses of this machine, reachable by whoever can reach it.
    #[arg(long, default_value = "127.0.0.1", value_parser = address, value_hint = clap::ValueHint::Other)]
    pub(crate) address: IpAddr,
    /// When a connection has ended, wait for the next one.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Print every call and every event on standard error.
    ///
    /// Each is a line: milliseconds since the connection was there, the state and the buffered bytes right after it, and
    /// what it was.
    #[arg(long)]
    pub(crate) trace: bool,
}

fn starttls() -> impl clap::builder::TypedValueParser<Value = StartTls> {
    use clap::builder::{PossibleValuesParser, TypedValueParser};
    PossibleValuesParser::new(StartTls::ALL.iter().map(|it| it.as_str()))
        .try_map(|name| name.parse::<StartTls>())
}

fn ehlo(name: &str) -> Result<String, String> {
    match StartTls::check_name(name) {
        Ok(()) => Ok(name.to_owned()),
        Err(error) => Err(error.message().to_owned()),
    }
}

fn port(text: &str) -> Result<u16, String> {
    match text.parse::<u16>() {
        Ok(port) => Ok(port),
        Err(_) if !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit()) => {
            Err("a port is at most 65535".into())
        }
        Err(_) => Err("a port is a number; names of services are not looked up".into()),
    }
}

fn port_to_reach(text: &str) -> Result<u16, String> {
    match port(text)? {
        0 => Err("no peer can listen on port 0".into()),
        port => Ok(port),
    }
}

fn address(text: &str) -> Result<IpAddr, String> {
    match text.parse() {
        Ok(address) => Ok(address),
        Err(_) if text.contains('%') => {
            Err("an address with a zone cannot be listened at; :: is all of them".into())
        }
        Err(_) if text.starts_with('[') => {
            Err("an IPv6 address is written without brackets".into())
        }
        Err(_) => Err("not an address, such as 127.0.0.1 or ::1; names are not looked up".into()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.parse().ok().filter(|it: &f64| !it.is_nan());
    let number = number.ok_or("not a number")?;
    match Duration::try_from_secs_f64(number) {
        Ok(time) if !time.is_zero() && time <= LONGEST => Ok(time),
        _ => Err(format!(
            "must be more than 0 and at most {} seconds (a day)",
            LONGEST.as_secs()
        )),
    }
}

/// A day.
const LONGEST: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parsed(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(std::iter::once("tcpsocket").chain(line.split_whitespace()))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (line, fine) in [
            ("open 127.0.0.1 0", false),
            ("open 127.0.0.1 1", true),
            ("open 127.0.0.1 65535", true),
            ("open 127.0.0.1 65536", false),
            ("open 127.0.0.1 http", false),
            ("open --tls example.org 993", true),
            ("open --starttls imap example.org 143", true),
            ("open --starttls ftp example.org 21", false),
            ("open --tls --starttls imap example.org 143", false),
            (
                "open --starttls smtp --ehlo me.example example.org 587",
                true,
            ),
            (
                "open --starttls smtp --ehlo [192.0.2.7] example.org 587",
                true,
            ),
            ("open --starttls smtp --ehlo a@b example.org 587", false),
            ("open --ehlo me.example example.org 587", false),
            ("open --ca roots.pem example.org 993", false),
            ("open --tls --ca roots.pem example.org 993", true),
            ("open --alpn h2 example.org 443", false),
            ("open --tls --alpn h2 --alpn http/1.1 example.org 443", true),
            ("open --connect-timeout 0 example.org 443", false),
            ("open --connect-timeout 0.5 example.org 443", true),
            ("open --connect-timeout -1 example.org 443", false),
            ("open --connect-timeout NaN example.org 443", false),
            ("open --connect-timeout 1e300 example.org 443", false),
            ("listen 0", true),
            ("listen 65536", false),
            ("listen --address ::1 --keep 8080", true),
            ("listen --address localhost 8080", false),
            ("completions bash", true),
            ("completions csh", false),
        ] {
            assert_eq!(parsed(line).is_ok(), fine, "{line}");
        }
    }
}

//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use clap_complete::Shell;
use tcpsocket::StartTls;

use crate::{exit, help};

/// Firefox OS's TCPSocket from the shell: TCP and TLS connections over standard input and output.
#[derive(Debug, Parser)]
#[command(name = "tcpsocket", version, max_term_width = 100, after_help = help::top())]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Play a client and a server over loopback, and check the result.
    ///
    /// Every call and every event is a line, with the state and the buffered bytes right after it.
    #[command(after_help = exit::help())]
    Demo,
    /// Connect to a server: send standard input, write received bytes to standard output.
    #[command(after_help = exit::help(), after_long_help = help::OPEN.long())]
    Open(Open),
    /// Wait for a client: send standard input, write received bytes to standard output.
    #[command(after_help = exit::help(), after_long_help = help::LISTEN.long())]
    Listen(Listen),
    /// Print a completion script for a shell.
    #[command(after_long_help = help::COMPLETIONS.long())]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the manual page, as roff.
    #[command(after_long_help = help::MAN.long())]
    Man,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Open {
    /// The host to connect to: a name, or an IPv4 or IPv6 address.
    ///
    /// Write IPv6 addresses without brackets, and link-local ones with their zone: fe80::1%eth0.
    pub(crate) host: String,
    /// The port to connect to, 1 to 65535.
    #[arg(value_parser = port_to_reach, allow_negative_numbers = true)]
    pub(crate) port: u16,
    /// Use TLS from the first byte, as HTTPS and IMAPS do.
    ///
    /// The certificate must be valid for HOST and come from a trusted authority. No option disables this check.
    #[arg(long, group = "encryption")]
    pub(crate) tls: bool,
    /// Begin in the clear and switch to TLS, as mail servers do.
    ///
    /// The command itself speaks the dialogue before the handshake, and does not show it. Then greet the server again: EHLO,
    /// CAPABILITY or CAPA.
    #[arg(long, value_name = "PROTOCOL", group = "encryption", value_parser = starttls())]
    pub(crate) starttls: Option<StartTls>,
    /// The name of this machine in SMTP's EHLO, before TLS [default: [127.0.0.1]].
    ///
    /// A domain, or an address in brackets, which some servers refuse. It is sent in the clear.
    #[arg(long, value_name = "NAME", requires = "starttls", value_parser = ehlo)]
    pub(crate) ehlo: Option<String>,
    /// Trust the certificates in this file (PEM), and no others.
    ///
    /// Each certificate is trusted itself, if the server presents exactly that one (such as the output of `openssl req -x509`), and as
    /// an authority, if it says that it is one. Host and dates are always checked. Without this option, the authorities of the
    /// operating system are trusted.
    #[arg(long, value_name = "FILE", requires = "encryption", value_hint = clap::ValueHint::FilePath)]
    pub(crate) ca: Option<PathBuf>,
    /// Offer this protocol by ALPN, such as h2 or http/1.1.
    ///
    /// Repeat the option to offer several, the preferred one first. --trace shows the protocol agreed on.
    #[arg(long, value_name = "PROTOCOL", requires = "encryption")]
    pub(crate) alpn: Vec<String>,
    /// Give up if the connection is not open after this many seconds [default: 30].
    ///
    /// The limit includes the lookup and the handshake of --tls. With --starttls it includes the dialogue in the clear; the handshake
    /// may take as long again. More than 0 and at most 86400 (a day); fractions are allowed.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) connect_timeout: Option<Duration>,
    /// When the input ends, send what is left and close.
    ///
    /// Without this option, the connection stays open until the peer closes it. There is no half-close, so answers still on their
    /// way are not shown. Exit code 0 means that the operating system has all of the input, not that the peer has.
    #[arg(long)]
    pub(crate) close_on_eof: bool,
    /// Print every call and every event to standard error.
    ///
    /// One line each: milliseconds since the start, the state and the buffered bytes right after it, and the call or event.
    #[arg(long)]
    pub(crate) trace: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Listen {
    /// The port to listen on, 1 to 65535, or 0 for an automatic one.
    ///
    /// The command prints the address and the port to standard error.
    #[arg(value_parser = port, allow_negative_numbers = true)]
    pub(crate) port: u16,
    /// The address to listen on.
    ///
    /// 0.0.0.0 and :: are all addresses of this machine: everybody who can reach it can connect.
    #[arg(long, default_value = "127.0.0.1", value_parser = address, value_hint = clap::ValueHint::Other)]
    pub(crate) address: IpAddr,
    /// Accept one connection after another, not just one.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Print every call and every event to standard error.
    ///
    /// One line each: milliseconds since the connection was accepted, the state and the buffered bytes right after it, and the call
    /// or event.
    #[arg(long)]
    pub(crate) trace: bool,
}

fn starttls() -> impl clap::builder::TypedValueParser<Value = StartTls> {
    use clap::builder::{PossibleValuesParser, TypedValueParser};
    PossibleValuesParser::new(StartTls::ALL.iter().map(|protocol| protocol.as_str()))
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
        Err(_) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err("a port is at most 65535".into())
        }
        Err(_) => Err("a port is a number; service names are not looked up".into()),
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
            Err("cannot listen on an address with a zone; use :: for all addresses".into())
        }
        Err(_) if text.starts_with('[') => Err("write IPv6 addresses without brackets".into()),
        Err(_) => Err("not an IP address such as 127.0.0.1 or ::1; names are not looked up".into()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.parse().ok().filter(|number: &f64| !number.is_nan());
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

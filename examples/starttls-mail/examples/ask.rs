//! `cargo run -p starttls-mail --example ask -- smtp mail.example.org 587`, with the roots of the operating system.

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use smol::Timer;
use smol::future::or;
use starttls_mail::ask;
use tcpsocket::{Error, ErrorName, SocketProvider, StartTls};
use tcpsocket_smol::Smol;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let [protocol, host, port] = &args[..] else {
        eprintln!("usage: ask smtp|imap|pop3 HOST PORT");
        return ExitCode::FAILURE;
    };
    match run(protocol, host, port) {
        Ok(lines) => {
            lines
                .iter()
                .for_each(|line| println!("{}", line.escape_debug()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(protocol: &str, host: &str, port: &str) -> Result<Vec<String>, Error> {
    let protocol: StartTls = protocol.parse()?;
    let port: u16 = port
        .parse()
        .map_err(|_| Error::new(ErrorName::InvalidAccess, format!("{port:?} is not a port")))?;
    let net = Smol::new();
    let limit = Duration::from_secs(30);
    smol::block_on(async {
        let late = async {
            Timer::after(limit).await;
            Err(Error::new(
                ErrorName::NetworkTimeout,
                format!("no answer in {limit:?}"),
            ))
        };
        let answer = or(ask(&net, host, port, protocol), late).await;
        net.idle().await;
        answer
    })
}

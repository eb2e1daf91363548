//! The four clients on the command line, with the roots of the operating system. The README says how.

use std::env;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use clients::Protection;
use clients::http::Http;
use clients::imap::Imap;
use clients::redis::{Command, Redis, Token};
use clients::smtp::Smtp;
use smol::Timer;
use smol::future::or;
use tcpsocket::{Bytes, Error, ErrorName, SocketOptions, SocketProvider};
use tcpsocket_smol::{Loop, Smol};

const USAGE: &str = "\
usage: client http HOST PORT PATH            port 443 is HTTPS
       client redis HOST PORT SET|GET ARG...
       client imap HOST PORT USER NUMBER     prints a letter; the password is in PASSWORD; port 993 is TLS, others STARTTLS
       client smtp HOST PORT FROM TO         sends standard input; port 465 is TLS, others STARTTLS";

/// How long anything may take, all together.
const LIMIT: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("client: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[&str]) -> Result<(), Error> {
    let event_loop = Loop::new().map_err(local)?;
    let net = Smol::on(&event_loop);
    event_loop.block_on(async {
        let late = async {
            Timer::after(LIMIT).await;
            let message = format!("not done after {LIMIT:?}");
            Err(Error::new(ErrorName::NetworkTimeout, message))
        };
        let outcome = or(chosen(&net, args), late).await;
        net.idle().await;
        outcome
    })
}

async fn chosen(net: &dyn SocketProvider, args: &[&str]) -> Result<(), Error> {
    let usage = || Error::new(ErrorName::InvalidAccess, USAGE);
    let [protocol, host, port, rest @ ..] = args else {
        return Err(usage());
    };
    let port: u16 = port.parse().map_err(|_| usage())?;
    let protection = match port {
        465 | 993 => Protection::Tls,
        _ => Protection::StartTls,
    };
    match (*protocol, rest) {
        ("http", [path]) => {
            let (mut http, driver) = Http::connect(net, host, port, port == 443).await?;
            let driven = async {
                driver.await;
                std::future::pending().await
            };
            let download = async {
                let head = http.get(path).await?;
                eprintln!("{}", head.status);
                while let Some(part) = http.part().await? {
                    print(&part)?;
                }
                Ok(())
            };
            or(download, driven).await
        }
        ("redis", ["SET", key, value]) => {
            let set = Command::new("SET").arg((*key).to_owned());
            redis(net, host, port, set.arg((*value).to_owned())).await
        }
        ("redis", ["GET", key]) => {
            let get = Command::new("GET").arg((*key).to_owned());
            redis(net, host, port, get).await
        }
        ("imap", [user, number]) => {
            let number = number.parse().map_err(|_| usage())?;
            let password = env::var("PASSWORD").map_err(|_| usage())?;
            let mut imap = Imap::connect(net, host, port, protection).await?;
            imap.login(user, &password).await?;
            imap.select("INBOX").await?;
            let mut failed = None;
            let part = |it: Bytes| failed = failed.take().or(print(&it).err());
            imap.fetch(number, 1 << 30, part).await?;
            failed.map_or(Ok(()), Err)?;
            imap.logout().await
        }
        ("smtp", [from, to]) => {
            let mut letter = Vec::new();
            io::stdin().read_to_end(&mut letter).map_err(local)?;
            let mut smtp = Smtp::connect(net, host, port, protection).await?;
            let said = smtp.deliver(from, &[to], letter.chunks(4096)).await?;
            eprintln!("{}", said.escape_debug());
            smtp.quit().await
        }
        _ => Err(usage()),
    }
}

async fn redis(
    net: &dyn SocketProvider,
    host: &str,
    port: u16,
    command: Command,
) -> Result<(), Error> {
    let mut redis = Redis::connect(net, host, port, SocketOptions::new()).await?;
    let take = |token| match token {
        Token::Part(part) => print(&part),
        Token::Value(_) | Token::End => Ok(()),
        other => {
            eprintln!("{other:?}");
            Ok(())
        }
    };
    redis.pipeline([command], take).await?;
    redis.close().await
}

fn print(part: &[u8]) -> Result<(), Error> {
    io::stdout().write_all(part).map_err(local)
}

fn local(error: io::Error) -> Error {
    Error::with_source(
        ErrorName::Network,
        "the program's own input or output fails",
        error,
    )
}

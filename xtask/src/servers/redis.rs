//! Redis: a pipeline, and a value far larger than any buffer.

use std::io::{BufRead, Read};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::exchange::{Noise, digest, exchange, line, rate};
use super::process::{Folder, Server};
use super::{Check, Fixture};

const PIPELINE: usize = 10_000;
const LARGE: u64 = 64 << 20;

pub(super) const FIXTURE: Fixture = Fixture {
    name: "redis",
    binary: "redis-server",
    package: "redis-server",
    start,
    checks: &[
        Check {
            name: "PING",
            run: ping,
        },
        Check {
            name: "10,000 SET + 10,000 GET in one pipeline",
            run: pipeline,
        },
        Check {
            name: "a value of 64 MiB, SET and GET, by its digest",
            run: large,
        },
    ],
};

fn start(binary: &Path, folder: &Folder) -> Result<Server, String> {
    Server::start(folder, |port| {
        let mut redis = Command::new(binary);
        redis
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
            .arg("--dir")
            .arg(folder.path());
        Ok(redis)
    })
}

fn ping(tool: &Path, server: &Server) -> Result<String, String> {
    exchange(
        tool,
        server.port,
        Duration::from_secs(20),
        |out| out.write_all(b"PING\r\nQUIT\r\n"),
        |input| {
            expect(input, "+PONG")?;
            expect(input, "+OK")
        },
    )?;
    Ok(String::new())
}

fn pipeline(tool: &Path, server: &Server) -> Result<String, String> {
    exchange(
        tool,
        server.port,
        Duration::from_secs(60),
        |out| {
            for index in 0..PIPELINE {
                let value = value(index);
                write!(out, "*3\r\n$3\r\nSET\r\n$9\r\nkey-{index:05}\r\n")?;
                write!(out, "${}\r\n", value.len())?;
                out.write_all(&value)?;
                out.write_all(b"\r\n")?;
            }
            for index in 0..PIPELINE {
                write!(out, "*2\r\n$3\r\nGET\r\n$9\r\nkey-{index:05}\r\n")?;
            }
            out.write_all(b"QUIT\r\n")
        },
        |input| {
            for index in 0..PIPELINE {
                expect(input, "+OK").map_err(|error| format!("SET {index}: {error}"))?;
            }
            for index in 0..PIPELINE {
                let value = value(index);
                let wrong = |error| format!("GET {index}: {error}");
                expect(input, &format!("${}", value.len())).map_err(wrong)?;
                let mut reply = vec![0; value.len() + 2];
                input
                    .read_exact(&mut reply)
                    .map_err(|error| wrong(error.to_string()))?;
                if !reply.starts_with(&value) || !reply.ends_with(b"\r\n") {
                    return Err(wrong("another value".to_owned()));
                }
            }
            expect(input, "+OK")
        },
    )?;
    Ok(String::new())
}

/// Binary, of 0 to 399 bytes, and different for each index.
fn value(index: usize) -> Vec<u8> {
    let mut value = Vec::new();
    let noise = Noise::new(index as u64 * 2 + 1, index as u64 % 400).read_to_end(&mut value);
    debug_assert!(noise.is_ok(), "the generator cannot fail");
    value
}

fn large(tool: &Path, server: &Server) -> Result<String, String> {
    let expected = Noise::new(1, LARGE).digest();
    let begin = Instant::now();
    let got = exchange(
        tool,
        server.port,
        Duration::from_secs(120),
        |out| {
            write!(out, "*3\r\n$3\r\nSET\r\n$5\r\nlarge\r\n${LARGE}\r\n")?;
            std::io::copy(&mut Noise::new(1, LARGE), out)?;
            out.write_all(b"\r\n*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\nQUIT\r\n")
        },
        |input| {
            expect(input, "+OK")?;
            expect(input, &format!("${LARGE}"))?;
            let got = digest(input, LARGE)?;
            expect(input, "")?;
            expect(input, "+OK")?;
            Ok(got)
        },
    )?;
    if got != expected {
        return Err("the digests differ".to_owned());
    }
    Ok(rate(2 * LARGE, begin))
}

fn expect(input: &mut dyn BufRead, reply: &str) -> Result<(), String> {
    let got = line(input)?;
    if got == reply {
        Ok(())
    } else {
        Err(format!("{reply:?} expected, {got:?} came"))
    }
}

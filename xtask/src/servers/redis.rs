//! Redis: pipelines, and a value far larger than any buffer, both ways.

use std::io::{BufRead, Read};
use std::path::Path;
use std::process::Command as Process;
use std::time::{Duration, Instant};

use clients::redis::{Command, Redis, Token};
use sha2::{Digest, Sha256};
use tcpsocket::{Bytes, Error, SocketOptions, SocketProvider};

use super::Fixture;
use super::exchange::{Noise, digest, exchange, line, rate};
use super::net::{Way, wrong};
use super::process::{Folder, Server, program};
use super::run::Run;

/// Commands in a pipeline of the client: half of them SET, half GET.
const PIPELINE: usize = 100_000;

/// The same for the command.
const TOOL_PIPELINE: usize = 20_000;

const LARGE: u64 = 256 << 20;
const TOOL_LARGE: u64 = 64 << 20;

const LIMIT: Duration = Duration::from_secs(90);

pub(super) const FIXTURE: Fixture = Fixture {
    name: "redis",
    needs: &[("redis-server", "redis-server")],
    run,
};

pub(super) fn start(folder: &Folder) -> Result<Server, String> {
    let binary = program("redis-server")?;
    Server::start(folder, 1, |ports| {
        let mut redis = Process::new(&binary);
        redis
            .args(["--port", &ports[0].to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
            .arg("--dir")
            .arg(folder.path());
        Ok(redis)
    })
}

fn run(run: &mut Run, folder: &Folder) -> Result<(), String> {
    let server = start(folder)?;
    let port = server.port();
    let tool = run.tool.clone();
    for way in Way::ALL {
        run.check(
            &format!("{PIPELINE} commands in one pipeline, {way}"),
            || {
                let options = SocketOptions::new();
                way.run(&<_>::default(), LIMIT, async |net| {
                    pipeline(net, port, options, PIPELINE).await
                })
            },
        );
        run.check(
            &format!("a value of 256 MiB, there and back, {way}"),
            || {
                let options = SocketOptions::new();
                way.run(&<_>::default(), LIMIT, async |net| {
                    large(net, port, options, LARGE).await
                })
            },
        );
    }
    run.check(
        &format!("{TOOL_PIPELINE} commands in one pipeline, by the command"),
        || tool_pipeline(&tool, port),
    );
    run.check("a value of 64 MiB, there and back, by the command", || {
        tool_large(&tool, port)
    });
    Ok(())
}

/// SET for half of the commands, then GET for the other half, each reply compared.
pub(super) async fn pipeline(
    net: &dyn SocketProvider,
    port: u16,
    options: SocketOptions,
    count: usize,
) -> Result<String, Error> {
    let keys = count / 2;
    let key = |index: usize| format!("key-{index:05}");
    let sets = (0..keys).map(|it| Command::new("SET").arg(key(it)).arg(value(it)));
    let gets = (0..keys).map(|it| Command::new("GET").arg(key(it)));
    let (mut at, mut got) = (0, Vec::new());
    let take = |token| {
        match token {
            Token::Status(ok) if at < keys && ok == "OK" => at += 1,
            Token::Value(_) if at >= keys => got.clear(),
            Token::Part(part) if at >= keys => got.extend_from_slice(&part),
            Token::End if at >= keys && got == value(at - keys) => at += 1,
            other => return Err(wrong(format!("reply {at} is {other:?}"))),
        }
        Ok(())
    };
    let begun = Instant::now();
    let mut redis = Redis::connect(net, "127.0.0.1", port, options).await?;
    let answered = redis.pipeline(sets.chain(gets), take).await?;
    redis.close().await?;
    let rate = answered as f64 / begun.elapsed().as_secs_f64();
    Ok(format!("{rate:.0} commands/s"))
}

/// SET and GET of one value, compared by its digest.
pub(super) async fn large(
    net: &dyn SocketProvider,
    port: u16,
    options: SocketOptions,
    len: u64,
) -> Result<String, Error> {
    let begun = Instant::now();
    let mut redis = Redis::connect(net, "127.0.0.1", port, options).await?;
    let parts = Noise::new(1, len).parts(1 << 16);
    let set = Command::new("SET").arg("large").streamed(len, parts);
    let (mut got, mut digest) = (0, Sha256::new());
    let take = |token| {
        match token {
            Token::Status(ok) if ok == "OK" => {}
            Token::Value(it) if it == len => {}
            Token::Part(part) => {
                got += part.len() as u64;
                digest.update(&part);
            }
            Token::End => {}
            other => return Err(wrong(format!("the reply is {other:?}"))),
        }
        Ok(())
    };
    redis
        .pipeline([set, Command::new("GET").arg("large")], take)
        .await?;
    redis.close().await?;
    let told = rate(2 * len, begun);
    match got == len && digest.finalize()[..] == Noise::new(1, len).digest() {
        true => Ok(told),
        false => Err(wrong("the digests differ")),
    }
}

fn tool_pipeline(tool: &Path, port: u16) -> Result<String, String> {
    let count = TOOL_PIPELINE / 2;
    exchange(
        tool,
        &[],
        port,
        LIMIT,
        |out| {
            for index in 0..count {
                let value = value(index);
                write!(out, "*3\r\n$3\r\nSET\r\n$9\r\nkey-{index:05}\r\n")?;
                write!(out, "${}\r\n", value.len())?;
                out.write_all(&value)?;
                out.write_all(b"\r\n")?;
            }
            for index in 0..count {
                write!(out, "*2\r\n$3\r\nGET\r\n$9\r\nkey-{index:05}\r\n")?;
            }
            out.write_all(b"QUIT\r\n")
        },
        |input| {
            for index in 0..count {
                expect(input, "+OK").map_err(|error| format!("SET {index}: {error}"))?;
            }
            for index in 0..count {
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
fn value(index: usize) -> Bytes {
    let mut value = Vec::new();
    let noise = Noise::new(index as u64 * 2 + 1, index as u64 % 400).read_to_end(&mut value);
    debug_assert!(noise.is_ok(), "the generator cannot fail");
    value.into()
}

fn tool_large(tool: &Path, port: u16) -> Result<String, String> {
    let expected = Noise::new(1, TOOL_LARGE).digest();
    let begin = Instant::now();
    let got = exchange(
        tool,
        &[],
        port,
        LIMIT,
        |out| {
            write!(out, "*3\r\n$3\r\nSET\r\n$5\r\nlarge\r\n${TOOL_LARGE}\r\n")?;
            std::io::copy(&mut Noise::new(1, TOOL_LARGE), out)?;
            out.write_all(b"\r\n*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\nQUIT\r\n")
        },
        |input| {
            expect(input, "+OK")?;
            expect(input, &format!("${TOOL_LARGE}"))?;
            let got = digest(input, TOOL_LARGE)?;
            expect(input, "")?;
            expect(input, "+OK")?;
            Ok(got)
        },
    )?;
    if got != expected {
        return Err("the digests differ".to_owned());
    }
    Ok(rate(2 * TOOL_LARGE, begin))
}

fn expect(input: &mut dyn BufRead, reply: &str) -> Result<(), String> {
    let got = line(input)?;
    if got == reply {
        Ok(())
    } else {
        Err(format!("{reply:?} expected, {got:?} came"))
    }
}

//! redis.

use std::cell::Cell;
use std::io::{Read, Write};

use clients::redis::{Command, Redis, Token};
use tcpsocket::{Bytes, Error, ErrorName, SocketOptions};

use super::fails;
use super::peer::{Step, hear, say, script, serve, stammer};
use crate::run;

fn pipeline(port: u16, commands: Vec<Command>) -> Result<Vec<Token>, Error> {
    run(async |net| {
        let mut redis = Redis::connect(net, "127.0.0.1", port, SocketOptions::new()).await?;
        let mut tokens = Vec::new();
        let take = |token| {
            tokens.push(token);
            Ok(())
        };
        let count = commands.len();
        assert_eq!(redis.pipeline(commands, take).await?, count as u64);
        redis.close().await?;
        Ok(tokens)
    })
}

#[test]
fn commands_are_answered_in_order() {
    let (port, served) = script(vec![
        hear("*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"),
        stammer("+PONG\r\n$-1\r\n"),
    ]);
    let tokens = pipeline(
        port,
        vec![Command::new("PING"), Command::new("GET").arg("k")],
    );
    assert_eq!(tokens.unwrap(), [Token::Status("PONG".into()), Token::Null]);
    assert_eq!(served.join().unwrap(), b"");
}

/// A peer that answers at once and reads on only when its answers were taken: a client that first sent everything would wait
/// for ever. And commands are made when it is their time, not before.
#[test]
fn both_sides_speak_at_once() {
    const COUNT: usize = 16_000;
    let value = vec![b'v'; 16 << 10];
    let echo = format!("*2\r\n$4\r\nECHO\r\n${}\r\n", value.len());
    let len = echo.len() + value.len() + 2;
    let reply = [format!("${}\r\n", value.len()).as_bytes(), &value, b"\r\n"].concat();
    let (port, served) = serve(move |mut stream| {
        let mut command = vec![0; len];
        for _ in 0..COUNT {
            stream.read_exact(&mut command).unwrap();
            stream.write_all(&reply).unwrap();
        }
    });
    let value = Bytes::from(value);
    let (mut most, taken) = (0, Cell::new(0));
    let outcome = run(async |net| {
        let mut redis = Redis::connect(net, "127.0.0.1", port, SocketOptions::new()).await?;
        let commands = (0..COUNT).map(|made| {
            most = most.max(made - taken.get());
            Command::new("ECHO").arg(value.clone())
        });
        let take = |token| {
            taken.set(taken.get() + usize::from(token == Token::End));
            Ok(())
        };
        redis.pipeline(commands, take).await
    });
    assert_eq!(outcome.unwrap(), COUNT as u64);
    // What lies between is in the kernel, in both directions.
    assert!(most < COUNT / 2, "{most} commands were made in advance");
    served.join().unwrap();
}

#[test]
fn nonsense_ends_the_connection() {
    let ping = || hear("*1\r\n$4\r\nPING\r\n");
    let table: [(Vec<Step>, ErrorName); 5] = [
        (
            vec![ping(), say("HTTP/1.1 400 Bad Request\r\n")],
            ErrorName::Network,
        ),
        (vec![ping(), say("+PONG\r\n+PONG\r\n")], ErrorName::Network),
        (vec![ping(), say("*1\r\n".repeat(1000))], ErrorName::Network),
        (vec![ping(), say("+PO")], ErrorName::NetworkInterrupt),
        (vec![ping(), say("$5\r\nhell")], ErrorName::NetworkInterrupt),
    ];
    for (steps, name) in table {
        let (port, served) = script(steps);
        fails(pipeline(port, vec![Command::new("PING")]), name);
        served.join().unwrap();
    }
    let (port, served) = script(vec![]);
    let short = Command::new("SET").streamed(3, [Bytes::from("ab")]);
    fails(pipeline(port, vec![short]), ErrorName::Type);
    served.join().unwrap();
}

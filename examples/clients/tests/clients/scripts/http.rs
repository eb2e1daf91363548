//! HTTP.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_io::Timer;
use clients::http::{Head, Http};
use futures_lite::future::or;
use tcpsocket::{Error, ErrorName};

use super::fails;
use super::peer::{Step, hear, say, script, serve, stammer};
use crate::run;

/// Runs what uses a connection, beside the connection's driver.
fn with<T>(port: u16, client: impl AsyncFnOnce(Http) -> Result<T, Error>) -> Result<T, Error> {
    run(async |net| {
        let (http, driver) = Http::connect(net, "127.0.0.1", port, false).await?;
        let driven = async {
            driver.await;
            std::future::pending().await
        };
        or(client(http), driven).await
    })
}

async fn all(http: &mut Http, path: &str) -> Result<(Head, Vec<u8>), Error> {
    let head = http.get(path).await?;
    let mut body = Vec::new();
    while let Some(part) = http.part().await? {
        body.extend_from_slice(&part);
    }
    Ok((head, body))
}

/// What the request for this path is.
fn request(path: &str, port: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n").into_bytes()
}

/// A peer that hears one request, whatever its port, and follows the script then.
fn after_request(steps: Vec<Step>) -> (u16, std::thread::JoinHandle<Vec<u8>>) {
    let mut with = vec![hear("GET /x HTTP/1.1\r\nHost: 127.0.0.1:")];
    with.extend(steps);
    script(with)
}

#[test]
fn several_answers_come_on_one_connection() {
    let (port, served) = serve(|mut stream| {
        let port = stream.local_addr().unwrap().port().to_string();
        for (path, answer) in [
            (
                "/a",
                &b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"[..],
            ),
            (
                "/b",
                b"HTTP/1.1 404 \r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
            ),
            ("/c", b"HTTP/1.1 204 No Content\r\n\r\n"),
            ("/d", b"HTTP/1.1 200 OK\r\n\r\nto the end"),
        ] {
            let mut heard = request(path, &port);
            let expected = heard.clone();
            stream.read_exact(&mut heard).unwrap();
            assert_eq!(heard, expected);
            stream.write_all(answer).unwrap();
        }
    });
    let outcome = with(port, async |mut http| {
        let (head, body) = all(&mut http, "/a").await?;
        assert_eq!((head.status, &body[..]), (200, &b"abc"[..]));
        assert_eq!(head.header("content-length"), Some("3"));
        let (head, body) = all(&mut http, "/b").await?;
        assert_eq!((head.status, &body[..]), (404, &b"x"[..]));
        assert_eq!(all(&mut http, "/c").await?.1, b"");
        assert_eq!(all(&mut http, "/d").await?.1, b"to the end");
        fails(http.get("/e").await, ErrorName::InvalidState);
        Ok(())
    });
    outcome.unwrap();
    served.join().unwrap();
}

/// Whatever the server has sent and nobody has taken is in the kernel or in the inbox, and both are bounded.
#[test]
fn who_takes_slowly_slows_the_server_down() {
    const LEN: usize = 256 << 20;
    let taken = Arc::new(AtomicUsize::new(0));
    let seen = taken.clone();
    let (port, served) = serve(move |mut stream| {
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            request.extend(byte);
        }
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {LEN}\r\n\r\n").unwrap();
        let piece = vec![b'x'; 1 << 16];
        let mut most = 0;
        for sent in (0..LEN).step_by(piece.len()) {
            stream.write_all(&piece).unwrap();
            most = most.max((sent + piece.len()).saturating_sub(seen.load(Ordering::SeqCst)));
        }
        most
    });
    let outcome = with(port, async |mut http| {
        http.get("/x").await?;
        let mut pause = 0;
        while let Some(part) = http.part().await? {
            let all = taken.fetch_add(part.len(), Ordering::SeqCst) + part.len();
            // The driver runs meanwhile, and would take all that it gets.
            if all >= pause {
                Timer::after(Duration::from_millis(2)).await;
                pause = all + (1 << 20);
            }
        }
        Ok(taken.load(Ordering::SeqCst))
    });
    assert_eq!(outcome.unwrap(), LEN);
    let most = served.join().unwrap();
    assert!(
        most < 64 << 20,
        "{most} bytes were sent to somebody who did not take them"
    );
}

#[test]
fn answers_that_are_none_are_refused() {
    let many = "HTTP/1.1 200 OK\r\n".to_owned() + &"a: b\r\n".repeat(101);
    let long = "HTTP/1.1 200 OK\r\na: ".to_owned() + &"x".repeat(9000);
    for hostile in [
        "220 mail.example ESMTP\r\n",
        "HTTP/2.0 200 OK\r\n",
        "HTTP/1.1 20 OK\r\n",
        "HTTP/1.1 +20 OK\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/1.1 200 OK\n\n",
        "HTTP/1.1 200 OK\r\nno header\r\n\r\n",
        "HTTP/1.1 200 OK\r\na : b\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        &many,
        &long,
    ] {
        let (port, served) = after_request(vec![say(hostile)]);
        let outcome = with(port, async |mut http| all(&mut http, "/x").await);
        fails(outcome, ErrorName::Network);
        served.join().unwrap();
    }
}

#[test]
fn an_answer_that_ends_too_early_is_no_answer() {
    for (step, name) in [
        (say("HTTP/1.1 200"), ErrorName::NetworkInterrupt),
        (
            stammer("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfour"),
            ErrorName::NetworkInterrupt,
        ),
        (
            say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"),
            ErrorName::NetworkInterrupt,
        ),
    ] {
        let (port, served) = after_request(vec![step]);
        let outcome = with(port, async |mut http| {
            let ended = all(&mut http, "/x").await;
            fails(http.get("/y").await, ErrorName::InvalidState);
            ended
        });
        fails(outcome, name);
        served.join().unwrap();
    }
}

#[test]
fn what_is_no_path_is_not_sent_and_nobody_waits_without_a_driver() {
    let (port, served) = script(vec![]);
    let outcome = run(async |net| {
        let (mut http, driver) = Http::connect(net, "127.0.0.1", port, false).await?;
        for bad in ["", "x", "/a b", "/a\r\nHost: x", "/\u{e9}"] {
            fails(http.get(bad).await, ErrorName::Type);
        }
        drop(driver);
        http.get("/x").await
    });
    fails(outcome, ErrorName::InvalidState);
    served.join().unwrap();
}

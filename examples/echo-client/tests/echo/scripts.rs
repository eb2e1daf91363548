//! The client over real TCP. Who runs them picks the implementation, and offers `run`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use echo_client::{EchoClient, LONGEST, Lines, ping};
use tcpsocket::{Error, ErrorName, SocketOptions, SocketProvider, SocketProviderExt};

use crate::run;

/// How long anything here may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A peer for one connection, on a thread.
fn peer<T: Send + 'static>(
    script: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (u16, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        script(stream)
    });
    (port, thread)
}

/// Answers each line with the same line, and returns them when the client has left.
fn echo(stream: TcpStream) -> Vec<String> {
    let mut to = stream.try_clone().unwrap();
    let lines = BufReader::new(stream).lines().map(Result::unwrap);
    lines
        .inspect(|line| writeln!(to, "{line}").unwrap())
        .collect()
}

async fn lines(net: &dyn SocketProvider, port: u16) -> Lines {
    let socket = net.connect("127.0.0.1", port, SocketOptions::new()).await;
    Lines::new(socket.unwrap())
}

#[test]
fn pings_are_answered_in_order() {
    let (port, served) = peer(echo);
    let times = run(async |net| ping(net, "127.0.0.1", port, 3).await).unwrap();
    assert_eq!(times.len(), 3);
    assert_eq!(served.join().unwrap(), ["ping 1", "ping 2", "ping 3"]);
}

#[test]
fn lines_are_the_same_however_they_are_cut() {
    let text = b"one\r\ntwo\n\nfo\xfcr\r\n";
    for size in [1, 2, 3, text.len()] {
        let (port, served) = peer(move |mut stream| {
            for chunk in text.chunks(size) {
                stream.write_all(chunk).unwrap();
            }
        });
        let seen = run(async |net| {
            let mut lines = lines(net, port).await;
            let mut seen = Vec::new();
            while let Some(line) = lines.next().await? {
                seen.push(line);
            }
            Ok::<_, Error>(seen)
        });
        assert_eq!(
            seen.unwrap(),
            ["one", "two", "", "fo\u{fc}r"],
            "in chunks of {size}"
        );
        served.join().unwrap();
    }
}

#[test]
fn the_longest_line_passes_and_a_longer_one_is_refused() {
    for (len, fine) in [(LONGEST, true), (LONGEST + 1, false)] {
        let (port, served) = peer(move |mut stream| {
            let mut line = vec![b'x'; len - 1];
            line.push(b'\n');
            stream.write_all(&line).unwrap();
            // Until the client leaves, so that it is not the end of the stream that it reports.
            let _ = stream.read(&mut [0]);
        });
        let outcome = run(async |net| lines(net, port).await.next().await);
        match fine {
            true => assert_eq!(outcome.unwrap().map(|it| it.len()), Some(len - 1)),
            false => assert_eq!(outcome.unwrap_err().name(), ErrorName::Network),
        }
        served.join().unwrap();
    }
}

#[test]
fn what_is_not_a_line_is_not_sent() {
    let (port, served) = peer(echo);
    run(async |net| {
        let mut client = EchoClient::connect(net, "127.0.0.1", port).await.unwrap();
        for bad in ["two\nlines", "\r", "\u{20ac}", &"x".repeat(LONGEST)] {
            let error = client.round_trip(bad).await.unwrap_err();
            assert_eq!(error.name(), ErrorName::Type, "{bad:?}");
        }
        client.round_trip("fine").await.unwrap();
        client.close().await.unwrap();
    });
    assert_eq!(served.join().unwrap(), ["fine"]);
}

#[test]
fn a_service_that_does_something_else_is_told_apart() {
    type Script = fn(TcpStream);
    let cases: [(Script, ErrorName); 3] = [
        (
            |mut it| it.write_all(b"220 mail.example.org\r\n").unwrap(),
            ErrorName::Network,
        ),
        (
            |mut it| it.write_all(b"pin").unwrap(),
            ErrorName::NetworkInterrupt,
        ),
        (|_| {}, ErrorName::NetworkInterrupt),
    ];
    for (at, (script, wanted)) in cases.into_iter().enumerate() {
        let (port, served) = peer(move |mut stream| {
            let mut line = [0; "ping 1\r\n".len()];
            stream.read_exact(&mut line).unwrap();
            script(stream);
        });
        let error = run(async |net| ping(net, "127.0.0.1", port, 1).await).unwrap_err();
        assert_eq!(error.name(), wanted, "case {at}: {error}");
        served.join().unwrap();
    }
}

#[test]
fn nobody_there_is_an_error_not_a_wait() {
    // Bound and dropped: a port where nobody listens.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let error = run(async |net| ping(net, "127.0.0.1", port, 1).await).unwrap_err();
    assert_eq!(error.name(), ErrorName::ConnectionRefused);
}

//! SMTP.

use std::io::{BufRead, BufReader, Read, Write};
use std::thread;
use std::time::Duration;

use clients::smtp::Smtp;
use tcpsocket::{Error, ErrorName, MARK, SocketOptions, SocketProvider, SocketProviderExt};

use super::fails;
use super::peer::{hear, say, script, serve, stammer};
use crate::run;

async fn connect(net: &dyn SocketProvider, port: u16) -> Result<Smtp, Error> {
    Smtp::over(net.connect("127.0.0.1", port, SocketOptions::new()).await?).await
}

const HELLO: &str = "EHLO [127.0.0.1]\r\n";

#[test]
fn a_letter_in_small_pieces_arrives_whole() {
    let letter = ".\r\n..two\r\n".repeat(3) + "end";
    let (port, served) = script(vec![
        say("220-mail\r\n220 example\r\n"),
        hear(HELLO),
        stammer("250-mail.example\r\n250 SIZE\r\n"),
        hear("MAIL FROM:<a@client.example>\r\n"),
        say("250 ok\r\n"),
        hear("RCPT TO:<b@mail.example>\r\n"),
        say("250 ok\r\n"),
        hear("RCPT TO:<c@mail.example>\r\n"),
        say("251 will forward\r\n"),
        hear("DATA\r\n"),
        say("354 go ahead\r\n"),
        hear("..\r\n...two\r\n".repeat(3) + "end\r\n.\r\n"),
        say("250 id=17\r\n"),
        hear("QUIT\r\n"),
        say("221\r\n"),
    ]);
    let outcome = run(async |net| {
        let mut smtp = connect(net, port).await?;
        let pieces = letter.as_bytes().chunks(1);
        let to = ["b@mail.example", "c@mail.example"];
        let said = smtp.deliver("a@client.example", &to, pieces).await?;
        assert_eq!(said, "id=17");
        smtp.quit().await
    });
    outcome.unwrap();
    assert_eq!(served.join().unwrap(), b"");
}

/// However many pieces there are, few are made before their time: what is buffered stays at the mark.
#[test]
fn a_server_that_reads_slowly_is_waited_for() {
    const PIECES: usize = 1 << 20;
    const PIECE: usize = 64;
    let (port, served) = serve(move |stream| {
        let mut to = stream.try_clone().unwrap();
        let mut from = BufReader::new(stream);
        to.write_all(b"220 hi\r\n").unwrap();
        for answer in ["250 hi", "250 ok", "250 ok", "354 go"] {
            from.read_line(&mut String::new()).unwrap();
            write!(to, "{answer}\r\n").unwrap();
        }
        let (mut line, mut lines) = (String::new(), 0);
        while line != ".\r\n" {
            line.clear();
            from.read_line(&mut line).unwrap();
            lines += 1;
            if lines % 1024 == 0 {
                thread::sleep(Duration::from_millis(1));
            }
        }
        to.write_all(b"250 ok\r\n").unwrap();
        drop(from.read_to_end(&mut Vec::new()));
        lines - 1
    });
    let piece = [&b"x".repeat(PIECE - 2)[..], b"\r\n"].concat();
    let mut most = 0;
    run(async |net| {
        let options = SocketOptions::new();
        let socket = net.connect("127.0.0.1", port, options).await.unwrap();
        let mut smtp = Smtp::over(socket.clone()).await.unwrap();
        let pieces = (0..PIECES).map(|_| {
            most = most.max(socket.buffered_amount());
            &piece
        });
        smtp.deliver("a@b", &["c@d"], pieces).await.unwrap();
    });
    assert_eq!(served.join().unwrap(), PIECES);
    assert!(
        most <= MARK,
        "{most} bytes were buffered when another piece was made"
    );
}

#[test]
fn refusals_and_nonsense_are_errors() {
    let long = format!("220 {}\r\n", "x".repeat(600));
    let many = "220-x\r\n".repeat(129);
    for greeting in [
        "554 no\r\n",
        "* OK IMAP4rev1\r\n",
        "220_x\r\n",
        "\r\n",
        "220 x\n",
        &long,
        &many,
    ] {
        let (port, served) = script(vec![say(greeting)]);
        fails(
            run(async |net| connect(net, port).await),
            ErrorName::Network,
        );
        assert_eq!(served.join().unwrap(), b"");
    }
    let (port, served) = script(vec![say("220-")]);
    fails(
        run(async |net| connect(net, port).await),
        ErrorName::NetworkInterrupt,
    );
    served.join().unwrap();
}

#[test]
fn a_letter_that_cannot_be_sent_is_taken_back() {
    let (port, served) = script(vec![
        say("220 hi\r\n"),
        hear(HELLO),
        say("250 hi\r\n"),
        hear("MAIL FROM:<>\r\n"),
        say("250 ok\r\n"),
        hear("RCPT TO:<b@c>\r\n"),
        say("250 ok\r\n"),
        hear("DATA\r\n"),
        say("354 go\r\n"),
    ]);
    let outcome = run(async |net| {
        let mut smtp = connect(net, port).await?;
        let smuggled = ["a\r\n", "\n.\r\nMAIL FROM:<x@y>\r\n"];
        smtp.deliver("", &["b@c"], smuggled).await
    });
    fails(outcome, ErrorName::Type);
    let rest = String::from_utf8(served.join().unwrap()).unwrap();
    assert!(!rest.contains("MAIL"), "{rest:?}");
}

//! IMAP.

use std::sync::{Arc, Mutex};

use clients::imap::Imap;
use tcpsocket::{Error, ErrorName, SocketOptions, SocketProvider, SocketProviderExt};

use super::fails;
use super::peer::{Step, hear, say, script, stammer};
use crate::run;

async fn connect(net: &dyn SocketProvider, port: u16) -> Result<Imap, Error> {
    Imap::over(net.connect("127.0.0.1", port, SocketOptions::new()).await?).await
}

/// What a fetch of letter 1, of at most 100,000 bytes, comes to.
fn fetch(steps: Vec<Step>) -> Result<(u64, Vec<u8>), Error> {
    let mut all = vec![say("* OK ready\r\n"), hear("A1 FETCH 1 BODY.PEEK[]\r\n")];
    all.extend(steps);
    let (port, served) = script(all);
    let letter = Arc::new(Mutex::new(Vec::new()));
    let outcome = run(async |net| {
        let mut imap = connect(net, port).await?;
        let part = |it: tcpsocket::Bytes| letter.lock().unwrap().extend_from_slice(&it);
        imap.fetch(1, 100_000, part).await
    });
    served.join().unwrap();
    outcome.map(|len| (len, letter.lock().unwrap().clone()))
}

#[test]
fn a_letter_goes_in_and_comes_out() {
    let letter = "line\r\n".repeat(20_000);
    let answer = format!(
        "* 2 FETCH (BODY[] {{5}}\r\nother)\r\n* 1 FETCH (FLAGS () BODY[] {{{}}}\r\n{letter})\r\n\
         * OK not a {{7}}\r\nA4 OK done\r\n",
        letter.len()
    );
    let (port, served) = script(vec![
        stammer("* OK [CAPABILITY IMAP4rev1] ready\r\n"),
        hear("A1 LOGIN \"us\\\"er\" \"pass\\\\word\"\r\n"),
        say("A1 OK welcome\r\n"),
        hear("A2 APPEND \"INBOX\" {120000}\r\n"),
        stammer("* 0 EXISTS\r\n+ go ahead\r\n"),
        hear(&letter),
        hear("\r\n"),
        say("* 1 EXISTS\r\nA2 OK done\r\n"),
        hear("A3 SELECT \"INBOX\"\r\n"),
        say("* FLAGS ()\r\n* 1 EXISTS\r\n* 0 RECENT\r\nA3 OK [READ-WRITE] done\r\n"),
        hear("A4 FETCH 1 BODY.PEEK[]\r\n"),
        say(answer),
        hear("A5 LOGOUT\r\n"),
        say("* BYE\r\nA5 OK done\r\n"),
    ]);
    let mut fetched = Vec::new();
    let outcome = run(async |net| {
        let mut imap = connect(net, port).await?;
        imap.login("us\"er", "pass\\word").await?;
        imap.append("INBOX", letter.clone().into()).await?;
        assert_eq!(imap.select("INBOX").await?, 1);
        let part = |it: tcpsocket::Bytes| fetched.extend_from_slice(&it);
        let len = imap.fetch(1, 1 << 20, part).await?;
        assert_eq!(len, 120_000);
        imap.logout().await
    });
    outcome.unwrap();
    assert!(fetched == letter.as_bytes());
    assert_eq!(served.join().unwrap(), b"");
}

#[test]
fn an_empty_letter_is_a_letter_and_none_is_none() {
    let empty = say("* 1 FETCH (BODY[] {0}\r\n)\r\nA1 OK done\r\n");
    assert_eq!(fetch(vec![empty]).unwrap(), (0, Vec::new()));
    fails(fetch(vec![say("A1 OK done\r\n")]), ErrorName::Network);
    fails(
        fetch(vec![say("A1 NO there is none\r\n")]),
        ErrorName::Network,
    );
}

#[test]
fn what_is_too_much_is_refused_before_it_is_taken() {
    let endless = "* 1 FETCH (X {1}\r\nx".to_owned() + &" {1}\r\nx".repeat(9000);
    for hostile in [
        "* 1 FETCH (BODY[] {100001}\r\n".to_owned(),
        "* 1 FETCH (BODY[] {18446744073709551616}\r\n".to_owned(),
        "x".repeat(9000),
        "* OK\n".to_owned(),
        endless,
    ] {
        fails(fetch(vec![say(hostile)]), ErrorName::Network);
    }
    let cut = say("* 1 FETCH (BODY[] {9}\r\nfour");
    fails(fetch(vec![cut]), ErrorName::NetworkInterrupt);
}

#[test]
fn a_refusal_is_an_error_and_nothing_more_is_sent() {
    for (greeting, refusal) in [
        ("* OK hi\r\n", "A1 NO [TRYCREATE]\r\n"),
        ("* BYE full\r\n", ""),
    ] {
        let mut steps = vec![say(greeting)];
        if !refusal.is_empty() {
            steps.extend([hear("A1 APPEND \"x\" {4}\r\n"), say(refusal)]);
        }
        let (port, served) = script(steps);
        let outcome = run(async |net| {
            let mut imap = connect(net, port).await?;
            imap.append("x", "text".into()).await
        });
        fails(outcome, ErrorName::Network);
        assert_eq!(served.join().unwrap(), b"");
    }
}

//! What servers say, from the greeting to the go-ahead, and what must come of it.

use tcpsocket::{ErrorName, StartTls};

use ErrorName::{Network, Security};
use StartTls::{Imap, Pop3, Smtp};

use crate::scripted::{Outcome, Scripted, Step};

/// The questions of each protocol, and answers that lead to TLS: the greeting first.
pub(crate) fn questions(protocol: StartTls) -> &'static [&'static str] {
    match protocol {
        StartTls::Smtp => &["EHLO [127.0.0.1]\r\n", "STARTTLS\r\n"],
        StartTls::Imap => &["A1 CAPABILITY\r\n", "A2 STARTTLS\r\n"],
        StartTls::Pop3 => &["STLS\r\n"],
        other => panic!("a new protocol, {other}, needs a script"),
    }
}

pub(crate) const SMTP: &[&str] = &[
    "220-mail.example ESMTP\r\n220 welcome\r\n",
    "250-mail.example\r\n250-8BITMIME\r\n250-starttls\r\n250 SIZE 1000\r\n",
    "220 go ahead\r\n",
];
pub(crate) const IMAP: &[&str] = &[
    "* OK [CAPABILITY IMAP4rev1] ready\r\n",
    "* CAPABILITY IMAP4rev1 StartTLS LOGINDISABLED\r\n* OK patience\r\nA1 OK done\r\n",
    "* 0 EXISTS\r\nA2 OK begin\r\n",
];
pub(crate) const POP3: &[&str] = &["+OK ready <1@mail.example>\r\n", "+OK begin\r\n"];

pub(crate) const ALL: &[(StartTls, &[&str])] = &[
    (StartTls::Smtp, SMTP),
    (StartTls::Imap, IMAP),
    (StartTls::Pop3, POP3),
];

/// The server's side, with each reply cut into events by `cut`.
pub(crate) fn script(
    protocol: StartTls,
    replies: &[impl AsRef<[u8]>],
    mut cut: impl FnMut(usize, &[u8]) -> Vec<Vec<u8>>,
) -> Vec<Step> {
    let mut steps = Vec::new();
    for (at, reply) in replies.iter().enumerate() {
        if at > 0 {
            steps.push(Step::Awaits(questions(protocol)[at - 1]));
        }
        steps.extend(cut(at, reply.as_ref()).into_iter().map(Step::Says));
    }
    steps
}

pub(crate) fn whole(_: usize, reply: &[u8]) -> Vec<Vec<u8>> {
    vec![reply.to_vec()]
}

pub(crate) fn run(protocol: StartTls, replies: &[impl AsRef<[u8]>]) -> Outcome {
    Scripted::new(script(protocol, replies, whole)).run(protocol)
}

/// Name and part of the message of the error that must come of a dialogue, or `None` for TLS.
type Expected = Option<(ErrorName, &'static str)>;

const GREETING: &str = "220 mail.example\r\n";
const OFFER: &str = "250-mail.example\r\n250 STARTTLS\r\n";
const READY: &str = "* OK ready\r\n";
const CAN: &str = "* CAPABILITY IMAP4rev2 STARTTLS\r\nA1 OK done\r\n";

/// Dialogues of every kind.
const TABLE: &[(StartTls, &[&str], Expected)] = &[
    // What servers may say, however odd.
    (
        Smtp,
        &["220\r\n", "250-\r\n250 STARTTLS\r\n", "220\r\n"],
        None,
    ),
    (
        Smtp,
        &[
            GREETING,
            "250-a\r\n250-STARTTLS now\r\n250 X\r\n",
            "220-go\r\n220 on\r\n",
        ],
        None,
    ),
    (
        Smtp,
        &["220 m\u{fc}ll \x1b[31m\r\n", OFFER, "220 go\r\n"],
        None,
    ),
    (
        Imap,
        &["* ok\r\n", "* capability starttls\r\na1 OK\r\n"],
        Some((Network, "a1 OK")),
    ),
    (
        Imap,
        &[
            "* ok\r\n",
            "* capability starttls\r\nA1 ok\r\n",
            "A2 ok\r\n",
        ],
        None,
    ),
    (
        Imap,
        &["* OK ready\r\n* OK more\r\n", CAN, "A2 OK\r\n"],
        None,
    ),
    (
        Imap,
        &[
            READY,
            "* OK {curly}\r\n* CAPABILITY STARTTLS\r\nA1 OK\r\n",
            "A2 OK\r\n",
        ],
        None,
    ),
    (Pop3, &["+OK\r\n", "+OK\r\n"], None),
    // Not offered, or refused.
    (
        Smtp,
        &[GREETING, "250 mail.example\r\n"],
        Some((Security, "does not offer")),
    ),
    (
        Smtp,
        &[GREETING, "250-mail.example\r\n250 SIZE\r\n"],
        Some((Security, "does not offer")),
    ),
    (
        Smtp,
        &[GREETING, "250-mail.example\r\n250 XSTARTTLS\r\n"],
        Some((Security, "does not offer")),
    ),
    (
        Smtp,
        &[GREETING, "250-STARTTLS is my name\r\n250 SIZE\r\n"],
        Some((Security, "does not offer")),
    ),
    (
        Smtp,
        &[GREETING, "502 what?\r\n"],
        Some((Security, "refuses EHLO")),
    ),
    (
        Smtp,
        &[GREETING, OFFER, "454 TLS not available\r\n"],
        Some((Security, "454 TLS not available")),
    ),
    (
        Smtp,
        &[GREETING, OFFER, "250 what you like\r\n"],
        Some((Security, "refuses STARTTLS")),
    ),
    (
        Imap,
        &[READY, "* CAPABILITY IMAP4rev2\r\nA1 OK\r\n"],
        Some((Security, "does not offer")),
    ),
    (
        Imap,
        &[READY, "A1 OK [CAPABILITY STARTTLS]\r\n"],
        Some((Security, "does not offer")),
    ),
    (
        Imap,
        &[READY, "A1 BAD what\r\n"],
        Some((Security, "refuses CAPABILITY")),
    ),
    (
        Imap,
        &[READY, CAN, "A2 NO not today\r\n"],
        Some((Security, "not today")),
    ),
    (
        Imap,
        &[READY, CAN, "A2 BAD what\r\n"],
        Some((Security, "refuses STARTTLS")),
    ),
    (
        Pop3,
        &["+OK\r\n", "-ERR unknown\r\n"],
        Some((Security, "refuses STLS")),
    ),
    (
        Imap,
        &["* PREAUTH welcome, admin\r\n"],
        Some((Security, "PREAUTH")),
    ),
    // Turned away.
    (
        Smtp,
        &["554 no service\r\n"],
        Some((Network, "554 no service")),
    ),
    (
        Smtp,
        &["421-busy\r\n421 come back\r\n"],
        Some((Network, "421 come back")),
    ),
    (
        Smtp,
        &[GREETING, "421 shutting down\r\n"],
        Some((Network, "turned the client away")),
    ),
    (
        Smtp,
        &[GREETING, OFFER, "421 shutting down\r\n"],
        Some((Network, "turned the client away")),
    ),
    (
        Imap,
        &["* OK ready\r\n* BYE shutting down\r\n"],
        Some((Network, "turned the client away")),
    ),
    (
        Imap,
        &["* BYE busy\r\n"],
        Some((Network, "turned the client away")),
    ),
    (
        Imap,
        &[READY, "* BYE busy\r\n"],
        Some((Network, "turned the client away")),
    ),
    (
        Imap,
        &[READY, CAN, "* BYE busy\r\n"],
        Some((Network, "turned the client away")),
    ),
    (
        Pop3,
        &["-ERR busy\r\n"],
        Some((Network, "turned the client away")),
    ),
    // Another protocol, or none.
    (Smtp, &[READY], Some((Network, "SMTP does not allow"))),
    (Imap, &[GREETING], Some((Network, "IMAP does not allow"))),
    (Pop3, &[GREETING], Some((Network, "POP3 does not allow"))),
    (Pop3, &["+OKAY\r\n"], Some((Network, "+OKAY"))),
    (Pop3, &["+OK\r\n", "+ go\r\n"], Some((Network, "+ go"))),
    (Smtp, &["\r\n"], Some((Network, ""))),
    (Smtp, &["22\r\n"], Some((Network, ""))),
    (Smtp, &["220_hello\r\n"], Some((Network, "220_hello"))),
    (Smtp, &["2200 hello\r\n"], Some((Network, "2200 hello"))),
    (Smtp, &["220-a\r\n250 b\r\n"], Some((Network, "250 "))),
    (
        Smtp,
        &[GREETING, "250-a\r\n220-STARTTLS\r\n250 b\r\n"],
        Some((Network, "220-STARTTLS")),
    ),
    (Imap, &["*\r\n"], Some((Network, ""))),
    (Imap, &["A1 OK\r\n"], Some((Network, "A1 OK"))),
    (Imap, &[READY, "A2 OK\r\n"], Some((Network, "A2 OK"))),
    (Imap, &[READY, CAN, "A1 OK\r\n"], Some((Network, "A1 OK"))),
    (Imap, &[READY, CAN, "A2\r\n"], Some((Network, "A2"))),
    (
        Imap,
        &[READY, CAN, "A2 PREAUTH\r\n"],
        Some((Network, "A2 PREAUTH")),
    ),
    (
        Imap,
        &[READY, CAN, "* PREAUTH\r\n"],
        Some((Security, "PREAUTH")),
    ),
    (Imap, &[READY, "+ go on\r\n"], Some((Network, "+ go on"))),
    (
        Imap,
        &[READY, "* X {7}\r\nA1 OK\r\n"],
        Some((Network, "{7}")),
    ),
    // Lines that are none.
    (Smtp, &["220 hello\n"], Some((Network, "without CR"))),
    (
        Smtp,
        &["220 hello\r\r\n"],
        Some((Network, "a CR in the middle")),
    ),
    (
        Smtp,
        &["220 he\rllo\r\n"],
        Some((Network, "a CR in the middle")),
    ),
    (Smtp, &["220 he\0llo\r\n"], Some((Network, "a NUL"))),
    (Smtp, &["220 hello\r\0\n"], Some((Network, "a NUL"))),
    (
        Smtp,
        &[GREETING, OFFER, "220 go\n250 inject\r\n"],
        Some((Network, "without CR")),
    ),
    (
        Imap,
        &[READY, CAN, "A2 OK go\n* inject\r\n"],
        Some((Network, "without CR")),
    ),
    (
        Pop3,
        &["+OK\r\n", "+OK go\n+OK inject\r\n"],
        Some((Network, "without CR")),
    ),
];

/// The table, and the limits on both sides.
pub(crate) fn dialogues() -> Vec<(StartTls, Vec<Vec<u8>>, Expected)> {
    let owned = |it: &&str| it.as_bytes().to_vec();
    let mut all: Vec<_> = TABLE
        .iter()
        .map(|(protocol, replies, end)| (*protocol, replies.iter().map(owned).collect(), *end))
        .collect();
    let high = vec![
        b"220 m\xfcll\r\n".to_vec(),
        OFFER.into(),
        b"220 \xff\r\n".to_vec(),
    ];
    all.push((Smtp, high, None));
    let long = |start: &str, len: usize| {
        let fill = "x".repeat(len - start.len() - 2);
        format!("{start}{fill}\r\n").into_bytes()
    };
    let go = || b"220 go\r\n".to_vec();
    for (len, end) in [(512, None), (513, Some((Network, "more than 512 bytes")))] {
        all.push((Smtp, vec![long("220 ", len), OFFER.into(), go()], end));
        all.push((Pop3, vec![b"+OK\r\n".to_vec(), long("+OK ", len)], end));
    }
    for (len, end) in [
        (8192, None),
        (8193, Some((Network, "more than 8192 bytes"))),
    ] {
        let capability = [long("* OK ", len), CAN.into()].concat();
        let replies = vec![READY.into(), capability, b"A2 OK\r\n".to_vec()];
        all.push((Imap, replies, end));
    }
    for (count, end) in [(128, None), (129, Some((Network, "more than 128 lines")))] {
        // One line is the greeting, one the go-ahead, one ends the offer.
        let offer = "250-STARTTLS\r\n".repeat(count - 3) + "250 X\r\n";
        all.push((Smtp, vec![GREETING.into(), offer.into(), go()], end));
        let wait = "* OK wait\r\n".repeat(count - 4) + "A2 OK\r\n";
        all.push((Imap, vec![READY.into(), CAN.into(), wait.into()], end));
    }
    all
}

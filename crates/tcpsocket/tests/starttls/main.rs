//! `starttls` against a scripted socket: every branch, every cut, and servers that mean harm.

mod dialogues;
mod scripted;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;
use tcpsocket::{BinaryType, ErrorName, ReadyState, Secure, Security, StartTls, TcpSocketExt};

use crate::dialogues::{ALL, IMAP, POP3, SMTP, dialogues, questions, run, script, whole};
use crate::scripted::{End, Scripted, Step, Upgrade};

#[test]
fn each_protocol_reaches_tls() {
    for (protocol, replies) in ALL {
        let outcome = run(*protocol, replies);
        assert_eq!(outcome.end, End::Secure, "{protocol}");
        assert_eq!(outcome.sent, questions(*protocol), "{protocol}");
    }
}

#[test]
fn the_binary_type_and_drains_make_no_difference() {
    for (protocol, replies) in ALL {
        for binary_type in [BinaryType::String, BinaryType::ArrayBuffer] {
            let mut steps = script(*protocol, replies, whole);
            steps.insert(1, Step::Drains);
            let socket = Scripted::new(steps).with(|it| it.binary_type = binary_type);
            assert_eq!(socket.run(*protocol).end, End::Secure, "{protocol}");
        }
    }
}

#[test]
fn what_follows_the_go_ahead_in_an_event_of_its_own_is_left_to_tls() {
    for (protocol, replies) in ALL {
        let mut steps = script(*protocol, replies, whole);
        steps.push(Step::Says(b"\x16\x03\x03 a record".to_vec()));
        let socket = Scripted::new(steps);
        assert_eq!(socket.run(*protocol).end, End::Secure);
        assert_eq!(socket.state().script.len(), 1, "{protocol} has read on");
    }
}

#[test]
fn every_branch() {
    for (protocol, replies, end) in dialogues() {
        let outcome = run(protocol, &replies);
        let right = match (&outcome.end, end) {
            (End::Secure, None) => true,
            (End::Refused(seen, message), Some((name, part))) => {
                *seen == name && message.contains(part)
            }
            _ => false,
        };
        let said = replies.concat();
        let said = said.escape_ascii();
        assert!(
            right,
            "{protocol}: {said}: {:?}, expected {end:?}",
            outcome.end
        );
    }
}

#[test]
fn where_the_network_cuts_makes_no_difference() {
    for (protocol, replies, _) in dialogues() {
        let expected = run(protocol, &replies);
        let bytes = script(protocol, &replies, |_, reply| {
            reply.chunks(1).map(<[u8]>::to_vec).collect()
        });
        assert_eq!(Scripted::new(bytes).run(protocol), expected, "byte by byte");
        for (cut_reply, reply) in replies.iter().enumerate() {
            for at in places(reply) {
                let cut = script(protocol, &replies, |number, reply| {
                    match number == cut_reply {
                        true => vec![reply[..at].to_vec(), reply[at..].to_vec()],
                        false => vec![reply.to_vec()],
                    }
                });
                let seen = Scripted::new(cut).run(protocol);
                assert_eq!(seen, expected, "reply {cut_reply} cut at {at}");
            }
        }
    }
}

/// Where to cut: everywhere, or in the long ones about the ends and here and there.
fn places(reply: &[u8]) -> impl Iterator<Item = usize> {
    let len = reply.len();
    (1..len).filter(move |at| len < 1000 || *at < 20 || *at > len - 20 || at % 61 == 0)
}

#[test]
fn what_comes_before_it_was_asked_for_is_refused() {
    // Behind the go-ahead: CVE-2011-0411. Earlier: whoever says it does not answer us.
    let additions = [
        "250 OK\r\n",
        "\r\n",
        "x",
        "220 go\r\n",
        "A2 OK\r\n",
        "+OK\r\n",
    ];
    for (protocol, replies) in ALL {
        for at in 0..replies.len() {
            for addition in additions {
                let mut replies: Vec<_> = replies.iter().map(ToString::to_string).collect();
                replies[at] += addition;
                let socket = Scripted::new(script(*protocol, &replies, whole));
                let outcome = socket.run(*protocol);
                outcome.is(ErrorName::Security, "before they were requested");
                assert_eq!(outcome.sent.len(), at, "asked on after {replies:?}");
                let state = socket.state();
                let [Some(why)] = &state.aborted[..] else {
                    panic!("aborted: {:?}", state.aborted);
                };
                assert_eq!(why.name(), ErrorName::Security);
            }
        }
    }
}

#[test]
fn an_untagged_line_behind_the_go_ahead_is_refused_as_well() {
    let mut replies: Vec<_> = IMAP.iter().map(ToString::to_string).collect();
    replies[2] += "* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n";
    run(StartTls::Imap, &replies).is(ErrorName::Security, "before they were requested");
}

#[test]
fn early_bytes_are_refused_wherever_the_event_with_the_end_of_the_go_ahead_begins() {
    for (protocol, replies) in ALL {
        let last = replies.len() - 1;
        for at in 1..replies[last].len() {
            let steps = script(*protocol, replies, |number, reply| match number == last {
                true => vec![reply[..at].to_vec(), [&reply[at..], b"INJECT"].concat()],
                false => vec![reply.to_vec()],
            });
            let outcome = Scripted::new(steps).run(*protocol);
            outcome.is(ErrorName::Security, "before they were requested");
        }
    }
}

#[test]
fn an_end_or_a_failure_at_any_byte_is_reported() {
    for (protocol, replies) in ALL {
        for (last, reply) in replies.iter().enumerate() {
            for len in 0..reply.len() {
                let cut = script(*protocol, &replies[..=last], |number, reply| {
                    let reply = &reply[..if number == last { len } else { reply.len() }];
                    if reply.is_empty() {
                        vec![]
                    } else {
                        vec![reply.to_vec()]
                    }
                });
                for (end, name) in [
                    (Step::Ends, ErrorName::NetworkInterrupt),
                    (Step::Fails(ErrorName::Network), ErrorName::Network),
                    (
                        Step::Fails(ErrorName::NetworkTimeout),
                        ErrorName::NetworkTimeout,
                    ),
                    (Step::Fails(ErrorName::NotAllowed), ErrorName::NotAllowed),
                ] {
                    let steps = cut.iter().cloned().chain([end]);
                    Scripted::new(steps).run(*protocol).is(name, "");
                }
                // Nothing more comes: it waits, and giving up ends the socket.
                let socket = Scripted::new(cut);
                assert_eq!(socket.run(*protocol).end, End::Waiting);
                let state = socket.state();
                assert!(matches!(state.aborted[..], [None]), "{:?}", state.aborted);
                assert_eq!(state.polls_given_up, 1);
            }
        }
    }
}

#[test]
fn an_error_ends_the_socket_with_the_same_error() {
    let socket = Scripted::new([Step::Says(b"554 go away\r\n".to_vec())]);
    let End::Refused(name, message) = socket.run(StartTls::Smtp).end else {
        panic!("not refused");
    };
    let state = socket.state();
    let [Some(why)] = &state.aborted[..] else {
        panic!("aborted: {:?}", state.aborted);
    };
    assert_eq!((why.name(), why.message()), (name, message.as_str()));
}

#[test]
fn a_socket_that_cannot_upgrade_does_not_stay_in_clear() {
    for (protocol, replies) in ALL {
        for (upgrade, name, part) in [
            (Upgrade::IsRefused, ErrorName::NotSupported, "no TLS here"),
            (Upgrade::Lies, ErrorName::Security, "still in the clear"),
        ] {
            let steps = script(*protocol, replies, whole);
            let socket = Scripted::new(steps).with(|it| it.upgrade = upgrade);
            socket.run(*protocol).is(name, part);
        }
    }
}

#[test]
fn a_send_that_is_refused_is_the_error() {
    let steps = script(StartTls::Pop3, POP3, whole);
    let socket = Scripted::new(steps).with(|it| it.refuses_to_send = true);
    socket
        .run(StartTls::Pop3)
        .is(ErrorName::QuotaExceeded, "too much");
}

#[test]
fn a_socket_that_is_not_open_in_clear_is_left_alone() {
    let secure = || Security::Secure(Secure::new("TLSv1.3", None, Vec::new()));
    for (state, security) in [
        (ReadyState::Connecting, Security::Plain),
        (ReadyState::Closing, Security::Plain),
        (ReadyState::Closed, Security::Plain),
        (ReadyState::Open, Security::Handshaking),
        (ReadyState::Open, secure()),
    ] {
        let socket = Scripted::new(script(StartTls::Smtp, SMTP, whole))
            .with(|it| it.ended = Some(state).filter(|it| *it != ReadyState::Open))
            .with(|it| it.ssl = !matches!(security, Security::Plain))
            .with(|it| it.security = security.clone());
        let steps = socket.state().script.len();
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(Err(error)) = pin!(socket.starttls(StartTls::Smtp)).poll(&mut cx) else {
            panic!("not refused at once: {socket:?}");
        };
        assert_eq!(error.name(), ErrorName::InvalidState);
        let state = socket.state();
        assert!(state.aborted.is_empty() && state.sent.is_empty());
        assert_eq!(state.script.len(), steps, "an event was taken");
    }
}

/// A server may say at any time that it has to go. What only begins like that is somebody else's word, and so is all that comes
/// behind the go-ahead.
#[test]
fn a_goodbye_that_nobody_asked_for_is_no_attack() {
    let greeting = "220 mail.example\r\n";
    let offer = "250-mail.example\r\n250 STARTTLS\r\n";
    let run = |replies: &[String]| run(StartTls::Smtp, replies);
    for goodbye in [
        "421 shutting down\r\n",
        "421-shutting\r\n421 down\r\n",
        "421\r\n",
    ] {
        let outcome = run(&[format!("{greeting}{goodbye}")]);
        outcome.is(ErrorName::Network, "turned the client away");
        let outcome = run(&[greeting.into(), format!("{offer}{goodbye}")]);
        outcome.is(ErrorName::Network, "turned the client away");
        let outcome = run(&[
            greeting.into(),
            offer.into(),
            format!("220 go ahead\r\n{goodbye}"),
        ]);
        outcome.is(ErrorName::Security, "before they were requested");
    }
    for other in [
        "4210 no\r\n",
        "421x\r\n",
        "42\r\n",
        "422 no\r\n",
        "42x",
        "5",
    ] {
        let outcome = run(&[format!("{greeting}{other}")]);
        outcome.is(ErrorName::Security, "before they were requested");
    }
}

/// A goodbye that is cut in the middle is still one, and what may become one is waited for.
#[test]
fn a_goodbye_is_one_however_it_is_cut() {
    let greeting = "220 mail.example\r\n";
    let text = format!("{greeting}421 shutting down\r\n");
    for cut in greeting.len()..text.len() {
        let (first, rest) = text.split_at(cut);
        let mut steps = vec![Step::Says(first.into()), Step::Says(rest.into())];
        if cut == greeting.len() {
            steps.insert(1, Step::Awaits("EHLO [127.0.0.1]\r\n"));
        }
        let outcome = Scripted::new(steps).run(StartTls::Smtp);
        outcome.is(ErrorName::Network, "421 shutting down");
    }
    let cut_off = [Step::Says(format!("{greeting}42").into()), Step::Ends];
    let outcome = Scripted::new(cut_off).run(StartTls::Smtp);
    outcome.is(ErrorName::NetworkInterrupt, "before TLS");
}

#[test]
fn the_name_behind_ehlo_can_be_chosen() {
    let say = |name: &str, replies: Vec<Step>| {
        let socket = Scripted::new(replies);
        let mut cx = Context::from_waker(Waker::noop());
        let outcome = pin!(socket.starttls_as(StartTls::Smtp, name)).poll(&mut cx);
        let sent = socket.state().sent.clone();
        (outcome, sent, socket.state().aborted.len())
    };
    let greeting = || vec![Step::Says(b"220 mail.example\r\n".to_vec())];
    let long = "a".repeat(255);
    for name in [
        "client.example",
        "[IPv6:2001:db8::7]",
        "[192.0.2.7]",
        "my_host",
        &long,
    ] {
        let (outcome, sent, _) = say(name, greeting());
        assert!(outcome.is_pending());
        assert_eq!(sent, [format!("EHLO {name}\r\n")]);
    }
    let longer = "a".repeat(256);
    for name in [
        "",
        "a b",
        "a\r\nMAIL FROM:<>",
        "a\0",
        "m\u{fc}ll",
        "[]",
        "[a b]",
        "[a",
        "a]",
        "[[]]",
        &longer,
    ] {
        let (outcome, sent, aborted) = say(name, greeting());
        let Poll::Ready(Err(error)) = outcome else {
            panic!("{name:?} is not refused");
        };
        assert_eq!(error.name(), ErrorName::InvalidAccess, "{name:?}");
        assert!(error.message().len() < 250 && !error.message().contains(char::is_control));
        // The socket is as it was.
        assert!(sent.is_empty() && aborted == 0, "{name:?}");
    }
}

#[test]
fn a_future_that_was_never_polled_does_nothing() {
    let socket = Scripted::new([]);
    drop(socket.starttls(StartTls::Imap));
    assert!(socket.state().aborted.is_empty());
}

#[test]
fn messages_are_short_and_printable() {
    let said = format!(
        "554 \x1b]0;owned\x07 \u{202e}evil\u{fc} {}\r\n",
        "x".repeat(400)
    );
    let End::Refused(_, message) = run(StartTls::Smtp, &[said]).end else {
        panic!("not refused");
    };
    assert!(message.chars().all(|it| !it.is_control()), "{message:?}");
    assert!(!message.contains('\u{202e}'), "{message:?}");
    assert!(message.contains('\u{fc}'), "{message:?}");
    assert!(message.chars().count() < 250, "{message:?}");
}

#[test]
fn a_flood_is_cut_off_at_the_limit_not_at_its_end() {
    let line = "* OK still here, take your time\r\n";
    for flood in [line.repeat(8000), "x".repeat(256 * 1024)] {
        let replies = [IMAP[0].to_owned(), flood];
        let socket = Scripted::new(script(StartTls::Imap, &replies, |_, reply| {
            reply.chunks(1000).map(<[u8]>::to_vec).collect()
        }));
        socket
            .run(StartTls::Imap)
            .is(ErrorName::Network, "more than");
        assert!(socket.state().script.len() > 200, "read on");
    }
}

#[test]
fn the_names_are_read_and_written() {
    for protocol in StartTls::ALL {
        assert_eq!(protocol.to_string().parse::<StartTls>().unwrap(), *protocol);
    }
    for bad in ["", "SMTP", "smtp ", "starttls", "\x1b[2J"] {
        let error = bad.parse::<StartTls>().unwrap_err();
        assert_eq!(error.name(), ErrorName::InvalidAccess);
        assert!(!error.message().contains('\x1b'));
    }
    assert_eq!(format!("[{:>5}]", StartTls::Pop3), "[ pop3]");
}

fn protocol() -> impl Strategy<Value = StartTls> {
    prop::sample::select(StartTls::ALL)
}

/// Pieces that replies are made of, right ones and wrong ones.
fn reply() -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<&[u8]> = vec![
        b"220 go\r\n",
        b"220-a\r\n",
        b"250-a\r\n",
        b"250 STARTTLS\r\n",
        b"250-STARTTLS\r\n",
        b"250 ok\r\n",
        b"421 bye\r\n",
        b"454 no\r\n",
        b"* OK\r\n",
        b"* OK [X] y\r\n",
        b"* CAPABILITY STARTTLS\r\n",
        b"A1 OK\r\n",
        b"A2 OK\r\n",
        b"A2 NO\r\n",
        b"* BYE\r\n",
        b"* PREAUTH\r\n",
        b"+OK\r\n",
        b"+OK x\r\n",
        b"-ERR\r\n",
        b"\n",
        b"\r",
        b"\0",
        b"\r\n",
        b"* X {1}\r\n",
        b"\xff",
        b"* ",
    ];
    let piece = prop_oneof![
        12 => prop::sample::select(pieces).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 1..4),
    ];
    prop::collection::vec(piece, 1..5).prop_map(|it| it.concat())
}

/// A good dialogue with some of its replies replaced.
fn replies() -> impl Strategy<Value = (StartTls, Vec<Vec<u8>>)> {
    protocol().prop_flat_map(|protocol| {
        let (_, good) = ALL.iter().find(|(it, _)| *it == protocol).unwrap();
        let each: Vec<_> = good
            .iter()
            .map(|it| prop_oneof![2 => Just(it.as_bytes().to_vec()), 1 => reply()])
            .collect();
        (Just(protocol), each)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    /// Whatever a server says, whenever: the socket ends under TLS or not at all. `run` checks it.
    #[test]
    fn a_server_that_babbles_never_gets_more_than_the_commands(
        protocol in protocol(),
        events in prop::collection::vec(reply(), 0..8),
    ) {
        Scripted::new(events.into_iter().map(Step::Says)).run(protocol);
    }

    #[test]
    fn cuts_change_nothing_but_what_is_early((protocol, replies) in replies(), seed in any::<u64>()) {
        let expected = run(protocol, &replies);
        let is_early = matches!(&expected.end, End::Refused(_, why) if why.contains("requested:"));
        prop_assume!(!is_early);
        // So is a goodbye that nobody asked for, and what may become one.
        let rest = |it: &Vec<u8>| it.rsplit(|it| *it == b'\n').next().unwrap().starts_with(b"4");
        prop_assume!(!replies.iter().any(rest));
        let goodbye = matches!(&expected.end, End::Refused(_, why) if why.contains("\"421"));
        let mut dice = seed;
        let steps = script(protocol, &replies, |_, reply| {
            let mut events = vec![Vec::new()];
            for byte in reply {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                if dice >> 62 == 0 && !events.last().unwrap().is_empty() {
                    events.push(Vec::new());
                }
                events.last_mut().unwrap().push(*byte);
            }
            events
        });
        let seen = Scripted::new(steps).run(protocol);
        prop_assert_eq!(&seen.end, &expected.end);
        prop_assert!(goodbye || seen.sent == expected.sent);
    }
}

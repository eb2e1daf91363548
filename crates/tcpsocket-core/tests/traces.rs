//! Whole lives of a socket, line by line: what was done, and what was seen right after it.
//!
//! The lines are snapshots. `cargo insta review` shows what has changed; read it before accepting it.

mod world;

use std::fmt::Write as _;
use std::task::Poll;

use bytes::Bytes;
use tcpsocket::{BinaryType, ErrorName, Event};
use tcpsocket_core::{Input, Machine, Settings};

use world::{Arrival, World, error};

/// A life as it is being told.
struct Tale {
    world: World,
    lines: String,
}

impl Tale {
    fn new(secure: bool) -> Tale {
        let settings = Settings::new(BinaryType::ArrayBuffer, secure, None);
        let mut tale = Tale {
            world: World::dialling(Machine::connecting(settings)),
            lines: String::new(),
        };
        tale.line("open");
        tale
    }

    fn line(&mut self, what: &str) {
        let machine = &self.world.machine;
        let (state, amount) = (machine.ready_state(), machine.buffered_amount());
        let _ = writeln!(self.lines, "{what:<44} {state:<10} {amount:>7}");
    }

    fn then(&mut self, what: &str, does: impl FnOnce(&mut World)) -> &mut Tale {
        does(&mut self.world);
        self.line(what);
        self
    }

    fn send(&mut self, len: usize) -> &mut Tale {
        let answer = match self.world.send(Bytes::from(vec![7; len])) {
            Ok(more) => more.to_string(),
            Err(error) => error.name().to_string(),
        };
        self.line(&format!("send {len}: {answer}"));
        self
    }

    /// Polls until nothing is due.
    fn polls(&mut self) -> &mut Tale {
        loop {
            let (text, more) = match self.world.poll() {
                Poll::Pending => ("  nothing".to_owned(), false),
                Poll::Ready(None) => ("  None".to_owned(), false),
                Poll::Ready(Some(event)) => (format!("  {}", name(&event)), true),
            };
            self.line(&text);
            if !more {
                return self;
            }
        }
    }

    fn end(&mut self) -> String {
        let World {
            clear,
            secret,
            dropped,
            discarded,
            shut_down,
            released,
            ..
        } = &self.world;
        let _ = write!(
            self.lines,
            "in clear {}, secret {}, dropped {dropped}, discarded {discarded}, end of output {shut_down}, released {released:?}",
            clear.len(),
            secret.len(),
        );
        std::mem::take(&mut self.lines)
    }
}

fn name(event: &Event) -> String {
    match event {
        Event::Data(data) => format!("Data {}", data.len()),
        Event::Error(error) => format!("Error {}", error.name()),
        Event::Close(close) if close.clean => "Close, clean".to_owned(),
        Event::Close(_) => "Close, not clean".to_owned(),
        other => format!("{other:?}"),
    }
}

const CONNECTED: &str = "TCP is connected";

fn connected(world: &mut World) {
    world.tell(Input::Connected);
}

#[test]
fn a_conversation_in_clear() {
    let mut tale = Tale::new(false);
    tale.then(CONNECTED, connected).polls();
    tale.send(65_536).send(3);
    tale.then("the kernel has room for 65000", |it| {
        it.room = 65_000;
        it.work();
    });
    tale.polls();
    tale.then("the kernel has room for all", |it| {
        it.room = 1 << 20;
        it.work();
    });
    tale.polls();
    tale.then("the peer sends 100, and ends", |it| {
        it.arrives(Arrival::Clear(Bytes::from_static(&[1; 100])));
        it.arrives(Arrival::End { clean: true });
    });
    insta::assert_snapshot!(tale.polls().end());
}

#[test]
fn starttls() {
    let mut tale = Tale::new(false);
    tale.then(CONNECTED, connected).polls();
    tale.send(9);
    tale.then("upgrade_to_secure", |it| {
        it.upgrade().expect("it is open");
    });
    tale.send(70_000).polls();
    tale.then("the kernel has room for all", |it| {
        it.room = 1 << 20;
        it.work();
    });
    tale.polls();
    tale.then("the handshake is done", |it| it.tell(Input::Secured));
    tale.polls();
    tale.then("close", World::close).polls();
    tale.then("the peer ends", |it| {
        it.arrives(Arrival::End { clean: true });
    });
    insta::assert_snapshot!(tale.end());
}

#[test]
fn tls_that_fails() {
    let mut tale = Tale::new(true);
    tale.then(CONNECTED, connected).polls();
    tale.then("the certificate is bad", |it| {
        it.tell(Input::SecureFailed(error(
            ErrorName::SecurityUntrustedCertificateIssuer,
        )));
    });
    insta::assert_snapshot!(tale.polls().end());
}

#[test]
fn last_words_before_a_broken_connection() {
    let mut tale = Tale::new(false);
    tale.then(CONNECTED, connected).polls();
    tale.then("the peer sends 5, and resets", |it| {
        it.arrives(Arrival::Clear(Bytes::from_static(b"go on")));
        it.broken = true;
    });
    tale.send(10);
    tale.then("the reset arrives", |it| {
        it.arrives(Arrival::Failure(ErrorName::Network));
    });
    insta::assert_snapshot!(tale.polls().end());
}

#[test]
fn suspended_and_closed() {
    let mut tale = Tale::new(false);
    tale.then(CONNECTED, connected).polls();
    tale.then("suspend", World::suspend);
    tale.then("the peer sends 100", |it| {
        it.arrives(Arrival::Clear(Bytes::from_static(&[1; 100])));
    });
    tale.polls();
    tale.send(100_000).then("close", World::close).polls();
    tale.send(1);
    tale.then("the kernel has room for all", |it| {
        it.room = 1 << 20;
        it.work();
    });
    tale.polls();
    tale.then("30 s pass", |it| it.wait(Settings::LINGER));
    insta::assert_snapshot!(tale.end());
}

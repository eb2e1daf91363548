//! The abilities that a world needs before cases run in it: peers against peers, without a provider.

mod tls;

use std::sync::Arc;
use std::time::Duration;

use tcpsocket::Bytes;

use crate::pattern::pattern;
use crate::wait::{self, Bell};
use crate::{End, Failure, Outcome, Peer, Report, Role, Script, Step, World};

/// Shows that the peers of this world follow their scripts.
///
/// The runner does this first, and runs no case in a world that fails.
///
/// # Errors
///
/// What a peer did instead of its script.
pub async fn selftest(world: Arc<dyn World>) -> Outcome {
    let it = Stage {
        world: &*world,
        bell: Bell::default(),
    };
    it.bytes_and_ends().await?;
    it.resets().await?;
    it.unread_input_resets().await?;
    it.echo().await?;
    it.crowd().await?;
    it.a_small_window().await?;
    it.talking().await?;
    it.addresses_without_a_peer().await?;
    if !world.roots().is_empty() {
        it.tls().await?;
    }
    it.clock().await?;
    world.clear();
    match world.now() < Duration::from_secs(10) {
        true => Ok(()),
        false => Err(Failure::new("the self-test took too long to be meaningful")),
    }
}

struct Stage<'a> {
    world: &'a dyn World,
    bell: Bell,
}

impl Stage<'_> {
    fn peer(&self, script: Script) -> Result<Arc<dyn Peer>, Failure> {
        self.world.peer(script).map_err(Failure::new)
    }

    async fn until(&self, what: &str, peer: &dyn Peer, fact: fn(&Report) -> bool) -> Outcome {
        let fact = || fact(&peer.report());
        match wait::until(self.world, &self.bell, Duration::from_secs(3), fact).await {
            true => Ok(()),
            false => Err(Failure::compared(
                format!("selftest: {what}"),
                "a report that says so",
                format!("{:?}", peer.report()),
            )),
        }
    }

    fn check(&self, what: &str, holds: bool, peer: &dyn Peer) -> Outcome {
        match holds {
            true => Ok(()),
            false => {
                let report = format!("{:?}", peer.report());
                Err(Failure::compared(format!("selftest: {what}"), "so", report))
            }
        }
    }

    async fn bytes_and_ends(&self) -> Outcome {
        let bytes = pattern(1, 100_000);
        for (v6, ten_were_read) in [(false, "ten were read"), (true, "ten more were read")] {
            let place = |it: Script| if v6 { it.v6() } else { it };
            let listener = self.peer(place(Script::listen([
                Step::Accept,
                Step::Read(10),
                Step::Signal(ten_were_read),
                Step::ReadToEnd,
                Step::Write(Bytes::from_static(b"bye")),
                Step::Fin,
            ])))?;
            let dialler = self.peer(place(Script::dial([
                Step::Connect(listener.address()),
                Step::Write(bytes.slice(..10)),
                Step::Wait(ten_were_read),
                Step::WritePieces {
                    bytes: bytes.slice(10..),
                    piece: 4096,
                },
                Step::Fin,
                Step::ReadToEnd,
            ])))?;
            self.until("both are done", &*dialler, |it| it.done).await?;
            self.until("both are done", &*listener, |it| it.done)
                .await?;
            self.check("all bytes arrive", listener.received() == bytes, &*listener)?;
            self.check(
                "the answer arrives",
                dialler.received() == b"bye",
                &*dialler,
            )?;
            let fin = |it: &dyn Peer| it.report().end == Some(End::Fin);
            self.check(
                "both see a FIN",
                fin(&*listener) && fin(&*dialler),
                &*dialler,
            )?;
            let (a, b) = (listener.report(), dialler.report());
            let known = a.remote.is_some() && a.remote == b.local && a.local == b.remote;
            self.check("each knows the other's address", known, &*dialler)?;
        }
        Ok(())
    }

    async fn resets(&self) -> Outcome {
        let listener = self.peer(Script::listen([Step::Accept, Step::ReadToEnd]))?;
        self.peer(Script::dial([
            Step::Connect(listener.address()),
            Step::Reset,
        ]))?;
        self.until("a reset is seen", &*listener, |it| {
            it.end == Some(End::Reset)
        })
        .await
    }

    async fn unread_input_resets(&self) -> Outcome {
        let listener = self.peer(Script::listen([
            Step::Accept,
            Step::Write(Bytes::from_static(b"unread")),
            Step::Signal("written"),
            Step::ReadToEnd,
        ]))?;
        self.peer(Script::dial([
            Step::Connect(listener.address()),
            Step::Wait("written"),
            Step::Close,
        ]))?;
        self.until("a close with unread input resets", &*listener, |it| {
            it.end == Some(End::Reset)
        })
        .await
    }

    async fn echo(&self) -> Outcome {
        let listener = self.peer(Script::listen([Step::Accept, Step::Echo]))?;
        let dialler = self.peer(Script::dial([
            Step::Connect(listener.address()),
            Step::Write(Bytes::from_static(b"hello")),
            Step::Read(5),
        ]))?;
        self.until("an echo", &*dialler, |it| it.done).await?;
        self.check("the same bytes", dialler.received() == b"hello", &*dialler)
    }

    async fn crowd(&self) -> Outcome {
        let listener = self.peer(Script::listen([Step::Crowd(3)]))?;
        let mut diallers = Vec::new();
        for _ in 0..3 {
            diallers.push(self.peer(Script::dial([
                Step::Connect(listener.address()),
                Step::Write(Bytes::from_static(b"hello")),
                Step::Fin,
                Step::ReadToEnd,
            ]))?);
        }
        self.until("a crowd", &*listener, |it| it.done && it.connections == 3)
            .await?;
        for dialler in diallers {
            self.until("its end", &*dialler, |it| it.end == Some(End::Fin))
                .await?;
            self.check("an echo", dialler.received() == b"hello", &*dialler)?;
        }
        Ok(())
    }

    async fn a_small_window(&self) -> Outcome {
        let script = Script::listen([Step::Accept, Step::Wait("read on"), Step::ReadToEnd]);
        let listener = self.peer(script.receive_buffer(32_768))?;
        let dialler = self.peer(Script::dial([
            Step::Connect(listener.address()),
            Step::WriteUntilFull(pattern(2, 16 << 20), "full"),
            Step::Fin,
        ]))?;
        let full = || self.world.signalled("full");
        let came = wait::until(self.world, &self.bell, Duration::from_secs(3), full).await;
        let stopped = came && dialler.report().written < 16 << 20;
        self.check(
            "a peer that does not read stops the other",
            stopped,
            &*dialler,
        )?;
        self.world.signal("read on");
        self.until("it goes on", &*listener, |it| {
            it.end == Some(End::Fin) && it.received == 16 << 20
        })
        .await
    }

    async fn talking(&self) -> Outcome {
        let listener = self.peer(Script::listen([
            Step::Accept,
            Step::Talk(Bytes::from_static(b"blah")),
        ]))?;
        let dialler = self.peer(Script::dial([
            Step::Connect(listener.address()),
            Step::Read(400),
            Step::Write(Bytes::from_static(b"enough")),
            Step::Fin,
        ]))?;
        self.until("a talker listens", &*listener, |it| it.done)
            .await?;
        self.check("to all of it", listener.received() == b"enough", &*dialler)
    }

    async fn addresses_without_a_peer(&self) -> Outcome {
        let refuse = self.peer(Script::refuse())?;
        let dialler = self.peer(Script::dial([Step::Connect(refuse.address())]))?;
        self.until("a refusal", &*dialler, |it| it.trouble.is_some())
            .await?;
        let silent = self.peer(Script {
            role: Role::Silent,
            ..Script::refuse()
        })?;
        self.check("an address", silent.address().port() != 0, &*silent)
    }

    async fn clock(&self) -> Outcome {
        let before = self.world.now();
        wait::until(self.world, &self.bell, Duration::from_millis(5), || false).await;
        match self.world.now() >= before + Duration::from_millis(5) {
            true => Ok(()),
            false => Err(Failure::new("selftest: the clock wakes too early")),
        }
    }
}

//! The stage: both ends of one connection, with every call and event logged, and the calls of apps.

use std::future;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_io::Timer;
use futures_lite::future::{or, poll_once};
use tcpsocket::{
    BinaryType, Bytes, Error, Event, ServerEvent, ServerSocketOptions, SocketOptions,
    SocketProvider, SocketProviderExt, TcpServerSocket, TcpServerSocketExt, TcpSocket,
    TcpSocketExt,
};

use crate::demo::log::{Attempt, Entry, Log, Side, What};
use crate::demo::render;

/// The act cannot go on, for this reason.
#[derive(Debug)]
pub(super) struct CutShort(String);

impl CutShort {
    pub(super) fn new(why: String) -> CutShort {
        CutShort(why)
    }
}

/// What an act is played on.
pub(super) struct Stage<'a> {
    net: Arc<dyn SocketProvider>,
    out: &'a mut dyn Write,
    printed: io::Result<()>,
    began: Instant,
    log: Log,
    /// The index in the log of the scene's first entry.
    scene: usize,
    listener: Option<Arc<dyn TcpServerSocket>>,
    ends: [End; 2],
    waiting_for: &'static str,
}

#[derive(Default)]
struct End {
    socket: Option<Arc<dyn TcpSocket>>,
    /// Nobody polls it, so it is not read (ACT-3).
    ignored: bool,
    /// It returned `None`: no event will follow.
    over: bool,
}

enum Step {
    Accept(Option<ServerEvent>),
    Event(Side, Option<Event>),
}

impl<'a> Stage<'a> {
    pub(super) fn new(net: Arc<dyn SocketProvider>, out: &'a mut dyn Write) -> Stage<'a> {
        Stage {
            net,
            out,
            printed: Ok(()),
            began: Instant::now(),
            log: Log::default(),
            scene: 0,
            listener: None,
            ends: Default::default(),
            waiting_for: "the act to begin",
        }
    }

    /// Plays an act, and notes in the log if it is cut short.
    pub(super) async fn play(
        &mut self,
        deadline: Duration,
        act: impl AsyncFnOnce(&mut Stage<'a>) -> Result<(), CutShort>,
    ) {
        let late = async {
            Timer::after(deadline).await;
            None
        };
        let played = or(async { Some(act(self).await) }, late).await;
        let cut_short = match played {
            Some(Ok(())) => None,
            Some(Err(CutShort(why))) => Some(why),
            None => Some(format!(
                "{deadline:?} passed while waiting for {}",
                self.waiting_for
            )),
        };
        // The first act that fails says why.
        self.log.cut_short = self.log.cut_short.take().or(cut_short);
    }

    /// Ends the last scene, and returns the log.
    pub(super) fn leave(mut self) -> io::Result<Log> {
        self.print_scene();
        for end in &self.ends {
            if let Some(socket) = &end.socket {
                socket.abort(None);
            }
        }
        self.printed?;
        Ok(self.log)
    }

    /// The provider of the sockets.
    pub(super) fn net(&self) -> &Arc<dyn SocketProvider> {
        &self.net
    }

    /// Names what the act waits for, for the message if it does not come.
    pub(super) fn awaits(&mut self, what: &'static str) {
        self.waiting_for = what;
    }

    /// Prints and logs an app's call and its answer.
    pub(super) fn attempt(&mut self, attempt: Attempt) {
        self.print(|out| render::attempt(out, &attempt));
        self.log.attempts.push(attempt);
    }

    /// The time since the beginning.
    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    pub(super) fn log(&self) -> &Log {
        &self.log
    }

    pub(super) fn log_mut(&mut self) -> &mut Log {
        &mut self.log
    }

    /// Ends the previous scene, and announces this one.
    pub(super) fn scene(&mut self, title: &str) {
        self.print_scene();
        self.print(|out| render::title(out, title));
    }

    fn print_scene(&mut self) {
        let entries = self.log.entries.split_off(self.scene);
        self.print(|out| render::scene(out, &entries));
        self.log.entries.extend(entries);
        self.scene = self.log.entries.len();
    }

    fn print(&mut self, line: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
        if self.printed.is_ok() {
            self.printed = line(self.out);
        }
    }
}

/// The calls.
impl Stage<'_> {
    /// The server listens on a port of loopback that the system chooses.
    pub(super) async fn listen(&mut self) -> Result<u16, CutShort> {
        let options = ServerSocketOptions::new()
            .address(Ipv4Addr::LOCALHOST)
            .binary_type(BinaryType::ArrayBuffer);
        match self.net.listen(0, options, -1).await {
            Ok(listener) => {
                let port = listener.local_port();
                self.listener = Some(listener);
                self.enter(Side::Server, What::Listen { port });
                Ok(port)
            }
            Err(error) => Err(self.refused(Side::Server, "listen", error)),
        }
    }

    pub(super) fn open(&mut self, port: u16) -> Result<(), CutShort> {
        let options = SocketOptions::new().binary_type(BinaryType::ArrayBuffer);
        match self
            .net
            .open(Ipv4Addr::LOCALHOST.to_string(), port, options)
        {
            Ok(socket) => {
                self.ends[Side::Client as usize].socket = Some(socket);
                self.enter(Side::Client, What::Open { port });
                Ok(())
            }
            Err(error) => Err(self.refused(Side::Client, "open", error)),
        }
    }

    pub(super) fn send(&mut self, side: Side, data: Bytes) -> Result<bool, CutShort> {
        let socket = self.socket(side)?;
        let before = socket.buffered_amount();
        let len = data.len();
        match socket.send(data.clone()) {
            Ok(answer) => {
                self.log.sent_mut(side).add(&data);
                self.enter(
                    side,
                    What::Send {
                        len,
                        before,
                        answer,
                    },
                );
                Ok(answer)
            }
            Err(error) => Err(self.refused(side, "send", error)),
        }
    }

    pub(super) fn suspend(&mut self, side: Side) -> Result<(), CutShort> {
        self.socket(side)?.suspend();
        self.enter(side, What::Suspend);
        Ok(())
    }

    pub(super) fn resume(&mut self, side: Side) -> Result<(), CutShort> {
        match self.socket(side)?.resume() {
            Ok(()) => {
                self.enter(side, What::Resume);
                Ok(())
            }
            Err(error) => Err(self.refused(side, "resume", error)),
        }
    }

    pub(super) fn close(&mut self, side: Side) -> Result<(), CutShort> {
        self.socket(side)?.close();
        self.enter(side, What::Close);
        Ok(())
    }

    /// Stops polling this side.
    pub(super) fn ignore(&mut self, side: Side) {
        self.ends[side as usize].ignored = true;
    }

    /// Undoes [`ignore`](Stage::ignore).
    pub(super) fn heed(&mut self, side: Side) {
        self.ends[side as usize].ignored = false;
    }

    pub(super) fn is_ignored(&self, side: Side) -> bool {
        self.ends[side as usize].ignored
    }

    fn socket(&self, side: Side) -> Result<Arc<dyn TcpSocket>, CutShort> {
        let socket = self.ends[side as usize].socket.clone();
        socket.ok_or_else(|| CutShort(format!("the {} has no socket", side.name())))
    }

    fn refused(&mut self, side: Side, call: &'static str, error: Error) -> CutShort {
        let why = format!("{call} of the {} failed: {error}", side.name());
        self.enter(side, What::Refused { call, error });
        CutShort(why)
    }

    fn enter(&mut self, side: Side, what: What) {
        let socket = self.ends[side as usize].socket.as_ref();
        self.log.entries.push(Entry {
            at: self.began.elapsed(),
            side,
            what,
            after: socket.map(|it| (it.ready_state(), it.buffered_amount())),
        });
    }
}

/// The events.
impl Stage<'_> {
    /// Takes events until the log is `enough`.
    pub(super) async fn until(
        &mut self,
        what: &'static str,
        enough: impl Fn(&Log) -> bool,
    ) -> Result<(), CutShort> {
        self.waiting_for = what;
        while !enough(&self.log) {
            self.step().await?;
        }
        Ok(())
    }

    /// The same, but gives up after `limit`; returns whether it was enough.
    pub(super) async fn until_or(
        &mut self,
        limit: Duration,
        what: &'static str,
        enough: impl Fn(&Log) -> bool,
    ) -> Result<bool, CutShort> {
        let late = async {
            Timer::after(limit).await;
            Ok(false)
        };
        or(
            async { self.until(what, enough).await.map(|()| true) },
            late,
        )
        .await
    }

    /// Polls both sockets once more after their end: nothing may come.
    pub(super) async fn nothing_more(&mut self) -> Result<(), CutShort> {
        for side in Side::BOTH {
            let socket = self.socket(side)?;
            for _ in 0..2 {
                match poll_once(socket.next_event()).await {
                    Some(Some(event)) => self.event(side, event),
                    Some(None) => {}
                    None => {
                        let why = format!("the {} still waits for events after Close", side.name());
                        return Err(CutShort(why));
                    }
                }
            }
        }
        Ok(())
    }

    async fn step(&mut self) -> Result<(), CutShort> {
        let accept = async {
            match &self.listener {
                Some(it) => Step::Accept(it.next_event().await),
                None => future::pending().await,
            }
        };
        let client = self.next_event(Side::Client);
        let server = self.next_event(Side::Server);
        match or(accept, or(client, server)).await {
            Step::Accept(Some(ServerEvent::Connect(socket))) => {
                let port = socket.port();
                self.ends[Side::Server as usize].socket = Some(socket);
                // One connection is enough.
                self.listener = None;
                self.enter(Side::Server, What::Accepted { port });
            }
            Step::Accept(Some(ServerEvent::Error(error))) => {
                return Err(self.refused(Side::Server, "accept", error));
            }
            Step::Accept(_) => return Err(CutShort("the listener ended by itself".into())),
            Step::Event(side, Some(event)) => self.event(side, event),
            Step::Event(side, None) => {
                self.ends[side as usize].over = true;
                if self.ends.iter().all(|it| it.over) {
                    let why = format!("both sockets ended while waiting for {}", self.waiting_for);
                    return Err(CutShort(why));
                }
            }
        }
        Ok(())
    }

    async fn next_event(&self, side: Side) -> Step {
        match &self.ends[side as usize] {
            End {
                socket: Some(socket),
                ignored: false,
                over: false,
            } => Step::Event(side, socket.next_event().await),
            _ => future::pending().await,
        }
    }

    fn event(&mut self, side: Side, event: Event) {
        let what = match event {
            Event::Open => What::Opened,
            Event::Data(data) => {
                self.log.received_mut(side).add(&data);
                What::Data { len: data.len() }
            }
            Event::Drain => What::Drain,
            Event::Error(error) => What::Failed(error),
            Event::Close(close) => What::Closed { clean: close.clean },
            _ => What::Unknown,
        };
        self.enter(side, what);
    }
}

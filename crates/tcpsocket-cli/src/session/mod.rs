//! Standard input and output as the two directions of one connection.
//!
//! Back-pressure goes both ways. After `send` answered `false` nothing is taken from the input until `Drain`; while the
//! output is full the socket is suspended, so that TCP holds the peer back.

mod input;
mod output;
mod progress;
mod wait;

use std::future;
use std::io;
use std::sync::Arc;

use futures_lite::future::or;
use tcpsocket::{Bytes, Event, ReadyState, TcpSocket, TcpSocketExt};

use crate::exit::Failure;
use crate::session::input::Input;
use crate::session::output::Output;
use crate::session::progress::Progress;

const READING: &str = "cannot read the input";
const WRITING: &str = "cannot write the output";

/// Standard input and output, for one connection or one after another.
pub(crate) struct Pipes {
    input: Input,
    output: Output,
    progress: Progress,
}

impl Pipes {
    /// Nothing is read before a connection is open. Progress is not shown if standard error is `taken`.
    pub(crate) fn start(taken: bool) -> Result<Pipes, Failure> {
        Ok(Pipes {
            input: Input::new(),
            output: output::start().map_err(|error| Failure::Local(WRITING, error))?,
            progress: Progress::new(!taken),
        })
    }

    /// Waits until nobody reads the output any more. Cancel-safe.
    pub(crate) async fn output_gone(&self) {
        self.output.gone().await;
    }

    /// Waits until everything is written. Input left unsent is a failure: otherwise its loss would be silent.
    pub(crate) async fn finish(self, ended: Result<Ended, Failure>) -> Result<(), Failure> {
        let unsent = matches!(ended, Ok(Ended::Cut)) && self.input.has_more().await;
        let written = self.output.finish().await;
        ended?;
        if unsent {
            return Err(Failure::unsent());
        }
        written.map_err(|error| Failure::Local(WRITING, error))
    }
}

/// The end of a session without failure.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The connection is closed.
    Closed,
    /// The peer closed it before the end of the input.
    Cut,
    /// Nobody reads the output any more.
    OutputGone,
}

/// Copies both ways until `Close`. With `close_on_eof` the end of the input closes the connection.
pub(crate) async fn run(
    socket: Arc<dyn TcpSocket>,
    pipes: &mut Pipes,
    close_on_eof: bool,
) -> Result<Ended, Failure> {
    let mut session = Session {
        sending: Sending::NotYet,
        cut: false,
        pipes,
        close_on_eof,
        failure: None,
        socket,
    };
    if session.socket.ready_state() == ReadyState::Open {
        session.begin();
    }
    session.run().await
}

struct Session<'a> {
    socket: Arc<dyn TcpSocket>,
    sending: Sending,
    /// The connection ended before the input did.
    cut: bool,
    pipes: &'a mut Pipes,
    close_on_eof: bool,
    failure: Option<Failure>,
}

/// Whether to read the input.
#[derive(PartialEq, Eq)]
enum Sending {
    /// The socket is not open yet.
    NotYet,
    Going,
    /// `send` answered `false`, and `Drain` is due.
    Full,
    /// The input has ended, or the connection has.
    Over,
}

enum Step {
    Event(Option<Event>),
    Input(Option<io::Result<Bytes>>),
    /// The output took the chunk that it had refused before.
    Room,
    OutputGone,
}

impl Session<'_> {
    async fn run(mut self) -> Result<Ended, Failure> {
        // The connection before this one may have left the output full.
        if self.pipes.output.is_full() {
            self.socket.suspend();
        }
        let ended = loop {
            match self.step().await {
                Step::Event(Some(event)) => self.event(event),
                Step::Event(None) if self.cut => break Ended::Cut,
                Step::Event(None) => break Ended::Closed,
                Step::Input(chunk) => self.send(chunk),
                Step::Room => {
                    self.pipes.output.has_room();
                    self.keep_first(self.socket.resume());
                }
                // Nobody is interested any more: a drop closes the socket too, and waits less than `close` would.
                Step::OutputGone => break Ended::OutputGone,
            }
        };
        self.pipes.progress.end();
        self.failure.map_or(Ok(ended), Err)
    }

    /// The output comes first and the socket last: it bounds both others, so none can starve another.
    async fn step(&self) -> Step {
        let Pipes { input, output, .. } = &*self.pipes;
        let room = async {
            match output.room().await {
                Ok(()) => Step::Room,
                Err(output::Gone) => Step::OutputGone,
            }
        };
        let input = async {
            match self.sending {
                Sending::Going => Step::Input(input.next().await),
                _ => future::pending().await,
            }
        };
        let event = async { Step::Event(self.socket.next_event().await) };
        or(room, or(input, event)).await
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Open => self.begin(),
            Event::Drain if self.sending == Sending::Full => self.sending = Sending::Going,
            Event::Data(data) => self.receive(data.into_bytes()),
            Event::Error(error) => {
                self.sending = Sending::Over;
                self.keep_first(Err(error));
            }
            Event::Close(close) => {
                self.cut = self.sending != Sending::Over;
                self.sending = Sending::Over;
                if !close.clean {
                    self.failure.get_or_insert_with(Failure::cut_off);
                }
            }
            _ => {}
        }
    }

    fn begin(&mut self) {
        self.sending = Sending::Going;
        if let Err(error) = self.pipes.input.begin() {
            self.send(Some(Err(error)));
        }
    }

    fn receive(&mut self, data: Bytes) {
        self.pipes.progress.received(data.len());
        if !self.pipes.output.put(data) {
            self.socket.suspend();
        }
    }

    fn send(&mut self, chunk: Option<io::Result<Bytes>>) {
        match chunk {
            Some(Ok(chunk)) => {
                let len = chunk.len();
                match self.socket.send(chunk) {
                    Ok(more) => {
                        self.pipes.progress.sent(len);
                        if !more {
                            self.sending = Sending::Full;
                        }
                    }
                    Err(error) => {
                        self.keep_first(Err(error));
                        self.stop_sending(true);
                    }
                }
            }
            Some(Err(error)) => {
                self.failure.get_or_insert(Failure::Local(READING, error));
                self.stop_sending(true);
            }
            None => self.stop_sending(self.close_on_eof),
        }
    }

    fn stop_sending(&mut self, close: bool) {
        self.sending = Sending::Over;
        if close {
            self.socket.close();
        }
    }

    fn keep_first(&mut self, result: Result<(), tcpsocket::Error>) {
        if let Err(error) = result {
            self.failure.get_or_insert(Failure::Socket(error));
        }
    }
}

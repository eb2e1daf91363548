//! `tcpsocket open`: standard input and output are the two directions of one connection.
//!
//! Back-pressure goes both ways. After `send` answered `false` nothing is taken from the input until `Drain`; while the
//! output is full the socket is suspended, so that TCP holds the peer back.

mod input;
mod output;

use std::future;
use std::io;
use std::sync::Arc;

use async_channel::Receiver;
use futures_lite::future::or;
use tcpsocket::{
    BinaryType, Bytes, Event, OpenRequest, SocketOptions, SocketProvider, TcpSocket, TcpSocketExt,
};

use crate::args;
use crate::exit::Failure;
use crate::open::output::Output;

/// Opens, copies both ways, and returns after `Close`, when all that arrived is written.
pub(crate) async fn run(net: &dyn SocketProvider, wanted: &args::Open) -> Result<(), Failure> {
    let options = SocketOptions::new().binary_type(BinaryType::ArrayBuffer);
    let request = OpenRequest::new(&wanted.host, wanted.port)?.with_options(options);
    let session = Session {
        socket: net.open_with(request)?,
        sending: Sending::NotYet,
        input: input::start(io::stdin()).map_err(|it| Failure::Local(READING, it))?,
        output: output::start(io::stdout()).map_err(|it| Failure::Local(WRITING, it))?,
        close_on_eof: wanted.close_on_eof,
        failure: None,
    };
    session.run().await
}

const READING: &str = "cannot read the input";
const WRITING: &str = "cannot write the output";

struct Session {
    socket: Arc<dyn TcpSocket>,
    sending: Sending,
    input: Receiver<io::Result<Bytes>>,
    output: Output,
    close_on_eof: bool,
    failure: Option<Failure>,
}

/// Whether the input is to be taken.
#[derive(PartialEq, Eq)]
enum Sending {
    /// The socket is not open yet.
    NotYet,
    Going,
    /// `send` answered `false`, and `Drain` has not come since.
    Full,
    /// The input has ended, or the connection has.
    Over,
}

enum Step {
    Event(Option<Event>),
    Input(Option<io::Result<Bytes>>),
    /// What the output could not take at once it has taken now.
    Room,
    /// Nobody reads our output any more.
    OutputGone,
}

impl Session {
    async fn run(mut self) -> Result<(), Failure> {
        loop {
            match self.step().await {
                Step::Event(Some(event)) => self.event(event),
                Step::Event(None) => break,
                Step::Input(chunk) => self.send(chunk),
                Step::Room => {
                    self.output.has_room();
                    self.keep_first(self.socket.resume());
                }
                // Nobody is interested any more: dropping the socket closes it, and waits less than `close` would.
                Step::OutputGone => break,
            }
        }
        drop(self.socket);
        let written = self.output.finish().await;
        match self.failure {
            Some(failure) => Err(failure),
            None => written.map_err(|it| Failure::Local(WRITING, it)),
        }
    }

    /// The output comes first and the socket last: both others are bounded by it, so none can starve another.
    async fn step(&self) -> Step {
        let output = async {
            match self.output.room().await {
                Ok(()) => Step::Room,
                Err(output::Gone) => Step::OutputGone,
            }
        };
        let input = async {
            match self.sending {
                Sending::Going => Step::Input(self.input.recv().await.ok()),
                _ => future::pending().await,
            }
        };
        let event = async { Step::Event(self.socket.next_event().await) };
        or(output, or(input, event)).await
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Open => self.sending = Sending::Going,
            Event::Drain if self.sending == Sending::Full => self.sending = Sending::Going,
            Event::Data(data) => self.receive(data.into_bytes()),
            Event::Error(error) => self.keep_first(Err(error)),
            Event::Close(close) => {
                self.sending = Sending::Over;
                if !close.clean {
                    self.failure.get_or_insert(Failure::Truncated);
                }
            }
            _ => {}
        }
    }

    fn receive(&mut self, data: Bytes) {
        if !self.output.put(data) {
            self.socket.suspend();
        }
    }

    fn send(&mut self, chunk: Option<io::Result<Bytes>>) {
        match chunk {
            Some(Ok(chunk)) => match self.socket.send(chunk) {
                Ok(true) => {}
                Ok(false) => self.sending = Sending::Full,
                Err(error) => {
                    self.keep_first(Err(error));
                    self.stop_sending(true);
                }
            },
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

//! `--trace`: a socket around a socket that prints every call and every event.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use tcpsocket::{BinaryType, Bytes, Error, Event, ReadyState, Secure, Security, TcpSocket};

/// Prints the titles of the columns.
pub(crate) fn header() {
    print(format_args!(
        "{:>9}  {:<10} {:>9}  what",
        "ms", "state", "buffered"
    ));
}

fn print(line: fmt::Arguments<'_>) {
    // A trace that nobody reads changes nothing.
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Forwards everything, and prints it.
#[derive(Debug)]
pub(crate) struct Traced {
    socket: Arc<dyn TcpSocket>,
    begun: Instant,
    /// The handshake's result was printed.
    secure: AtomicBool,
}

impl Traced {
    pub(crate) fn opened(socket: Arc<dyn TcpSocket>) -> Arc<dyn TcpSocket> {
        let what = format!("open {} {}", socket.host(), socket.port());
        Traced::around(socket, what)
    }

    pub(crate) fn accepted(socket: Arc<dyn TcpSocket>) -> Arc<dyn TcpSocket> {
        let what = format!("accepted from {} {}", socket.host(), socket.port());
        Traced::around(socket, what)
    }

    fn around(socket: Arc<dyn TcpSocket>, what: String) -> Arc<dyn TcpSocket> {
        let traced = Traced {
            socket,
            begun: Instant::now(),
            secure: AtomicBool::new(false),
        };
        traced.tell(what);
        Arc::new(traced)
    }

    fn tell(&self, what: impl fmt::Display) {
        self.tell_security();
        self.print(&what);
    }

    /// No event reports the end of a handshake, so every line checks for it.
    fn tell_security(&self) {
        if self.socket.ssl()
            && !self.secure.load(Relaxed)
            && let Security::Secure(agreed) = self.socket.security()
            && !self.secure.swap(true, Relaxed)
        {
            self.print(&Agreed(&agreed));
        }
    }

    /// The call or event has no bounded length, and stands last to keep the columns straight.
    fn print(&self, what: &dyn fmt::Display) {
        let at = self.begun.elapsed().as_secs_f64() * 1e3;
        let (state, buffered) = (
            self.socket.ready_state().as_str(),
            self.socket.buffered_amount(),
        );
        print(format_args!("{at:>9.1}  {state:<10} {buffered:>9}  {what}"));
    }

    fn answered<T>(&self, call: impl fmt::Display, answer: &Result<T, Error>)
    where
        T: fmt::Debug,
    {
        match answer {
            Ok(_) if size_of::<T>() == 0 => self.tell(call),
            Ok(value) => self.tell(format_args!("{call}: {value:?}")),
            Err(error) => self.tell(format_args!("{call}: {}", error.name())),
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl TcpSocket for Traced {
    fn host(&self) -> &str {
        self.socket.host()
    }

    fn port(&self) -> u16 {
        self.socket.port()
    }

    fn ssl(&self) -> bool {
        self.socket.ssl()
    }

    fn security(&self) -> Security {
        self.socket.security()
    }

    fn buffered_amount(&self) -> u64 {
        self.socket.buffered_amount()
    }

    fn binary_type(&self) -> BinaryType {
        self.socket.binary_type()
    }

    fn ready_state(&self) -> ReadyState {
        self.socket.ready_state()
    }

    fn send(&self, data: Bytes) -> Result<bool, Error> {
        let len = data.len();
        let answer = self.socket.send(data);
        self.answered(format_args!("send, {len} bytes"), &answer);
        answer
    }

    fn suspend(&self) {
        self.socket.suspend();
        self.tell("suspend");
    }

    fn resume(&self) -> Result<(), Error> {
        let answer = self.socket.resume();
        self.answered("resume", &answer);
        answer
    }

    fn upgrade_to_secure(&self) -> Result<(), Error> {
        let answer = self.socket.upgrade_to_secure();
        self.answered("upgrade_to_secure", &answer);
        answer
    }

    fn close(&self) {
        self.socket.close();
        self.tell("close");
    }

    fn abort(&self, why: Option<Error>) {
        let name = why.as_ref().map(|error| error.name());
        self.socket.abort(why);
        match name {
            Some(name) => self.tell(format_args!("abort, {name}")),
            None => self.tell("abort"),
        }
    }

    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let polled = self.socket.poll_event(cx);
        self.tell_security();
        match &polled {
            Poll::Ready(Some(Event::Open)) => self.tell("Open"),
            Poll::Ready(Some(Event::Drain)) => self.tell("Drain"),
            Poll::Ready(Some(Event::Data(data))) => {
                self.tell(format_args!("Data, {} bytes", data.len()));
            }
            Poll::Ready(Some(Event::Error(error))) => {
                self.tell(format_args!("Error, {}", error.name()))
            }
            Poll::Ready(Some(Event::Close(close))) if close.clean => self.tell("Close, clean"),
            Poll::Ready(Some(Event::Close(_))) => self.tell("Close, not clean"),
            _ => {}
        }
        polled
    }

    fn cancel_poll(&self, waker: &Waker) {
        self.socket.cancel_poll(waker);
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        if self.ready_state() != ReadyState::Closed {
            self.tell("drop");
        }
    }
}

/// The result of a handshake, in a line.
struct Agreed<'a>(&'a Secure);

impl fmt::Display for Agreed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Agreed(it) = self;
        write!(f, "secure by {}", it.version)?;
        if let Some(alpn) = &it.alpn {
            write!(f, ", ALPN {}", alpn.escape_ascii())?;
        }
        match it.peer_chain.len() {
            1 => f.write_str(", 1 certificate"),
            count => write!(f, ", {count} certificates"),
        }
    }
}

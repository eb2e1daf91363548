//! For the threads: what they are to do, and what has become of it.

use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use tcpsocket::{Bytes, Error, ErrorName, ReadyState};

use super::{Comes, Input, Link, Output, Read, State, Write};
use crate::net;

/// What is handed to the kernel under one lock, so that `send` never waits for long.
const AT_ONCE: usize = 256 << 10;
/// What is discarded after the end of output (CL-13).
const DISCARDS: usize = 64 << 20;

impl State {
    /// The attempt has its connection, or has failed. Returns whether the connection is wanted.
    pub(crate) fn connected(&mut self, result: Result<Arc<TcpStream>, Error>) -> bool {
        let wanted = self.shown == ReadyState::Connecting && self.failure.is_none();
        let (link, up) = match result {
            Ok(stream) if wanted => (Link::Up(stream), true),
            Ok(stream) => {
                self.after.links.push(Link::Up(stream));
                (Link::Down, false)
            }
            Err(error) => {
                match wanted {
                    true => self.fail(error, Comes::AtOnce),
                    false => self.after.errors.push(error),
                }
                (Link::Down, false)
            }
        };
        let attempt = std::mem::replace(&mut self.link, link);
        self.after.links.push(attempt);
        up
    }

    pub(crate) fn can_write(&self) -> bool {
        self.failure.is_none() && self.output == Output::Flowing && matches!(self.link, Link::Up(_))
    }

    pub(crate) fn write_job(&self) -> Write {
        match self.link {
            Link::Down => Write::Quit,
            _ if self.can_write() && !self.queue.is_empty() => Write::Stuck,
            _ => Write::Wait(self.lingers_until()),
        }
    }

    pub(crate) fn read_job(&self) -> Read {
        let wanted = match self.shown {
            ReadyState::Connecting => false,
            ReadyState::Open => self.waker.is_some() && self.suspended == 0 && self.inbox.is_none(),
            ReadyState::Closing | ReadyState::Closed => true,
        };
        match self.link {
            Link::Up(_) if self.input == Input::Flowing && wanted => Read::Now,
            Link::Up(_) if self.input == Input::Flowing => Read::Wait,
            Link::Attempt(_) => Read::Wait,
            _ => Read::Quit,
        }
    }

    /// Hands to the kernel what it has room for. Nothing that was taken counts as held when the lock is given back, so
    /// that nobody can have it before we know (TX-10).
    pub(crate) fn pump(&mut self) {
        let mut taken = 0;
        while taken < AT_ONCE && !self.queue.is_empty() {
            let Link::Up(stream) = &self.link else { return };
            match net::send_now(stream, self.queue.iter()) {
                Ok(n) => {
                    taken += n;
                    self.wrote(n);
                }
                Err(it) if it.kind() == ErrorKind::Interrupted => {}
                Err(it) if it.kind() == ErrorKind::WouldBlock => break,
                Err(it) => {
                    self.write_failed(it);
                    break;
                }
            }
        }
        self.flushed();
    }

    fn wrote(&mut self, mut n: usize) {
        self.held -= n as u64;
        self.after.moved.written += n;
        self.moved_on();
        while let Some(first) = self.queue.front_mut() {
            if n < first.len() {
                let _ = first.split_to(n);
                return;
            }
            n -= first.len();
            self.after.bytes.extend(self.queue.pop_front());
        }
    }

    /// The byte that the writer is to wait with.
    pub(crate) fn lend(&mut self) -> Option<Bytes> {
        let first = self.queue.front_mut()?;
        let byte = first.split_to(1);
        if first.is_empty() {
            self.after.bytes.extend(self.queue.pop_front());
        }
        self.in_flight = true;
        Some(byte)
    }

    /// The writer is back, with or without its byte.
    pub(crate) fn lent(&mut self, byte: Bytes, result: io::Result<usize>) {
        self.in_flight = false;
        let keep = match &result {
            Ok(n) => *n == 0,
            Err(it) => net::again(it),
        };
        if keep && self.can_write() {
            return self.queue.push_front(byte);
        }
        self.held -= 1;
        self.after.bytes.push(byte);
        match result {
            Ok(1) => {
                self.after.moved.written += 1;
                self.moved_on();
                if self.can_write() {
                    self.pump();
                }
            }
            Err(it) if self.can_write() => {
                self.after.moved.dropped += 1;
                self.write_failed(it);
            }
            _ => self.after.moved.dropped += 1,
        }
    }

    fn write_failed(&mut self, it: io::Error) {
        self.fail(net::broken(it), Comes::AfterInput);
        self.output = Output::Broken;
        if self.shown == ReadyState::Closing || self.input != Input::Flowing {
            self.hang_up();
        }
    }

    pub(crate) fn received(&mut self, bytes: &[u8]) {
        match self.shown {
            ReadyState::Connecting | ReadyState::Open => {
                self.inbox = Some(Bytes::copy_from_slice(bytes));
            }
            ReadyState::Closing | ReadyState::Closed if self.output == Output::Ended => {
                self.discarded += bytes.len();
                if self.discarded > DISCARDS {
                    self.hang_up();
                }
            }
            // While the flush goes on it is the linger clock that bounds this.
            ReadyState::Closing | ReadyState::Closed => {}
        }
    }

    pub(crate) fn fin(&mut self) {
        self.input = Input::Fin;
        if self.output != Output::Flowing {
            self.hang_up();
        }
    }

    pub(crate) fn read_failed(&mut self, it: io::Error) {
        self.input = Input::Broken;
        // After the end of output nothing can be lost by it (CL-9).
        if self.output != Output::Ended {
            self.fail(net::broken(it), Comes::AsInput);
        }
        self.hang_up();
    }

    /// When the linger clock expires, if it runs.
    fn lingers_until(&self) -> Option<Instant> {
        self.progress.and_then(|it| it.checked_add(self.linger))
    }

    /// Looks at the linger clock. Before it expires the kernel is asked once more: that there was no progress may be our own
    /// fault, on a machine that is busy.
    pub(crate) fn expire(&mut self) {
        if self.has_expired() && self.can_write() {
            self.pump();
        }
        if !self.has_expired() {
            return;
        }
        if self.held > 0 && self.can_write() {
            let why = net::timed_out("the peer takes no more, and the time to linger is over");
            self.fail(why, Comes::AtOnce);
            self.reset();
        }
        self.hang_up();
    }

    fn has_expired(&self) -> bool {
        self.lingers_until().is_some_and(|it| it <= Instant::now())
    }

    /// The thread of an attempt is gone without a result.
    pub(crate) fn abandoned(&mut self) {
        if let Link::Attempt(_) = self.link {
            let why = "no thread could be started";
            self.connected(Err(Error::new(ErrorName::Network, why)));
        }
    }

    /// Nobody can look after the connection.
    pub(crate) fn broke(&mut self, why: Error) {
        self.fail(why, Comes::AtOnce);
        self.reset();
    }
}

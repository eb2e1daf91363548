//! A TCP stream registered with one of the two reactors.

use std::io::{self, IoSlice};
use std::net::{Shutdown, TcpStream};
use std::sync::Weak;
use std::task::Context;
use std::time::Duration;

use async_io::Async;
use mio::Interest;
use socket2::{SockAddr, SockRef};

use crate::event_loop::Registered;
use crate::provider::Reactor;
use crate::source::{Hooks, Source};
use crate::sys;

/// A stream and its registration. Dropping it closes the descriptor.
#[derive(Debug)]
pub(crate) enum Stream {
    AsyncIo(Async<TcpStream>, Hooks),
    Loop(mio::net::TcpStream, Registered),
}

impl Stream {
    /// Registers a stream that does not block. One that connects must have begun to: an unconnected socket is always ready.
    pub(crate) fn new(
        reactor: &Reactor,
        stream: TcpStream,
        hooks: Option<&Hooks>,
        source: Weak<dyn Source>,
    ) -> io::Result<Stream> {
        match (reactor, hooks) {
            (Reactor::Loop(core), _) => {
                let mut stream = mio::net::TcpStream::from_std(stream);
                let both = Interest::READABLE | Interest::WRITABLE;
                let registered = core.register(&mut stream, both, source)?;
                Ok(Stream::Loop(stream, registered))
            }
            (Reactor::AsyncIo, Some(hooks)) => Ok(Stream::AsyncIo(
                Async::new_nonblocking(stream)?,
                hooks.clone(),
            )),
            (Reactor::AsyncIo, None) => unreachable!("a source on async-io has hooks"),
        }
    }

    fn socket(&self) -> SockRef<'_> {
        match self {
            Stream::AsyncIo(io, _) => SockRef::from(io),
            Stream::Loop(io, _) => SockRef::from(io),
        }
    }

    /// Whether a connect has succeeded; `false` while it is still going on.
    ///
    /// # Errors
    ///
    /// What it failed with. If the port that the system chose for it is the one that it dials, and nobody listens there, TCP connects it with itself:
    /// that is refused, as the next attempt would be (GATE-19).
    pub(crate) fn is_connected(&self) -> io::Result<bool> {
        let socket = self.socket();
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        match socket.peer_addr() {
            Ok(peer) if is_itself(&socket, &peer)? => {
                self.reset_on_close();
                Err(io::Error::new(
                    io::ErrorKind::ConnectionRefused,
                    "nobody listens there",
                ))
            }
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        use std::io::Read;
        retry(|| match self {
            Stream::AsyncIo(io, _) => io.get_ref().read(buffer),
            Stream::Loop(io, _) => (&*io).read(buffer),
        })
    }

    pub(crate) fn send(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let socket = self.socket();
        retry(|| match slices {
            [one] => socket.send_with_flags(one, sys::SEND_FLAGS),
            many => socket.send_vectored_with_flags(many, sys::SEND_FLAGS),
        })
    }

    pub(crate) fn finish(&self) -> io::Result<()> {
        self.socket().shutdown(Shutdown::Write)
    }

    /// The drop of this stream will reset the connection.
    pub(crate) fn reset_on_close(&self) {
        // Fails only for a descriptor that is gone.
        let _ = self.socket().set_linger(Some(Duration::ZERO));
    }

    /// Asks to be told when there is something to read. The loop's registration is edge-triggered and for ever.
    pub(crate) fn arm_read(&self) {
        if let Stream::AsyncIo(io, hooks) = self {
            let mut cx = Context::from_waker(&hooks.read);
            // `Ready` is an event that the hook has been called for already; only `Pending` means armed.
            while io.poll_readable(&mut cx).is_ready() {}
        }
    }

    /// Asks to be told when there is room to write.
    pub(crate) fn arm_write(&self) {
        if let Stream::AsyncIo(io, hooks) = self {
            let mut cx = Context::from_waker(&hooks.write);
            while io.poll_writable(&mut cx).is_ready() {}
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Stream::Loop(io, registered) = self {
            registered.deregister(io);
        }
    }
}

/// Whether both ends are the same.
fn is_itself(socket: &SockRef<'_>, peer: &SockAddr) -> io::Result<bool> {
    let local = socket.local_addr()?;
    Ok(local.as_socket() == peer.as_socket())
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

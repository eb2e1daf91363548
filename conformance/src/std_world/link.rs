//! A connection of a peer, with or without TLS on it.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;

use super::Shared;
use super::peer::{StdPeer, is_reset};
use crate::sync::lock;
use crate::{Cut, CutBy, TlsSession};

/// How much plaintext is encrypted at once.
const RECORD: usize = 16_384;

#[derive(Debug)]
pub(super) struct Link {
    stream: TcpStream,
    peer: Arc<StdPeer>,
    shared: Arc<Shared>,
    tls: Option<Tls>,
}

#[derive(Debug)]
struct Tls {
    session: TlsSession,
    /// Ciphertext that the kernel has not taken yet.
    pending: Vec<u8>,
    /// Ciphertext that it has taken.
    sent: usize,
    cut: Option<Cut>,
    /// It was cut, and only what still arrives is of interest.
    over: bool,
    /// Why it has failed. What was decrypted before is read first.
    failed: Option<String>,
}

/// The script wants the connection to be cut here.
#[derive(Debug)]
pub(super) struct CutHere(pub(super) CutBy);

impl fmt::Display for CutHere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cut by {:?}", self.0)
    }
}

impl Error for CutHere {}

impl Link {
    pub(super) fn new(stream: TcpStream, peer: Arc<StdPeer>, shared: Arc<Shared>) -> Link {
        Link {
            stream,
            peer,
            shared,
            tls: None,
        }
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// From here on everything travels inside TLS.
    pub(super) fn begin_tls(
        &mut self,
        session: impl FnOnce(usize) -> Result<TlsSession, String>,
        cut: Option<Cut>,
    ) -> io::Result<()> {
        let clear = lock(&self.peer.seen).report.received;
        self.tls = Some(Tls {
            session: session(clear).map_err(io::Error::other)?,
            pending: Vec::new(),
            sent: 0,
            cut,
            over: false,
            failed: None,
        });
        self.tell();
        Ok(())
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.tls
            .as_ref()
            .is_some_and(|it| it.session.is_handshaking())
    }

    /// One read, as of a stream.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(tls) = &mut self.tls else {
                return (&self.stream).read(buffer);
            };
            match tls.session.read(buffer) {
                0 if self.pump()? => {}
                n => return Ok(n),
            }
        }
    }

    /// Reads ciphertext; false at the end of the stream.
    pub(super) fn pump(&mut self) -> io::Result<bool> {
        let Some(tls) = &mut self.tls else {
            return Err(io::Error::other("there is no TLS"));
        };
        if let Some(why) = &tls.failed {
            return Err(io::Error::other(why.clone()));
        }
        let mut bytes = [0; RECORD];
        let n = (&self.stream).read(&mut bytes)?;
        lock(&self.peer.seen).wire.extend_from_slice(&bytes[..n]);
        if let Err(why) = tls.session.takes(&bytes[..n])
            && !tls.over
        {
            tls.failed = Some(why);
        }
        self.tell();
        // Its answers, an alert among them. That there is no room for them now is of no concern, but an end that shows here
        // does not show again.
        match self.flush() {
            Err(error) if cut(&error).is_some() => Err(error),
            Err(error) if is_reset(&error) => Err(ErrorKind::ConnectionReset.into()),
            _ => Ok(n > 0),
        }
    }

    /// One write, as of a stream. Nothing is taken before all that was taken has left.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        let Some(tls) = &mut self.tls else {
            return (&self.stream).write(bytes);
        };
        let taken = &bytes[..bytes.len().min(RECORD)];
        tls.session.says(taken);
        match self.flush() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken.len()),
        }
    }

    /// Sends `close_notify`; without TLS there is none.
    pub(super) fn close_notify(&mut self) -> io::Result<()> {
        self.session()?.says_goodbye();
        Ok(())
    }

    /// Updates the keys of TLS.
    pub(super) fn change_keys(&mut self) -> io::Result<()> {
        self.session()?.changes_keys().map_err(io::Error::other)
    }

    fn session(&mut self) -> io::Result<&mut TlsSession> {
        let tls = self.tls.as_mut();
        let tls = tls.ok_or_else(|| io::Error::other("there is no TLS"))?;
        Ok(&mut tls.session)
    }

    /// Writes below TLS.
    pub(super) fn write_below(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        (&self.stream).write(bytes)
    }

    /// Hands the ciphertext to the kernel.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            return Ok(());
        };
        tls.pending.extend(tls.session.gives());
        if tls.over {
            tls.pending.clear();
        }
        loop {
            let room = match tls.cut {
                Some(Cut { after, by }) if after == tls.sent && !tls.over => {
                    return Err(self.break_off(by));
                }
                Some(it) => it.after - tls.sent,
                None => usize::MAX,
            };
            if tls.pending.is_empty() {
                self.tell();
                return Ok(());
            }
            let most = tls.pending.len().min(room);
            let n = (&self.stream).write(&tls.pending[..most])?;
            tls.pending.drain(..n);
            tls.sent += n;
        }
    }

    fn break_off(&mut self, by: CutBy) -> io::Error {
        if let Some(tls) = &mut self.tls {
            tls.pending.clear();
            tls.over = true;
        }
        self.tell();
        let done = match by {
            CutBy::Fin => self.stream.shutdown(Shutdown::Write),
            CutBy::Reset => SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)),
            CutBy::Silence => Ok(()),
        };
        match done {
            Ok(()) => io::Error::other(CutHere(by)),
            Err(error) => error,
        }
    }

    /// Brings the report up to date.
    fn tell(&self) {
        let Some(tls) = &self.tls else { return };
        let mut seen = lock(&self.peer.seen);
        let report = &mut seen.report.tls;
        let mut now = tls.session.report();
        now.written = tls.sent;
        if report.as_ref() != Some(&now) {
            *report = Some(now);
            drop(seen);
            self.shared.notify();
        }
    }
}

/// Whether this is no failure, but the place where the script cuts the connection.
pub(super) fn cut(error: &io::Error) -> Option<CutBy> {
    let inner = error.get_ref()?.downcast_ref::<CutHere>()?;
    Some(inner.0)
}

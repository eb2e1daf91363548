//! One TLS session, without I/O.

use std::fmt;
use std::io::{self, BufRead, IoSlice, Write};
use std::mem;
use std::panic::{self, AssertUnwindSafe};

use bytes::{Bytes, BytesMut};
use rustls::{
    AlertDescription, ClientConnection, InvalidMessage, IoState, PeerMisbehaved, ProtocolVersion,
};
use tcpsocket::{Error, ErrorName, Host, Secure};

use crate::chain::Evidence;
use crate::failure::{self, During};
use crate::verifier;

/// The most bytes that one [`Incoming::Data`] holds: 256 KiB.
pub const MAX_DATA: usize = 256 * 1024;
/// The most bytes of plaintext that are encrypted at once: 64 KiB, four records.
pub const MAX_WRITE: usize = 64 * 1024;
/// The same under TLS 1.2: 16 KiB, one record, so that a record that could not be made is noticed.
const MAX_WRITE_TLS12: usize = 16 * 1024;
/// Up to this size data is copied out rather than keep a larger buffer alive.
const SMALL: usize = 16 * 1024;
/// What a byte of ciphertext that carries no plaintext costs more than one that does.
const IDLE_WEIGHT: usize = 512;
/// Slices of one gathered write.
const SLICES: usize = 64;

/// What comes in next, as [`Session::next_incoming`] tells.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Incoming {
    /// Nothing, until more is read from the connection.
    Dry,
    /// Plaintext, 1 byte to [`MAX_DATA`].
    Data(Bytes),
    /// The peer's stream ended. `clean` if it had said so by `close_notify`; otherwise it may have been cut off by somebody else.
    Ended {
        /// Whether `close_notify` had come, or had been sent, so that nothing more was awaited.
        clean: bool,
    },
    /// TLS failed, or the connection ended during the handshake. What [`Session::write_tls`] still has is the alert that says so
    /// to the peer.
    Failed(Error),
}

/// One TLS session of a client, without I/O, clock or lock: ciphertext goes in and comes out, and plaintext too.
///
/// Its driver reads from the connection and hands over what came ([`read_tls`](Session::read_tls),
/// [`read_eof`](Session::read_eof)); asks what that means ([`next_incoming`](Session::next_incoming), [`is_handshaking`](Session::is_handshaking)); and writes to the
/// connection while [`wants_write`](Session::wants_write) says so. Nothing here blocks or waits.
///
/// **Bounds.** Plaintext held is never more than the ciphertext handed over since the last [`Incoming::Dry`]: a driver that reads again
/// only then holds one read at most, beside one unfinished record. Ciphertext held is what became of one
/// [`write_plaintext`](Session::write_plaintext), beside handshake messages and alerts. An idle session keeps about 9 KiB,
/// 4 of them a buffer of rustls.
///
/// ```
/// use std::io::IoSlice;
/// use tcpsocket::Host;
/// use tcpsocket_tls::{Client, Incoming, Trust};
/// # let Ok(_) = Client::new(Trust::platform()).config() else { return Ok(()) };
///
/// let host = Host::parse("imap.example.org")?;
/// let mut session = Client::new(Trust::platform()).session(&host, &[])?;
///
/// let mut connection = Vec::new();
/// while session.wants_write() {
///     session.write_tls(&mut connection).unwrap();
/// }
/// assert_eq!(connection[0], 22); // a handshake record
///
/// // Nothing leaves before the handshake is done.
/// assert_eq!(session.write_plaintext(&[IoSlice::new(b"secret")])?, 0);
///
/// session.read_tls(b"220 imap.example.org ready\r\n");
/// let Incoming::Failed(error) = session.next_incoming() else { panic!() };
/// assert_eq!(error.name().as_str(), "SecurityError");
/// # Ok::<(), tcpsocket::Error>(())
/// ```
pub struct Session {
    conn: ClientConnection,
    host: Host,
    plain: BytesMut,
    /// How input ended. What is in `plain` came before that.
    end: Option<End>,
    /// The peer's `close_notify` has come.
    peer_closed: bool,
    /// Ours is queued, or was sent.
    closing: bool,
    /// Plaintext that was taken and whose ciphertext is not all written yet.
    in_flight: usize,
    flushed: usize,
    work: usize,
    /// An alert that rustls does not send, behind what it has to write.
    alert: Vec<u8>,
}

#[derive(Clone, Debug)]
enum End {
    Ended { clean: bool },
    Failed(Error),
}

impl Session {
    pub(crate) fn new(conn: ClientConnection, host: Host) -> Session {
        Session {
            conn,
            host,
            plain: BytesMut::new(),
            end: None,
            peer_closed: false,
            closing: false,
            in_flight: 0,
            flushed: 0,
            work: 0,
            alert: Vec::new(),
        }
    }

    // ----- the handshake

    /// Whether the handshake is not done. It stays so when the handshake fails.
    ///
    /// Once false, plaintext can be written; the last message of the handshake may still have to be.
    pub fn is_handshaking(&self) -> bool {
        self.conn.is_handshaking()
    }

    /// What the handshake agreed on; `None` until it is done. The certificates are those that the peer sent, in its order; after a
    /// resumption, those of the session that was resumed.
    pub fn secure(&self) -> Option<Secure> {
        if self.is_handshaking() {
            return None;
        }
        let version = match self.conn.protocol_version()? {
            ProtocolVersion::TLSv1_2 => "TLSv1.2".to_owned(),
            ProtocolVersion::TLSv1_3 => "TLSv1.3".to_owned(),
            other => format!("{other:?}"),
        };
        let alpn = self.conn.alpn_protocol().map(Bytes::copy_from_slice);
        let chain = self.conn.peer_certificates().unwrap_or_default();
        let chain = chain.iter().map(|it| Bytes::copy_from_slice(it)).collect();
        Some(Secure::new(version, alpn, chain))
    }

    // ----- input

    /// Takes what was read from the connection, all of it, and decrypts what is complete. Ask
    /// [`next_incoming`](Session::next_incoming) what it was.
    ///
    /// What comes after an end or a failure, and after [`close_notify`](Session::close_notify), is thrown away.
    pub fn read_tls(&mut self, mut bytes: &[u8]) {
        let (all, before) = (bytes.len(), self.plain.len());
        while !bytes.is_empty() && self.end.is_none() && !self.closing {
            // From memory; what can fail is the framing.
            let read = self.conn.read_tls(&mut bytes);
            if let Err(cause) = read.and_then(not_nothing) {
                self.fail_unread(cause);
                return;
            }
            let Some((processed, evidence)) = self.process() else {
                return;
            };
            self.collect(bytes.len());
            match processed {
                Ok(state) if state.peer_has_closed() => {
                    self.peer_closed = true;
                    self.end = Some(End::Ended { clean: true });
                }
                Ok(_) => {}
                Err(cause) => self.fail(cause, evidence.as_ref()),
            }
        }
        let taken = all - bytes.len();
        let idle = taken.saturating_sub(self.plain.len() - before);
        self.work += taken + IDLE_WEIGHT * idle;
    }

    /// `None` if code of the configuration panicked, such as its verifier: that ends this session, and unwinds into nobody's lock.
    fn process(&mut self) -> Option<(Result<IoState, rustls::Error>, Option<Evidence>)> {
        let conn = &mut self.conn;
        let process = AssertUnwindSafe(|| verifier::watch(|| conn.process_new_packets()));
        let Ok(processed) = panic::catch_unwind(process) else {
            self.end = Some(End::Failed(config_panicked(&self.host)));
            return None;
        };
        Some(processed)
    }

    /// Takes the measure of the work that [`read_tls`](Session::read_tls) did since the last call, for drivers that bound what one socket
    /// may take of a thread: bytes of ciphertext, of which those that carry no plaintext count 513-fold. A byte of bulk
    /// is cheap; the header of a one-byte record, a session ticket or a change of keys costs some hundred times as much.
    pub fn take_work(&mut self) -> usize {
        mem::take(&mut self.work)
    }

    /// The connection ended: nothing more will be read from it. During the handshake that is a `NetworkInterruptError`.
    pub fn read_eof(&mut self) {
        if self.end.is_some() {
            return;
        }
        self.end = Some(if self.closing {
            End::Ended { clean: true }
        } else if self.is_handshaking() {
            End::Failed(Error::new(
                ErrorName::NetworkInterrupt,
                format!(
                    "{} ended the connection during the TLS handshake",
                    self.host
                ),
            ))
        } else {
            End::Ended { clean: false }
        });
    }

    /// What comes in next, in order: all plaintext before an end or a failure. Those two are told again by every further call.
    pub fn next_incoming(&mut self) -> Incoming {
        match (self.plain.len(), &self.end) {
            (0, None) => Incoming::Dry,
            (0, Some(End::Ended { clean })) => Incoming::Ended { clean: *clean },
            (0, Some(End::Failed(error))) => Incoming::Failed(error.clone()),
            (len, _) => Incoming::Data(if len > MAX_DATA {
                self.plain.split_to(MAX_DATA).freeze()
            } else {
                let plain = mem::take(&mut self.plain);
                if len <= SMALL && plain.capacity() > len {
                    Bytes::copy_from_slice(&plain)
                } else {
                    plain.freeze()
                }
            }),
        }
    }

    /// Whether [`next_incoming`](Session::next_incoming) has something else to tell than [`Incoming::Dry`], without anything being read.
    pub fn has_incoming(&self) -> bool {
        !self.plain.is_empty() || self.end.is_some()
    }

    /// Whether the peer has said by `close_notify` that it will send nothing more.
    pub fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Moves decrypted plaintext out of rustls, which would keep 16 KiB only. `to_come` bounds what may follow.
    fn collect(&mut self, to_come: usize) {
        let mut reader = self.conn.reader();
        while let Ok(chunk) = reader.fill_buf() {
            let len = chunk.len();
            if len == 0 {
                return;
            }
            if self.plain.is_empty() {
                self.plain.reserve(len + to_come);
            }
            self.plain.extend_from_slice(chunk);
            reader.consume(len);
        }
    }

    fn fail(&mut self, cause: rustls::Error, evidence: Option<&Evidence>) {
        match cause {
            // Those that rustls finds while it joins the parts of a message, and tells nobody.
            rustls::Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge) => {
                self.tell(AlertDescription::DecodeError);
            }
            rustls::Error::PeerMisbehaved(
                PeerMisbehaved::MessageInterleavedWithHandshakeMessage,
            ) => {
                self.tell(AlertDescription::UnexpectedMessage);
            }
            _ => {}
        }
        let error = failure::failed(&self.host, cause, self.during(), evidence);
        self.end = Some(End::Failed(error));
    }

    fn during(&self) -> During {
        match self.is_handshaking() {
            true => During::Handshake,
            false => During::Stream,
        }
    }

    /// rustls takes no more: its buffer is full before the message in it is complete. All else it reads from memory.
    fn fail_unread(&mut self, cause: io::Error) {
        self.tell(AlertDescription::DecodeError);
        let message = failure::too_large(&self.host, self.during());
        let error = Error::with_source(ErrorName::Security, message, cause);
        self.end = Some(End::Failed(error));
    }

    /// Queues an alert where rustls does not. It has no call for that, only for `close_notify`, which is put in place of it: encrypted
    /// as it is where only that can be read, and otherwise rewritten. Until our side has sent something encrypted, servers of
    /// TLS 1.3 take alerts in the clear too.
    fn tell(&mut self, alert: AlertDescription) {
        const IN_CLEAR: [u8; 7] = [21, 3, 3, 0, 2, 1, 0];
        let handshaking = self.is_handshaking();
        self.conn.send_close_notify();
        let mut queued = Records(Vec::new());
        while self.conn.wants_write() && self.conn.write_tls(&mut queued).is_ok() {}
        let tls13 = self.conn.protocol_version() == Some(ProtocolVersion::TLSv1_3);
        if let Some(last) = queued.0.last_mut()
            && (*last == IN_CLEAR || (tls13 && handshaking))
        {
            *last = vec![21, 3, 3, 0, 2, 2, u8::from(alert)];
        }
        self.alert = queued.0.concat();
        self.closing = true;
    }

    // ----- output

    /// Whether there is ciphertext to be written: handshake messages, records, alerts.
    pub fn wants_write(&self) -> bool {
        self.conn.wants_write() || !self.alert.is_empty()
    }

    /// Writes ciphertext, by one call of `write_vectored` at most. Returns how many bytes were taken; 0 if there are none.
    ///
    /// # Errors
    ///
    /// What `connection` answers, `WouldBlock` included; nothing is lost by it.
    pub fn write_tls(&mut self, connection: &mut dyn Write) -> io::Result<usize> {
        let written = match self.alert.is_empty() {
            true => self.conn.write_tls(connection)?,
            false => {
                let written = connection.write(&self.alert)?;
                self.alert.drain(..written.min(self.alert.len()));
                written
            }
        };
        if !self.wants_write() {
            self.flushed += mem::take(&mut self.in_flight);
        }
        Ok(written)
    }

    /// Encrypts plaintext, [`MAX_WRITE`] bytes at most (16 KiB under TLS 1.2), gathered into as few records as it takes. Returns how many bytes were taken: none during the
    /// handshake, after [`close_notify`](Session::close_notify), and while [`wants_write`](Session::wants_write).
    ///
    /// Bytes that were taken count as buffered until [`take_flushed`](Session::take_flushed) tells.
    ///
    /// # Errors
    ///
    /// What the session failed by, even if it was not told yet because plaintext came before it. Nothing is taken then.
    pub fn write_plaintext(&mut self, slices: &[IoSlice<'_>]) -> Result<usize, Error> {
        if let Some(End::Failed(error)) = &self.end {
            return Err(error.clone());
        }
        if self.closing || self.is_handshaking() || self.wants_write() {
            return Ok(0);
        }
        let mut cut = [IoSlice::new(&[]); SLICES];
        let mut room = match self.conn.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => MAX_WRITE,
            _ => MAX_WRITE_TLS12,
        };
        let mut count = 0;
        for slice in slices.iter().filter(|it| !it.is_empty()).take(SLICES) {
            let len = slice.len().min(room);
            if len == 0 {
                break;
            }
            cut[count] = IoSlice::new(&slice[..len]);
            count += 1;
            room -= len;
        }
        if count == 0 {
            return Ok(0);
        }
        let taken = self.conn.writer().write_vectored(&cut[..count]);
        if self.keys_are_used_up() {
            self.closing = true;
            let error = Error::new(
                ErrorName::Security,
                format!(
                    "the keys of the connection with {} are used up; open a new one",
                    self.host
                ),
            );
            self.end = Some(End::Failed(error.clone()));
            return Err(error);
        }
        match taken {
            Ok(taken) => {
                self.in_flight += taken;
                Ok(taken)
            }
            Err(cause) => {
                let message = format!(
                    "what was to be sent to {} could not be encrypted",
                    self.host
                );
                let error = Error::with_source(ErrorName::Security, message, cause);
                self.end = Some(End::Failed(error.clone()));
                Err(error)
            }
        }
    }

    /// TLS 1.2 cannot change its keys, so rustls ends a connection that has used them up (after 16 million records with AES-GCM): it
    /// drops the plaintext that it says it took, and queues `close_notify`. The record's type, which TLS 1.2 does not hide, shows it.
    fn keys_are_used_up(&mut self) -> bool {
        struct FirstByte(Option<u8>);
        impl Write for FirstByte {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = bytes.first().copied();
                Err(io::ErrorKind::WouldBlock.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        const ALERT: u8 = 21;
        let mut first = FirstByte(None);
        self.conn.protocol_version() == Some(ProtocolVersion::TLSv1_2)
            && self.conn.write_tls(&mut first).is_err()
            && first.0 == Some(ALERT)
    }

    /// Takes the count of plaintext bytes that are encrypted and written, all of their ciphertext, since the last call.
    pub fn take_flushed(&mut self) -> usize {
        mem::take(&mut self.flushed)
    }

    /// Queues `close_notify`, once, behind what was written: nothing more will be. To be written before the connection's own end
    /// (`shutdown(Write)`). From here on input is not looked at any more.
    pub fn close_notify(&mut self) {
        if !self.closing {
            self.closing = true;
            self.conn.send_close_notify();
        }
    }
}

/// Keeps what rustls writes, record by record, as it queues them.
struct Records(Vec<Vec<u8>>);

impl Write for Records {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.push(bytes.to_vec());
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Code of a configuration panicked, and not ours.
pub(crate) fn config_panicked(host: &Host) -> Error {
    Error::new(
        ErrorName::Security,
        format!(
            "the TLS configuration's own code, such as a certificate verifier, panicked over {host}"
        ),
    )
}

fn not_nothing(count: usize) -> io::Result<()> {
    match count {
        0 => Err(io::Error::other("a record of impossible length")),
        _ => Ok(()),
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("host", &self.host)
            .field("handshaking", &self.is_handshaking())
            .field("version", &self.conn.protocol_version())
            .field("plain", &self.plain.len())
            .field("end", &self.end)
            .field("closing", &self.closing)
            .field("in_flight", &self.in_flight)
            .finish_non_exhaustive()
    }
}

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

/// The maximum size of one [`Incoming::Data`]: 256 KiB.
pub const MAX_DATA: usize = 256 * 1024;
/// The most plaintext to encrypt at once: 64 KiB, four records.
pub const MAX_WRITE: usize = 64 * 1024;
/// The same under TLS 1.2: 16 KiB, one record, so that a failure to encrypt a record is noticed.
const MAX_WRITE_TLS12: usize = 16 * 1024;
/// Up to this size data is copied out rather than keep a larger buffer alive.
const SMALL: usize = 16 * 1024;
/// The extra cost of a byte of ciphertext without plaintext.
const IDLE_WEIGHT: usize = 512;
/// Slices of one gathered write.
const SLICES: usize = 64;

/// The next input, as [`Session::next_incoming`] returns it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Incoming {
    /// Nothing, until more is read from the connection.
    Dry,
    /// Plaintext, 1 byte to [`MAX_DATA`].
    Data(Bytes),
    /// The peer's stream ended. `clean` if the peer sent `close_notify`; otherwise somebody else may have cut it off.
    Ended {
        /// Whether a `close_notify` had been received or sent, so that no more input was expected.
        clean: bool,
    },
    /// TLS failed, or the connection ended during the handshake. [`Session::write_tls`] may still hold an alert for the peer.
    Failed(Error),
}

/// A client's TLS session, without I/O, clock or lock: ciphertext and plaintext go in and come out.
///
/// Its driver reads from the connection and hands over the bytes ([`read_tls`](Session::read_tls),
/// [`read_eof`](Session::read_eof)), asks for their meaning ([`next_incoming`](Session::next_incoming),
/// [`is_handshaking`](Session::is_handshaking)), and writes to the connection while [`wants_write`](Session::wants_write) is
/// true. Nothing here blocks or waits.
///
/// **Bounds.** A session never holds more plaintext than the ciphertext handed over since the last [`Incoming::Dry`]. So a
/// driver that reads again only after `Dry` holds at most one read, plus one unfinished record. The ciphertext is that of
/// one [`write_plaintext`](Session::write_plaintext), plus handshake messages and alerts. An idle session takes about 9 KiB,
/// 4 of them a rustls buffer.
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
    /// How input ended. The bytes in `plain` came before.
    end: Option<End>,
    /// The peer's `close_notify` has come.
    peer_closed: bool,
    /// Ours is queued, or was sent.
    closing: bool,
    /// Accepted plaintext with ciphertext still to be written.
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

    /// Whether the handshake is incomplete. Stays `true` if the handshake fails.
    ///
    /// Once this is `false`, you can write plaintext; the handshake's last message may still be waiting for `write_tls`.
    pub fn is_handshaking(&self) -> bool {
        self.conn.is_handshaking()
    }

    /// The result of the handshake; `None` until it is complete. The certificates are the peer's, in the peer's order; after
    /// a resumption, those of the original session.
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

    /// Takes all bytes read from the connection and decrypts the complete records. Ask
    /// [`next_incoming`](Session::next_incoming) for the result.
    ///
    /// Discards all input after an end, a failure, or [`close_notify`](Session::close_notify).
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

    /// Tells the session that the connection ended. During the handshake that is a `NetworkInterruptError`.
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

    /// The next input, in order: all plaintext before an end or a failure. Every further call repeats those two.
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

    /// Whether [`next_incoming`](Session::next_incoming) would return anything but [`Incoming::Dry`] now.
    pub fn has_incoming(&self) -> bool {
        !self.plain.is_empty() || self.end.is_some()
    }

    /// Whether the peer has sent `close_notify`: it will send nothing more.
    pub fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Moves decrypted plaintext out of rustls, which keeps only 16 KiB. `to_come` bounds the bytes that may follow.
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
            // Faults that rustls finds while it joins the parts of a message; it sends no alert for them.
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

    /// rustls takes no more: its buffer is full before a message is complete. Nothing else can fail here, as it reads from memory.
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

    /// Writes ciphertext with at most one call of `write_vectored`. Returns the number of bytes written; 0 if there are none.
    ///
    /// # Errors
    ///
    /// Those of `connection`, `WouldBlock` included. No bytes are lost.
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

    /// Encrypts at most [`MAX_WRITE`] bytes of plaintext (16 KiB under TLS 1.2), gathered into as few records as possible.
    /// Returns the number of bytes taken: 0 during the handshake, after [`close_notify`](Session::close_notify), and while
    /// [`wants_write`](Session::wants_write) is true.
    ///
    /// Bytes taken count as buffered until [`take_flushed`](Session::take_flushed) reports them.
    ///
    /// # Errors
    ///
    /// The session's failure, even if plaintext still comes before it in [`next_incoming`](Session::next_incoming). Nothing
    /// is taken then.
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

    /// Takes the number of plaintext bytes whose ciphertext has been fully written since the last call.
    pub fn take_flushed(&mut self) -> usize {
        mem::take(&mut self.flushed)
    }

    /// Queues `close_notify`, once, after all written plaintext; no more can be written. Write it out before you end the
    /// connection (`shutdown(Write)`). From here on the session ignores input.
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

//! STARTTLS for the three mail protocols: the whole dialogue in the clear, up to the handshake.
//!
//! Anybody on the way could have written what the server says before TLS. So it is read strictly and within bounds, used for
//! nothing but the way to TLS, and discarded.

use std::fmt;
use std::str::FromStr;

use crate::{Error, ErrorName, Event, ReadyState, Security, TcpSocket, TcpSocketExt};

/// The longest line of SMTP (RFC 5321, 4.5.3.1.5) and POP3 (RFC 1939, 3), including its end.
const LONGEST: usize = 512;

/// The same for IMAP, which sets no limit: RFC 7162, 4 recommends this one for the other direction.
const LONGEST_IMAP: usize = 8192;

/// The most lines a server may send before TLS.
const LINES: usize = 128;

/// An address literal: RFC 5321, 4.1.1.1 demands one of a client without a name. It is the same on every machine, so it
/// reveals nothing about this one. So would `localhost`, but some servers insist on a name with a dot.
pub(crate) const NAMELESS: &str = "[127.0.0.1]";

fn is_in_domain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')
}

fn is_in_literal(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'[' | b']' | b'\\')
}

/// A protocol that can begin TLS on an open connection, for [`starttls`](TcpSocketExt::starttls).
///
/// Policies and commands use its name.
///
/// ```
/// use tcpsocket::StartTls;
///
/// assert_eq!("imap".parse::<StartTls>()?, StartTls::Imap);
/// assert_eq!(StartTls::Smtp.to_string(), "smtp");
/// assert!("IMAP ".parse::<StartTls>().is_err());
/// # Ok::<(), tcpsocket::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StartTls {
    /// SMTP, and submission (RFC 3207).
    Smtp,
    /// IMAP (RFC 9051, 6.2.1).
    Imap,
    /// POP3, with the command `STLS` (RFC 2595, 4).
    Pop3,
}

impl StartTls {
    /// Every protocol, in the order of this page.
    pub const ALL: &'static [StartTls] = &[StartTls::Smtp, StartTls::Imap, StartTls::Pop3];

    /// The name: `smtp`, `imap`, `pop3`.
    pub fn as_str(self) -> &'static str {
        match self {
            StartTls::Smtp => "smtp",
            StartTls::Imap => "imap",
            StartTls::Pop3 => "pop3",
        }
    }

    /// Checks a name for [`starttls_as`](TcpSocketExt::starttls_as): a domain, or an address in brackets (RFC 5321, 4.1.2),
    /// of 1 to 255 bytes, without anything that would end the word or the line.
    ///
    /// # Errors
    ///
    /// `InvalidAccessError` for any other name.
    ///
    /// ```
    /// use tcpsocket::StartTls;
    ///
    /// assert!(StartTls::check_name("client.example").is_ok());
    /// assert!(StartTls::check_name("client.example\r\nQUIT").is_err());
    /// ```
    pub fn check_name(name: &str) -> Result<(), Error> {
        let literal = name
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let fine = match literal {
            Some(inside) => !inside.is_empty() && inside.bytes().all(is_in_literal),
            None => !name.is_empty() && name.bytes().all(is_in_domain),
        };
        if fine && name.len() <= 255 {
            return Ok(());
        }
        let message = format!(
            "EHLO needs a domain or an address in brackets, of 1 to 255 bytes, not {}",
            quoted(name.as_bytes())
        );
        Err(Error::new(ErrorName::InvalidAccess, message))
    }
}

impl fmt::Display for StartTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for StartTls {
    type Err = Error;

    /// # Errors
    ///
    /// `InvalidAccessError` for any other text.
    fn from_str(text: &str) -> Result<StartTls, Error> {
        let known = StartTls::ALL.iter().find(|known| known.as_str() == text);
        known.copied().ok_or_else(|| {
            let message = format!(
                "STARTTLS works with smtp, imap and pop3, not with {}",
                quoted(text.as_bytes())
            );
            Error::new(ErrorName::InvalidAccess, message)
        })
    }
}

/// [`TcpSocketExt::starttls_as`].
pub(crate) async fn starttls<S>(socket: &S, protocol: StartTls, name: &str) -> Result<(), Error>
where
    S: TcpSocket + ?Sized,
{
    StartTls::check_name(name)?;
    let misused = |why: &str| Err(Error::new(ErrorName::InvalidState, why));
    if socket.ready_state() != ReadyState::Open {
        return misused("STARTTLS needs an open socket, and this one is not open");
    }
    if socket.ssl() {
        return misused("this socket already uses TLS; STARTTLS needs one in the clear");
    }
    let guard = InClear(socket);
    let outcome = upgrade(socket, protocol, name).await;
    std::mem::forget(guard);
    if let Err(error) = &outcome {
        socket.abort(Some(error.clone()));
    }
    outcome
}

/// A socket on the way to TLS. Its drop aborts the socket, so that nobody continues in the clear.
struct InClear<'a, S: TcpSocket + ?Sized>(&'a S);

impl<S: TcpSocket + ?Sized> Drop for InClear<'_, S> {
    fn drop(&mut self) {
        self.0.abort(None);
    }
}

async fn upgrade<S>(socket: &S, protocol: StartTls, name: &str) -> Result<(), Error>
where
    S: TcpSocket + ?Sized,
{
    let mut talk = Talk {
        socket,
        protocol,
        received: Vec::new(),
        lines: LINES,
    };
    match protocol {
        StartTls::Smtp => smtp(&mut talk, name).await?,
        StartTls::Imap => imap(&mut talk).await?,
        StartTls::Pop3 => pop3(&mut talk).await?,
    }
    // Bytes that are already here would pass for the first bytes under TLS (CVE-2011-0411).
    if !talk.received.is_empty() {
        return Err(early());
    }
    socket.upgrade_to_secure()?;
    // A provider that ignores the call must not pass for one that encrypts.
    match socket.security() {
        Security::Plain => Err(insecure(
            "the socket accepted the upgrade to TLS but is still in the clear",
        )),
        _ => Ok(()),
    }
}

async fn smtp<S: TcpSocket + ?Sized>(talk: &mut Talk<'_, S>, name: &str) -> Result<(), Error> {
    let greeting = talk.smtp_reply().await?;
    if greeting.code != *b"220" {
        return Err(turned_away(&greeting.last));
    }
    talk.say(&format!("EHLO {name}")).await?;
    let offers = talk.smtp_reply().await?;
    match &offers.code {
        b"250" if offers.starttls => {}
        b"250" => return Err(not_offered()),
        _ => return Err(smtp_refused("EHLO", &offers)),
    }
    talk.say("STARTTLS").await?;
    let answer = talk.smtp_reply().await?;
    match &answer.code {
        b"220" => Ok(()),
        _ => Err(smtp_refused("STARTTLS", &answer)),
    }
}

fn smtp_refused(command: &str, reply: &Reply) -> Error {
    match &reply.code {
        b"421" => turned_away(&reply.last),
        _ => refused(command, &reply.last),
    }
}

/// An SMTP reply, all its lines together.
struct Reply {
    code: [u8; 3],
    /// Whether any line offers STARTTLS, apart from the first with the server's name.
    starttls: bool,
    last: Vec<u8>,
}

async fn imap<S: TcpSocket + ?Sized>(talk: &mut Talk<'_, S>) -> Result<(), Error> {
    let greeting = talk.line().await?;
    match words(&greeting)[..] {
        [b"*", status, ..] if status.eq_ignore_ascii_case(b"OK") => {}
        [b"*", status, ..] if status.eq_ignore_ascii_case(b"PREAUTH") => return Err(preauth()),
        [b"*", status, ..] if status.eq_ignore_ascii_case(b"BYE") => {
            return Err(turned_away(&greeting));
        }
        _ => return Err(talk.unexpected(&greeting)),
    }
    if !talk.imap_command("A1", "CAPABILITY").await? {
        return Err(not_offered());
    }
    talk.imap_command("A2", "STARTTLS").await.map(drop)
}

async fn pop3<S: TcpSocket + ?Sized>(talk: &mut Talk<'_, S>) -> Result<(), Error> {
    let greeting = talk.line().await?;
    match words(&greeting)[..] {
        [b"+OK", ..] => {}
        [b"-ERR", ..] => return Err(turned_away(&greeting)),
        _ => return Err(talk.unexpected(&greeting)),
    }
    // No CAPA first: it would tell no more than the answer to STLS.
    talk.say("STLS").await?;
    let answer = talk.line().await?;
    match words(&answer)[..] {
        [b"+OK", ..] => Ok(()),
        [b"-ERR", ..] => Err(refused("STLS", &answer)),
        _ => Err(talk.unexpected(&answer)),
    }
}

/// The dialogue with a server, line by line.
struct Talk<'a, S: TcpSocket + ?Sized> {
    socket: &'a S,
    protocol: StartTls,
    /// Received bytes not yet taken as lines.
    received: Vec<u8>,
    /// The number of lines that may still come.
    lines: usize,
}

impl<S: TcpSocket + ?Sized> Talk<'_, S> {
    /// Sends a command, unless received bytes could pass for its answer.
    async fn say(&mut self, command: &str) -> Result<(), Error> {
        let mut lines = self.received.split(|byte| *byte == b'\n');
        let answered = match self.protocol {
            // Untagged lines may come at any time, BYE among them.
            StartTls::Imap => lines.any(|line| line.first().is_some_and(|first| *first != b'*')),
            StartTls::Smtp | StartTls::Pop3 => !self.received.is_empty(),
        };
        if answered {
            return Err(self.unasked().await);
        }
        self.socket.send_string(&format!("{command}\r\n")).map(drop)
    }

    /// The error for bytes that came too early. An SMTP server may announce its shutdown at any time (RFC 5321, 3.8), and nothing else.
    async fn unasked(&mut self) -> Error {
        const GOODBYE: &[u8] = b"421";
        let known = self.received.len().min(GOODBYE.len());
        let may_be = self.protocol == StartTls::Smtp && self.received[..known] == GOODBYE[..known];
        if !may_be {
            return early();
        }
        match self.line().await {
            Err(error) => error,
            Ok(line) => match line.strip_prefix(GOODBYE) {
                Some([] | [b' ' | b'-', ..]) => turned_away(&line),
                _ => early(),
            },
        }
    }

    /// The next line, without its end.
    async fn line(&mut self) -> Result<Vec<u8>, Error> {
        loop {
            if let Some(line) = self.take_line()? {
                return Ok(line);
            }
            match self.socket.next_event().await {
                Some(Event::Data(data)) => self.received.extend_from_slice(&data),
                Some(Event::Error(error)) => return Err(error),
                Some(Event::Close(_)) | None => {
                    return Err(Error::new(
                        ErrorName::NetworkInterrupt,
                        "the connection ended before TLS could begin",
                    ));
                }
                // Open came before, and Drain means nothing to a client that sends a line and waits.
                Some(_) => {}
            }
        }
    }

    /// The first fault in the bytes decides, so the outcome does not depend on how the network cut them.
    fn take_line(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let longest = match self.protocol {
            StartTls::Imap => LONGEST_IMAP,
            StartTls::Smtp | StartTls::Pop3 => LONGEST,
        };
        let mut before = 0;
        for (at, byte) in self.received.iter().copied().enumerate() {
            let wrong = match byte {
                _ if at == longest => format!("a line of more than {longest} bytes"),
                0 => "a NUL".to_owned(),
                b'\n' if before != b'\r' => "a line that ends without CR".to_owned(),
                b'\n' if self.lines == 0 => format!("more than {LINES} lines before TLS"),
                b'\n' => {
                    self.lines -= 1;
                    let mut line: Vec<u8> = self.received.drain(..=at).collect();
                    line.truncate(at - 1);
                    return Ok(Some(line));
                }
                _ if before == b'\r' => "a CR in the middle of a line".to_owned(),
                _ => {
                    before = byte;
                    continue;
                }
            };
            return Err(self.not_allowed(&format!("sent {wrong}")));
        }
        Ok(None)
    }

    async fn smtp_reply(&mut self) -> Result<Reply, Error> {
        let mut starttls = false;
        let mut first = None;
        loop {
            let line = self.line().await?;
            let (code, rest) = match line.split_first_chunk::<3>() {
                Some((code, rest)) if code.iter().all(u8::is_ascii_digit) => (*code, rest),
                _ => return Err(self.unexpected(&line)),
            };
            let goes_on = match rest {
                [] | [b' ', ..] => false,
                [b'-', ..] => true,
                _ => return Err(self.unexpected(&line)),
            };
            if let Some(first) = first {
                if code != first {
                    return Err(self.unexpected(&line));
                }
                starttls |= rest
                    .get(1..)
                    .and_then(|offer| words(offer).first().copied())
                    .is_some_and(|keyword| keyword.eq_ignore_ascii_case(b"STARTTLS"));
            }
            first = Some(code);
            if !goes_on {
                return Ok(Reply {
                    code,
                    starttls,
                    last: line,
                });
            }
        }
    }

    /// Sends a command and waits for its completion. Returns whether the server listed STARTTLS as a capability meanwhile.
    async fn imap_command(&mut self, tag: &str, command: &str) -> Result<bool, Error> {
        self.say(&format!("{tag} {command}")).await?;
        let mut starttls = false;
        loop {
            let line = self.line().await?;
            match words(&line)[..] {
                // A literal would follow, and its bytes are not lines.
                _ if announces_literal(&line) => return Err(self.unexpected(&line)),
                [b"*", kind, ..] if kind.eq_ignore_ascii_case(b"BYE") => {
                    return Err(turned_away(&line));
                }
                [b"*", kind, ref offers @ ..] if kind.eq_ignore_ascii_case(b"CAPABILITY") => {
                    let offered = |offer: &&[u8]| offer.eq_ignore_ascii_case(b"STARTTLS");
                    starttls |= offers.iter().any(offered);
                }
                [b"*", kind, ..] if kind.eq_ignore_ascii_case(b"PREAUTH") => return Err(preauth()),
                [b"*", _, ..] => {}
                [answered, status, ..] if answered == tag.as_bytes() => {
                    return match status.to_ascii_uppercase().as_slice() {
                        b"OK" => Ok(starttls),
                        b"NO" | b"BAD" => Err(refused(command, &line)),
                        _ => Err(self.unexpected(&line)),
                    };
                }
                _ => return Err(self.unexpected(&line)),
            }
        }
    }

    fn unexpected(&self, line: &[u8]) -> Error {
        self.not_allowed(&format!("said {}", quoted(line)))
    }

    fn not_allowed(&self, what: &str) -> Error {
        let protocol = self.protocol.as_str().to_uppercase();
        network(format!(
            "the server {what}; {protocol} does not allow that here"
        ))
    }
}

/// Whether the line ends with `{12}`.
fn announces_literal(line: &[u8]) -> bool {
    let inside = line.strip_suffix(b"}").and_then(|rest| {
        let start = rest.iter().rposition(|byte| *byte == b'{')?;
        rest.get(start + 1..)
    });
    inside.is_some_and(|digits| digits.iter().all(u8::is_ascii_digit))
}

fn words(line: &[u8]) -> Vec<&[u8]> {
    line.split(|byte| *byte == b' ').collect()
}

fn network(message: String) -> Error {
    Error::new(ErrorName::Network, message)
}

fn insecure(message: impl Into<String>) -> Error {
    Error::new(ErrorName::Security, message)
}

fn not_offered() -> Error {
    insecure(
        "the server does not offer STARTTLS on this port, or somebody on the way removed the offer; only the request for it was \
         sent in the clear",
    )
}

/// PREAUTH rules out STARTTLS, so anybody who can inject it could prevent TLS.
fn preauth() -> Error {
    insecure(
        "the server claims that the client is already logged in (PREAUTH), which rules out TLS",
    )
}

fn refused(command: &str, line: &[u8]) -> Error {
    insecure(format!(
        "the server refuses {command}, so TLS is not possible: it said {}",
        quoted(line)
    ))
}

fn early() -> Error {
    insecure(
        "bytes in the clear arrived before they were requested: somebody may have injected them",
    )
}

fn turned_away(line: &[u8]) -> Error {
    network(format!(
        "the server turned the client away: it said {}",
        quoted(line)
    ))
}

/// A server's words, for people: short, and without terminal control characters.
fn quoted(line: &[u8]) -> String {
    const MOST: usize = 100;
    let text = String::from_utf8_lossy(line);
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

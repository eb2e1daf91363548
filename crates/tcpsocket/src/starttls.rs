//! STARTTLS for the three mail protocols: everything that is said in clear, up to the handshake.
//!
//! What the server says before TLS may be anybody's word. So it is read strictly, bounded, used for nothing but the
//! way to TLS, and forgotten.

use std::fmt;
use std::str::FromStr;

use crate::{Error, ErrorName, Event, ReadyState, Security, TcpSocket, TcpSocketExt};

/// The longest line of SMTP (RFC 5321, 4.5.3.1.5) and of POP3 (RFC 1939, 3), its end included.
const LONGEST: usize = 512;

/// The same for IMAP, which leaves it open: what RFC 7162, 4 recommends for the other direction.
const LONGEST_IMAP: usize = 8192;

/// How many lines a server may say before TLS.
const LINES: usize = 128;

/// An address literal, as RFC 5321, 4.1.1.1 wants it of a client without a name. It is the same on every machine, so it tells
/// nothing of this one; `localhost`, which does no more, is refused by servers that want a name with a dot.
pub(crate) const NAMELESS: &str = "[127.0.0.1]";

fn is_in_domain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')
}

fn is_in_literal(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'[' | b']' | b'\\')
}

/// A protocol that can begin TLS on an open connection, for [`starttls`](TcpSocketExt::starttls).
///
/// Its name is how policies and commands spell it.
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
    /// POP3, where the command is `STLS` (RFC 2595, 4).
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

    /// Whether [`starttls_as`](TcpSocketExt::starttls_as) takes this name: a domain, or an address in brackets (RFC 5321, 4.1.2), of 1 to
    /// 255 bytes, with nothing in it that would end the word or the line.
    ///
    /// # Errors
    ///
    /// `InvalidAccessError` if not.
    ///
    /// ```
    /// use tcpsocket::StartTls;
    ///
    /// assert!(StartTls::check_name("client.example").is_ok());
    /// assert!(StartTls::check_name("client.example\r\nQUIT").is_err());
    /// ```
    pub fn check_name(name: &str) -> Result<(), Error> {
        let literal = name.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        let fine = match literal {
            Some(inside) => !inside.is_empty() && inside.bytes().all(is_in_literal),
            None => !name.is_empty() && name.bytes().all(is_in_domain),
        };
        if fine && name.len() <= 255 {
            return Ok(());
        }
        let message = format!(
            "a name for EHLO is a domain or an address in brackets, of 1 to 255 bytes, not {}",
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
        let known = StartTls::ALL.iter().find(|it| it.as_str() == text);
        known.copied().ok_or_else(|| {
            let message = format!(
                "STARTTLS is known for smtp, imap and pop3, not for {}",
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
        return misused("STARTTLS needs an open socket, and this one is not");
    }
    if socket.ssl() {
        return misused("TLS was asked for on this socket already; STARTTLS needs one in clear");
    }
    let guard = InClear(socket);
    let outcome = upgrade(socket, protocol, name).await;
    std::mem::forget(guard);
    if let Err(error) = &outcome {
        socket.abort(Some(error.clone()));
    }
    outcome
}

/// A socket on the way to TLS. Its drop ends the socket, so that nobody goes on in clear.
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
    // Whatever is here already would be taken for the first bytes under TLS (CVE-2011-0411).
    if !talk.received.is_empty() {
        return Err(early());
    }
    socket.upgrade_to_secure()?;
    // A provider that takes the call and does nothing must not pass for one that encrypts.
    match socket.security() {
        Security::Plain => Err(insecure(
            "the socket took the order to begin TLS, and is still in clear",
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

/// A reply of SMTP, of all its lines.
struct Reply {
    code: [u8; 3],
    /// Whether a line after the first, which is the server's name, offers STARTTLS.
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
    // Without CAPA before it, which would tell no more than the answer does.
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
    /// What arrived and was not taken.
    received: Vec<u8>,
    /// How many lines may still come.
    lines: usize,
}

impl<S: TcpSocket + ?Sized> Talk<'_, S> {
    /// Sends a command, unless something is here already that could be taken for its answer.
    async fn say(&mut self, command: &str) -> Result<(), Error> {
        let mut lines = self.received.split(|it| *it == b'\n');
        let answered = match self.protocol {
            // Untagged lines may come at any time, BYE among them.
            StartTls::Imap => lines.any(|it| it.first().is_some_and(|it| *it != b'*')),
            StartTls::Smtp | StartTls::Pop3 => !self.received.is_empty(),
        };
        if answered {
            return Err(self.unasked().await);
        }
        self.socket.send_string(&format!("{command}\r\n")).map(drop)
    }

    /// What was said too early: a server of SMTP may say at any time that it has to go (RFC 5321, 3.8), and no more than that.
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
                // Open has come before, and Drain says nothing to those who send a line and wait.
                Some(_) => {}
            }
        }
    }

    /// The first thing that is wrong decides, in the order of the bytes, so it does not matter how the network cut them.
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
                    .and_then(|it| words(it).first().copied())
                    .is_some_and(|it| it.eq_ignore_ascii_case(b"STARTTLS"));
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

    /// Sends a command and waits for its end. Returns whether the server named STARTTLS among its capabilities meanwhile.
    async fn imap_command(&mut self, tag: &str, command: &str) -> Result<bool, Error> {
        self.say(&format!("{tag} {command}")).await?;
        let mut starttls = false;
        loop {
            let line = self.line().await?;
            match words(&line)[..] {
                // A literal would follow, whose bytes are no lines.
                _ if announces_literal(&line) => return Err(self.unexpected(&line)),
                [b"*", kind, ..] if kind.eq_ignore_ascii_case(b"BYE") => {
                    return Err(turned_away(&line));
                }
                [b"*", kind, ref offers @ ..] if kind.eq_ignore_ascii_case(b"CAPABILITY") => {
                    let offered = |it: &&[u8]| it.eq_ignore_ascii_case(b"STARTTLS");
                    starttls |= offers.iter().any(offered);
                }
                [b"*", kind, ..] if kind.eq_ignore_ascii_case(b"PREAUTH") => return Err(preauth()),
                [b"*", _, ..] => {}
                [it, status, ..] if it == tag.as_bytes() => {
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
            "the server {what}, which {protocol} does not allow here"
        ))
    }
}

/// Whether the line ends with `{12}`.
fn announces_literal(line: &[u8]) -> bool {
    let inside = line.strip_suffix(b"}").and_then(|it| {
        let start = it.iter().rposition(|it| *it == b'{')?;
        it.get(start + 1..)
    });
    inside.is_some_and(|it| it.iter().all(u8::is_ascii_digit))
}

fn words(line: &[u8]) -> Vec<&[u8]> {
    line.split(|it| *it == b' ').collect()
}

fn network(message: String) -> Error {
    Error::new(ErrorName::Network, message)
}

fn insecure(message: impl Into<String>) -> Error {
    Error::new(ErrorName::Security, message)
}

fn not_offered() -> Error {
    insecure(
        "the server does not offer STARTTLS on this port, or somebody on the way has taken the offer out; nothing but the \
         question was sent in clear",
    )
}

/// STARTTLS is not allowed then, so whoever can put this into the connection could keep TLS away.
fn preauth() -> Error {
    insecure("the server says that we are logged in already (PREAUTH), which leaves no way to TLS")
}

fn refused(command: &str, line: &[u8]) -> Error {
    insecure(format!(
        "the server refuses {command}, so there is no TLS: it said {}",
        quoted(line)
    ))
}

fn early() -> Error {
    insecure("bytes in clear came before they were asked for: somebody may have put them there")
}

fn turned_away(line: &[u8]) -> Error {
    network(format!(
        "the server turns us away: it said {}",
        quoted(line)
    ))
}

/// What a server said, for people: short, and with nothing that a terminal would obey.
fn quoted(line: &[u8]) -> String {
    const MOST: usize = 100;
    let text = String::from_utf8_lossy(line);
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

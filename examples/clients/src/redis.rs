//! RESP 2, the protocol of redis: many commands in flight, values of any size.
//!
//! The idea to take from here: where both sides may speak at any time, one loop does both. It sends until `send` answers
//! `false`, then takes whatever event comes: data is parsed at once, and `Drain` means that it may send again. A client that
//! waited for only one of the two would starve the other, and in the end both sides would wait.

use std::sync::Arc;

use tcpsocket::{
    Bytes, Error, Event, SocketOptions, SocketProvider, SocketProviderExt, TcpSocket, TcpSocketExt,
};

use crate::{Received, broken, left, quoted, unsendable};

/// The longest line: a status, an error, a number.
const LONGEST: usize = 1024;

/// How deep arrays may be nested.
const DEEPEST: usize = 32;

/// Small pieces are sent together, up to so many bytes.
const TOGETHER: usize = 16 << 10;

/// Pieces from this size on are sent as they are, without a copy.
const LARGE: usize = 4 << 10;

/// A connection to a redis server.
#[derive(Debug)]
pub struct Redis {
    socket: Arc<dyn TcpSocket>,
    received: Received,
}

impl Redis {
    /// Connects; the options choose TLS.
    ///
    /// # Errors
    ///
    /// Those of [`connect`](SocketProviderExt::connect).
    pub async fn connect(
        net: &dyn SocketProvider,
        host: &str,
        port: u16,
        options: SocketOptions,
    ) -> Result<Redis, Error> {
        Ok(Redis {
            socket: net.connect(host, port, options).await?,
            received: Received::new(),
        })
    }

    /// Sends commands, without waiting for one reply before the next command, and hands over the replies as they arrive. Returns when
    /// every command is answered, and returns their number.
    ///
    /// Not cancel-safe, and after an error nobody knows which command the next reply belongs to: then the socket is reset.
    ///
    /// # Errors
    ///
    /// `NetworkError` for an invalid reply, those of the socket, that of `take`, and `TypeError` for an invalid command. An error
    /// reply is a [`Token`], like every other.
    pub async fn pipeline(
        &mut self,
        commands: impl IntoIterator<Item = Command>,
        take: impl FnMut(Token) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        let outcome = self.run(Outgoing::new(commands.into_iter()), take).await;
        outcome.inspect_err(|error| self.socket.abort(Some(error.clone())))
    }

    async fn run(
        &mut self,
        mut outgoing: Outgoing<impl Iterator<Item = Command>>,
        mut take: impl FnMut(Token) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        let mut parser = Parser::default();
        let (mut answered, mut all_sent, mut wait) = (0, false, false);
        loop {
            while !wait && !all_sent {
                match outgoing.next()? {
                    Some(piece) => wait = !self.socket.send(piece)?,
                    None => all_sent = true,
                }
            }
            while let Some(token) = parser.next(&mut self.received)? {
                take(token)?;
                answered += u64::from(parser.is_between_replies());
            }
            if answered > outgoing.begun {
                return Err(broken("the server replies to what nobody asked"));
            }
            if all_sent && answered == outgoing.begun {
                return Ok(answered);
            }
            match self.socket.next_event().await {
                Some(Event::Data(data)) => self.received.push(data.into_bytes()),
                Some(Event::Drain) => wait = false,
                Some(Event::Error(error)) => return Err(error),
                Some(Event::Close(_)) | None => return Err(left()),
                Some(_) => {}
            }
        }
    }

    /// Closes the connection.
    ///
    /// # Errors
    ///
    /// The error that ended the socket, if there was one.
    pub async fn close(self) -> Result<(), Error> {
        self.socket.close();
        self.socket.closed().await.map(drop)
    }
}

/// A command: its name and its arguments, which may hold any bytes.
///
/// ```
/// use clients::redis::Command;
///
/// let zeros = std::iter::repeat_n(vec![0; 1 << 20].into(), 1024);
/// let gibibyte = Command::new("SET").arg("zeros").streamed(1 << 30, zeros);
/// # drop(gibibyte);
/// ```
pub struct Command {
    args: Vec<Arg>,
}

/// How long it is, and its parts.
type Arg = (u64, Box<dyn Iterator<Item = Bytes> + Send>);

impl Command {
    /// A command without arguments.
    pub fn new(name: &'static str) -> Command {
        Command { args: Vec::new() }.arg(name)
    }

    /// Adds an argument.
    pub fn arg(self, arg: impl Into<Bytes>) -> Command {
        let arg = arg.into();
        self.streamed(arg.len() as u64, std::iter::once(arg))
    }

    /// Adds an argument in parts, `len` bytes together: it need not be in memory all at once.
    pub fn streamed<I>(mut self, len: u64, parts: I) -> Command
    where
        I: IntoIterator<Item = Bytes>,
        I::IntoIter: Send + 'static,
    {
        self.args.push((len, Box::new(parts.into_iter())));
        self
    }
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lens = self.args.iter().map(|(len, _)| len);
        f.write_str("Command ")?;
        f.debug_list().entries(lens).finish()
    }
}

/// A piece of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// `OK`, `PONG`, `QUEUED`.
    Status(String),
    /// The server refuses.
    Error(String),
    /// A number.
    Integer(i64),
    /// The value does not exist.
    Null,
    /// An array: this many replies follow, and form this one.
    Array(u64),
    /// A value of this many bytes: its parts follow, and then `End`.
    Value(u64),
    /// A part of a value, never empty.
    Part(Bytes),
    /// The end of a value.
    End,
}

/// From bytes to tokens. Nothing is collected, so a reply may have any size.
///
/// ```
/// use clients::Received;
/// use clients::redis::{Parser, Token};
///
/// let mut received = Received::new();
/// received.push("*2\r\n:7\r\n$2\r\nhi\r\n".into());
/// let mut parser = Parser::default();
/// let mut tokens = Vec::new();
/// while let Some(token) = parser.next(&mut received)? {
///     tokens.push(token);
/// }
/// assert_eq!(tokens[..2], [Token::Array(2), Token::Integer(7)]);
/// assert_eq!(tokens[2..], [Token::Value(2), Token::Part("hi".into()), Token::End]);
/// assert!(parser.is_between_replies());
/// # Ok::<(), tcpsocket::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Parser {
    value: Option<u64>,
    /// How many elements each array still lacks, the outermost first.
    arrays: Vec<u64>,
}

impl Parser {
    /// The next token; `None` if more must arrive first.
    ///
    /// # Errors
    ///
    /// `NetworkError` for anything but RESP 2.
    pub fn next(&mut self, received: &mut Received) -> Result<Option<Token>, Error> {
        match &mut self.value {
            Some(0) => {
                let Some(rest) = received.line(2)? else {
                    return Ok(None);
                };
                if !rest.is_empty() {
                    return Err(broken("a value is longer than the server said"));
                }
                self.value = None;
                self.complete();
                Ok(Some(Token::End))
            }
            Some(left) => {
                let part = received.part(*left);
                Ok(part.map(|part| {
                    *left -= part.len() as u64;
                    Token::Part(part)
                }))
            }
            None => match received.line(LONGEST)? {
                Some(line) => self.begin(&line).map(Some),
                None => Ok(None),
            },
        }
    }

    fn begin(&mut self, line: &str) -> Result<Token, Error> {
        let nonsense = || broken(format!("{} is no reply of redis", quoted(line)));
        let (kind, rest) = line.split_at_checked(1).ok_or_else(nonsense)?;
        let len = || rest.parse::<u64>().map_err(|_| nonsense());
        let token = match (kind, rest) {
            ("+", text) => Token::Status(text.to_owned()),
            ("-", text) => Token::Error(text.to_owned()),
            (":", number) => Token::Integer(number.parse().map_err(|_| nonsense())?),
            ("$" | "*", "-1") => Token::Null,
            ("$", _) => Token::Value(len()?),
            ("*", _) => Token::Array(len()?),
            _ => return Err(nonsense()),
        };
        match token {
            Token::Value(len) => self.value = Some(len),
            Token::Array(len) if len > 0 => {
                if self.arrays.len() == DEEPEST {
                    return Err(broken(format!("arrays in arrays, {DEEPEST} times over")));
                }
                self.arrays.push(len);
            }
            _ => self.complete(),
        }
        Ok(token)
    }

    /// An element is complete, and with it perhaps the arrays of which it is the last.
    fn complete(&mut self) {
        while let Some(lacks) = self.arrays.last_mut() {
            *lacks -= 1;
            if *lacks > 0 {
                return;
            }
            self.arrays.pop();
        }
    }

    /// Whether the last token was the end of a reply.
    pub fn is_between_replies(&self) -> bool {
        self.value.is_none() && self.arrays.is_empty()
    }
}

/// From commands to pieces worth sending.
struct Outgoing<I> {
    commands: I,
    /// How many commands were begun.
    begun: u64,
    args: std::vec::IntoIter<Arg>,
    arg: Option<Arg>,
    together: Vec<u8>,
    large: Option<Bytes>,
}

impl<I: Iterator<Item = Command>> Outgoing<I> {
    fn new(commands: I) -> Outgoing<I> {
        Outgoing {
            commands,
            begun: 0,
            args: Vec::new().into_iter(),
            arg: None,
            together: Vec::new(),
            large: None,
        }
    }

    fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if let Some(large) = self.large.take() {
            return Ok(Some(large));
        }
        while self.together.len() < TOGETHER {
            if let Some((lacks, parts)) = &mut self.arg {
                let part = parts.next();
                let len = part.as_ref().map_or(0, |it| it.len() as u64);
                if len > *lacks || (part.is_none() && *lacks > 0) {
                    return Err(unsendable(
                        "an argument is not as long as it was said to be",
                    ));
                }
                *lacks -= len;
                match part {
                    Some(part) if part.len() < LARGE => self.together.extend_from_slice(&part),
                    Some(part) if self.together.is_empty() => return Ok(Some(part)),
                    Some(part) => {
                        self.large = Some(part);
                        break;
                    }
                    None => {
                        self.arg = None;
                        self.together.extend_from_slice(b"\r\n");
                    }
                }
            } else if let Some(arg) = self.args.next() {
                self.together.extend(format!("${}\r\n", arg.0).bytes());
                self.arg = Some(arg);
            } else if let Some(command) = self.commands.next() {
                self.begun += 1;
                self.together
                    .extend(format!("*{}\r\n", command.args.len()).bytes());
                self.args = command.args.into_iter();
            } else {
                break;
            }
        }
        let together = std::mem::take(&mut self.together);
        Ok((!together.is_empty()).then(|| together.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &[u8], size: usize) -> Result<(Vec<Token>, bool), Error> {
        let (mut parser, mut received) = (Parser::default(), Received::new());
        let mut tokens = Vec::new();
        for chunk in text.chunks(size) {
            received.push(Bytes::copy_from_slice(chunk));
            while let Some(token) = parser.next(&mut received)? {
                match (token, tokens.last_mut()) {
                    (Token::Part(part), Some(Token::Part(before))) => {
                        *before = [&before[..], &part[..]].concat().into();
                    }
                    (token, _) => tokens.push(token),
                }
            }
        }
        Ok((tokens, parser.is_between_replies()))
    }

    #[test]
    fn replies_are_the_same_however_they_are_cut() {
        let text = b"+OK\r\n-ERR no\r\n:-5\r\n$-1\r\n*-1\r\n*0\r\n$0\r\n\r\n*2\r\n*1\r\n$4\r\na\r\nb\r\n:1\r\n";
        let expected = [
            Token::Status("OK".into()),
            Token::Error("ERR no".into()),
            Token::Integer(-5),
            Token::Null,
            Token::Null,
            Token::Array(0),
            Token::Value(0),
            Token::End,
            Token::Array(2),
            Token::Array(1),
            Token::Value(4),
            Token::Part("a\r\nb".into()),
            Token::End,
            Token::Integer(1),
        ];
        for size in 1..=text.len() {
            let (tokens, between) = parse(text, size).unwrap();
            assert_eq!(tokens, expected, "in chunks of {size}");
            assert!(between);
        }
        assert!(!parse(b"*2\r\n:1\r\n", 99).unwrap().1);
        assert!(!parse(b"$1\r\na", 99).unwrap().1);
    }

    #[test]
    fn nonsense_is_refused() {
        let deep = "*1\r\n".repeat(DEEPEST + 1);
        let long = format!("+{}", "x".repeat(LONGEST + 2));
        for bad in [
            "\r\n",
            "OK\r\n",
            ":\r\n",
            ":1x\r\n",
            "$-2\r\n",
            "$x\r\n",
            "*-2\r\n",
            "+OK\n",
            "$1\r\nabc\r\n",
            "$18446744073709551616\r\n",
            "\u{e9}\r\n",
            &deep,
            &long,
        ] {
            assert!(parse(bad.as_bytes(), 99).is_err(), "{bad:?}");
        }
    }

    fn sent(commands: Vec<Command>) -> Result<(Vec<u8>, Vec<usize>), Error> {
        let mut outgoing = Outgoing::new(commands.into_iter());
        let (mut all, mut sizes) = (Vec::new(), Vec::new());
        while let Some(piece) = outgoing.next()? {
            all.extend_from_slice(&piece);
            sizes.push(piece.len());
        }
        Ok((all, sizes))
    }

    #[test]
    fn small_pieces_leave_together_and_large_ones_as_they_are() {
        let large = Bytes::from(vec![b'x'; LARGE]);
        let (all, sizes) = sent(vec![
            Command::new("GET").arg("key"),
            Command::new("SET").arg("key").arg(large.clone()),
        ])
        .unwrap();
        let head = "*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$4096\r\n";
        assert_eq!(all, [head.as_bytes(), &large[..], b"\r\n"].concat());
        assert_eq!(sizes, [head.len(), LARGE, 2]);
        let (_, sizes) = sent((0..10_000).map(|_| Command::new("PING")).collect()).unwrap();
        assert!(sizes.len() < 12, "{sizes:?}");
    }

    #[test]
    fn an_argument_is_as_long_as_it_says() {
        let parts = |len| Command::new("SET").streamed(len, ["ab".into(), "c".into()]);
        assert!(sent(vec![parts(3)]).is_ok());
        assert!(sent(vec![parts(2)]).is_err() && sent(vec![parts(4)]).is_err());
    }
}

//! HTTP/1.1 (RFC 9112): one request after the other on one connection, bodies as they arrive.
//!
//! The idea to take from here: the original's style, and the use of `suspend`. [`Handlers`](tcpsocket::Handlers) deliver events whether or
//! not anybody is ready for them. So their data goes into a bounded inbox; while that is full, the socket is suspended, and TCP
//! holds the server back.

mod body;
mod inbox;

use std::sync::Arc;

use tcpsocket::{
    Bytes, Error, ErrorName, SocketOptions, SocketProvider, SocketProviderExt, TcpSocket,
    TcpSocketExt,
};

use crate::http::body::Body;
use crate::http::inbox::Inbox;
use crate::{Received, broken, left, quoted, unsendable};

/// The longest line of a head.
const LONGEST: usize = 8192;

/// The most lines of a head, and of the trailer of a chunked body.
const LINES: usize = 100;

/// A connection to a web server.
///
/// All of its methods are cancel-safe but for [`get`](Http::get): an abandoned answer would look like the next one.
#[derive(Debug)]
pub struct Http {
    socket: Arc<dyn TcpSocket>,
    authority: String,
    inbox: Arc<Inbox>,
    received: Received,
    body: Body,
    /// The server closes after this answer.
    last: bool,
}

/// The first part of an answer.
#[derive(Clone, Debug)]
pub struct Head {
    /// 200 if all is well.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The first value of a header; give the name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(it, _)| it == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Whether the comma-separated values of a header hold this one.
    fn says(&self, name: &str, value: &str) -> bool {
        let all = self.headers.iter().filter(|(it, _)| it == name);
        let mut values = all.flat_map(|(_, it)| it.split(','));
        values.any(|it| it.trim().eq_ignore_ascii_case(value))
    }
}

impl Http {
    /// Connects. The returned future receives the server's data: run it until it ends with the connection, in a task of its own or
    /// beside the callers of the other methods.
    ///
    /// # Errors
    ///
    /// Those of [`connect`](SocketProviderExt::connect).
    ///
    /// ```
    /// use clients::http::Http;
    /// use tcpsocket::{Error, SocketProvider};
    ///
    /// async fn size(net: &dyn SocketProvider, run: impl Fn(tcpsocket::Bytes)) -> Result<usize, Error> {
    ///     let (mut http, driver) = Http::connect(net, "www.example.org", 443, true).await?;
    /// #   let spawn = |_| {};
    ///     spawn(driver);
    ///     http.get("/").await?;
    ///     let mut size = 0;
    ///     while let Some(part) = http.part().await? {
    ///         size += part.len();
    ///     }
    ///     Ok(size)
    /// }
    /// ```
    pub async fn connect(
        net: &dyn SocketProvider,
        host: &str,
        port: u16,
        tls: bool,
    ) -> Result<(Http, impl Future<Output = ()> + Send + use<>), Error> {
        let options = SocketOptions::new().use_secure_transport(tls);
        let options = match tls {
            true => options.alpn(["http/1.1"]),
            false => options,
        };
        let socket = net.connect(host, port, options).await?;
        let inbox = Arc::new(Inbox::default());
        let driver = inbox::driver(socket.clone(), inbox.clone());
        let host = match host.contains(':') {
            true => format!("[{host}]"),
            false => host.to_owned(),
        };
        let http = Http {
            socket,
            authority: match (port, tls) {
                (443, true) | (80, false) => host,
                _ => format!("{host}:{port}"),
            },
            inbox,
            received: Received::new(),
            body: Body::Ended,
            last: false,
        };
        Ok((http, driver))
    }

    /// Requests a path, and returns the first part of the answer. The body follows, by [`part`](Http::part).
    ///
    /// # Errors
    ///
    /// `InvalidStateError` if the body of the last answer was not read to its end, or the server closes after it; `TypeError` for an invalid
    /// path; `NetworkError` for an invalid answer, and those of the socket.
    pub async fn get(&mut self, path: &str) -> Result<Head, Error> {
        if !path.starts_with('/') || !path.bytes().all(|it| it.is_ascii_graphic()) {
            return Err(unsendable(format!("{} is no path", quoted(path))));
        }
        if self.last || !matches!(self.body, Body::Ended) {
            let message = "the answer before was not read to its end, or was the last one";
            return Err(Error::new(ErrorName::InvalidState, message));
        }
        if !self.received.is_empty() {
            return Err(broken("the server answers what nobody asked"));
        }
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.authority);
        self.socket.send_string(&request)?;
        self.body = Body::Broken;
        let head = self.answer().await;
        head.inspect_err(|error| self.socket.abort(Some(error.clone())))
    }

    async fn answer(&mut self) -> Result<Head, Error> {
        loop {
            let (head, version) = self.head().await?;
            match head.status {
                101 => {
                    return Err(broken(
                        "the server changes the protocol, and nobody asked for it",
                    ));
                }
                100..200 => continue,
                _ => {}
            }
            self.body = Body::of(&head)?;
            let stays = match version {
                1 => !head.says("connection", "close"),
                _ => head.says("connection", "keep-alive"),
            };
            self.last = !stays || matches!(self.body, Body::UntilClose);
            return Ok(head);
        }
    }

    /// A head, and whether it is that of HTTP/1.0 or 1.1.
    async fn head(&mut self) -> Result<(Head, u8), Error> {
        let line = self.line().await?;
        let parsed = line.split_at_checked(12).and_then(|(begin, _)| {
            let (version, status) = begin.split_once(' ')?;
            let version = version.strip_prefix("HTTP/1.")?.parse::<u8>().ok()?;
            let digits = status.len() == 3 && status.bytes().all(|it| it.is_ascii_digit());
            Some((
                version,
                status
                    .parse::<u16>()
                    .ok()
                    .filter(|it| digits && *it >= 100)?,
            ))
        });
        let Some((version @ 0..=1, status)) = parsed else {
            return Err(broken(format!("{} is no answer of HTTP/1", quoted(&line))));
        };
        let mut headers = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok((Head { status, headers }, version));
            }
            let (name, value) = line.split_once(':').unwrap_or(("", ""));
            let token = |it: u8| it.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&it);
            if name.is_empty() || !name.bytes().all(token) {
                return Err(broken(format!("{} is no header", quoted(&line))));
            }
            if headers.len() == LINES {
                return Err(broken(format!(
                    "the server sends more than {LINES} headers"
                )));
            }
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// The next part of the body, as it arrived; `None` at its end.
    ///
    /// Take parts as slowly as you like: the inbox has a limit, and then the server waits.
    ///
    /// # Errors
    ///
    /// `NetworkInterruptError` if the connection ends too early, `NetworkError` for invalid chunks, and those of the socket. After an
    /// error the connection is reset.
    pub async fn part(&mut self) -> Result<Option<Bytes>, Error> {
        let part = self.next_part().await;
        part.inspect_err(|error| {
            self.body = Body::Broken;
            self.socket.abort(Some(error.clone()));
        })
    }

    async fn next_part(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            match self.body.next(&mut self.received)? {
                body::Next::Part(part) => return Ok(Some(part)),
                body::Next::End => return Ok(None),
                body::Next::More => {}
            }
            match (self.inbox.next(&*self.socket).await?, &self.body) {
                (Some(data), _) => self.received.push(data),
                (None, Body::UntilClose) => self.body = Body::Ended,
                (None, _) => return Err(left()),
            }
        }
    }

    async fn line(&mut self) -> Result<String, Error> {
        loop {
            match self.received.line(LONGEST)? {
                Some(line) => return Ok(line),
                None => {
                    let data = self.inbox.next(&*self.socket).await?.ok_or_else(left)?;
                    self.received.push(data);
                }
            }
        }
    }
}

/// The driver ends when the socket has closed.
impl Drop for Http {
    fn drop(&mut self) {
        self.socket.close();
    }
}

//! Convenience methods for callers, on top of the core traits. Blanket impls cover every implementation.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_core::Stream;

use crate::{
    Close, Error, ErrorName, Event, ListenRequest, OpenRequest, ReadyState, ServerEvent,
    ServerSocketOptions, SocketOptions, SocketProvider, StartTls, TcpServerSocket, TcpSocket,
    starttls,
};

/// The mark in bytes: `send` returns `false` once the buffer exceeds it (TX-4).
pub const MARK: u64 = 65_536;

/// Convenience methods for any provider, in the original's shape.
pub trait SocketProviderExt: SocketProvider {
    /// `open(host, port, options)`, as in the original: returns at once, in `connecting`.
    ///
    /// # Errors
    ///
    /// Those of [`OpenRequest::new`] and [`SocketProvider::open_with`].
    ///
    /// ```
    /// use tcpsocket::{Error, SocketOptions, SocketProvider, SocketProviderExt};
    ///
    /// fn start(net: &dyn SocketProvider) -> Result<(), Error> {
    ///     let socket = net.open("imap.example.org", 993, SocketOptions::new())?;
    ///     println!("{}", socket.ready_state()); // connecting
    ///     Ok(())
    /// }
    /// ```
    fn open(
        &self,
        host: impl AsRef<str>,
        port: impl Into<i64>,
        options: SocketOptions,
    ) -> Result<Arc<dyn TcpSocket>, Error> {
        self.open_with(OpenRequest::new(host, port)?.with_options(options))
    }

    /// `listen(port, options, backlog)`, as in the original, except that it waits until the port is bound. `port` 0 or -1
    /// means any free port; `backlog` 0 or -1 means the default.
    ///
    /// # Errors
    ///
    /// Those of [`ListenRequest`] and [`SocketProvider::listen_with`].
    fn listen(
        &self,
        port: impl Into<i64>,
        options: ServerSocketOptions,
        backlog: impl Into<i64>,
    ) -> impl Future<Output = Result<Arc<dyn TcpServerSocket>, Error>> + Send {
        let request = ListenRequest::new(port)
            .and_then(|request| request.backlog(backlog))
            .map(|request| request.with_options(options));
        async move { self.listen_with(request?).await }
    }

    /// Opens a socket and waits for `Open`: the returned socket is ready for `send`.
    ///
    /// Cancel-safe: dropping the future closes the socket.
    ///
    /// # Errors
    ///
    /// Those of [`open`](SocketProviderExt::open), or the error that ended the attempt.
    fn connect(
        &self,
        host: impl AsRef<str>,
        port: impl Into<i64>,
        options: SocketOptions,
    ) -> impl Future<Output = Result<Arc<dyn TcpSocket>, Error>> + Send {
        let opened = self.open(host, port, options);
        async move {
            let socket = opened?;
            match socket.next_event().await {
                Some(Event::Open) => Ok(socket),
                Some(Event::Error(error)) => Err(error),
                other => Err(Error::new(
                    ErrorName::NetworkInterrupt,
                    format!("the connection ended before it was open ({other:?})"),
                )),
            }
        }
    }
}

impl<P: SocketProvider + ?Sized> SocketProviderExt for P {}

/// Convenience methods for any socket.
pub trait TcpSocketExt: TcpSocket {
    /// Waits for the next event; `None` after `Close`.
    ///
    /// Cancel-safe: no event is lost. Dropping the future while it waits cancels its own wait
    /// ([`cancel_poll`](TcpSocket::cancel_poll)) and no other. It does nothing until polled.
    ///
    /// ```
    /// use tcpsocket::{Event, TcpSocket, TcpSocketExt};
    ///
    /// async fn count(socket: &dyn TcpSocket) -> usize {
    ///     let mut bytes = 0;
    ///     while let Some(event) = socket.next_event().await {
    ///         if let Event::Data(data) = event {
    ///             bytes += data.len();
    ///         }
    ///     }
    ///     bytes
    /// }
    /// ```
    fn next_event(&self) -> NextEvent<'_, Self> {
        NextEvent {
            socket: self,
            parked: Parked::default(),
        }
    }

    /// The events as a [`Stream`] that ends after `Close`. Dropping it has the same effect as dropping
    /// [`next_event`](TcpSocketExt::next_event).
    fn events(&self) -> Events<'_, Self> {
        Events {
            next: self.next_event(),
        }
    }

    /// `send` for a byte string: each `char` becomes one byte (TX-19).
    ///
    /// # Errors
    ///
    /// `TypeError` for a character above U+00FF; nothing is queued then. Otherwise those of [`TcpSocket::send`].
    ///
    /// ```
    /// use tcpsocket::{Error, TcpSocket, TcpSocketExt};
    ///
    /// fn greet(socket: &dyn TcpSocket) -> Result<bool, Error> {
    ///     socket.send_string("EHLO client.example\r\n")
    /// }
    /// ```
    fn send_string(&self, text: &str) -> Result<bool, Error> {
        let mut bytes = Vec::with_capacity(text.len());
        for character in text.chars() {
            let Ok(byte) = u8::try_from(u32::from(character)) else {
                return Err(Error::new(
                    ErrorName::Type,
                    format!("{character:?} is not a byte; encode the text first and use send"),
                ));
            };
            bytes.push(byte);
        }
        self.send(Bytes::from(bytes))
    }

    /// Waits for `Close` and discards all events before it, data included.
    ///
    /// Cancel-safe. Returns `Close { clean: true }` if `Close` was already delivered elsewhere and this call saw no error.
    ///
    /// # Errors
    ///
    /// The error that ended the socket, if this call received it.
    fn closed(&self) -> impl Future<Output = Result<Close, Error>> + Send {
        async move {
            let mut failed = None;
            while let Some(event) = self.next_event().await {
                match event {
                    Event::Error(error) => failed = Some(error),
                    Event::Close(close) => return failed.map_or(Ok(close), Err),
                    _ => {}
                }
            }
            failed.map_or(Ok(Close::new(true)), Err)
        }
    }

    /// Waits until the socket has room for more: returns at once while at most 65536 bytes are buffered, otherwise at
    /// [`Event::Drain`].
    ///
    /// For code that writes more than it reads. This call takes events, so no other task may wait for them at the same time.
    /// It holds data back (as by `suspend`) until it returns. Cancel-safe.
    ///
    /// # Errors
    ///
    /// The error that ended the socket; `InvalidStateError` if the socket is not open. After an error, the next `next_event`
    /// still returns `Close`.
    fn writable(&self) -> impl Future<Output = Result<(), Error>> + Send {
        async move {
            let not_open = || Error::new(ErrorName::InvalidState, "the socket is not open");
            if self.ready_state() != ReadyState::Open {
                return Err(not_open());
            }
            if self.buffered_amount() <= MARK {
                return Ok(());
            }
            let held = HeldBack::new(self);
            let outcome = loop {
                match self.next_event().await {
                    Some(Event::Drain) => break Ok(()),
                    Some(Event::Error(error)) => break Err(error),
                    Some(Event::Close(_)) | None => break Err(not_open()),
                    Some(_) => {}
                }
            };
            drop(held);
            outcome
        }
    }

    /// Asks a mail server for STARTTLS and begins TLS. After `Ok`, everything you send leaves inside TLS only.
    ///
    /// Call it on a socket that is open in the clear, as [`connect`](SocketProviderExt::connect) returns it: nothing sent,
    /// nothing read, not suspended. It reads the greeting, sends the request, and calls
    /// [`upgrade_to_secure`](TcpSocket::upgrade_to_secure) in the turn of the server's go-ahead. The handshake follows by
    /// itself (TLS-6): data means success, and a failure is an [`Event::Error`] with a name that begins with `Security`.
    ///
    /// Everything the server said in the clear is discarded, as the RFCs demand, because anybody on the way could have
    /// written it. Ask again under TLS: `EHLO` in SMTP, `CAPABILITY` in IMAP, `CAPA` in POP3. The server does not repeat its
    /// greeting.
    ///
    /// The call sends nothing in the clear but `EHLO [127.0.0.1]` and `STARTTLS` (SMTP), tagged `CAPABILITY` and `STARTTLS`
    /// (IMAP), or `STLS` (POP3). That address is the same on every machine, so it reveals nothing about this one;
    /// [`starttls_as`](TcpSocketExt::starttls_as) sends another name. The call reads at most 128 lines of 512 bytes each
    /// (IMAP: 8192). It has no time limit: race it with a timer.
    ///
    /// # Cancel safety
    ///
    /// Not cancel-safe: dropping the future midway aborts the socket ([`abort(None)`](TcpSocket::abort)), because its place
    /// in the dialogue is lost. It does nothing until polled.
    ///
    /// # Errors
    ///
    /// After an error the socket is closed, so nobody continues in the clear by accident: it is aborted with the returned
    /// error, unless that error was the socket's own. The one exception is a socket that is not open or already has TLS: it
    /// stays as it was, and the error is `InvalidStateError`.
    ///
    /// - `SecurityError` if TLS cannot be had: the server does not offer it, refuses it, claims that the client is already
    ///   logged in, or sends bytes in the clear before they were requested (CVE-2011-0411). Anybody on the way could cause
    ///   each of these, so never respond by continuing without TLS.
    /// - `NetworkError` if the server turns the client away, or speaks another protocol.
    /// - `NetworkInterruptError` if the connection ends.
    /// - Those of [`send`](TcpSocket::send) and [`upgrade_to_secure`](TcpSocket::upgrade_to_secure), such as
    ///   `NotSupportedError` from a provider without TLS, and the error that ended the socket.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use tcpsocket::{
    ///     Error, SocketOptions, SocketProvider, SocketProviderExt, StartTls, TcpSocket, TcpSocketExt,
    /// };
    ///
    /// async fn submission(net: &dyn SocketProvider, host: &str) -> Result<Arc<dyn TcpSocket>, Error> {
    ///     let socket = net.connect(host, 587, SocketOptions::new()).await?;
    ///     socket.starttls(StartTls::Smtp).await?;
    ///     socket.send_string("EHLO client.example\r\n")?; // leaves under TLS
    ///     Ok(socket)
    /// }
    /// ```
    fn starttls(&self, protocol: StartTls) -> impl Future<Output = Result<(), Error>> + Send {
        starttls::starttls(self, protocol, starttls::NAMELESS)
    }

    /// [`starttls`](TcpSocketExt::starttls) with a name for this client, which SMTP sends in the clear after `EHLO`: a
    /// domain, or an address in brackets, of 1 to 255 bytes. Some servers refuse an address. IMAP and POP3 do not use the
    /// name.
    ///
    /// # Errors
    ///
    /// `InvalidAccessError` for any other name, which leaves the socket as it was; otherwise as `starttls`.
    ///
    /// ```
    /// use tcpsocket::{Error, StartTls, TcpSocket, TcpSocketExt};
    ///
    /// async fn relay(socket: &dyn TcpSocket) -> Result<(), Error> {
    ///     socket.starttls_as(StartTls::Smtp, "client.example").await
    /// }
    /// ```
    fn starttls_as(
        &self,
        protocol: StartTls,
        name: &str,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        starttls::starttls(self, protocol, name)
    }
}

impl<S: TcpSocket + ?Sized> TcpSocketExt for S {}

/// Suspends a socket, and resumes it on drop.
struct HeldBack<'a, S: TcpSocket + ?Sized>(&'a S);

impl<'a, S: TcpSocket + ?Sized> HeldBack<'a, S> {
    fn new(socket: &'a S) -> HeldBack<'a, S> {
        socket.suspend();
        HeldBack(socket)
    }
}

impl<S: TcpSocket + ?Sized> Drop for HeldBack<'_, S> {
    fn drop(&mut self) {
        // Fails only if somebody else undid our suspend; there is nothing left to undo then.
        let _ = self.0.resume();
    }
}

/// The waker of a waiting future, to tell its wait from those of other tasks. `None` while the future does not wait.
#[derive(Debug, Default)]
struct Parked(Option<Waker>);

impl Parked {
    /// Records the outcome of a poll with this context.
    fn polled<T>(&mut self, polled: &Poll<T>, cx: &Context<'_>) {
        match (polled, &mut self.0) {
            (Poll::Ready(_), parked) => *parked = None,
            // Usually the same task's waker; then this clones nothing.
            (Poll::Pending, Some(parked)) => parked.clone_from(cx.waker()),
            (Poll::Pending, parked) => *parked = Some(cx.waker().clone()),
        }
    }
}

/// The future of [`TcpSocketExt::next_event`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct NextEvent<'a, S: TcpSocket + ?Sized> {
    socket: &'a S,
    parked: Parked,
}

impl<S: TcpSocket + ?Sized> Future for NextEvent<'_, S> {
    type Output = Option<Event>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let polled = self.socket.poll_event(cx);
        self.parked.polled(&polled, cx);
        polled
    }
}

impl<S: TcpSocket + ?Sized> Drop for NextEvent<'_, S> {
    fn drop(&mut self) {
        if let Some(waker) = self.parked.0.take() {
            self.socket.cancel_poll(&waker);
        }
    }
}

/// The stream of [`TcpSocketExt::events`].
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Events<'a, S: TcpSocket + ?Sized> {
    next: NextEvent<'a, S>,
}

impl<S: TcpSocket + ?Sized> Stream for Events<'_, S> {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        Pin::new(&mut self.next).poll(cx)
    }
}

/// Convenience methods for any server.
pub trait TcpServerSocketExt: TcpServerSocket {
    /// Waits for the next event; `None` after `close()` and after an error.
    ///
    /// Cancel-safe: no connection is lost. Dropping the future while it waits cancels its own wait
    /// ([`cancel_poll`](TcpServerSocket::cancel_poll)) and no other. It does nothing until polled.
    ///
    /// ```
    /// use tcpsocket::{ServerEvent, TcpServerSocket, TcpServerSocketExt};
    ///
    /// async fn serve(server: &dyn TcpServerSocket) {
    ///     while let Some(ServerEvent::Connect(socket)) = server.next_event().await {
    ///         println!("{} has connected", socket.host());
    ///     }
    /// }
    /// ```
    fn next_event(&self) -> NextServerEvent<'_, Self> {
        NextServerEvent {
            server: self,
            parked: Parked::default(),
        }
    }

    /// The events as a [`Stream`]. Dropping it has the same effect as dropping
    /// [`next_event`](TcpServerSocketExt::next_event).
    fn events(&self) -> ServerEvents<'_, Self> {
        ServerEvents {
            next: self.next_event(),
        }
    }
}

impl<S: TcpServerSocket + ?Sized> TcpServerSocketExt for S {}

/// The future of [`TcpServerSocketExt::next_event`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct NextServerEvent<'a, S: TcpServerSocket + ?Sized> {
    server: &'a S,
    parked: Parked,
}

impl<S: TcpServerSocket + ?Sized> Future for NextServerEvent<'_, S> {
    type Output = Option<ServerEvent>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ServerEvent>> {
        let polled = self.server.poll_event(cx);
        self.parked.polled(&polled, cx);
        polled
    }
}

impl<S: TcpServerSocket + ?Sized> Drop for NextServerEvent<'_, S> {
    fn drop(&mut self) {
        if let Some(waker) = self.parked.0.take() {
            self.server.cancel_poll(&waker);
        }
    }
}

/// The stream of [`TcpServerSocketExt::events`].
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct ServerEvents<'a, S: TcpServerSocket + ?Sized> {
    next: NextServerEvent<'a, S>,
}

impl<S: TcpServerSocket + ?Sized> Stream for ServerEvents<'_, S> {
    type Item = ServerEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ServerEvent>> {
        Pin::new(&mut self.next).poll(cx)
    }
}

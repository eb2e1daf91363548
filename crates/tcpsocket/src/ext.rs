//! Conveniences on top of the core traits, for callers. Blanket impls: nobody implements these.

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

/// The mark in bytes: a `send` that brings the buffer over it answers `false` (TX-4).
pub const MARK: u64 = 65_536;

/// Calls on any provider, in the original's shape.
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

    /// `listen(port, options, backlog)`, as in the original, but it waits until the port is bound. For `port`, 0 and -1 choose one;
    /// for `backlog`, 0 and -1 are the default.
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
            .and_then(|it| it.backlog(backlog))
            .map(|it| it.with_options(options));
        async move { self.listen_with(request?).await }
    }

    /// Opens and waits for `Open`: the socket that is returned can be sent on.
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

/// Calls on any socket.
pub trait TcpSocketExt: TcpSocket {
    /// Waits for the next event; `None` after `Close`.
    ///
    /// Cancel-safe: no event is lost, and dropping the future while it waits gives its own wait up
    /// ([`cancel_poll`](TcpSocket::cancel_poll)), and nobody else's. Not polled, it does nothing.
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

    /// The events as a [`Stream`], which ends after `Close`. Dropping it is as dropping [`next_event`](TcpSocketExt::next_event).
    fn events(&self) -> Events<'_, Self> {
        Events {
            next: self.next_event(),
        }
    }

    /// `send` for a byte string: each `char` becomes one byte (TX-19).
    ///
    /// # Errors
    ///
    /// `TypeError` if a character is over U+00FF, before anything is queued, and those of [`TcpSocket::send`].
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

    /// Waits for the end and discards what comes before it: data, too.
    ///
    /// Cancel-safe. Returns `Close { clean: true }` if the end was taken earlier without an error having been seen here.
    ///
    /// # Errors
    ///
    /// The error that ended the socket, if it came while waiting.
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

    /// Waits until it is worth sending again: at once while no more than 65536 bytes are buffered, else until
    /// [`Event::Drain`].
    ///
    /// For code that writes more than it reads. It takes events, so no other task may be waiting; data is held back
    /// meanwhile (as by `suspend`) and delivered afterwards. Cancel-safe.
    ///
    /// # Errors
    ///
    /// The error that ended the socket; `InvalidStateError` if it is not open. The `Close` behind an error is left to the next
    /// `next_event`.
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

    /// Asks a mail server for STARTTLS and begins TLS: from `Ok` on, whatever is sent leaves inside TLS only.
    ///
    /// For a socket that is open in clear, as [`connect`](SocketProviderExt::connect) returns it: nothing sent, nothing read, not
    /// suspended. It reads the greeting, asks, and calls [`upgrade_to_secure`](TcpSocket::upgrade_to_secure) in the turn in
    /// which the go-ahead came. The handshake follows by itself (TLS-6): success shows in data, failure in an
    /// [`Event::Error`] whose name begins with `Security`.
    ///
    /// What the server said in clear is forgotten, as the RFCs demand, since it may be anybody's word. Under TLS ask anew:
    /// `EHLO` in SMTP, `CAPABILITY` in IMAP, `CAPA` in POP3. There is no greeting again.
    ///
    /// Sent in clear are `EHLO [127.0.0.1]` and `STARTTLS`; tagged `CAPABILITY` and `STARTTLS`; or `STLS`; and nothing else. The address is
    /// the same on every machine, so that nothing of this one leaks; [`starttls_as`](TcpSocketExt::starttls_as) gives another name. Read are at most 128 lines, of 512 bytes each
    /// (IMAP 8192). There is no limit of time: race this with a timer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future in the middle aborts the socket, [`abort(None)`](TcpSocket::abort), because where the dialogue stood is
    /// lost. Not polled, it does nothing.
    ///
    /// # Errors
    ///
    /// After an error the socket is closed, so nobody goes on in clear by accident: it is aborted with the error that is
    /// returned, unless it was one of the socket itself. Only a socket that is not open, or has TLS already, is left as it
    /// was, with `InvalidStateError`.
    ///
    /// - `SecurityError` if there is no TLS to be had, or something is wrong on the way there: the server does not offer it or refuses
    ///   it, says that we are logged in already, or sends in clear what nobody asked for yet (CVE-2011-0411). Somebody on the
    ///   way could cause each of these, so never answer it by going on without TLS.
    /// - `NetworkError` if the server turns us away, or speaks another protocol.
    /// - `NetworkInterruptError` if the connection ends.
    /// - Those of [`send`](TcpSocket::send) and [`upgrade_to_secure`](TcpSocket::upgrade_to_secure), `NotSupportedError` where there is no TLS among them,
    ///   and the error that ended the socket.
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

    /// [`starttls`](TcpSocketExt::starttls) with a name for this side, which SMTP says in clear behind `EHLO`: a domain, or an address in
    /// brackets, of 1 to 255 bytes. Some servers refuse an address. IMAP and POP3 have no use for it.
    ///
    /// # Errors
    ///
    /// `InvalidAccessError` for a name that is neither, which leaves the socket as it was; otherwise as `starttls`.
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

/// A `suspend` that is taken back by its drop.
struct HeldBack<'a, S: TcpSocket + ?Sized>(&'a S);

impl<'a, S: TcpSocket + ?Sized> HeldBack<'a, S> {
    fn new(socket: &'a S) -> HeldBack<'a, S> {
        socket.suspend();
        HeldBack(socket)
    }
}

impl<S: TcpSocket + ?Sized> Drop for HeldBack<'_, S> {
    fn drop(&mut self) {
        // Fails only if somebody else took our suspend back; there is nothing to undo then.
        let _ = self.0.resume();
    }
}

/// The waker by which a future waits: what tells its wait from those of other tasks. Without one it does not wait.
#[derive(Debug, Default)]
struct Parked(Option<Waker>);

impl Parked {
    /// A poll by this context came to this.
    fn polled<T>(&mut self, polled: &Poll<T>, cx: &Context<'_>) {
        match (polled, &mut self.0) {
            (Poll::Ready(_), parked) => *parked = None,
            // Of the same task, as a rule; then nothing is cloned.
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

/// Calls on any server.
pub trait TcpServerSocketExt: TcpServerSocket {
    /// Waits for the next event; `None` after `close()` and after an error.
    ///
    /// Cancel-safe: no connection is lost, and dropping the future while it waits gives its own wait up
    /// ([`cancel_poll`](TcpServerSocket::cancel_poll)), and nobody else's. Not polled, it does nothing.
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

    /// The events as a [`Stream`]. Dropping it is as dropping [`next_event`](TcpServerSocketExt::next_event).
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

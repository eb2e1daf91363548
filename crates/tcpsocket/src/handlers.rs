//! Handler slots: the original's `onopen`, `ondata`, `ondrain`, `onerror`, `onclose`, and a server's `onconnect`, `onerror`.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::{
    Close, Data, Error, Event, ServerEvent, TcpServerSocket, TcpServerSocketExt, TcpSocket,
    TcpSocketExt,
};

/// One slot: a handler, or none. It counts how often it was set or cleared. A handler is taken out to run, and goes back
/// only if that count has not changed meanwhile.
struct Slot<F: ?Sized> {
    handler: Option<Box<F>>,
    settings: u64,
}

impl<F: ?Sized> Slot<F> {
    const EMPTY: Slot<F> = Slot {
        handler: None,
        settings: 0,
    };

    fn set(&mut self, handler: Option<Box<F>>) -> Option<Box<F>> {
        self.settings += 1;
        std::mem::replace(&mut self.handler, handler)
    }
}

macro_rules! slots {
    (
        $(#[$doc:meta])*
        $name:ident, $inner:ident, $object:ident: $trait:ident;
        $($(#[$slot_doc:meta])* $field:ident, $set:ident, $clear:ident, ($($arg:ident: $arg_type:ty)?);)*
    ) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name {
            inner: Arc<$inner>,
        }

        struct $inner {
            object: Arc<dyn $trait>,
            $($field: Mutex<Slot<dyn FnMut(&$name $(, $arg_type)?) + Send>>,)*
        }

        impl $name {
            /// Creates empty slots for this object.
            pub fn new($object: Arc<dyn $trait>) -> $name {
                $name {
                    inner: Arc::new($inner {
                        object: $object,
                        $($field: Mutex::new(Slot::EMPTY),)*
                    }),
                }
            }

            /// The object whose events these slots handle.
            pub fn $object(&self) -> &Arc<dyn $trait> {
                &self.inner.object
            }

            $(
                $(#[$slot_doc])*
                pub fn $set(&self, handler: impl FnMut(&$name $(, $arg_type)?) + Send + 'static) -> &$name {
                    let old = lock(&self.inner.$field).set(Some(Box::new(handler)));
                    drop(old);
                    self
                }

                /// Clears the slot; its events are dropped from now on.
                pub fn $clear(&self) -> &$name {
                    let old = lock(&self.inner.$field).set(None);
                    drop(old);
                    self
                }

                fn $field(&self $(, $arg: $arg_type)?) {
                    let (handler, settings) = {
                        let mut slot = lock(&self.inner.$field);
                        (slot.handler.take(), slot.settings)
                    };
                    let Some(mut handler) = handler else { return };
                    handler(self $(, $arg)?);
                    let mut slot = lock(&self.inner.$field);
                    if slot.settings == settings {
                        slot.handler = Some(handler);
                    } else {
                        drop(slot);
                        drop(handler);
                    }
                }
            )*
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($name)).field(&self.inner.object).finish()
            }
        }
    };
}

fn lock<T>(slot: &Mutex<T>) -> MutexGuard<'_, T> {
    slot.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

slots! {
    /// The handler slots of a socket, for programs in the original's style.
    ///
    /// Each slot holds one handler or none. Set and clear handlers at any time, even from inside a handler; events without a
    /// handler are dropped (IF-15). [`run`](Handlers::run) drives them. Each handler receives the slots, and with
    /// [`socket`](Handlers::socket) the socket, so a closure need not capture either.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use tcpsocket::{Handlers, TcpSocket, TcpSocketExt};
    ///
    /// async fn fetch(socket: Arc<dyn TcpSocket>) {
    ///     let handlers = Handlers::new(socket);
    ///     handlers
    ///         .on_open(|handlers| {
    ///             // Cannot fail here: the socket is open.
    ///             let _ = handlers.socket().send_string("GET / HTTP/1.0\r\n\r\n");
    ///         })
    ///         .on_data(|handlers, data| {
    ///             println!("{} bytes", data.len());
    ///             handlers.clear_data(); // one chunk is enough
    ///             handlers.socket().close();
    ///         })
    ///         .on_error(|_, error| eprintln!("{error}"));
    ///     handlers.run().await;
    /// }
    /// ```
    Handlers, HandlersInner, socket: TcpSocket;
    /// Sets `onopen`.
    open, on_open, clear_open, ();
    /// Sets `ondata`.
    data, on_data, clear_data, (data: Data);
    /// Sets `ondrain`.
    drain, on_drain, clear_drain, ();
    /// Sets `onerror`.
    error, on_error, clear_error, (error: Error);
    /// Sets `onclose`.
    close, on_close, clear_close, (close: Close);
}

impl Handlers {
    /// Delivers events to the handlers, `Close` being the last.
    ///
    /// Cancel-safe: dropping the future stops delivery, and a later `run` continues. A panic in a handler unwinds through
    /// this future; it leaves the socket as it was and the handler's slot empty.
    pub async fn run(&self) {
        while let Some(event) = self.socket().next_event().await {
            match event {
                Event::Open => self.open(),
                Event::Data(data) => self.data(data),
                Event::Drain => self.drain(),
                Event::Error(error) => self.error(error),
                Event::Close(close) => self.close(close),
            }
        }
    }
}

slots! {
    /// The handler slots of a server, like [`Handlers`] for a socket.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use tcpsocket::{ServerHandlers, TcpServerSocket};
    ///
    /// async fn greet_all(server: Arc<dyn TcpServerSocket>) {
    ///     let handlers = ServerHandlers::new(server);
    ///     handlers.on_connect(|_, socket| {
    ///         let _ = socket.send("hello\n".into());
    ///         socket.close(); // flushes
    ///     });
    ///     handlers.run().await;
    /// }
    /// ```
    ServerHandlers, ServerHandlersInner, server: TcpServerSocket;
    /// Sets `onconnect`. While the slot is empty, connections are closed at once (SRV-9).
    connect, on_connect, clear_connect, (socket: Arc<dyn TcpSocket>);
    /// Sets `onerror`.
    error, on_error, clear_error, (error: Error);
}

impl ServerHandlers {
    /// Delivers events to the handlers until the server is closed. Cancel-safe, like [`Handlers::run`].
    pub async fn run(&self) {
        while let Some(event) = self.server().next_event().await {
            match event {
                ServerEvent::Connect(socket) => self.connect(socket),
                ServerEvent::Error(error) => self.error(error),
            }
        }
    }
}

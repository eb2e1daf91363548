//! A provider that breaks one promise.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use tcpsocket::{
    BinaryType, Bytes, Capabilities, Error, ErrorName, Event, ListenRequest, MARK, OpenRequest,
    ReadyState, Security, ServerEvent, SocketProvider, TcpServerSocket, TcpSocket, async_trait,
};

/// What is broken, where it shows first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    // Data, at the server.
    FlipByte,
    LoseData,
    RepeatData,
    EmptyData,
    HugeData,
    // At the client.
    FlipByteAtClient,
    LoseTail,
    NeverFalse,
    FalseAtTheMark,
    NothingBuffered,
    SwallowDrain,
    RepeatDrain,
    EarlyDrain,
    DrainAfterClose,
    IgnoreSuspend,
    OpenTwice,
    DataBeforeOpen,
    DataAfterClose,
    RepeatClose,
    UncleanClose,
    ErrorBeforeClose,
    NoClose,
    OpenAtOnce,
    OpenForEver,
    BackToConnecting,
}

#[derive(Debug)]
pub(super) struct Faulty<P> {
    inner: P,
    fault: Fault,
}

impl<P: SocketProvider> Faulty<P> {
    pub(super) fn new(inner: P, fault: Fault) -> Faulty<P> {
        Faulty { inner, fault }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<P: SocketProvider> SocketProvider for Faulty<P> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn open_with(&self, request: OpenRequest) -> Result<Arc<dyn TcpSocket>, Error> {
        let inner = self.inner.open_with(request)?;
        Ok(Socket::wrap(inner, self.fault, true))
    }

    async fn listen_with(&self, request: ListenRequest) -> Result<Arc<dyn TcpServerSocket>, Error> {
        let inner = self.inner.listen_with(request).await?;
        let fault = self.fault;
        Ok(Arc::new(Server { inner, fault }))
    }

    async fn idle(&self) {
        self.inner.idle().await;
    }
}

#[derive(Debug)]
struct Server {
    inner: Arc<dyn TcpServerSocket>,
    fault: Fault,
}

#[deny(clippy::missing_trait_methods)]
impl TcpServerSocket for Server {
    fn local_port(&self) -> u16 {
        self.inner.local_port()
    }

    fn close(&self) {
        self.inner.close();
    }

    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Option<ServerEvent>> {
        self.inner.poll_event(cx).map(|event| match event {
            Some(ServerEvent::Connect(it)) => {
                Some(ServerEvent::Connect(Socket::wrap(it, self.fault, false)))
            }
            other => other,
        })
    }

    fn cancel_poll(&self, waker: &Waker) {
        self.inner.cancel_poll(waker);
    }
}

#[derive(Debug)]
struct Socket {
    inner: Arc<dyn TcpSocket>,
    fault: Fault,
    client: bool,
    told: Mutex<Told>,
}

/// What was told so far, and what is to be told before anything else.
#[derive(Debug, Default)]
struct Told {
    next: VecDeque<Event>,
    /// The fault has shown, which it does once.
    shown: bool,
    armed: bool,
    data: usize,
    late_drain: bool,
}

impl Socket {
    fn wrap(inner: Arc<dyn TcpSocket>, fault: Fault, client: bool) -> Arc<dyn TcpSocket> {
        let told = Mutex::default();
        Arc::new(Socket {
            inner,
            fault,
            client,
            told,
        })
    }

    /// What is told instead of `event`; nothing, and the next event is looked at.
    fn twist(&self, told: &mut Told, event: Event) -> Vec<Event> {
        use Event::*;
        if told.shown && self.fault != Fault::SwallowDrain {
            return vec![event];
        }
        let data =
            |bytes: Vec<u8>| Data(tcpsocket::Data::new(bytes.into(), BinaryType::ArrayBuffer));
        let twisted = match (self.fault, self.client, &event) {
            (Fault::FlipByte, false, Data(it)) if told.data > 2 => vec![data(flip(it))],
            (Fault::FlipByteAtClient, true, Data(it)) => vec![data(flip(it))],
            (Fault::LoseData, false, Data(_)) if told.data > 2 => vec![],
            (Fault::RepeatData, false, Data(_)) if told.data > 2 => vec![event.clone(), event],
            (Fault::EmptyData, false, Data(_)) => vec![data(vec![]), event],
            (Fault::HugeData, false, Data(_)) => vec![event, data(vec![0; 256 * 1024 + 1])],
            (Fault::SwallowDrain, true, Drain) => vec![],
            (Fault::RepeatDrain, true, Drain) => vec![Drain, Drain],
            (Fault::DrainAfterClose, true, Drain)
                if self.inner.ready_state() == ReadyState::Closing =>
            {
                told.late_drain = true;
                return vec![];
            }
            (Fault::DrainAfterClose, true, Close(_)) if told.late_drain => vec![event, Drain],
            (Fault::OpenTwice, true, Open) => vec![Open, Open],
            (Fault::DataBeforeOpen, true, Open) => vec![data(vec![1]), Open],
            (Fault::DataAfterClose, true, Close(_)) => vec![event, data(vec![1])],
            (Fault::RepeatClose, true, Close(_)) => vec![event.clone(), event],
            (Fault::UncleanClose, true, Close(_)) => vec![Close(tcpsocket::Close::new(false))],
            (Fault::ErrorBeforeClose, true, Close(_)) => {
                vec![
                    Error(tcpsocket::Error::new(ErrorName::Network, "made up")),
                    event,
                ]
            }
            (Fault::NoClose, true, Close(_)) => vec![],
            _ => return vec![event],
        };
        told.shown = true;
        twisted
    }
}

fn flip(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[0] ^= 1;
    bytes
}

#[deny(clippy::missing_trait_methods)]
impl TcpSocket for Socket {
    fn host(&self) -> &str {
        self.inner.host()
    }

    fn port(&self) -> u16 {
        self.inner.port()
    }

    fn ssl(&self) -> bool {
        self.inner.ssl()
    }

    fn security(&self) -> Security {
        self.inner.security()
    }

    fn buffered_amount(&self) -> u64 {
        match self.fault {
            Fault::NothingBuffered => 0,
            _ => self.inner.buffered_amount(),
        }
    }

    fn binary_type(&self) -> BinaryType {
        self.inner.binary_type()
    }

    fn ready_state(&self) -> ReadyState {
        let state = self.inner.ready_state();
        match self.fault {
            Fault::OpenAtOnce if state == ReadyState::Connecting => ReadyState::Open,
            Fault::OpenForEver => ReadyState::Open,
            Fault::BackToConnecting if self.told.lock().unwrap().data > 0 => ReadyState::Connecting,
            _ => state,
        }
    }

    fn send(&self, data: Bytes) -> Result<bool, Error> {
        let sum = self.inner.buffered_amount() + data.len() as u64;
        let answer = match self.fault {
            Fault::LoseTail if data.len() as u64 > MARK => self.inner.send(data.slice(1..))?,
            _ => self.inner.send(data)?,
        };
        let mut told = self.told.lock().unwrap();
        told.armed |= sum >= MARK;
        if self.fault == Fault::EarlyDrain && self.client && told.armed && !told.shown {
            told.shown = true;
            told.next.push_back(Event::Drain);
        }
        Ok(match self.fault {
            Fault::NeverFalse => true,
            Fault::FalseAtTheMark => sum < MARK,
            _ => answer,
        })
    }

    fn suspend(&self) {
        if self.fault != Fault::IgnoreSuspend {
            self.inner.suspend();
        }
    }

    fn resume(&self) -> Result<(), Error> {
        match self.fault {
            Fault::IgnoreSuspend => Ok(()),
            _ => self.inner.resume(),
        }
    }

    fn upgrade_to_secure(&self) -> Result<(), Error> {
        self.inner.upgrade_to_secure()
    }

    fn close(&self) {
        self.inner.close();
    }

    fn abort(&self, why: Option<Error>) {
        self.inner.abort(why);
    }

    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        loop {
            let mut told = self.told.lock().unwrap();
            if let Some(event) = told.next.pop_front() {
                told.data += usize::from(matches!(event, Event::Data(_)));
                return Poll::Ready(Some(event));
            }
            drop(told);
            match self.inner.poll_event(cx) {
                Poll::Ready(Some(event)) => {
                    let mut told = self.told.lock().unwrap();
                    let twisted = self.twist(&mut told, event);
                    told.next.extend(twisted);
                }
                other => return other,
            }
        }
    }

    fn cancel_poll(&self, waker: &Waker) {
        self.inner.cancel_poll(waker);
    }
}

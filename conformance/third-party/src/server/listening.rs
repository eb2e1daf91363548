//! A server without its handle: who has arrived, who waits for a gate, who may be handed out.

use std::collections::VecDeque;
use std::fmt;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use tcpsocket::{
    Control, Error, Gate, Host, ListenRequest, ReadyState, ServerEvent, ServerSocketOptions,
    canonical_address,
};

use crate::busy::Busy;
use crate::foreign::{Foreign, ask_gate, wake};
use crate::meters::Meters;
use crate::shared::{Facts, Shared};
use crate::socket::Socket;
use crate::state::Link;
use crate::{lock, net, reader, sleep, writer};

/// How many peers may wait for a gate (GATE-17).
const ASKED: usize = 64;
/// How long accepting rests after it failed (SRV-18).
const REST: Duration = Duration::from_millis(100);

/// A server without its handle.
pub(super) struct Listening {
    pub(super) port: u16,
    gates: Foreign<Arc<dyn Gate>>,
    options: ServerSocketOptions,
    busy: Arc<Busy>,
    doors: Mutex<Doors>,
    acceptor: Condvar,
}

/// What the lock protects.
#[derive(Default)]
struct Doors {
    /// `None`: closed.
    listener: Option<Arc<TcpListener>>,
    /// What ended it, until that was returned.
    error: Option<Error>,
    waker: Option<Waker>,
    /// Accepted by the kernel, not looked at yet.
    arrived: Option<Peer>,
    /// Waiting for a gate. They are taken out while a poll asks, and then `asking` counts them.
    asked: Vec<Asked>,
    asking: usize,
    /// A gate has something to say.
    rung: bool,
    admitted: VecDeque<Peer>,
    meters: Option<Meters>,
}

struct Peer {
    stream: TcpStream,
    address: SocketAddr,
}

struct Asked {
    peer: Peer,
    verdict: Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>,
}

/// What gates wake: whoever waits for the server then, which need not be who asked them.
struct Bell(Weak<Listening>);

impl Wake for Bell {
    fn wake(self: Arc<Bell>) {
        let Some(listening) = self.0.upgrade() else {
            return;
        };
        let waker = {
            let mut doors = lock(&listening.doors);
            doors.rung = true;
            doors.waker.take()
        };
        wake(waker);
    }
}

impl Listening {
    pub(super) fn new(
        listener: Arc<TcpListener>,
        gates: Foreign<Arc<dyn Gate>>,
        request: &ListenRequest,
        port: u16,
        busy: Arc<Busy>,
    ) -> Result<Arc<Listening>, Error> {
        let listening = Arc::new(Listening {
            port,
            gates,
            options: request.options().clone(),
            busy,
            doors: Mutex::new(Doors {
                listener: Some(listener),
                ..Doors::default()
            }),
            acceptor: Condvar::new(),
        });
        if !listening.gates.is_empty() {
            let this = Arc::downgrade(&listening);
            let meters = Meters::watch(&listening.gates, this as Weak<dyn Control>)?;
            lock(&listening.doors).meters = Some(meters);
        }
        Ok(listening)
    }

    /// The thread: accepts one at a time, while somebody waits and there is room (ACT-4).
    pub(super) fn accept(&self) {
        let mut doors = lock(&self.doors);
        loop {
            let full = doors.asked.len() + doors.asking >= ASKED;
            let Some(listener) = doors.listener.clone() else {
                return;
            };
            if doors.waker.is_none() || doors.arrived.is_some() || full {
                drop(listener);
                doors = sleep(&self.acceptor, doors, None);
                continue;
            }
            drop(doors);
            let accepted = listener.accept();
            drop(listener);
            doors = lock(&self.doors);
            match accepted {
                // Nobody wants it any more.
                Ok(_) if doors.listener.is_none() => return,
                Ok((stream, address)) => {
                    doors.arrived = Some(Peer { stream, address });
                    let waker = doors.waker.take();
                    drop(doors);
                    wake(waker);
                    doors = lock(&self.doors);
                }
                // No descriptors, no memory, or a peer that is gone again; closing ends the rest.
                Err(_) if doors.listener.is_some() => {
                    let rested = Some(Instant::now() + REST);
                    doors = sleep(&self.acceptor, doors, rested);
                }
                Err(_) => return,
            }
        }
    }

    /// Asks the gates about who has arrived, and again about who waits. Called without the lock.
    fn judge(self: &Arc<Listening>, arrived: Option<Peer>, asked: &mut Vec<Asked>) -> Vec<Peer> {
        if let Some(peer) = arrived {
            match (self.gates.is_empty(), peer.stream.local_addr()) {
                (true, _) => return vec![peer],
                (false, Ok(local)) => asked.push(self.question(peer, local)),
                // It is gone again.
                (false, Err(_)) => {}
            }
        }
        let waker = Waker::from(Arc::new(Bell(Arc::downgrade(self))));
        let mut context = Context::from_waker(&waker);
        let (mut admitted, mut refused) = (Vec::new(), Foreign::default());
        for mut it in std::mem::take(asked) {
            match it.verdict.as_mut().poll(&mut context) {
                Poll::Pending => asked.push(it),
                Poll::Ready(Ok(())) => admitted.push(it.peer),
                Poll::Ready(Err(why)) => {
                    refused.push(why);
                    net::reset_on_close(&it.peer.stream);
                }
            }
        }
        admitted
    }

    fn question(&self, peer: Peer, local: SocketAddr) -> Asked {
        let gates = self.gates.clone();
        let (local, address) = (canonical_address(local), canonical_address(peer.address));
        let verdict = Box::pin(async move {
            for gate in gates.iter() {
                ask_gate(|| gate.accept(local, address)).await?;
            }
            Ok(())
        });
        Asked { peer, verdict }
    }

    /// A socket of who was admitted, or `None` if a gate does not watch it, or there are no threads for it.
    fn hand_out(&self, peer: Peer) -> Option<Arc<Socket>> {
        let options = &self.options;
        // What fails here fails because the peer is gone, which will show.
        let _ = net::set_up(&peer.stream, options.no_delay, options.keep_alive);
        let facts = Facts {
            host: Host::from_address(peer.address).as_str().to_owned(),
            port: peer.address.port(),
            binary_type: options.binary_type,
            linger: options.linger,
        };
        let link = Link::Up(Arc::new(peer.stream));
        let shared = Shared::new(facts, ReadyState::Open, link, self.busy.clone());
        let handle = Socket::new(shared.clone());
        let start = || reader::start(&shared).and_then(|()| writer::start(&shared));
        let watched = shared.watch(&self.gates);
        match watched.and_then(|()| start().map_err(net::no_thread)) {
            Ok(()) => Some(handle),
            Err(why) => {
                shared.with(|state| state.broke(why));
                None
            }
        }
    }

    pub(super) fn poll(self: &Arc<Listening>, cx: &mut Context<'_>) -> Poll<Option<ServerEvent>> {
        // Wakers, futures and peers are dropped outside of the lock; what is declared first is dropped last.
        let mut wakers = Foreign::from(std::slice::from_ref(cx.waker()));
        loop {
            let (arrived, mut asked, ready);
            {
                let mut doors = lock(&self.doors);
                if doors.listener.is_none() {
                    return Poll::Ready(doors.error.take().map(ServerEvent::Error));
                }
                ready = doors.admitted.pop_front();
                (arrived, asked) = match ready {
                    Some(_) => (None, Vec::new()),
                    None => (doors.arrived.take(), std::mem::take(&mut doors.asked)),
                };
                doors.asking += asked.len();
                if ready.is_none() {
                    doors.rung = false;
                }
            }
            if let Some(peer) = ready {
                match self.hand_out(peer) {
                    Some(socket) => return self.handed_out(socket, cx),
                    None => continue,
                }
            }
            let (taken, came) = (asked.len(), arrived.is_some());
            let admitted = self.judge(arrived, &mut asked);
            let mut doors = lock(&self.doors);
            doors.asking -= taken;
            if doors.listener.is_none() {
                // Closed meanwhile. `asked` and `admitted` go with the block, after the lock.
                drop(doors);
                continue;
            }
            doors.asked.append(&mut asked);
            doors.admitted.extend(admitted);
            if came || !doors.admitted.is_empty() {
                continue;
            }
            let replaced = std::mem::replace(&mut doors.waker, wakers.pop());
            wakers.extend(replaced);
            // A gate spoke while its future was in our hands, where nobody else would find it.
            let again = doors.rung.then(|| doors.waker.take()).flatten();
            self.acceptor.notify_one();
            drop(doors);
            wake(again);
            return Poll::Pending;
        }
    }

    /// The last check: a server that was closed meanwhile returns nobody (SRV-12).
    fn handed_out(&self, socket: Arc<Socket>, cx: &Context<'_>) -> Poll<Option<ServerEvent>> {
        let mut old = Foreign::default();
        let mut doors = lock(&self.doors);
        let same = doors
            .waker
            .as_ref()
            .is_some_and(|it| it.will_wake(cx.waker()));
        if same {
            old.extend(doors.waker.take());
        }
        let closed = doors.listener.is_none();
        let error = match closed {
            true => doors.error.take(),
            false => None,
        };
        drop(doors);
        match closed {
            true => Poll::Ready(error.map(ServerEvent::Error)),
            false => Poll::Ready(Some(ServerEvent::Connect(socket))),
        }
    }

    pub(super) fn cancel_poll(&self, waker: &Waker) {
        // The lock is given back at the end of this statement, the waker dropped after it.
        let _waker = lock(&self.doors)
            .waker
            .take_if(|kept| kept.will_wake(waker));
    }

    /// Stops listening; nobody who waits is handed out.
    pub(super) fn stop(&self, why: Option<Error>) {
        let _untold;
        let mut gone = {
            let mut doors = lock(&self.doors);
            if doors.listener.is_none() {
                // `close` after an abort that was not told: no event follows a close.
                _untold = match why {
                    None => doors.error.take(),
                    Some(_) => None,
                };
                return;
            }
            let gone = std::mem::take(&mut *doors);
            doors.error = why;
            // These are in the hands of a poll, which will find out.
            doors.asking = gone.asking;
            gone
        };
        if let Some(listener) = &gone.listener {
            net::stop_listening(listener);
        }
        self.acceptor.notify_one();
        let waker = gone.waker.take();
        drop(gone);
        wake(waker);
    }
}

impl Control for Listening {
    fn abort(&self, why: Error) {
        self.stop(Some(why));
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listening")
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

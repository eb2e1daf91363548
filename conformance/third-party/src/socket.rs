//! The handle: what a caller holds.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tcpsocket::{
    BinaryType, Bytes, Data, Error, ErrorName, Event, ReadyState, Security, TcpSocket,
};

use crate::meters::Moved;
use crate::shared::Shared;
use crate::state::Due;

/// Its drop is the drop of the last handle, since handles are clones of the `Arc` around it.
#[derive(Debug)]
pub(crate) struct Socket(Arc<Shared>);

impl Socket {
    pub(crate) fn new(shared: Arc<Shared>) -> Arc<Socket> {
        Arc::new(Socket(shared))
    }
}

impl TcpSocket for Socket {
    fn host(&self) -> &str {
        &self.0.host
    }

    fn port(&self) -> u16 {
        self.0.port
    }

    fn ssl(&self) -> bool {
        false
    }

    fn security(&self) -> Security {
        Security::Plain
    }

    fn buffered_amount(&self) -> u64 {
        self.0.with(|it| it.amount())
    }

    fn binary_type(&self) -> BinaryType {
        self.0.binary_type
    }

    fn ready_state(&self) -> ReadyState {
        self.0.with(|it| it.shown)
    }

    fn send(&self, data: Bytes) -> Result<bool, Error> {
        let meters = self.0.with(|it| match it.shown {
            ReadyState::Open => Ok(it.meters.clone()),
            state => Err(not_open(state)),
        })?;
        let len = data.len();
        if let Some(meters) = &meters
            && len > 0
        {
            meters.queue(len)?;
        }
        let sent = self.0.with(|it| match it.shown {
            ReadyState::Open => Ok(it.send(data)),
            // Closed by another handle while the meters were asked.
            state => {
                it.after.bytes.push(data);
                Err(not_open(state))
            }
        });
        if let (Err(_), Some(meters)) = (&sent, meters) {
            meters.report(&Moved {
                dropped: len,
                ..Moved::default()
            });
        }
        sent
    }

    fn suspend(&self) {
        self.0.with(|it| it.suspended += 1);
    }

    fn resume(&self) -> Result<(), Error> {
        self.0.with(|it| {
            if it.shown >= ReadyState::Closing {
                return Ok(());
            }
            match it.suspended.checked_sub(1) {
                Some(left) => it.suspended = left,
                None => {
                    let why = "there is no suspend() to take back";
                    return Err(Error::new(ErrorName::InvalidState, why));
                }
            }
            Ok(())
        })
    }

    fn upgrade_to_secure(&self) -> Result<(), Error> {
        let why = "this provider has no TLS";
        Err(Error::new(ErrorName::NotSupported, why))
    }

    fn close(&self) {
        self.0.with(|it| it.close());
    }

    fn abort(&self, why: Option<Error>) {
        self.0.with(|it| match why {
            None => it.cut_short(),
            Some(why) => it.abort(why, true),
        });
    }

    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        // A waker is cloned and dropped outside of the lock, since it may call us.
        let waker = cx.waker().clone();
        let data = |bytes| Data::new(bytes, self.0.binary_type);
        self.0.with(|it| {
            let same = it.waker.as_ref().is_some_and(|old| old.will_wake(&waker));
            let due = it.due();
            if due == Due::Nothing {
                it.after.wakers.extend(it.waker.replace(waker));
                it.turn = None;
                return Poll::Pending;
            }
            it.after.wakers.push(waker);
            if same {
                // This wait is over; that of another task would not be.
                it.after.wakers.extend(it.waker.take());
            }
            let event = it.take(due, data);
            it.begin_turn();
            Poll::Ready(event)
        })
    }

    fn cancel_poll(&self, waker: &Waker) {
        self.0.with(|it| {
            let another = it.waker.as_ref().is_some_and(|kept| !kept.will_wake(waker));
            if it.turn.is_none() && !another {
                it.after.wakers.extend(it.waker.take());
                it.begin_turn();
            }
        });
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.0.dropped();
    }
}

fn not_open(state: ReadyState) -> Error {
    let why = format!("the socket is {state}, and only one that is open sends");
    Error::new(ErrorName::InvalidState, why)
}

//! A recorder around a server.

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tcpsocket::{ServerEvent, TcpServerSocket, TcpServerSocketExt};

use crate::socket::Socket;
use crate::wait::yield_now;
use crate::{Cx, Failure, Outcome};

pub(crate) struct Server {
    cx: Cx,
    raw: Arc<dyn TcpServerSocket>,
    at: IpAddr,
}

impl Server {
    pub(crate) fn new(cx: Cx, raw: Arc<dyn TcpServerSocket>, at: IpAddr) -> Server {
        Server { cx, raw, at }
    }

    /// The server itself.
    pub(crate) fn raw(&self) -> &Arc<dyn TcpServerSocket> {
        &self.raw
    }

    /// The address that clients connect to.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::new(self.at, self.raw.local_port())
    }

    pub(crate) fn close(&self) {
        self.cx.log("server: close");
        self.raw.close();
    }

    /// The next event: `None` at the end.
    pub(crate) async fn next(&self) -> Result<Option<ServerEvent>, Failure> {
        let event = self
            .cx
            .within("an event of the server", self.raw.next_event())
            .await?;
        self.cx
            .log(format_args!("server: event {}", text(event.as_ref())));
        Ok(event)
    }

    /// Waits for a connection.
    pub(crate) async fn accept(&self) -> Result<Socket, Failure> {
        match self.next().await? {
            Some(ServerEvent::Connect(raw)) => Ok(self.cx.socket(raw, true)),
            other => Err(Failure::compared(
                "the event of the server",
                "connect",
                text(other.as_ref()),
            )),
        }
    }

    /// Waits for this event: `error <name>`, or `none`.
    pub(crate) async fn expect(&self, expected: &str) -> Outcome {
        let event = self.next().await?;
        self.cx.check(
            "the event of the server",
            text(event.as_ref()).as_str(),
            expected,
        )
    }

    pub(crate) fn poll(&self) -> Poll<Option<ServerEvent>> {
        self.poll_with(Waker::noop())
    }

    pub(crate) fn poll_with(&self, waker: &Waker) -> Poll<Option<ServerEvent>> {
        self.raw.poll_event(&mut Context::from_waker(waker))
    }

    /// Shows that there is no event.
    pub(crate) async fn quiet(&self) -> Outcome {
        for _ in 0..2 {
            self.cx.fence().await?;
            for _ in 0..32 {
                if let Poll::Ready(event) = self.poll() {
                    return Err(Failure::compared(
                        "the server must have no event now",
                        "no event",
                        text(event.as_ref()),
                    ));
                }
                yield_now().await;
            }
        }
        self.raw.cancel_poll(&Waker::noop().clone());
        Ok(())
    }

    /// Waits until something else is true, and shows that there is no event meanwhile. The wait is parked all along: an unpolled
    /// server accepts nobody, and the number of polls until it accepts is its own affair.
    pub(crate) async fn quiet_until(&self, what: &str, fact: impl FnMut() -> bool) -> Outcome {
        let mut event = pin!(self.raw.next_event());
        let mut fact = pin!(self.cx.until(what, fact));
        poll_fn(|context| match event.as_mut().poll(context) {
            Poll::Ready(event) => Poll::Ready(Err(Failure::compared(
                "the server must have no event now",
                "no event",
                text(event.as_ref()),
            ))),
            Poll::Pending => fact.as_mut().poll(context),
        })
        .await
    }
}

fn text(event: Option<&ServerEvent>) -> String {
    match event {
        Some(ServerEvent::Connect(_)) => "connect".to_owned(),
        Some(ServerEvent::Error(error)) => format!("error {}", error.name()),
        Some(other) => format!("{other:?}"),
        None => "none".to_owned(),
    }
}

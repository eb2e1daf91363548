//! A guard that hears of changes of the grant between calls only.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use tcpsocket::{
    Capabilities, Error, ListenRequest, OpenRequest, ServerEvent, SocketProvider, TcpServerSocket,
    TcpSocket, async_trait,
};

use super::instead;
use crate::sync::lock;
use crate::{App, Restricted, Subject, Trust};

/// A sound guard whose host waits with a change until nothing is under way, and then makes the last one.
pub(super) fn forgiving(
    subject: &dyn Subject,
    provider: Arc<dyn SocketProvider>,
    app: App,
) -> Option<Restricted> {
    let made = subject.restricted(provider, app)?;
    let inner = made.provider.clone();
    let late = Arc::new(Late {
        host: instead(made, inner.clone()),
        state: Mutex::default(),
    });
    let provider = Arc::new(Forgiving {
        inner,
        late: late.clone(),
    });
    Some(Restricted::new(provider, move |level| late.grant(level)))
}

struct Late {
    host: Restricted,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    under_way: usize,
    due: Option<Option<Trust>>,
}

impl Late {
    fn grant(&self, level: Option<Trust>) {
        {
            let mut state = lock(&self.state);
            if state.under_way > 0 {
                state.due = Some(level);
                return;
            }
        }
        self.host.grant(level);
    }

    fn begin(&self) -> UnderWay<'_> {
        lock(&self.state).under_way += 1;
        UnderWay(self)
    }
}

struct UnderWay<'a>(&'a Late);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let due = {
            let mut state = lock(&self.0.state);
            state.under_way -= 1;
            match state.under_way {
                0 => state.due.take(),
                _ => None,
            }
        };
        if let Some(level) = due {
            self.0.host.grant(level);
        }
    }
}

struct Forgiving {
    inner: Arc<dyn SocketProvider>,
    late: Arc<Late>,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl SocketProvider for Forgiving {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn open_with(&self, request: OpenRequest) -> Result<Arc<dyn TcpSocket>, Error> {
        let _call = self.late.begin();
        self.inner.open_with(request)
    }

    async fn listen_with(&self, request: ListenRequest) -> Result<Arc<dyn TcpServerSocket>, Error> {
        let _call = self.late.begin();
        let inner = self.inner.listen_with(request).await?;
        Ok(Arc::new(ForgivingServer {
            inner,
            late: self.late.clone(),
        }))
    }

    async fn idle(&self) {
        self.inner.idle().await;
    }
}

impl fmt::Debug for Forgiving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Forgiving").field(&self.inner).finish()
    }
}

struct ForgivingServer {
    inner: Arc<dyn TcpServerSocket>,
    late: Arc<Late>,
}

#[deny(clippy::missing_trait_methods)]
impl TcpServerSocket for ForgivingServer {
    fn local_port(&self) -> u16 {
        self.inner.local_port()
    }

    fn close(&self) {
        self.inner.close();
    }

    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Option<ServerEvent>> {
        let _call = self.late.begin();
        self.inner.poll_event(cx)
    }

    fn cancel_poll(&self, waker: &Waker) {
        self.inner.cancel_poll(waker);
    }
}

impl fmt::Debug for ForgivingServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ForgivingServer").field(&self.inner).finish()
    }
}

//! Guards that tell an app of failures in other words than a sound one.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tcpsocket::{
    Bytes, Error, Event, ListenRequest, OpenRequest, ServerEvent, SocketProvider, TcpServerSocket,
    async_trait,
};

use super::super::bend::{Fault, Inner, ProviderFault, ServerFault, bent, bent_server, provider};
use super::instead;
use crate::sync::lock;
use crate::{App, Restricted, Subject};

/// What was said last below the guard, and what is made of it above.
static SAID: Mutex<Option<Error>> = Mutex::new(None);
static WORDS: Mutex<fn(Error) -> Error> = Mutex::new(|said| said);

/// A sound guard between two that talk about it: instead of its word for a failure the app is told `words` of what was said
/// below it.
pub(super) fn talking(
    subject: &dyn Subject,
    below: Arc<dyn SocketProvider>,
    app: App,
    words: fn(Error) -> Error,
) -> Option<Restricted> {
    *lock(&WORDS) = words;
    let made = subject.restricted(provider::<Talk<BELOW>>(below), app)?;
    let above = provider::<Talk<ABOVE>>(made.provider.clone());
    Some(instead(made, above))
}

const BELOW: bool = false;
const ABOVE: bool = true;

#[derive(Default)]
struct Talk<const WHERE: bool>;

impl<const WHERE: bool> Talk<WHERE> {
    fn hear(error: Error) -> Error {
        let mut said = lock(&SAID);
        if WHERE == BELOW {
            *said = Some(error.clone());
            return error;
        }
        match said.take() {
            Some(below) if below.name() == error.name() => lock(&WORDS)(below),
            _ => error,
        }
    }
}

impl<const WHERE: bool> Fault for Talk<WHERE> {
    fn send(&self, it: &Inner, data: Bytes) -> Result<bool, Error> {
        it.send(data).map_err(Self::hear)
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        it.poll_event(cx).map(|event| match event {
            Some(Event::Error(error)) => Some(Event::Error(Self::hear(error))),
            other => other,
        })
    }
}

impl<const WHERE: bool> ServerFault for Talk<WHERE> {
    fn poll(
        &self,
        it: &Arc<dyn TcpServerSocket>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<ServerEvent>> {
        it.poll_event(cx).map(|event| match event {
            Some(ServerEvent::Connect(inner)) => {
                Some(ServerEvent::Connect(bent(inner, Arc::new(Self))))
            }
            Some(ServerEvent::Error(error)) => Some(ServerEvent::Error(Self::hear(error))),
            other => other,
        })
    }
}

#[async_trait]
impl<const WHERE: bool> ProviderFault for Talk<WHERE> {
    fn open(&self, it: &Arc<dyn SocketProvider>, request: OpenRequest) -> Result<Inner, Error> {
        let inner = it.open_with(request).map_err(Self::hear)?;
        Ok(bent(inner, Arc::new(Self)))
    }

    async fn listen(
        &self,
        it: &Arc<dyn SocketProvider>,
        request: ListenRequest,
    ) -> Result<Arc<dyn TcpServerSocket>, Error> {
        let server = it.listen_with(request).await.map_err(Self::hear)?;
        Ok(bent_server(server, Self))
    }
}

/// A socket that tells an error of the app's own in other words.
#[derive(Default)]
pub(super) struct Strangers;

impl Fault for Strangers {
    fn abort(&self, it: &Inner, why: Option<Error>) {
        it.abort(why.map(|own| Error::new(own.name(), "the connection failed")));
    }
}

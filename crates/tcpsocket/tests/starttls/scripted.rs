//! A socket whose server is a script, and whose caller gets what `starttls` made of it.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use tcpsocket::{
    BinaryType, Bytes, Close, Data, Error, ErrorName, Event, ReadyState, Security, StartTls,
    TcpSocket, TcpSocketExt,
};

/// What the server does next.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Waits until the socket has sent this line.
    Awaits(&'static str),
    /// One data event.
    Says(Vec<u8>),
    Drains,
    Fails(ErrorName),
    Ends,
}

/// What `upgrade_to_secure` does.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Upgrade {
    #[default]
    Works,
    IsRefused,
    /// It says `Ok` and does nothing.
    Lies,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) script: VecDeque<Step>,
    pub(crate) upgrade: Upgrade,
    pub(crate) binary_type: BinaryType,
    pub(crate) refuses_to_send: bool,
    /// What was sent in the clear and in which step of the script it was expected.
    pub(crate) sent: Vec<String>,
    pub(crate) awaited: usize,
    pub(crate) ended: Option<ReadyState>,
    pub(crate) ssl: bool,
    pub(crate) security: Security,
    pub(crate) aborted: Vec<Option<Error>>,
    pub(crate) polls_given_up: usize,
}

/// A socket whose server is a script.
#[derive(Debug)]
pub(crate) struct Scripted(Mutex<State>);

impl Scripted {
    pub(crate) fn new(script: impl IntoIterator<Item = Step>) -> Scripted {
        Scripted(Mutex::new(State {
            script: script.into_iter().collect(),
            ..State::default()
        }))
    }

    pub(crate) fn with(self, change: impl FnOnce(&mut State)) -> Scripted {
        change(&mut self.state());
        self
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Runs `starttls`. The script is all that can happen, so a future that is pending would be so for ever.
    pub(crate) fn run(&self, protocol: StartTls) -> Outcome {
        let mut cx = Context::from_waker(Waker::noop());
        let end = match pin!(self.starttls(protocol)).poll(&mut cx) {
            Poll::Ready(Ok(())) => End::Secure,
            Poll::Ready(Err(error)) => End::Refused(error.name(), error.message().to_owned()),
            Poll::Pending => End::Waiting,
        };
        let outcome = Outcome {
            end,
            sent: self.state().sent.clone(),
        };
        self.nobody_goes_on_in_clear(&outcome);
        outcome
    }

    fn nobody_goes_on_in_clear(&self, outcome: &Outcome) {
        let state = self.state();
        let secured = matches!(state.security, Security::Handshaking);
        assert_eq!(outcome.end == End::Secure, secured, "{outcome:?}");
        let gone = state.ended.is_some();
        assert_eq!(outcome.end != End::Secure, gone, "{outcome:?}");
        for line in &outcome.sent {
            let allowed = [
                "EHLO [127.0.0.1]\r\n",
                "STARTTLS\r\n",
                "A1 CAPABILITY\r\n",
                "A2 STARTTLS\r\n",
                "STLS\r\n",
            ];
            assert!(allowed.contains(&line.as_str()), "sent in clear: {line:?}");
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) end: End,
    pub(crate) sent: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum End {
    Secure,
    Refused(ErrorName, String),
    Waiting,
}

impl Outcome {
    #[track_caller]
    pub(crate) fn is(&self, name: ErrorName, part: &str) {
        match &self.end {
            End::Refused(seen, message) if *seen == name && message.contains(part) => {}
            other => panic!("expected {name:?} with {part:?}, got {other:?}"),
        }
    }
}

impl TcpSocket for Scripted {
    fn host(&self) -> &str {
        "mail.example"
    }

    fn port(&self) -> u16 {
        587
    }

    fn ssl(&self) -> bool {
        self.state().ssl
    }

    fn security(&self) -> Security {
        self.state().security.clone()
    }

    fn buffered_amount(&self) -> u64 {
        0
    }

    fn binary_type(&self) -> BinaryType {
        self.state().binary_type
    }

    fn ready_state(&self) -> ReadyState {
        self.state().ended.unwrap_or(ReadyState::Open)
    }

    fn send(&self, data: Bytes) -> Result<bool, Error> {
        let mut state = self.state();
        assert_eq!(state.ended, None, "sent after the end");
        if state.refuses_to_send {
            return Err(Error::new(ErrorName::QuotaExceeded, "too much"));
        }
        let text = String::from_utf8(data.to_vec()).unwrap();
        state.sent.push(text);
        Ok(true)
    }

    fn suspend(&self) {}

    fn resume(&self) -> Result<(), Error> {
        Err(Error::new(ErrorName::InvalidState, "not suspended"))
    }

    fn upgrade_to_secure(&self) -> Result<(), Error> {
        let mut state = self.state();
        assert_eq!(state.ended, None, "upgraded after the end");
        match state.upgrade {
            Upgrade::Works => {
                state.ssl = true;
                state.security = Security::Handshaking;
                Ok(())
            }
            Upgrade::IsRefused => Err(Error::new(ErrorName::NotSupported, "no TLS here")),
            Upgrade::Lies => Ok(()),
        }
    }

    fn close(&self) {
        self.state().ended = Some(ReadyState::Closing);
    }

    fn abort(&self, why: Option<Error>) {
        let mut state = self.state();
        state.aborted.push(why);
        state.ended = Some(ReadyState::Closed);
    }

    fn poll_event(&self, _: &mut Context<'_>) -> Poll<Option<Event>> {
        let mut state = self.state();
        loop {
            match state.script.front() {
                None => return Poll::Pending,
                Some(Step::Awaits(line)) => {
                    if state.sent.get(state.awaited).map(String::as_str) != Some(*line) {
                        return Poll::Pending;
                    }
                    state.awaited += 1;
                    state.script.pop_front();
                }
                Some(_) => break,
            }
        }
        let event = match state.script.pop_front() {
            Some(Step::Says(bytes)) => {
                Event::Data(Data::new(Bytes::from(bytes), state.binary_type))
            }
            Some(Step::Drains) => Event::Drain,
            Some(Step::Fails(name)) => {
                state.ended = Some(ReadyState::Closed);
                Event::Error(Error::new(name, "the network failed"))
            }
            Some(Step::Ends) => {
                state.ended = Some(ReadyState::Closed);
                Event::Close(Close::new(true))
            }
            Some(Step::Awaits(_)) | None => unreachable!("handled above"),
        };
        Poll::Ready(Some(event))
    }

    fn cancel_poll(&self, _waker: &Waker) {
        self.state().polls_given_up += 1;
    }
}

//! For whoever polls: what is due, in which order, and what it changes.

use tcpsocket::{Bytes, Close, Data, Event, ReadyState};

use super::{Comes, Due, Input, Link, Output, State, Told};

impl State {
    /// The one place that knows the order of events.
    pub(crate) fn due(&self) -> Due {
        match (self.told, self.shown) {
            (Told::Close, _) => Due::Over,
            (Told::Error, _) => Due::Close,
            (_, ReadyState::Connecting) => match (&self.failure, &self.link) {
                (Some(_), _) => Due::Error,
                (None, Link::Up(_)) => Due::Open,
                (None, _) => Due::Nothing,
            },
            (_, ReadyState::Open) => self.due_while_open(),
            _ if self.failure.is_some() => Due::Error,
            _ if self.armed && self.held == 0 => Due::Drain,
            _ if self.output == Output::Ended => Due::Close,
            _ => Due::Nothing,
        }
    }

    fn due_while_open(&self) -> Due {
        let suspended = self.suspended > 0;
        let read_all = self.inbox.is_none() && self.input != Input::Flowing;
        let fails = self.failure.as_ref().is_some_and(|it| match it.comes {
            Comes::AtOnce => true,
            Comes::AsInput => !suspended && read_all,
            Comes::AfterInput => suspended || read_all,
        });
        let ends = read_all && self.failure.is_none() && self.held == 0;
        match () {
            () if fails => Due::Error,
            () if self.armed && self.held == 0 => Due::Drain,
            () if suspended => Due::Nothing,
            () if self.inbox.is_some() => Due::Data,
            () if ends => Due::Close,
            () => Due::Nothing,
        }
    }

    /// Returns what is due, and lets the caller see it.
    pub(crate) fn take(&mut self, due: Due, data: impl Fn(Bytes) -> Data) -> Option<Event> {
        match due {
            Due::Nothing | Due::Over => None,
            Due::Open => {
                self.shown = ReadyState::Open;
                Some(Event::Open)
            }
            Due::Drain => {
                self.armed = false;
                Some(Event::Drain)
            }
            Due::Data => self.inbox.take().map(|bytes| {
                self.after.moved.read += bytes.len();
                Event::Data(data(bytes))
            }),
            Due::Error => {
                (self.shown, self.told) = (ReadyState::Closed, Told::Error);
                self.discard();
                self.hang_up();
                let failure = self.failure.as_ref();
                failure.map(|it| Event::Error(it.error.clone()))
            }
            Due::Close => {
                let clean = self.told == Told::Nothing;
                (self.shown, self.told) = (ReadyState::Closed, Told::Close);
                if clean && self.output == Output::Flowing {
                    self.end_output();
                }
                Some(Event::Close(Close::new(clean)))
            }
        }
    }

    /// `buffered_amount`.
    pub(crate) fn amount(&self) -> u64 {
        match self.shown {
            ReadyState::Closed => 0,
            _ => self.turn.unwrap_or(self.held),
        }
    }

    pub(crate) fn begin_turn(&mut self) {
        self.turn = Some(self.held);
    }
}

//! For callers: what their calls change at once.

use std::time::Instant;

use tcpsocket::{Bytes, Error, MARK, ReadyState};

use super::{Comes, Link, Output, State};

impl State {
    pub(crate) fn send(&mut self, data: Bytes) -> bool {
        let len = data.len() as u64;
        let sum = self.amount() + len;
        if let Some(shown) = &mut self.turn {
            *shown += len;
        }
        if !self.can_write() {
            // The caller has not been told of the end yet, and this will not tell (TX-23).
            self.after.moved.dropped += data.len();
            self.after.bytes.push(data);
            return sum <= MARK;
        }
        self.armed |= sum >= MARK;
        if len == 0 {
            self.after.bytes.push(data);
        } else {
            let first = self.held == 0;
            self.held += len;
            self.queue.push_back(data);
            // Who comes second must not overtake: then the writer is at work.
            if first {
                self.pump();
            }
        }
        sum <= MARK
    }

    pub(crate) fn close(&mut self) {
        match self.shown {
            ReadyState::Connecting => self.give_up(),
            ReadyState::Open => {
                self.start_closing();
                self.flushed();
            }
            ReadyState::Closing | ReadyState::Closed => {}
        }
    }

    /// `abort(None)`.
    pub(crate) fn cut_short(&mut self) {
        match self.shown {
            ReadyState::Connecting => self.give_up(),
            ReadyState::Open | ReadyState::Closing => {
                self.start_closing();
                self.drop_held();
                self.end_output();
            }
            ReadyState::Closed => {}
        }
    }

    /// `abort(Some)`, if it is the caller's, and `Control::abort`.
    pub(crate) fn abort(&mut self, why: Error, by_the_caller: bool) {
        if by_the_caller && self.shown == ReadyState::Closed {
            return self.after.errors.push(why);
        }
        if by_the_caller {
            self.shown = ReadyState::Closing;
            self.discard();
        }
        self.fail(why, Comes::AtOnce);
        self.reset();
    }

    /// CL-3: whatever has become of the attempt, it ends by `Close` alone.
    fn give_up(&mut self) {
        self.shown = ReadyState::Closing;
        if let Link::Attempt(attempt) = &self.link {
            attempt.give_up();
        }
        self.progress = Some(Instant::now());
        self.end_output();
        let untold = self.failure.take();
        self.after.errors.extend(untold.map(|it| it.error));
        self.output = Output::Ended;
    }

    fn start_closing(&mut self) {
        self.shown = ReadyState::Closing;
        self.discard();
        if self.progress.is_none() {
            self.progress = Some(Instant::now());
        }
        if self.failure.is_some() {
            self.hang_up();
        }
    }
}

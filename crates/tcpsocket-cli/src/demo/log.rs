//! What happened on the stage, for the judge and for the printer.

use std::time::Duration;

use sha2::{Digest, Sha256};
use tcpsocket::{Error, MARK, ReadyState};
use tcpsocket_policy::{Decision, Entry as Told, Level};

/// One of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

impl Side {
    pub(super) const BOTH: [Side; 2] = [Side::Client, Side::Server];

    pub(super) fn peer(self) -> Side {
        match self {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Side::Client => "client",
            Side::Server => "server",
        }
    }
}

/// A call that was made or an event that came.
#[derive(Clone, Debug)]
pub(super) enum What {
    // Calls.
    Listen {
        port: u16,
    },
    Open {
        port: u16,
    },
    Send {
        len: usize,
        before: u64,
        answer: bool,
    },
    Suspend,
    Resume,
    Close,
    Refused {
        call: &'static str,
        error: Error,
    },
    // Events.
    Opened,
    Accepted {
        port: u16,
    },
    Data {
        len: usize,
    },
    Drain,
    Failed(Error),
    Closed {
        clean: bool,
    },
    /// An event unknown to this program.
    Unknown,
}

/// One line of the log: what happened, and how the socket looked right after it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) at: Duration,
    pub(super) side: Side,
    pub(super) what: What,
    /// State and buffered amount; a listening socket has neither.
    pub(super) after: Option<(ReadyState, u64)>,
}

/// The number and the digest of transferred bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) bytes: u64,
    digest: Sha256,
}

impl Tally {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.digest.update(bytes);
    }

    /// SHA-256, in hexadecimal.
    pub(super) fn digest(&self) -> String {
        let digest = self.digest.clone().finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A call of an app behind a guard, and what everybody was told.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) began: Duration,
    pub(super) ended: Duration,
    pub(super) level: Level,
    pub(super) call: Call,
    pub(super) port: u16,
    /// The policy's explanation, before the call.
    pub(super) explained: Decision,
    /// What the guard told its host during the call.
    pub(super) told: Vec<Told>,
    /// The app's answer.
    pub(super) answer: Result<(), Error>,
}

/// A call of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Listen,
    Open,
}

impl Call {
    pub(super) fn name(self) -> &'static str {
        match self {
            Call::Listen => "listen",
            Call::Open => "open",
        }
    }
}

/// Everything that happened.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    pub(super) entries: Vec<Entry>,
    /// What `send` accepted, by side.
    sent: [Tally; 2],
    /// What arrived in data events, by side.
    received: [Tally; 2],
    /// The number of bytes that the kernel took while the peer did not read.
    pub(super) stuck: Option<u64>,
    /// The size of the bulk in bytes, and its duration.
    pub(super) bulk: Option<(u64, Duration)>,
    /// What apps asked for behind their guards, in order.
    pub(super) attempts: Vec<Attempt>,
    /// Why an act could not be played to its end.
    pub(super) cut_short: Option<String>,
}

impl Log {
    pub(super) fn sent(&self, side: Side) -> &Tally {
        &self.sent[side as usize]
    }

    pub(super) fn received(&self, side: Side) -> &Tally {
        &self.received[side as usize]
    }

    pub(super) fn sent_mut(&mut self, side: Side) -> &mut Tally {
        &mut self.sent[side as usize]
    }

    pub(super) fn received_mut(&mut self, side: Side) -> &mut Tally {
        &mut self.received[side as usize]
    }

    /// The call of the app of this level.
    pub(super) fn attempt(&self, level: Level, call: Call) -> Option<&Attempt> {
        let mut attempts = self.attempts.iter();
        attempts.find(|it| it.level == level && it.call == call)
    }

    /// What happened on one side, in order.
    pub(super) fn of(&self, side: Side) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter().filter(move |it| it.side == side)
    }

    pub(super) fn any(&self, side: Side, wanted: impl Fn(&What) -> bool) -> bool {
        self.of(side).any(|it| wanted(&it.what))
    }

    /// Whether a `Drain` is owed to this side.
    pub(super) fn armed(&self, side: Side) -> bool {
        // Backwards: whatever came first, the last of the two kinds decides.
        let last = self
            .of(side)
            .rev()
            .find(|it| it.what.arms() || matches!(it.what, What::Drain));
        last.is_some_and(|it| it.what.arms())
    }
}

impl Attempt {
    /// Whether the guard told its host of the call, and admitted every step.
    pub(super) fn is_admitted(&self) -> bool {
        let mut decisions = self.decisions().peekable();
        decisions.peek().is_some() && decisions.all(Decision::is_allowed)
    }

    /// The decisions that the guard told its host.
    pub(super) fn decisions(&self) -> impl Iterator<Item = &Decision> {
        self.told.iter().filter_map(Told::decision)
    }

    /// The failure of an admitted call, as the host is told.
    pub(super) fn failure(&self) -> Option<&Error> {
        self.told
            .iter()
            .rev()
            .find_map(Told::failure)
            .map(|it| it.error())
    }
}

impl What {
    /// Whether this arms `Drain`: a send that brings the buffer to the mark (TX-4).
    pub(super) fn arms(&self) -> bool {
        matches!(self, What::Send { len, before, .. } if before + *len as u64 >= MARK)
    }

    pub(super) fn is_event(&self) -> bool {
        use What::*;
        match self {
            Listen { .. }
            | Open { .. }
            | Send { .. }
            | Suspend
            | Resume
            | Close
            | Refused { .. } => false,
            Opened
            | Accepted { .. }
            | Data { .. }
            | Drain
            | Failed(_)
            | Closed { .. }
            | Unknown => true,
        }
    }
}

impl What {
    /// The name of the method or of the event.
    pub(super) fn name(&self) -> &'static str {
        match self {
            What::Listen { .. } => "listen",
            What::Open { .. } => "open",
            What::Send { .. } => "send",
            What::Suspend => "suspend",
            What::Resume => "resume",
            What::Close => "close",
            What::Refused { call, .. } => call,
            What::Opened => "Open",
            What::Accepted { .. } => "Connect",
            What::Data { .. } => "Data",
            What::Drain => "Drain",
            What::Failed(_) => "Error",
            What::Closed { .. } => "Close",
            What::Unknown => "an unknown event",
        }
    }
}

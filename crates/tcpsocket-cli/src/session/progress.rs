//! How far a long transfer is, on standard error, if that is a terminal that shows nothing else.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// A transfer that is over by then shows nothing.
const FIRST: Duration = Duration::from_secs(2);
/// And then so often.
const EVERY: Duration = Duration::from_millis(500);

pub(super) struct Progress {
    begun: Instant,
    /// `None` if nobody is to see it.
    next: Option<Instant>,
    /// Whether what arrives, and what is sent, appear on the same terminal.
    beside: Beside,
    shown: bool,
    received: u64,
    sent: u64,
}

struct Beside {
    output: bool,
    input: bool,
}

impl Progress {
    /// Silent unless it is `wanted`, and standard error is a terminal.
    pub(super) fn new(wanted: bool) -> Progress {
        let begun = Instant::now();
        let wanted = wanted && io::stderr().is_terminal();
        Progress {
            begun,
            next: wanted.then_some(begun + FIRST),
            beside: Beside {
                output: io::stdout().is_terminal(),
                input: io::stdin().is_terminal(),
            },
            shown: false,
            received: 0,
            sent: 0,
        }
    }

    pub(super) fn received(&mut self, len: usize) {
        self.received += len as u64;
        if self.beside.output {
            self.clear();
            self.next = None;
        }
        self.show();
    }

    pub(super) fn sent(&mut self, len: usize) {
        self.sent += len as u64;
        self.show();
    }

    fn show(&mut self) {
        // A dialogue with somebody at the terminal is no transfer.
        if self.beside.input && self.beside.output {
            return;
        }
        let now = Instant::now();
        if self.next.is_none_or(|at| now < at) {
            return;
        }
        self.next = Some(now + EVERY);
        self.shown = true;
        let line = line(self.sent, self.received, now - self.begun);
        let mut to = io::stderr();
        // A terminal that is gone is no reason to end the transfer.
        let _ = write!(to, "\r\x1b[K{line}").and_then(|()| to.flush());
    }

    /// Makes room for something else.
    pub(super) fn clear(&mut self) {
        if self.shown {
            self.shown = false;
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }

    pub(super) fn finish(&self) {
        if self.shown {
            let line = line(self.sent, self.received, self.begun.elapsed());
            let _ = writeln!(io::stderr(), "\r\x1b[K{line}");
        }
    }
}

fn line(sent: u64, received: u64, time: Duration) -> String {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let rate = mib(sent + received) / time.as_secs_f64().max(0.001);
    format!(
        "sent {:.1} MiB, received {:.1} MiB in {} s, {rate:.1} MiB/s",
        mib(sent),
        mib(received),
        time.as_secs()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_both_directions_and_the_rate_of_both() {
        let told = line(3 << 20, 1 << 19, Duration::from_millis(3500));
        assert_eq!(told, "sent 3.0 MiB, received 0.5 MiB in 3 s, 1.0 MiB/s");
        assert!(line(1, 0, Duration::ZERO).ends_with("0.0 MiB/s"));
    }
}

//! The progress of a long transfer, on standard error, if that is a terminal and shows nothing else.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// A shorter transfer shows nothing.
const FIRST: Duration = Duration::from_secs(2);
/// The interval of updates after that.
const EVERY: Duration = Duration::from_millis(500);

/// The progress of one connection, or of one after another.
pub(super) struct Progress {
    wanted: bool,
    /// Received bytes appear on the same terminal.
    on_output: bool,
    now: Moved,
}

/// The bytes that one connection has moved so far.
#[derive(Default)]
struct Moved {
    /// The times of the first byte and of the next line.
    begun: Option<(Instant, Instant)>,
    shown: bool,
    received: u64,
    sent: u64,
}

impl Progress {
    /// Silent unless it is `wanted`, and standard error is a terminal. A dialogue with somebody at the terminal is no transfer.
    pub(super) fn new(wanted: bool) -> Progress {
        let on_output = io::stdout().is_terminal();
        let dialogue = on_output && io::stdin().is_terminal();
        Progress {
            wanted: wanted && io::stderr().is_terminal() && !dialogue,
            on_output,
            now: Moved::default(),
        }
    }

    pub(super) fn received(&mut self, len: usize) {
        self.now.received += len as u64;
        self.show();
    }

    pub(super) fn sent(&mut self, len: usize) {
        self.now.sent += len as u64;
        self.show();
    }

    fn show(&mut self) {
        if !self.wanted {
            return;
        }
        if self.on_output && self.now.received > 0 {
            return self.clear();
        }
        let time = Instant::now();
        let (begun, due) = *self.now.begun.get_or_insert((time, time + FIRST));
        if time < due {
            return;
        }
        self.now.begun = Some((begun, time + EVERY));
        self.now.shown = true;
        let mut to = io::stderr();
        // Losing the terminal does not end the transfer.
        let _ = write!(to, "\r\x1b[K{}", self.line(begun)).and_then(|()| to.flush());
    }

    fn line(&self, begun: Instant) -> String {
        line(self.now.sent, self.now.received, begun.elapsed())
    }

    /// Makes room for something else.
    fn clear(&mut self) {
        if self.now.shown {
            self.now.shown = false;
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }

    /// The end of a connection, and of its line.
    pub(super) fn end(&mut self) {
        if self.now.shown
            && let Some((begun, _)) = self.now.begun
        {
            let _ = writeln!(io::stderr(), "\r\x1b[K{}", self.line(begun));
        }
        self.now = Moved::default();
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

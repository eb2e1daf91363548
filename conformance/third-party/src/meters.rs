//! The meters of one socket, one from each gate.

use std::fmt;
use std::sync::{Arc, Weak};

use tcpsocket::{Control, Error, Gate, Meter};

use crate::foreign::{Foreign, contained, refusal};

/// Told of everything that moves. Whoever reports holds a clone, so the drop of the last one is the last report (ACC-4).
#[derive(Clone)]
pub(crate) struct Meters {
    all: Arc<Foreign<Arc<dyn Meter>>>,
    /// What one that panics ends.
    control: Weak<dyn Control>,
}

/// Bytes that have moved and are not reported yet.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    pub(crate) written: usize,
    pub(crate) read: usize,
    pub(crate) dropped: usize,
}

impl Meters {
    /// Asks every gate for its meter.
    pub(crate) fn watch(
        gates: &[Arc<dyn Gate>],
        control: Weak<dyn Control>,
    ) -> Result<Meters, Error> {
        let mut all = Foreign::default();
        for gate in gates {
            let meter = contained(|| gate.watch(control.clone()));
            all.push(meter.ok_or_else(|| refusal("gate"))?);
        }
        let all = Arc::new(all);
        Ok(Meters { all, control })
    }

    /// Asks for leave to queue; a panic is a no. Those that had agreed before are told that it came to nothing (ACC-5).
    pub(crate) fn queue(&self, bytes: usize) -> Result<(), Error> {
        for (at, meter) in self.all.iter().enumerate() {
            let answer = contained(|| meter.queue(bytes));
            if let Err(error) = answer.unwrap_or_else(|| Err(refusal("meter"))) {
                let dropped = Moved {
                    dropped: bytes,
                    ..Moved::default()
                };
                self.tell(&self.all[..at], &dropped);
                return Err(error);
            }
        }
        Ok(())
    }

    pub(crate) fn report(&self, it: &Moved) {
        if it.written + it.read + it.dropped > 0 {
            self.tell(&self.all, it);
        }
    }

    /// Tells them all. If one panics it counts no longer, and the socket ends.
    fn tell(&self, meters: &[Arc<dyn Meter>], it: &Moved) {
        let mut all_told = true;
        for meter in meters {
            let told = contained(|| meter.moved(it.written, it.read, it.dropped));
            all_told &= told.is_some();
        }
        if !all_told && let Some(control) = self.control.upgrade() {
            control.abort(refusal("meter"));
        }
    }
}

impl fmt::Debug for Meters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Meters").field(&self.all).finish()
    }
}

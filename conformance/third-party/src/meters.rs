//! The meters of one socket, one from each gate.

use std::sync::{Arc, Weak};

use tcpsocket::{Control, Error, Gate, Meter};

/// Told of everything that moves. Whoever reports holds a clone, so the drop of the last one is the last report (ACC-4).
#[derive(Clone, Debug)]
pub(crate) struct Meters(Arc<Vec<Arc<dyn Meter>>>);

/// Bytes that have moved and are not reported yet.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    pub(crate) written: usize,
    pub(crate) read: usize,
    pub(crate) dropped: usize,
}

impl Meters {
    /// Asks every gate for its meter.
    pub(crate) fn watch(gates: &[Arc<dyn Gate>], it: &Weak<dyn Control>) -> Meters {
        let meters = gates.iter().map(|gate| gate.watch(it.clone()));
        Meters(Arc::new(meters.collect()))
    }

    /// Asks for leave to queue. Those that had agreed before a refusal are told that it came to nothing (ACC-5).
    pub(crate) fn queue(&self, bytes: usize) -> Result<(), Error> {
        for (at, meter) in self.0.iter().enumerate() {
            if let Err(error) = meter.queue(bytes) {
                let agreed = &self.0[..at];
                agreed.iter().for_each(|it| it.moved(0, 0, bytes));
                return Err(error);
            }
        }
        Ok(())
    }

    pub(crate) fn report(&self, it: &Moved) {
        if it.written + it.read + it.dropped > 0 {
            for meter in self.0.iter() {
                meter.moved(it.written, it.read, it.dropped);
            }
        }
    }
}

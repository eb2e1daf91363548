//! An app's live sockets and servers.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Weak};

use tcpsocket::{Control, Error, Meter};

use crate::app::Standing;
use crate::decision::Judged;
use crate::failure::refusal;
use crate::grant::Moment;
use crate::guard::Guard;
use crate::{Ask, Level};

/// One live socket or server. It is also the meter, so it lives exactly as long as bytes may move.
pub(crate) struct Watch {
    id: u64,
    guard: Arc<Guard>,
    ask: Ask,
    began: Moment,
    control: Weak<dyn Control>,
    /// The meters of the host's gates.
    meters: Vec<Arc<dyn Meter>>,
    denied: AtomicBool,
    /// Whether the control was told.
    told: AtomicBool,
}

impl Watch {
    /// Watches a new socket or server of the request `ask`, begun at `began`, until nothing of it is left.
    pub(crate) fn begin(
        guard: &Arc<Guard>,
        ask: Ask,
        began: Moment,
        control: Weak<dyn Control>,
    ) -> Arc<Watch> {
        let meters = guard.gates().iter().map(|gate| gate.watch(control.clone()));
        let meters = meters.collect();
        let (watch, least) = guard.app().grant().keep(|id| Watch {
            id,
            guard: guard.clone(),
            ask,
            began,
            control,
            meters,
            denied: AtomicBool::new(false),
            told: AtomicBool::new(false),
        });
        // A revocation may have come after the decision.
        if let Some(judged) = watch.reconsider(least) {
            watch.record(judged);
        }
        watch
    }

    pub(crate) fn began(&self) -> Moment {
        self.began
    }

    /// Ends the socket or server if the policy denies it. The first denial is returned, for the audit.
    pub(crate) fn reconsider(&self, granted: Option<Level>) -> Option<(Standing, Judged)> {
        let (standing, judged) = self.guard.judge(granted, &self.ask);
        if !judged.is_denied() {
            return None;
        }
        let first = !self.denied.swap(true, SeqCst);
        self.end();
        first.then_some((standing, judged))
    }

    pub(crate) fn record(&self, (standing, judged): (Standing, Judged)) {
        self.guard.record(standing, self.ask.clone(), judged);
    }

    /// The control upgrades only once the socket is complete. If a revocation came earlier, the first byte to move catches
    /// up on it.
    fn end(&self) {
        let Some(control) = self.control.upgrade() else {
            return;
        };
        if !self.told.swap(true, SeqCst) {
            control.abort(self.refusal());
        }
    }

    fn refusal(&self) -> Error {
        self.guard.mark(&refusal())
    }
}

impl Meter for Watch {
    fn queue(&self, bytes: usize) -> Result<(), Error> {
        if self.denied.load(SeqCst) {
            self.end();
            return Err(self.refusal());
        }
        for (at, meter) in self.meters.iter().enumerate() {
            if let Err(refused) = meter.queue(bytes) {
                // ACC-5: the meters that agreed learn that the bytes were dropped.
                for agreed in self.meters[..at].iter().filter(|_| bytes > 0) {
                    agreed.moved(0, 0, bytes);
                }
                return Err(refused);
            }
        }
        Ok(())
    }

    fn moved(&self, written: usize, read: usize, dropped: usize) {
        if self.denied.load(SeqCst) {
            self.end();
        }
        for meter in &self.meters {
            meter.moved(written, read, dropped);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.guard.app().grant().forget(self.id);
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

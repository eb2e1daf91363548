//! What of an app is live.

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

/// One live socket or server. It is its meter, too, and so lives exactly as long as anything of it moves.
pub(crate) struct Watch {
    id: u64,
    guard: Arc<Guard>,
    ask: Ask,
    began: Moment,
    control: Weak<dyn Control>,
    /// Those of the host's gates.
    meters: Vec<Arc<dyn Meter>>,
    denied: AtomicBool,
    /// Whether the control was told.
    told: AtomicBool,
}

impl Watch {
    /// Keeps the control of something that has come to life for `ask`, which was asked for at `began`, until nothing of it is left.
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
        // The grant may have been revoked since this was decided.
        if let Some(judged) = watch.reconsider(least) {
            watch.record(judged);
        }
        watch
    }

    pub(crate) fn began(&self) -> Moment {
        self.began
    }

    /// Ends it if that is not allowed; the first time, that is to be recorded.
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

    /// A control can be reached once the socket is there entirely. If it was not when the grant went, the first byte that
    /// moves catches up on it.
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
                // ACC-5: those that had agreed are told.
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

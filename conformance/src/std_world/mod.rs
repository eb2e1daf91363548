//! The kit's own world: the loopback of this machine, with a thread for every peer.

mod link;
mod peer;

use std::any::Any;
use std::collections::HashSet;
use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use tcpsocket::Bytes;

use self::peer::StdPeer;
use crate::sync::lock;
use crate::{Peer, Script, World, tls};

/// Peers on `std::net`, and the clock of the machine.
///
/// It uses only `127.0.0.1`, `::1` and automatic ports.
#[derive(Debug)]
pub struct StdWorld {
    shared: Arc<Shared>,
    peers: Mutex<Vec<Arc<StdPeer>>>,
}

/// The shared state of the world, its peers and its clock.
#[derive(Debug)]
struct Shared {
    began: Instant,
    state: Mutex<State>,
    /// Notified at every change, for the threads; tasks have their wakers.
    changed: Condvar,
    alarms: Mutex<Vec<(Duration, Waker)>>,
    alarm_set: Condvar,
}

#[derive(Debug, Default)]
struct State {
    signals: HashSet<&'static str>,
    watchers: Vec<Waker>,
    /// Peers are to end.
    clearing: bool,
}

impl StdWorld {
    /// A world without peers.
    #[expect(clippy::new_ret_no_self, reason = "worlds are shared")]
    pub fn new() -> Arc<dyn World> {
        let shared = Arc::new(Shared {
            began: Instant::now(),
            state: Mutex::default(),
            changed: Condvar::new(),
            alarms: Mutex::default(),
            alarm_set: Condvar::new(),
        });
        let weak = Arc::downgrade(&shared);
        thread::spawn(move || keep_time(&weak));
        Arc::new(StdWorld {
            shared,
            peers: Mutex::default(),
        })
    }
}

impl World for StdWorld {
    fn peer(&self, script: Script) -> Result<Arc<dyn Peer>, String> {
        let peer = StdPeer::start(script, &self.shared)
            .map_err(|error| format!("the peer could not be started: {error}"))?;
        lock(&self.peers).push(peer.clone());
        Ok(peer)
    }

    fn signal(&self, name: &'static str) {
        self.shared.signal(name);
    }

    fn signalled(&self, name: &'static str) -> bool {
        lock(&self.shared.state).signals.contains(name)
    }

    fn watch(&self, waker: &Waker) {
        let mut state = lock(&self.shared.state);
        if !state.watchers.iter().any(|it| it.will_wake(waker)) {
            state.watchers.push(waker.clone());
        }
    }

    fn now(&self) -> Duration {
        self.shared.began.elapsed()
    }

    fn alarm(&self, at: Duration, waker: &Waker) {
        let mut alarms = lock(&self.shared.alarms);
        if !alarms
            .iter()
            .any(|(when, it)| *when == at && it.will_wake(waker))
        {
            alarms.push((at, waker.clone()));
            self.shared.alarm_set.notify_one();
        }
    }

    fn starve(&self) -> Option<Box<dyn Any + Send>> {
        // A process with a higher limit than this would take too long.
        const MOST: usize = 1 << 14;
        let mut taken = Vec::new();
        while let Ok(file) = File::open("/dev/null") {
            taken.push(file);
            if taken.len() == MOST {
                return None;
            }
        }
        Some(Box::new(taken))
    }

    fn roots(&self) -> Vec<Bytes> {
        tls::roots()
    }

    fn clear(&self) {
        lock(&self.shared.state).clearing = true;
        self.shared.notify();
        for peer in lock(&self.peers).drain(..) {
            peer.end();
        }
        lock(&self.shared.state).clearing = false;
    }
}

impl Shared {
    fn signal(&self, name: &'static str) {
        let first = lock(&self.state).signals.insert(name);
        // What waits for it the second time would not wait at all, and show nothing.
        assert!(first, "the signal {name:?} was raised before");
        self.notify();
    }

    fn notify(&self) {
        let watchers = std::mem::take(&mut lock(&self.state).watchers);
        self.changed.notify_all();
        watchers.into_iter().for_each(Waker::wake);
    }

    /// Waits for a signal; false if the world is being cleared.
    fn wait(&self, name: &'static str) -> bool {
        self.wait_while(|it| !it.signals.contains(name))
    }

    /// Waits until the world is cleared.
    fn wait_for_the_end(&self) {
        self.wait_while(|_| true);
    }

    fn wait_while(&self, mut waiting: impl FnMut(&State) -> bool) -> bool {
        let state = lock(&self.state);
        let state = self
            .changed
            .wait_while(state, |it| !it.clearing && waiting(it))
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        !state.clearing
    }

    fn clearing(&self) -> bool {
        lock(&self.state).clearing
    }
}

/// The thread behind [`World::alarm`]. It ends soon after the world is dropped.
fn keep_time(world: &Weak<Shared>) {
    while let Some(shared) = world.upgrade() {
        let now = shared.began.elapsed();
        let alarms = lock(&shared.alarms);
        let next = alarms.iter().map(|(at, _)| at.saturating_sub(now)).min();
        let pause = next
            .unwrap_or(Duration::MAX)
            .min(Duration::from_millis(100));
        let (mut alarms, _) = shared
            .alarm_set
            .wait_timeout(alarms, pause)
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let now = shared.began.elapsed();
        let due: Vec<_> = alarms.extract_if(.., |(at, _)| *at <= now).collect();
        drop(alarms);
        due.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cx::block_on;
    use crate::selftest;

    #[test]
    fn passes_the_selftest() {
        block_on(selftest(StdWorld::new())).unwrap_or_else(|it| panic!("{it:?}"));
    }
}

//! The open descriptors of this process.

use std::collections::BTreeMap;

/// Raises the limit of this process to what the cases need, if it may, since many systems begin with 1024; and no higher, so that a
/// case can take them all.
pub(crate) fn set_the_limit() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        const ENOUGH: u64 = 8192;
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = Some(limit.maximum.map_or(ENOUGH, |it| it.min(ENOUGH)));
        // Where that is not allowed, the cases that need it say so.
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

/// The targets of all descriptors and their counts, or `None` where the system has no such list.
///
/// The descriptors by which a reactor waits (epoll, events, timers) are not counted: it makes them once, and perhaps late. Sockets have a name each (`socket:[4711]`), so one that was closed and another that was opened do not cancel out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Descriptors(BTreeMap<String, usize>);

impl Descriptors {
    pub(crate) fn now() -> Option<Descriptors> {
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir("/proc/self/fd").ok()? {
            // The descriptor of the listing itself is gone by the time it is read.
            let Ok(target) = std::fs::read_link(entry.ok()?.path()) else {
                continue;
            };
            let target = target.to_string_lossy().into_owned();
            if !target.starts_with("/proc/") && !target.starts_with("anon_inode:") {
                *found.entry(target).or_insert(0) += 1;
            }
        }
        Some(Descriptors(found))
    }

    /// The additions since `before`.
    pub(crate) fn beyond(&self, before: &Descriptors) -> Vec<String> {
        let more = |target: &str, n: usize| n > before.0.get(target).copied().unwrap_or(0);
        let beyond = self.0.iter().filter(|(target, n)| more(target, **n));
        beyond.map(|(target, _)| target.clone()).collect()
    }
}

//! Output that was accepted and is not with the kernel yet.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};
use tcpsocket::Error;

/// A queue of chunks that are never copied and never empty.
///
/// A chunk may run its owner's code when it is dropped, so this drops none: what was written or given up waits at the front until
/// [`take_spent`](Queue::take_spent).
#[derive(Debug, Default)]
pub(crate) struct Queue {
    chunks: VecDeque<Bytes>,
    /// How many chunks at the front are spent.
    spent: usize,
    len: usize,
}

/// A queue that is empty keeps room for so many chunks, and a thread for so many that are spent: what one gathered write takes.
const KEPT: usize = 64;

thread_local! {
    /// The allocation of the last [`Spent`], for the next one.
    static SPARE: Cell<Vec<Bytes>> = const { Cell::new(Vec::new()) };
}

/// Payload that was written or given up, and errors that nobody will be told. Dropping either may run foreign code, so drop them
/// without a lock, and each by itself: the drop of one may panic.
#[derive(Debug, Default)]
pub struct Spent {
    first: Option<Bytes>,
    more: Vec<Bytes>,
    pub(crate) errors: Vec<Error>,
}

/// One thing that is [`Spent`].
#[derive(Debug)]
#[non_exhaustive]
pub enum SpentItem {
    /// A chunk of what `send` was given.
    Payload(Bytes),
    /// An error whose socket had ended before.
    Error(Error),
}

impl Spent {
    /// Whether there is nothing to drop.
    pub fn is_empty(&self) -> bool {
        self.first.is_none() && self.more.is_empty() && self.errors.is_empty()
    }
}

impl Iterator for Spent {
    type Item = SpentItem;

    fn next(&mut self) -> Option<SpentItem> {
        let payload = self.first.take().or_else(|| self.more.pop());
        match payload {
            Some(payload) => Some(SpentItem::Payload(payload)),
            None => self.errors.pop().map(SpentItem::Error),
        }
    }
}

impl Drop for Spent {
    fn drop(&mut self) {
        if (1..=KEPT).contains(&self.more.capacity()) {
            let mut spare = std::mem::take(&mut self.more);
            spare.clear();
            // An error: the thread is ending.
            let _ = SPARE.try_with(|kept| kept.set(spare));
        }
    }
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn push(&mut self, chunk: Bytes) {
        match chunk.is_empty() {
            true => self.give_up(chunk),
            false => {
                self.len += chunk.len();
                self.chunks.push_back(chunk);
            }
        }
    }

    /// Takes a chunk that will not be written.
    pub(crate) fn give_up(&mut self, chunk: Bytes) {
        self.chunks.insert(self.spent, chunk);
        self.spent += 1;
    }

    /// What is to be dropped, without a lock.
    pub(crate) fn take_spent(&mut self) -> Spent {
        match std::mem::take(&mut self.spent) {
            0 => Spent::default(),
            // The usual case allocates nothing.
            1 => {
                let mut spent = Spent::default();
                spent.first = self.chunks.pop_front();
                spent
            }
            count => {
                let mut spent = Spent::default();
                spent.more = SPARE.try_with(Cell::take).unwrap_or_default();
                spent.more.extend(self.chunks.drain(..count));
                if self.chunks.is_empty() && self.chunks.capacity() > KEPT {
                    self.chunks = VecDeque::new();
                }
                spent
            }
        }
    }

    /// Fills `out` with the front of the queue, `limit` bytes at most; returns how many slices and bytes that is.
    pub(crate) fn gather<'a>(&'a self, limit: usize, out: &mut [IoSlice<'a>]) -> (usize, usize) {
        let (mut slices, mut bytes) = (0, 0);
        for (slot, chunk) in out.iter_mut().zip(self.chunks.range(self.spent..)) {
            let room = limit - bytes;
            if room == 0 {
                break;
            }
            let part = &chunk[..chunk.len().min(room)];
            *slot = IoSlice::new(part);
            slices += 1;
            bytes += part.len();
        }
        (slices, bytes)
    }

    /// Removes `count` bytes from the front, or as many as there are.
    pub(crate) fn advance(&mut self, count: usize) {
        let mut count = count.min(self.len);
        self.len -= count;
        while count > 0 {
            let Some(front) = self.chunks.get_mut(self.spent) else {
                return;
            };
            let step = front.len().min(count);
            count -= step;
            match step == front.len() {
                // As it is: an empty remainder might be another allocation's.
                true => self.spent += 1,
                false => front.advance(step),
            }
        }
    }

    /// Gives everything up; returns how many bytes that was.
    pub(crate) fn clear(&mut self) -> usize {
        self.spent = self.chunks.len();
        std::mem::take(&mut self.len)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;

    #[test]
    fn gathers_within_the_limit_and_advances_across_chunks() {
        let mut queue = Queue::default();
        for chunk in ["abc", "", "defg", "h"] {
            queue.push(Bytes::from_static(chunk.as_bytes()));
        }
        assert_eq!(queue.len(), 8);

        let mut out = [IoSlice::new(&[]); 4];
        let (slices, bytes) = queue.gather(5, &mut out);
        assert_eq!((slices, bytes), (2, 5));
        assert_eq!((&*out[0], &*out[1]), (&b"abc"[..], &b"de"[..]));

        queue.advance(4);
        let mut out = [IoSlice::new(&[]); 1];
        assert_eq!(queue.gather(usize::MAX, &mut out), (1, 3));
        assert_eq!(&*out[0], b"efg");
        assert_eq!(queue.clear(), 4);
        assert!(queue.is_empty());
        assert_eq!(queue.gather(usize::MAX, &mut [IoSlice::new(&[])]), (0, 0));

        queue.push(Bytes::from_static(b"ij"));
        queue.advance(usize::MAX);
        assert_eq!((queue.len(), queue.clear()), (0, 0));
    }

    #[test]
    fn nothing_is_dropped_but_by_whoever_takes_what_is_spent() {
        struct Owner(Arc<AtomicUsize>);
        impl AsRef<[u8]> for Owner {
            fn as_ref(&self) -> &[u8] {
                b"abc"
            }
        }
        impl Drop for Owner {
            fn drop(&mut self) {
                self.0.fetch_add(1, SeqCst);
            }
        }
        let drops = Arc::new(AtomicUsize::new(0));
        let chunk = || Bytes::from_owner(Owner(drops.clone()));
        let mut queue = Queue::default();
        for _ in 0..5 {
            queue.push(chunk());
        }
        queue.push(Bytes::new());
        queue.advance(4);
        queue.give_up(chunk());
        assert_eq!(queue.len(), 11);
        assert_eq!(drops.load(SeqCst), 0);

        // One written and one given up; the live ones keep their order.
        drop(queue.take_spent());
        assert_eq!(drops.load(SeqCst), 2);
        let mut out = [IoSlice::new(&[]); 8];
        assert_eq!(queue.gather(usize::MAX, &mut out), (4, 11));
        assert_eq!((&*out[0], &*out[1]), (&b"bc"[..], &b"abc"[..]));

        queue.advance(2);
        let spent = queue.take_spent();
        assert!(!spent.is_empty() && drops.load(SeqCst) == 2);
        drop(spent);
        assert_eq!(drops.load(SeqCst), 3);
        assert_eq!(queue.clear(), 9);
        assert_eq!(drops.load(SeqCst), 3);
        drop(queue.take_spent());
        assert_eq!(drops.load(SeqCst), 6);
        assert!(queue.take_spent().is_empty());
    }
}

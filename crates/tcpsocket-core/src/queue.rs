//! Output that was accepted and is not with the kernel yet.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// A queue of chunks that are never copied and never empty.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    chunks: VecDeque<Bytes>,
    len: usize,
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.len += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    /// Fills `out` with the front of the queue, `limit` bytes at most; returns how many slices and bytes that is.
    pub(crate) fn gather<'a>(&'a self, limit: usize, out: &mut [IoSlice<'a>]) -> (usize, usize) {
        let (mut slices, mut bytes) = (0, 0);
        for (slot, chunk) in out.iter_mut().zip(&self.chunks) {
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

    /// Removes `count` bytes from the front.
    pub(crate) fn advance(&mut self, mut count: usize) {
        debug_assert!(count <= self.len, "more was written than was queued");
        self.len -= count.min(self.len);
        while count > 0 {
            let Some(front) = self.chunks.front_mut() else {
                return;
            };
            let step = front.len().min(count);
            front.advance(step);
            count -= step;
            if front.is_empty() {
                self.chunks.pop_front();
            }
        }
    }

    /// Drops everything; returns how many bytes that was.
    pub(crate) fn clear(&mut self) -> usize {
        self.chunks = VecDeque::new();
        std::mem::take(&mut self.len)
    }
}

#[cfg(test)]
mod tests {
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
    }
}

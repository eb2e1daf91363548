//! The buffer that all reads of a thread share, so that an idle socket owns none.

use std::cell::RefCell;
use std::io;

use bytes::{Bytes, BytesMut};

/// The largest read, and so the largest data event: 256 KiB (RX-5).
const BLOCK: usize = 256 * 1024;
/// Below this much room the block is replaced.
const LEAST: usize = 64 * 1024;
/// Up to this size a read is copied out; a larger one takes its part of the block along.
const SMALL: usize = 16 * 1024;

thread_local! {
    static BLOCK_OF_THREAD: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// Reads once. The flag tells whether the read filled the room it had, so that there may be more.
pub(crate) fn read(recv: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<(Bytes, bool)> {
    with_block(|block| {
        let room = block.len();
        let count = recv(block)?;
        let bytes = match count {
            ..=SMALL => Bytes::copy_from_slice(&block[..count]),
            _ => block.split_to(count).freeze(),
        };
        Ok((bytes, count == room))
    })
}

/// Reads once, and shows what came to `take`: how much it was, and the same flag.
pub(crate) fn read_with(
    recv: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    take: impl FnOnce(&[u8]),
) -> io::Result<(usize, bool)> {
    with_block(|block| {
        let room = block.len();
        let count = recv(block)?;
        take(&block[..count]);
        Ok((count, count == room))
    })
}

fn with_block<T>(body: impl FnOnce(&mut BytesMut) -> T) -> T {
    let mut body = Some(body);
    let shared = BLOCK_OF_THREAD.try_with(|cell| {
        let mut block = cell.try_borrow_mut().ok()?;
        if block.len() < LEAST {
            *block = BytesMut::zeroed(BLOCK);
        }
        body.take().map(|body| body(&mut block))
    });
    match (shared, body) {
        (Ok(Some(done)), _) => done,
        // The thread is ending and its block is gone: a socket is being dropped by a thread-local's destructor.
        (_, Some(body)) => body(&mut BytesMut::zeroed(LEAST)),
        (_, None) => unreachable!("a body that was taken has returned a value"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_reads_are_copied_and_large_ones_take_the_block_along() {
        let fill = |byte: u8, count: usize| {
            move |block: &mut [u8]| {
                block[..count].fill(byte);
                Ok(count)
            }
        };
        let (small, more) = read(fill(1, 100)).unwrap();
        assert!(!more);
        let (large, _) = read(fill(2, SMALL + 1)).unwrap();
        let (after, _) = read(fill(3, SMALL + 1)).unwrap();
        assert!(small.iter().all(|b| *b == 1) && small.len() == 100);
        assert!(large.iter().all(|b| *b == 2) && large.len() == SMALL + 1);
        assert!(after.iter().all(|b| *b == 3));
    }

    #[test]
    fn a_read_that_fills_its_room_says_so() {
        let (bytes, more) = read(|block| Ok(block.len())).unwrap();
        assert!(more && bytes.len() >= LEAST);
        let error = read(|_| Err(io::ErrorKind::WouldBlock.into())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}

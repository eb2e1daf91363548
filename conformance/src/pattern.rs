//! Bytes that reveal loss, repetition and reordering.

use tcpsocket::Bytes;

/// `len` bytes that depend only on the seed and the position.
pub(crate) fn pattern(seed: u64, len: usize) -> Bytes {
    let mut bytes = Vec::with_capacity(len + 8);
    let mut at = 0u64;
    while bytes.len() < len {
        bytes.extend_from_slice(&mix(seed ^ at).to_le_bytes());
        at += 1;
    }
    bytes.truncate(len);
    Bytes::from(bytes)
}

/// The finalizer of SplitMix64: a bijection that spreads neighbours.
pub(crate) fn mix(it: u64) -> u64 {
    let it = it.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    it ^ (it >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_of_the_pattern_is_the_shorter_pattern() {
        let long = pattern(7, 1000);
        assert_eq!(pattern(7, 13), long[..13]);
        assert_ne!(pattern(8, 13), long[..13]);
        assert_eq!(pattern(7, 0).len(), 0);
    }
}

//! Splits the stream's arbitrary chunks into lines and parts.

use tcpsocket::{Bytes, Error};

use crate::broken;

/// Received bytes that were not yet handed out.
///
/// It never waits: on `None`, [`push`](Received::push) the next chunk, and ask again. Lines are bounded; everything else is
/// handed out unchanged, without a copy. So it holds at most one line and one chunk.
///
/// ```
/// use clients::Received;
///
/// let mut received = Received::new();
/// received.push("+O".into());
/// assert_eq!(received.line(80)?, None);
/// received.push("K\r\nbytes".into());
/// assert_eq!(received.line(80)?.as_deref(), Some("+OK"));
/// assert_eq!(received.part(3).as_deref(), Some(&b"byt"[..]));
/// # Ok::<(), tcpsocket::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Received {
    /// The beginning of a line whose end has not arrived.
    begun: Vec<u8>,
    rest: Bytes,
}

impl Received {
    /// Nothing yet.
    pub fn new() -> Received {
        Received::default()
    }

    /// Adds a received chunk.
    pub fn push(&mut self, data: Bytes) {
        self.rest = match self.rest.is_empty() {
            true => data,
            // Only if the caller pushes without need.
            false => [&self.rest[..], &data[..]].concat().into(),
        };
    }

    /// Whether everything was handed out.
    pub fn is_empty(&self) -> bool {
        self.begun.is_empty() && self.rest.is_empty()
    }

    /// The next line, without its CR LF: one character for each byte. `None` if its end has not arrived.
    ///
    /// # Errors
    ///
    /// `NetworkError` for a line of more than `longest` bytes, and for one that ends in a bare LF: attackers exploit parsers that
    /// disagree about the ends of lines.
    pub fn line(&mut self, longest: usize) -> Result<Option<String>, Error> {
        let end = self.rest.iter().position(|it| *it == b'\n');
        let begun = self.rest.split_to(end.map_or(self.rest.len(), |it| it + 1));
        if self.begun.len() + begun.len() > longest.saturating_add(2) {
            return Err(broken(format!(
                "the server sent a line of more than {longest} bytes"
            )));
        }
        self.begun.extend_from_slice(&begun);
        if end.is_none() {
            return Ok(None);
        }
        let line = std::mem::take(&mut self.begun);
        match line.strip_suffix(b"\r\n") {
            Some(line) => Ok(Some(line.iter().copied().map(char::from).collect())),
            None => Err(broken("the server ended a line without CR LF")),
        }
    }

    /// The next part of data without lines, of `most` bytes at most. `None` if there is none yet.
    pub fn part(&mut self, most: u64) -> Option<Bytes> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let part = self.rest.split_to(self.rest.len().min(most));
        (!part.is_empty()).then_some(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcpsocket::ErrorName;

    #[test]
    fn lines_and_parts_are_the_same_however_they_are_cut() {
        let text = b"one\r\n\r\nbinary\nf\xfcr\r\n";
        for size in 1..=text.len() {
            let mut received = Received::new();
            let mut chunks = text.chunks(size).map(Bytes::copy_from_slice);
            let mut line = |received: &mut Received| loop {
                match received.line(3).unwrap() {
                    Some(line) => return line,
                    None => received.push(chunks.next().unwrap()),
                }
            };
            assert_eq!(line(&mut received), "one");
            assert_eq!(line(&mut received), "");
            let mut body = Vec::new();
            while body.len() < 7 {
                match received.part(7 - body.len() as u64) {
                    Some(part) => body.extend_from_slice(&part),
                    None => received.push(chunks.next().unwrap()),
                }
            }
            assert_eq!(body, b"binary\n");
            let mut line = |received: &mut Received| loop {
                match received.line(3).unwrap() {
                    Some(line) => return line,
                    None => received.push(chunks.next().unwrap()),
                }
            };
            assert_eq!(line(&mut received), "f\u{fc}r", "in chunks of {size}");
            assert!(received.is_empty());
        }
    }

    #[test]
    fn a_line_is_bounded_before_its_end_is_seen() {
        for (text, fine) in [
            ("1234\r\n", true),
            ("12345\r\n", false),
            ("1234567", false),
            ("1234\n", false),
            ("\n", false),
        ] {
            let mut received = Received::new();
            received.push(text.into());
            match received.line(4) {
                Ok(line) => assert!(fine && line.is_some(), "{text:?}"),
                Err(error) => assert!(!fine && error.name() == ErrorName::Network, "{text:?}"),
            }
        }
    }
}

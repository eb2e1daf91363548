//! Where a body ends (RFC 9112, 6.3).

use tcpsocket::{Bytes, Error, ErrorName};

use crate::http::{Head, LINES, LONGEST};
use crate::{Received, broken, quoted};

/// What is left of a body.
#[derive(Debug)]
pub(super) enum Body {
    Ended,
    /// So many bytes.
    Bytes(u64),
    /// All that comes until the server closes.
    UntilClose,
    /// The line with the size of a chunk.
    Size,
    /// So many bytes of a chunk, and the end of its line.
    Chunk(u64),
    /// At most so many lines behind the last chunk.
    Trailer(usize),
    /// There was an error, or the head was not read to its end.
    Broken,
}

/// What a body comes to.
#[derive(Debug)]
pub(super) enum Next {
    Part(Bytes),
    End,
    /// More must arrive first.
    More,
}

impl Body {
    /// The body behind this head.
    pub(super) fn of(head: &Head) -> Result<Body, Error> {
        let all = |name: &str| {
            head.headers
                .iter()
                .filter(move |(it, _)| it == name)
                .count()
        };
        match (
            head.header("transfer-encoding"),
            head.header("content-length"),
        ) {
            _ if matches!(head.status, 204 | 304) => Ok(Body::Ended),
            // Two that disagree about the end of a message can be played against each other.
            (Some(_), Some(_)) => Err(broken("the server says twice how long the body is")),
            (Some(coding), None) => {
                match all("transfer-encoding") == 1 && coding.eq_ignore_ascii_case("chunked") {
                    true => Ok(Body::Size),
                    false => Err(broken(format!("{} was not asked for", quoted(coding)))),
                }
            }
            (None, Some(len)) => {
                let digits = !len.is_empty() && len.bytes().all(|it| it.is_ascii_digit());
                let parsed = len
                    .parse()
                    .ok()
                    .filter(|_| digits && all("content-length") == 1);
                let nonsense = || broken(format!("{} is no length of a body", quoted(len)));
                parsed.map(Body::Bytes).ok_or_else(nonsense)
            }
            (None, None) => Ok(Body::UntilClose),
        }
    }

    /// The next part.
    pub(super) fn next(&mut self, received: &mut Received) -> Result<Next, Error> {
        loop {
            match self {
                Body::Ended | Body::Bytes(0) => {
                    *self = Body::Ended;
                    return Ok(Next::End);
                }
                Body::Broken => {
                    let message = "the connection is broken: there was an error before";
                    return Err(Error::new(ErrorName::InvalidState, message));
                }
                Body::UntilClose => {
                    return Ok(received.part(u64::MAX).map_or(Next::More, Next::Part));
                }
                Body::Size => match received.line(LONGEST)? {
                    Some(line) => {
                        *self = match size(&line)? {
                            0 => Body::Trailer(LINES),
                            len => Body::Chunk(len),
                        }
                    }
                    None => return Ok(Next::More),
                },
                Body::Chunk(0) => match received.line(2)? {
                    Some(rest) if rest.is_empty() => *self = Body::Size,
                    Some(_) => return Err(broken("a chunk is longer than the server said")),
                    None => return Ok(Next::More),
                },
                Body::Trailer(lines) => match received.line(LONGEST)? {
                    Some(line) if line.is_empty() => *self = Body::Ended,
                    Some(_) if *lines == 0 => {
                        return Err(broken(format!(
                            "there are over {LINES} lines behind the body"
                        )));
                    }
                    Some(_) => *lines -= 1,
                    None => return Ok(Next::More),
                },
                Body::Bytes(left) | Body::Chunk(left) => {
                    let Some(part) = received.part(*left) else {
                        return Ok(Next::More);
                    };
                    *left -= part.len() as u64;
                    return Ok(Next::Part(part));
                }
            }
        }
    }
}

/// The size of a chunk. What else the line says is not for us.
fn size(line: &str) -> Result<u64, Error> {
    let digits = line.split(';').next().unwrap_or("").trim_end();
    let hex = (1..=16).contains(&digits.len()) && digits.bytes().all(|it| it.is_ascii_hexdigit());
    let len = u64::from_str_radix(digits, 16).ok().filter(|_| hex);
    len.ok_or_else(|| broken(format!("{} is no size of a chunk", quoted(line))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mut body: Body, text: &[u8], size: usize) -> Result<(Vec<u8>, bool), Error> {
        let (mut received, mut all) = (Received::new(), Vec::new());
        let mut chunks = text.chunks(size).map(Bytes::copy_from_slice);
        loop {
            match body.next(&mut received)? {
                Next::Part(part) => all.extend_from_slice(&part),
                Next::End => return Ok((all, chunks.next().is_none() && received.is_empty())),
                Next::More => match chunks.next() {
                    Some(chunk) => received.push(chunk),
                    None => return Ok((all, false)),
                },
            }
        }
    }

    #[test]
    fn chunks_are_joined_however_they_are_cut() {
        let text = b"4;a=b\r\nab\r\n\r\n00A\r\n0123456789\r\n0\r\nx: y\r\n\r\n";
        for size in 1..=text.len() {
            let (all, ended) = read(Body::Size, text, size).unwrap();
            assert_eq!(all, b"ab\r\n0123456789", "in chunks of {size}");
            assert!(ended);
        }
    }

    #[test]
    fn chunks_that_are_none_are_refused() {
        let many = format!("0\r\n{}", "x: y\r\n".repeat(LINES + 1));
        for bad in [
            "\r\n",
            "-1\r\n",
            "+1\r\n",
            "x\r\n",
            "0x1\r\n",
            "11111111111111111\r\n",
            "1\r\nab\r\n",
            "1\n",
            &many,
        ] {
            assert!(read(Body::Size, bad.as_bytes(), 99).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_body_has_one_end() {
        let of = |headers: &[(&str, &str)]| {
            let owned = headers
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()));
            Body::of(&Head {
                status: 200,
                headers: owned.collect(),
            })
        };
        assert!(matches!(of(&[("content-length", "5")]), Ok(Body::Bytes(5))));
        assert!(matches!(
            of(&[("transfer-encoding", "Chunked")]),
            Ok(Body::Size)
        ));
        assert!(matches!(of(&[]), Ok(Body::UntilClose)));
        let chunked = ("transfer-encoding", "chunked");
        for bad in [
            &[("content-length", "5"), chunked][..],
            &[("content-length", "5"), ("content-length", "5")],
            &[("content-length", "+5")],
            &[("content-length", "5, 5")],
            &[("content-length", "")],
            &[("content-length", "18446744073709551616")],
            &[("transfer-encoding", "gzip, chunked")],
            &[chunked, chunked],
        ] {
            assert!(of(bad).is_err(), "{bad:?}");
        }
    }
}

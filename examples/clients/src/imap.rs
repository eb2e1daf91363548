//! IMAP (RFC 9051): letters of any size in both directions.
//!
//! The idea to take from here: a literal may be larger than the memory, so it is never collected. On the way out it is cut
//! into pieces, and each waits until the socket wants more; on the way in it is handed over as it arrives.

use std::sync::Arc;

use tcpsocket::{Bytes, Error, SocketProvider, StartTls, TcpSocket};

use crate::{Conversation, Protection, broken, quoted, unsendable};

/// The longest line, as RFC 7162, 4 recommends it, and the longest response without its literals.
const LONGEST: usize = 8192;

/// A literal leaves in pieces of this size.
const PIECE: usize = 16 << 10;

/// A connection to an IMAP server.
///
/// None of its methods is cancel-safe: the rest of an answer would look like the next one.
#[derive(Debug)]
pub struct Imap {
    with: Conversation,
    commands: u32,
}

impl Imap {
    /// Connects, with this protection.
    ///
    /// # Errors
    ///
    /// Those of [`Conversation::connect`]; `NetworkError` if the server refuses the session.
    pub async fn connect(
        net: &dyn SocketProvider,
        host: &str,
        port: u16,
        protection: Protection,
    ) -> Result<Imap, Error> {
        let with = Conversation::connect(net, host, port, protection, StartTls::Imap).await?;
        match protection {
            Protection::Tls => Imap::greeted(with).await,
            Protection::StartTls => Ok(Imap { with, commands: 0 }),
        }
    }

    /// Uses an open socket, from which nothing was read. Its protection is up to the caller.
    ///
    /// # Errors
    ///
    /// `NetworkError` if the server refuses the session.
    pub async fn over(socket: Arc<dyn TcpSocket>) -> Result<Imap, Error> {
        Imap::greeted(Conversation::over(socket)).await
    }

    async fn greeted(mut with: Conversation) -> Result<Imap, Error> {
        let greeting = with.line(LONGEST).await?;
        if !greeting.starts_with("* OK") {
            return Err(broken(format!(
                "the server greets with {}",
                quoted(&greeting)
            )));
        }
        Ok(Imap { with, commands: 0 })
    }

    /// Logs in with a password.
    ///
    /// # Errors
    ///
    /// `NetworkError` if the server refuses, `TypeError` for text that does not fit a quoted string.
    pub async fn login(&mut self, user: &str, password: &str) -> Result<(), Error> {
        let command = format!("LOGIN {} {}", string(user)?, string(password)?);
        self.run(&command, &mut |_| {}).await
    }

    /// Opens a mailbox, and returns its number of letters.
    ///
    /// # Errors
    ///
    /// As [`login`](Imap::login).
    pub async fn select(&mut self, mailbox: &str) -> Result<u32, Error> {
        let command = format!("SELECT {}", string(mailbox)?);
        let mut count = None;
        let mut told = |response: &str| {
            let number = response
                .strip_prefix("* ")
                .and_then(|it| it.strip_suffix(" EXISTS"));
            count = number.and_then(|it| it.parse().ok()).or(count);
        };
        self.run(&command, &mut told).await?;
        count.ok_or_else(|| broken("the server does not say how many letters there are"))
    }

    /// Puts a letter into a mailbox.
    ///
    /// # Errors
    ///
    /// As [`login`](Imap::login).
    pub async fn append(&mut self, mailbox: &str, letter: Bytes) -> Result<(), Error> {
        let command = format!("APPEND {} {{{}}}", string(mailbox)?, letter.len());
        let tag = self.command(&command).await?;
        // The server says when it is ready for the literal, or that it does not want it.
        loop {
            let response = self.response(0, &mut |_, _| {}).await?;
            if response.starts_with('+') {
                break;
            }
            if let Some(outcome) = outcome(&tag, &response) {
                return outcome.and(Err(broken("the server took a letter that it has not seen")));
            }
        }
        for at in (0..letter.len()).step_by(PIECE) {
            let piece = letter.slice(at..letter.len().min(at + PIECE));
            self.with.send(piece).await?;
        }
        self.with.send("\r\n").await?;
        self.answer(&tag, &mut |_| {}, 0, &mut |_, _| {}).await
    }

    /// Fetches a letter of the selected mailbox, by its number: `take` gets it in parts, as they arrive. Returns its length.
    ///
    /// # Errors
    ///
    /// `NetworkError` if there is no such letter, or it is longer than `most`; nothing of it is handed over then.
    pub async fn fetch(
        &mut self,
        number: u32,
        most: u64,
        mut take: impl FnMut(Bytes) + Send,
    ) -> Result<u64, Error> {
        let begins = format!("* {number} FETCH (");
        let mut len = None;
        let mut part = |before: &str, part: Bytes| {
            // A server may tell of other letters at any time.
            if before.starts_with(&begins) && before.contains("BODY[] {") {
                len = Some(len.unwrap_or(0) + part.len() as u64);
                take(part);
            }
        };
        let tag = self.command(&format!("FETCH {number} BODY.PEEK[]")).await?;
        self.answer(&tag, &mut |_| {}, most, &mut part).await?;
        len.ok_or_else(|| broken(format!("the server sends no letter {number}")))
    }

    /// Sends `LOGOUT`, and closes.
    ///
    /// # Errors
    ///
    /// The error that ended the socket, if there was one.
    pub async fn logout(mut self) -> Result<(), Error> {
        self.run("LOGOUT", &mut |_| {}).await?;
        self.with.close().await
    }

    /// Sends a command, and returns its tag.
    async fn command(&mut self, text: &str) -> Result<String, Error> {
        self.commands += 1;
        let tag = format!("A{}", self.commands);
        self.with.send(format!("{tag} {text}\r\n")).await?;
        Ok(tag)
    }

    /// Sends a command whose answer has no literals, and waits for its end.
    async fn run(&mut self, text: &str, told: &mut Told<'_>) -> Result<(), Error> {
        let tag = self.command(text).await?;
        self.answer(&tag, told, 0, &mut |_, _| {}).await
    }

    /// Reads responses, to the end of the command with this tag.
    async fn answer(
        &mut self,
        tag: &str,
        told: &mut Told<'_>,
        most: u64,
        part: &mut Part<'_>,
    ) -> Result<(), Error> {
        loop {
            let response = self.response(most, part).await?;
            match outcome(tag, &response) {
                Some(outcome) => return outcome,
                None => told(&response),
            }
        }
    }

    /// Reads a response: its text, with `{5}` where a literal of five bytes was. A literal of more than `most` bytes is refused, if it is
    /// longer than a line could be.
    async fn response(&mut self, most: u64, part: &mut Part<'_>) -> Result<String, Error> {
        let mut text = self.with.line(LONGEST).await?;
        let mut len = match is_status(&text) {
            true => None,
            false => literal(&text),
        };
        while let Some(more) = len {
            if more > most.max(LONGEST as u64) {
                return Err(broken(format!(
                    "the server sends a literal of {more} bytes"
                )));
            }
            part(&text, Bytes::new()); // a literal may be empty
            self.with.exactly(more, &mut |it| part(&text, it)).await?;
            let line = self.with.line(LONGEST).await?;
            len = literal(&line);
            text += &line;
            if text.len() > 2 * LONGEST {
                return Err(broken("the server sends a response without an end"));
            }
        }
        Ok(text)
    }
}

/// Gets each response that is not the end of the command.
type Told<'a> = dyn FnMut(&str) + Send + 'a;

/// Gets the parts of literals, and the text of the response before each.
type Part<'a> = dyn FnMut(&str, Bytes) + Send + 'a;

/// How the command with this tag ended, if this is its end.
fn outcome(tag: &str, response: &str) -> Option<Result<(), Error>> {
    let said = response.strip_prefix(tag)?.strip_prefix(' ')?;
    Some(match said.split(' ').next() {
        Some(word) if word.eq_ignore_ascii_case("OK") => Ok(()),
        _ => Err(broken(format!("the server refuses: {}", quoted(said)))),
    })
}

/// Whether a response ends in free text, which may look like a literal.
fn is_status(text: &str) -> bool {
    let word = text.split(' ').nth(1).unwrap_or("");
    !text.starts_with("* ") || ["OK", "NO", "BAD", "BYE", "PREAUTH"].contains(&word)
}

/// The length of the literal that follows this line, if one does.
fn literal(line: &str) -> Option<u64> {
    let (_, len) = line.strip_suffix('}')?.rsplit_once('{')?;
    let digits = !len.is_empty() && len.bytes().all(|it| it.is_ascii_digit());
    // More digits than fit are a number as well, and too large a one.
    digits.then(|| len.parse().unwrap_or(u64::MAX))
}

/// A quoted string.
fn string(text: &str) -> Result<String, Error> {
    if text.len() > 1024 || text.bytes().any(|it| !(b' '..=b'~').contains(&it)) {
        let message = "names and passwords are printable ASCII here, of at most 1024 characters";
        return Err(unsendable(message));
    }
    Ok(format!(
        "\"{}\"",
        text.replace('\\', "\\\\").replace('"', "\\\"")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_told_from_text() {
        for (line, len) in [
            ("* 1 FETCH (BODY[] {12}", Some(12)),
            ("* 1 FETCH (BODY[] {}", None),
            ("* 1 FETCH (BODY[] {-1}", None),
            ("* LIST () \"/\" \"{3}\"", None),
            ("* 1 FETCH (BODY[] {99999999999999999999}", Some(u64::MAX)),
        ] {
            assert_eq!(literal(line), len, "{line}");
        }
        assert!(is_status("* OK bring {5}") && is_status("A1 NO {5}") && is_status("+ {5}"));
        assert!(!is_status("* 1 FETCH (BODY[] {12}"));
    }

    #[test]
    fn a_string_cannot_end_a_command() {
        assert_eq!(string("a\\b\"c").unwrap(), r#""a\\b\"c""#);
        for bad in ["a\r\nb", "\n", "\0", "\u{e9}", &"x".repeat(1025)] {
            assert_eq!(string(bad).unwrap_err().name(), tcpsocket::ErrorName::Type);
        }
    }
}

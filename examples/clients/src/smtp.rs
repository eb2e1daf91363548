//! SMTP (RFC 5321): a letter in many small pieces.
//!
//! The idea to take from here: send pieces as they come, however small. `send` never blocks; when it answers `false`, wait for
//! `Drain`, and not before. You need no buffer of your own to turn small writes into large ones.

use std::sync::Arc;

use tcpsocket::{Error, SocketProvider, StartTls, TcpSocket};

use crate::{Conversation, Protection, broken, quoted, unsendable};

/// The longest line of a reply, and the most lines of one.
const LONGEST: usize = 510;
const LINES: usize = 128;

/// The longest line of a letter, its end not included (RFC 5321, 4.5.3.1.6).
const LONGEST_TEXT: usize = 998;

/// A connection to an SMTP server.
///
/// None of its methods is cancel-safe: the rest of a reply would look like the next one, and a letter would be cut short.
#[derive(Debug)]
pub struct Smtp {
    with: Conversation,
}

impl Smtp {
    /// Connects, with this protection, and sends `EHLO`.
    ///
    /// # Errors
    ///
    /// Those of [`Conversation::connect`]; `NetworkError` if the server refuses the session.
    pub async fn connect(
        net: &dyn SocketProvider,
        host: &str,
        port: u16,
        protection: Protection,
    ) -> Result<Smtp, Error> {
        let with = Conversation::connect(net, host, port, protection, StartTls::Smtp).await?;
        match protection {
            Protection::Tls => Smtp::greeted(with).await,
            // Both sides forget the dialogue in the clear.
            Protection::StartTls => Smtp::introduced(with).await,
        }
    }

    /// Uses an open socket, from which nothing was read. Its protection is up to the caller.
    ///
    /// # Errors
    ///
    /// `NetworkError` if the server refuses the session.
    pub async fn over(socket: Arc<dyn TcpSocket>) -> Result<Smtp, Error> {
        Smtp::greeted(Conversation::over(socket)).await
    }

    async fn greeted(with: Conversation) -> Result<Smtp, Error> {
        let mut smtp = Smtp { with };
        smtp.reply("220").await?;
        Smtp::introduced(smtp.with).await
    }

    async fn introduced(with: Conversation) -> Result<Smtp, Error> {
        let mut smtp = Smtp { with };
        smtp.command("EHLO [127.0.0.1]", "250").await?;
        Ok(smtp)
    }

    /// Delivers a letter in pieces of any size, each with a `send` of its own. Returns the server's answer, which often names
    /// the letter.
    ///
    /// # Errors
    ///
    /// `NetworkError` if the server refuses the sender, a recipient or the letter, and those of the socket. `TypeError` for an invalid
    /// address, and for a letter whose lines do not end with CR LF or are longer than 998 bytes: then the connection is reset, the only
    /// way to withdraw the part already sent.
    pub async fn deliver<P: AsRef<[u8]>>(
        &mut self,
        from: &str,
        to: &[&str],
        letter: impl IntoIterator<Item = P>,
    ) -> Result<String, Error> {
        self.command(&format!("MAIL FROM:<{}>", address(from)?), "250")
            .await?;
        for to in to {
            self.command(&format!("RCPT TO:<{}>", address(to)?), "25")
                .await?;
        }
        self.command("DATA", "354").await?;
        let mut stuffing = Stuffing::default();
        for piece in letter {
            let stuffed = stuffing.stuff(piece.as_ref());
            let stuffed = stuffed.inspect_err(|error| self.with.abort(error.clone()))?;
            self.with.send(stuffed).await?;
        }
        let end = stuffing.end();
        let end = end.inspect_err(|error| self.with.abort(error.clone()))?;
        self.command(end, "250").await
    }

    /// Sends `QUIT`, and closes.
    ///
    /// # Errors
    ///
    /// The error that ended the socket, if there was one.
    pub async fn quit(mut self) -> Result<(), Error> {
        self.command("QUIT", "221").await?;
        self.with.close().await
    }

    /// Sends a line, and expects a reply with this code. Returns its last line, without the code.
    async fn command(&mut self, line: &str, code: &str) -> Result<String, Error> {
        self.with.send(format!("{line}\r\n")).await?;
        self.reply(code).await
    }

    async fn reply(&mut self, code: &str) -> Result<String, Error> {
        for _ in 0..LINES {
            let line = self.with.line(LONGEST).await?;
            let (told, rest) = line.split_at_checked(3).unwrap_or((&line, ""));
            let digits = told.len() == 3 && told.bytes().all(|it| it.is_ascii_digit());
            match rest.chars().next() {
                Some('-') if digits => {}
                Some(' ') | None if digits && told.starts_with(code) => {
                    return Ok(rest.trim_start().to_owned());
                }
                Some(' ') | None if digits => {
                    return Err(broken(format!("the server refuses: {}", quoted(&line))));
                }
                _ => {
                    return Err(broken(format!("{} is no reply of SMTP", quoted(&line))));
                }
            }
        }
        Err(broken(format!(
            "the server's reply has more than {LINES} lines"
        )))
    }
}

/// Makes a letter safe to send: doubles the dot at the beginning of a line, across pieces.
///
/// Lines end with CR LF and nothing else. Servers that disagree about the ends of lines have let attackers
/// smuggle letters into others (CVE-2023-51764).
#[derive(Debug, Default)]
struct Stuffing {
    /// The length of the line so far.
    column: usize,
    /// The last byte was a CR.
    cr: bool,
}

impl Stuffing {
    fn stuff(&mut self, piece: &[u8]) -> Result<Vec<u8>, Error> {
        let mut out = Vec::with_capacity(piece.len() + 2);
        for byte in piece {
            match (self.cr, byte) {
                (true, b'\n') => (self.cr, self.column) = (false, 0),
                (false, b'\r') => self.cr = true,
                (true, _) | (_, b'\n') => {
                    return Err(unsendable("a line of the letter does not end with CR LF"));
                }
                (false, _) if self.column == LONGEST_TEXT => {
                    let message =
                        format!("a line of the letter is longer than {LONGEST_TEXT} bytes");
                    return Err(unsendable(message));
                }
                (false, _) => {
                    if self.column == 0 && *byte == b'.' {
                        out.push(b'.');
                    }
                    self.column += 1;
                }
            }
            out.push(*byte);
        }
        Ok(out)
    }

    /// The mark of a complete letter, without the end of its line.
    fn end(&self) -> Result<&'static str, Error> {
        match (self.cr, self.column) {
            (true, _) => Err(unsendable(
                "the letter ends in the middle of the end of a line",
            )),
            (false, 0) => Ok("."),
            (false, _) => Ok("\r\n."),
        }
    }
}

/// An address that cannot end its command.
fn address(text: &str) -> Result<&str, Error> {
    let fine = |it: u8| it.is_ascii_graphic() && !matches!(it, b'<' | b'>');
    match text.len() <= 254 && text.bytes().all(fine) {
        true => Ok(text),
        false => Err(unsendable(format!(
            "{} is no address for a letter",
            quoted(text)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_doubled_however_the_letter_is_cut() {
        let letter = b".\r\n..a\r\nb.\r\n\r\n.c";
        let expected = b"..\r\n...a\r\nb.\r\n\r\n..c";
        for size in 1..=letter.len() {
            let mut stuffing = Stuffing::default();
            let pieces = letter.chunks(size).map(|it| stuffing.stuff(it).unwrap());
            assert_eq!(pieces.collect::<Vec<_>>().concat(), expected);
            assert_eq!(stuffing.end().unwrap(), "\r\n.");
        }
        assert_eq!(Stuffing::default().end().unwrap(), ".");
    }

    #[test]
    fn only_cr_lf_ends_a_line() {
        for bad in ["a\n.\r\n", "a\r.\r\n", "\r\r\n", "\n", &"x".repeat(999)] {
            assert!(
                Stuffing::default().stuff(bad.as_bytes()).is_err(),
                "{bad:?}"
            );
        }
        let mut stuffing = Stuffing::default();
        stuffing.stuff("x".repeat(998).as_bytes()).unwrap();
        stuffing.stuff(b"\r").unwrap();
        assert!(stuffing.end().is_err());
        assert!(stuffing.stuff(b".").is_err());
    }

    #[test]
    fn an_address_cannot_end_its_command() {
        for bad in ["a>\r\nDATA", "a b", "<a", "\u{e9}", &"x".repeat(255)] {
            assert!(address(bad).is_err(), "{bad:?}");
        }
        assert!(address("").is_ok() && address("user@mail.example").is_ok());
    }
}

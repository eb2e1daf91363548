//! Replies of mail servers: when they are complete, and that nothing follows them.

use tcpsocket::{Error, ErrorName, Event, StartTls, TcpSocket, TcpSocketExt};

/// The longest reply, all its lines together.
const LONGEST: usize = 65_536;

/// Reads a reply, to the end of its last line. That of IMAP is tagged `A1`, that of POP3 is one of many lines.
pub(crate) async fn reply(
    socket: &dyn TcpSocket,
    protocol: StartTls,
) -> Result<Vec<String>, Error> {
    let mut received = String::new();
    while received.len() < LONGEST {
        match socket.next_event().await {
            Some(Event::Data(data)) => received += &data.to_byte_string(),
            Some(Event::Error(error)) => return Err(error),
            Some(Event::Close(_)) | None => {
                let message = "the server left in the middle of a reply";
                return Err(Error::new(ErrorName::NetworkInterrupt, message));
            }
            Some(_) => {}
        }
        let lines: Vec<&str> = received.split_inclusive("\r\n").collect();
        match lines.iter().position(|line| ends_reply(line, protocol)) {
            None => {}
            Some(last) if last + 1 == lines.len() => {
                return Ok(lines.iter().map(|it| it.trim_end().to_owned()).collect());
            }
            // Nobody asked for that. Behind the go-ahead it would pass for something said under TLS.
            Some(_) => {
                let message = "the server went on behind the end of its reply";
                return Err(Error::new(ErrorName::Security, message));
            }
        }
    }
    let message = format!("the server's reply is longer than {LONGEST} bytes");
    Err(Error::new(ErrorName::Network, message))
}

fn ends_reply(line: &str, protocol: StartTls) -> bool {
    line.ends_with("\r\n")
        && match protocol {
            StartTls::Smtp => !matches!(line.as_bytes().get(3), Some(b'-')),
            StartTls::Imap => line.starts_with("A1 "),
            _ => line == ".\r\n" || line.starts_with("-ERR"),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_told_from_the_others() {
        let table = [
            (StartTls::Smtp, "250-mail.example\r\n", false),
            (StartTls::Smtp, "250 HELP\r\n", true),
            (StartTls::Smtp, "250\r\n", true),
            (StartTls::Smtp, "250 HELP", false),
            (StartTls::Imap, "* CAPABILITY IMAP4rev1\r\n", false),
            (StartTls::Imap, "A1 OK\r\n", true),
            (StartTls::Imap, "A10 OK\r\n", false),
            (StartTls::Pop3, "+OK\r\n", false),
            (StartTls::Pop3, "STLS\r\n", false),
            (StartTls::Pop3, ".\r\n", true),
            (StartTls::Pop3, "-ERR no\r\n", true),
        ];
        for (protocol, line, last) in table {
            assert_eq!(ends_reply(line, protocol), last, "{protocol} {line:?}");
        }
    }
}

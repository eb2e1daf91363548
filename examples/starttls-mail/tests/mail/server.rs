//! Mail servers on `std::net` and rustls: one connection each, on a thread.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, LazyLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tcpsocket::StartTls;

/// How long anything here may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A certificate that signs itself, and its key.
pub(crate) struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

/// For the address that all servers here have.
pub(crate) static RIGHT: LazyLock<Identity> = LazyLock::new(|| Identity::new("127.0.0.1"));

pub(crate) static OTHER_NAME: LazyLock<Identity> = LazyLock::new(|| Identity::new("mail.example"));

impl Identity {
    fn new(name: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        // By default all are called the same, and a client would try the one's key on the other's signature.
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap();
        Identity { certificate, key }
    }

    pub(crate) fn pem(&self) -> Vec<u8> {
        self.certificate.pem().into_bytes()
    }

    fn config(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain: Vec<CertificateDer<'static>> = vec![self.certificate.der().clone()];
        let key = PrivatePkcs8KeyDer::from(self.key.serialize_der());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key.into());
        Arc::new(config.unwrap())
    }
}

/// What a server does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Does {
    /// What it should.
    Right,
    /// It does not offer STARTTLS, and refuses it.
    NoTls,
    /// It says this in the clear, in the same write as the go-ahead.
    SaysEarly(&'static str),
    /// It says this in the clear instead of answering the handshake, once the ClientHello is there.
    SaysInsteadOfTls(&'static str),
    /// It leaves instead of answering the handshake.
    LeavesInsteadOfTls,
    /// It leaves under TLS with half an answer, without a word of goodbye.
    LeavesInTheMiddle,
}

/// What a server has seen: the lines in the clear, and those under TLS.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Seen {
    pub(crate) clear: Vec<String>,
    pub(crate) secure: Vec<String>,
}

/// Serves one connection.
pub(crate) fn serve(
    protocol: StartTls,
    identity: &Identity,
    does: Does,
) -> (u16, JoinHandle<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = identity.config();
    let thread = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        let mut seen = Seen::default();
        if in_clear(&stream, protocol, does, &mut seen.clear) {
            let tls = ServerConnection::new(config).unwrap();
            under_tls(
                StreamOwned::new(tls, stream),
                protocol,
                does,
                &mut seen.secure,
            );
        }
        seen
    });
    (port, thread)
}

/// Whether TLS is to follow.
fn in_clear(stream: &TcpStream, protocol: StartTls, does: Does, seen: &mut Vec<String>) -> bool {
    let mut to = stream;
    let mut say = |text: &str| to.write_all(text.as_bytes()).unwrap();
    say(match protocol {
        StartTls::Smtp => "220 mail.example ESMTP\r\n",
        StartTls::Imap => "* OK [CAPABILITY IMAP4rev1 LITERAL+] ready\r\n",
        _ => "+OK ready\r\n",
    });
    while let Some(line) = line_of(stream) {
        seen.push(line.clone());
        let (tag, command) = split(&line, protocol);
        let ends = does == Does::NoTls;
        match (command, protocol) {
            ("STARTTLS" | "STLS", _) if ends => say(&refusal(tag, protocol)),
            ("STARTTLS" | "STLS", _) => {
                let early = match does {
                    Does::SaysEarly(text) => text,
                    _ => "",
                };
                say(&(go_ahead(tag, protocol) + early));
                return goes_on(stream, does);
            }
            (command, StartTls::Smtp) if command.starts_with("EHLO") => say(match ends {
                true => "250-mail.example\r\n250 8BITMIME\r\n",
                false => "250-mail.example\r\n250-8BITMIME\r\n250 STARTTLS\r\n",
            }),
            ("CAPABILITY", StartTls::Imap) => {
                let offer = if ends { "" } else { " STARTTLS LOGINDISABLED" };
                say(&format!(
                    "* CAPABILITY IMAP4rev1{offer}\r\n{tag} OK done\r\n"
                ));
            }
            _ => say(&refusal(tag, protocol)),
        }
    }
    false
}

fn goes_on(mut stream: &TcpStream, does: Does) -> bool {
    match does {
        Does::SaysInsteadOfTls(_) | Does::LeavesInsteadOfTls => {
            // All of the ClientHello: to leave with some of it unread would be a reset.
            let mut header = [0; 5];
            stream.read_exact(&mut header).unwrap();
            let len = u16::from_be_bytes([header[3], header[4]]);
            stream.read_exact(&mut vec![0; len.into()]).unwrap();
            if let Does::SaysInsteadOfTls(text) = does {
                stream.write_all(text.as_bytes()).unwrap();
                let _ = stream.read_to_end(&mut Vec::new());
            }
            false
        }
        _ => true,
    }
}

type Tls = StreamOwned<ServerConnection, TcpStream>;

/// Ends at the first failure, which clients that refuse the certificate cause.
fn under_tls(stream: Tls, protocol: StartTls, does: Does, seen: &mut Vec<String>) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).is_ok_and(|count| count > 0) {
        let said = line.trim_end().to_owned();
        line.clear();
        seen.push(said.clone());
        let (tag, command) = split(&said, protocol);
        let answer = match (command, protocol) {
            ("EHLO client.example", StartTls::Smtp) => {
                "250-mail.example\r\n250-8BITMIME\r\n250 AUTH PLAIN\r\n".to_owned()
            }
            ("CAPABILITY", StartTls::Imap) => {
                format!("* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n{tag} OK done\r\n")
            }
            ("CAPA", StartTls::Pop3) => "+OK these\r\nUSER\r\nUIDL\r\n.\r\n".to_owned(),
            ("QUIT" | "LOGOUT", _) => {
                let tls = stream.get_mut();
                tls.conn.send_close_notify();
                let _ = tls.flush();
                return;
            }
            _ => refusal(tag, protocol),
        };
        let half = match does {
            Does::LeavesInTheMiddle => answer.len() / 2,
            _ => answer.len(),
        };
        let tls = stream.get_mut();
        if tls.write_all(&answer.as_bytes()[..half]).is_err() || half < answer.len() {
            return;
        }
    }
}

/// A line, read byte by byte: whatever is behind it belongs to TLS.
fn line_of(mut stream: &TcpStream) -> Option<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\r\n") {
        stream.read_exact(&mut byte).ok()?;
        line.extend(byte);
    }
    line.truncate(line.len() - 2);
    Some(String::from_utf8(line).unwrap())
}

/// The tag, which only IMAP has, and the command.
fn split(line: &str, protocol: StartTls) -> (&str, &str) {
    match protocol {
        StartTls::Imap => line.split_once(' ').unwrap_or((line, "")),
        _ => ("", line),
    }
}

fn go_ahead(tag: &str, protocol: StartTls) -> String {
    match protocol {
        StartTls::Smtp => "220 go ahead\r\n".to_owned(),
        StartTls::Imap => format!("{tag} OK go ahead\r\n"),
        _ => "+OK go ahead\r\n".to_owned(),
    }
}

fn refusal(tag: &str, protocol: StartTls) -> String {
    match protocol {
        StartTls::Smtp => "502 no\r\n".to_owned(),
        StartTls::Imap => format!("{tag} BAD no\r\n"),
        _ => "-ERR no\r\n".to_owned(),
    }
}

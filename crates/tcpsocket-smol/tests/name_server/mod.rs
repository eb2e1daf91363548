//! A name server for the tests, at port 53 of a network of their own.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

/// What the name server says.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Unknown,
    /// The name is known, and has these addresses.
    Addresses(Vec<IpAddr>),
    /// It is another name's alias, which has these addresses.
    Alias(&'static str, Vec<IpAddr>),
    /// These addresses, once the test releases them. Until then there is no answer.
    Held(Vec<IpAddr>),
}

#[derive(Debug)]
pub(crate) struct NameServer {
    socket: UdpSocket,
    asked: Mutex<Vec<String>>,
    held: Mutex<Vec<(Vec<u8>, SocketAddr)>>,
}

impl NameServer {
    /// Answers from now on by `reply`, which is given a name in lower case and the family, 4 or 6.
    pub(crate) fn start(reply: impl Fn(&str, u8) -> Reply + Send + 'static) -> Arc<NameServer> {
        let server = Arc::new(NameServer {
            socket: UdpSocket::bind("127.0.0.1:53").unwrap(),
            asked: Mutex::default(),
            held: Mutex::default(),
        });
        let serving = server.clone();
        thread::spawn(move || serving.serve(reply));
        server
    }

    /// The names that were asked for since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    /// Sends what was held.
    pub(crate) fn release(&self) {
        for (answer, to) in std::mem::take(&mut *self.held.lock().unwrap()) {
            self.socket.send_to(&answer, to).unwrap();
        }
    }

    fn serve(&self, reply: impl Fn(&str, u8) -> Reply) {
        let mut packet = [0; 1500];
        loop {
            let (len, from) = self.socket.recv_from(&mut packet).unwrap();
            let (name, family, question) = parse(&packet[..len]);
            self.asked.lock().unwrap().push(name.clone());
            let (alias, addresses, code, held) = match reply(&name, family) {
                Reply::Unknown => (None, Vec::new(), 3, false),
                Reply::Addresses(all) => (None, all, 0, false),
                Reply::Alias(name, all) => (Some(name), all, 0, false),
                Reply::Held(all) => (None, all, 0, true),
            };
            let mut answer = packet[..2].to_vec();
            let count = addresses.len() as u8 + u8::from(alias.is_some());
            answer.extend([0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
            answer.extend(question);
            let mut owner = vec![0xc0, 12];
            if let Some(alias) = alias {
                let alias = encode(alias);
                answer.extend(&owner);
                record(&mut answer, 5, &alias);
                owner = alias;
            }
            for address in addresses {
                answer.extend(&owner);
                match address {
                    IpAddr::V4(it) => record(&mut answer, 1, &it.octets()),
                    IpAddr::V6(it) => record(&mut answer, 28, &it.octets()),
                }
            }
            match held {
                true => self.held.lock().unwrap().push((answer, from)),
                false => _ = self.socket.send_to(&answer, from).unwrap(),
            }
        }
    }
}

/// The name, the family, and the bytes of the question.
fn parse(packet: &[u8]) -> (String, u8, Vec<u8>) {
    let (mut labels, mut at) = (Vec::new(), 12);
    while packet[at] != 0 {
        let end = at + 1 + usize::from(packet[at]);
        labels.push(String::from_utf8_lossy(&packet[at + 1..end]).to_lowercase());
        at = end;
    }
    let family = match packet[at + 2] {
        28 => 6,
        _ => 4,
    };
    (labels.join("."), family, packet[12..at + 5].to_vec())
}

fn encode(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.') {
        out.push(label.len() as u8);
        out.extend(label.bytes());
    }
    out.push(0);
    out
}

/// What follows the owner of a record: type, class IN, a minute to live, and the data.
fn record(out: &mut Vec<u8>, kind: u8, data: &[u8]) {
    out.extend([0, kind, 0, 1, 0, 0, 0, 60, 0, data.len() as u8]);
    out.extend(data);
}

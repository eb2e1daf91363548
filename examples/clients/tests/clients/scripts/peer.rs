//! Peers that follow a script, on `std::net`: one connection each, on a thread.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use super::DEADLINE;

/// A step of a script.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// The client must say exactly this.
    Hear(Vec<u8>),
    /// Says this.
    Say(Vec<u8>),
    /// The same, byte by byte.
    Stammer(Vec<u8>),
}

pub(crate) fn hear(text: impl AsRef<[u8]>) -> Step {
    Step::Hear(text.as_ref().to_vec())
}

pub(crate) fn say(text: impl AsRef<[u8]>) -> Step {
    Step::Say(text.as_ref().to_vec())
}

pub(crate) fn stammer(text: impl AsRef<[u8]>) -> Step {
    Step::Stammer(text.as_ref().to_vec())
}

/// Follows a script, then says goodbye. What the client said beyond the script is returned.
///
/// A step that the client does not wait for, because it left, ends the script.
pub(crate) fn script(steps: Vec<Step>) -> (u16, JoinHandle<Vec<u8>>) {
    serve(move |mut stream| {
        for step in steps {
            match step {
                Step::Hear(expected) => {
                    let mut heard = vec![0; expected.len()];
                    if stream.read_exact(&mut heard).is_err() {
                        return Vec::new();
                    }
                    let shown = String::from_utf8_lossy(&heard).into_owned();
                    assert!(heard == expected, "the peer heard {shown:?}");
                }
                Step::Say(text) => drop(stream.write_all(&text)),
                Step::Stammer(text) => {
                    stream.set_nodelay(true).unwrap();
                    for byte in text {
                        let _ = stream.write_all(&[byte]);
                    }
                }
            }
        }
        let _ = stream.shutdown(Shutdown::Write);
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        rest
    })
}

/// A peer that does what this function does.
pub(crate) fn serve<T: Send + 'static>(
    peer: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (u16, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        peer(stream)
    });
    (port, thread)
}

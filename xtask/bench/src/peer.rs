//! The other end of the subject's connections: blocking `std::net`, the same for every variant.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::thread::{JoinHandle, spawn};

use crate::{MESSAGE, MIB, Workload};

/// A peer at work. Its thread ends when the subject has closed.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) port: u16,
    thread: JoinHandle<io::Result<()>>,
}

impl Peer {
    /// Listens for a subject that connects.
    pub(crate) fn listen(workload: Workload, count: usize) -> io::Result<Peer> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let thread = spawn(move || match workload {
            Workload::EchoServer => Ok(()),
            Workload::EchoClient => echo(&accept(&listener)?),
            Workload::Send64K | Workload::Send4K => sink(&accept(&listener)?),
            Workload::Receive => source(&accept(&listener)?, count),
            Workload::Idle => hold(&listener, count),
        });
        Ok(Peer { port, thread })
    }

    /// Connects to a subject that serves.
    pub(crate) fn ask(port: u16, count: usize) -> io::Result<Peer> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        let thread = spawn(move || ask(&stream, count));
        Ok(Peer { port, thread })
    }

    pub(crate) fn join(self) -> io::Result<()> {
        self.thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the peer panicked")))
    }
}

fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let (stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn echo(mut stream: &TcpStream) -> io::Result<()> {
    let mut message = [0; 4096];
    loop {
        match stream.read(&mut message)? {
            0 => return Ok(()),
            len => stream.write_all(&message[..len])?,
        }
    }
}

fn ask(mut stream: &TcpStream, count: usize) -> io::Result<()> {
    let mut reply = [0; MESSAGE];
    for _ in 0..count {
        stream.write_all(&[7; MESSAGE])?;
        stream.read_exact(&mut reply)?;
    }
    finish(stream)
}

fn sink(mut stream: &TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 4 * 65_536];
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}

fn source(mut stream: &TcpStream, count: usize) -> io::Result<()> {
    let piece = vec![7; 65_536];
    for _ in 0..count * MIB / piece.len() {
        stream.write_all(&piece)?;
    }
    finish(stream)
}

/// Says that this was all, and waits until the subject has closed, too.
fn finish(mut stream: &TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    let mut rest = [0; 1];
    while stream.read(&mut rest)? > 0 {}
    Ok(())
}

/// Holds that many connections until the subject closes the last of them.
fn hold(listener: &TcpListener, count: usize) -> io::Result<()> {
    let held: io::Result<Vec<TcpStream>> = (0..count).map(|_| accept(listener)).collect();
    held?.last().map_or(Ok(()), sink)
}

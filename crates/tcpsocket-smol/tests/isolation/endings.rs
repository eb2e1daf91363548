//! Ends of connections that the kernel's timing decides, unless we do.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures_lite::future;
use rustls::{ServerConfig, ServerConnection};
use socket2::SockRef;
use tcpsocket::{Event, SocketOptions, SocketProvider, TcpSocket, TcpSocketExt};
use tcpsocket_smol::{Loop, Smol};

use crate::support::{DEADLINE, connected, every_way, local, or_late};
use crate::tls_peer;

/// Answers inside TLS, says goodbye, and resets.
fn says_goodbye_and_resets(mut stream: TcpStream, config: Arc<ServerConfig>) {
    // The reset drops what Nagle's algorithm still holds.
    stream.set_nodelay(true).unwrap();
    let mut conn = ServerConnection::new(config).unwrap();
    let mut tls = rustls::Stream::new(&mut conn, &mut stream);
    let mut question = [0; 1];
    tls.read_exact(&mut question).unwrap();
    tls.write_all(b"the answer").unwrap();
    conn.send_close_notify();
    while conn.wants_write() {
        conn.write_tls(&mut stream).unwrap();
    }
    SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}

/// CL-19: the end was said, so what fails afterwards is not told.
#[test]
fn a_goodbye_and_then_a_reset_is_a_clean_end() {
    for (way, net) in every_way() {
        let net = net.with_tls(tls_peer::client());
        for round in 0..20 {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let server = thread::spawn(move || {
                says_goodbye_and_resets(listener.accept().unwrap().0, tls_peer::config());
            });
            let options = SocketOptions::new().use_secure_transport(true);
            let socket = net.open_with(local(port).with_options(options)).unwrap();
            let (mut heard, mut end) = (Vec::new(), None);
            let mut server = Some(server);
            future::block_on(or_late(async {
                while let Some(event) = socket.next_event().await {
                    match event {
                        Event::Open => {
                            socket.send("?".into()).unwrap();
                            // All of it has come, the reset too, before anything is read.
                            if round % 2 == 0 {
                                server.take().unwrap().join().unwrap();
                            }
                        }
                        Event::Data(data) => heard.extend_from_slice(&data),
                        Event::Close(close) => end = Some(close.clean),
                        Event::Error(error) => panic!("{way}, round {round}: {error}"),
                        _ => {}
                    }
                }
            }));
            assert_eq!(heard, b"the answer", "{way}, round {round}");
            assert_eq!(end, Some(true), "{way}, round {round}");
            if let Some(server) = server {
                server.join().unwrap();
            }
        }
    }
}

/// What the peer gets of two sends that are over the mark, and of an `abort(None)` right behind.
fn aborted(socket: &dyn TcpSocket, peer: &mut TcpStream, turn: impl FnOnce(&dyn Fn())) -> usize {
    let half = vec![7; 65_539];
    turn(&|| {
        socket.send(half.clone().into()).unwrap();
        socket.send(half.clone().into()).unwrap();
        socket.abort(None);
    });
    peer.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut all = Vec::new();
    peer.read_to_end(&mut all).unwrap();
    all.len()
}

/// CL-4: on our loop what a task sends leaves when the task yields, so that `abort` can drop it; elsewhere it leaves at once.
#[test]
fn abort_drops_what_the_turn_has_sent_on_our_loop() {
    let event_loop = Loop::new().unwrap();
    let (socket, mut peer) = connected(&Smol::on(&event_loop));
    let arrived = aborted(&*socket, &mut peer, |turn| {
        event_loop.block_on(async { turn() });
    });
    assert_eq!(arrived, 0);
    for (way, net) in every_way() {
        let (socket, mut peer) = connected(&net);
        let arrived = aborted(&*socket, &mut peer, |turn| turn());
        assert!(arrived > 0, "{way}");
    }
}

/// What is held back is bounded, and leaves in the turn if there is more.
#[test]
fn no_more_than_a_mebibyte_is_held_back() {
    let event_loop = Loop::new().unwrap();
    let (socket, mut peer) = connected(&Smol::on(&event_loop));
    peer.set_nonblocking(true).unwrap();
    event_loop.block_on(async {
        for _ in 0..15 {
            socket.send(vec![7; 1 << 16].into()).unwrap();
        }
        let early = peer.read(&mut [0]).map_err(|error| error.kind());
        assert!(early.is_err(), "{early:?}");
        socket.send(vec![7; 1 << 16].into()).unwrap();
        assert_eq!(peer.read(&mut [0]).ok(), Some(1));
    });
}

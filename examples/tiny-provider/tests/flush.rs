//! Both sides have more to say than the kernel holds, and the peer listens last: input is discarded while the flush is stuck.

use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use futures_lite::future::block_on;
use tcpsocket::{BinaryType, SocketOptions, SocketProviderExt, TcpSocketExt};
use tiny_provider::{Tiny, options};

/// More than the kernel takes in both directions together.
const MUCH: usize = 32 << 20;

#[test]
fn a_close_flushes_toward_a_peer_that_speaks_before_it_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let peer = thread::spawn(move || -> io::Result<usize> {
        let (mut stream, _) = listener.accept()?;
        stream.write_all(&vec![1; MUCH])?;
        stream.read_to_end(&mut Vec::new())
    });
    let net = Tiny::new(options()).unwrap();
    // If the two wait for each other, the linger time ends it, with an error.
    let wanted = SocketOptions::new()
        .binary_type(BinaryType::ArrayBuffer)
        .linger(Duration::from_secs(10));
    let end = block_on(async {
        let socket = net.connect("127.0.0.1", port, wanted).await?;
        socket.send(vec![2; MUCH].into())?;
        socket.close();
        socket.closed().await
    });
    assert!(end.unwrap().clean);
    assert_eq!(peer.join().unwrap().unwrap(), MUCH);
}

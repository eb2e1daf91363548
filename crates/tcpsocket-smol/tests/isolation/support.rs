//! What the tests of this binary share.

use std::future::Future;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future;
use tcpsocket::{
    BinaryType, Gate, OpenRequest, SocketOptions, SocketProvider, TcpSocket, TcpSocketExt,
};
use tcpsocket_smol::{Loop, Smol};

/// What nothing that works comes near.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// The value, or a panic at the deadline.
pub(crate) async fn or_late<T>(future: impl Future<Output = T>) -> T {
    let late = async {
        smol::Timer::after(DEADLINE).await;
        panic!("it did not come in time");
    };
    future::or(future, late).await
}

/// A provider by each way of running, without anybody in `block_on`.
pub(crate) fn every_way() -> [(&'static str, Smol); 3] {
    [
        ("loop", Smol::on(&Loop::new().unwrap())),
        (
            "spawner",
            Smol::with_spawner(|task| smol::spawn(task).detach()),
        ),
        ("neither", Smol::new()),
    ]
}

/// A request to open `port` of this machine.
pub(crate) fn local(port: u16) -> OpenRequest {
    OpenRequest::new("127.0.0.1", port)
        .unwrap()
        .with_options(SocketOptions::new().binary_type(BinaryType::ArrayBuffer))
}

/// An open socket and its peer.
pub(crate) fn connected(net: &Smol) -> (Arc<dyn TcpSocket>, TcpStream) {
    connected_past(net, &[])
}

/// The same, of a request with gates.
pub(crate) fn connected_past(
    net: &Smol,
    gates: &[Arc<dyn Gate>],
) -> (Arc<dyn TcpSocket>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut request = local(listener.local_addr().unwrap().port());
    for gate in gates {
        request = request.with_gate(gate.clone());
    }
    let socket = net.open_with(request).unwrap();
    let opened = future::block_on(or_late(socket.next_event()));
    assert!(matches!(opened, Some(tcpsocket::Event::Open)), "{opened:?}");
    (socket, listener.accept().unwrap().0)
}

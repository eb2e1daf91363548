//! One table: every way of running, times what a program does.

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::{Body, WAYS, run};
use futures_lite::future;
use tcpsocket::{
    BinaryType, Event, ReadyState, ServerEvent, ServerSocketOptions, SocketOptions, SocketProvider,
    SocketProviderExt, TcpServerSocketExt, TcpSocket, TcpSocketExt,
};
use tcpsocket_smol::Smol;

/// A connected pair: the opened socket and the accepted one.
async fn pair(net: &Smol) -> (Arc<dyn TcpSocket>, Arc<dyn TcpSocket>) {
    let local = ServerSocketOptions::new().address([127, 0, 0, 1]);
    let server = net.listen(0, local, -1).await.unwrap();
    let options = SocketOptions::new().binary_type(BinaryType::ArrayBuffer);
    let opened = net.open("127.0.0.1", server.local_port(), options).unwrap();
    let accepted = match server.next_event().await {
        Some(ServerEvent::Connect(socket)) => socket,
        other => panic!("{other:?}"),
    };
    assert!(matches!(opened.next_event().await, Some(Event::Open)));
    (opened, accepted)
}

/// Takes events until `Close`, which must be clean; returns the bytes and the count of drains.
async fn to_the_end(socket: &dyn TcpSocket) -> (Vec<u8>, usize) {
    let (mut bytes, mut drains) = (Vec::new(), 0);
    while let Some(event) = socket.next_event().await {
        match event {
            Event::Data(data) => bytes.extend_from_slice(&data),
            Event::Drain => drains += 1,
            Event::Close(close) => assert!(close.clean),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(socket.ready_state(), ReadyState::Closed);
    (bytes, drains)
}

async fn echo(net: Smol) {
    let (client, peer) = pair(&net).await;
    let echoing = async {
        while let Some(event) = peer.next_event().await {
            if let Event::Data(data) = event {
                peer.send(data.into_bytes()).unwrap();
            }
        }
    };
    let asking = async {
        for round in 0..200u32 {
            let question = round.to_be_bytes();
            // Two sends in a turn, one answer or two.
            client.send(Bytes::copy_from_slice(&question[..1])).unwrap();
            client.send(Bytes::copy_from_slice(&question[1..])).unwrap();
            let mut answer = Vec::new();
            while answer.len() < question.len() {
                match client.next_event().await {
                    Some(Event::Data(data)) => answer.extend_from_slice(&data),
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(answer, question);
        }
        client.close();
        to_the_end(&*client).await;
    };
    future::zip(echoing, asking).await;
    net.idle().await;
}

async fn eight_mebibytes(net: Smol) {
    const TOTAL: usize = 8 << 20;
    let pattern = |at: usize| (at.wrapping_mul(2_654_435_761) >> 13) as u8;
    let (client, peer) = pair(&net).await;
    let sending = async {
        let (mut at, mut falses, mut drains) = (0, 0, 0);
        while at < TOTAL {
            let chunk: Vec<u8> = (at..(at + 100_000).min(TOTAL)).map(pattern).collect();
            at += chunk.len();
            if !client.send(chunk.into()).unwrap() {
                falses += 1;
                match client.next_event().await {
                    Some(Event::Drain) => drains += 1,
                    other => panic!("{other:?}"),
                }
                assert_eq!(client.buffered_amount(), 0);
            }
        }
        assert_eq!(falses, drains);
        client.close();
        to_the_end(&*client).await;
    };
    let receiving = async {
        let (bytes, _) = to_the_end(&*peer).await;
        assert_eq!(bytes.len(), TOTAL);
        assert!(
            bytes
                .iter()
                .enumerate()
                .all(|(at, byte)| *byte == pattern(at))
        );
    };
    future::zip(sending, receiving).await;
    net.idle().await;
}

async fn drop_at_every_state(net: Smol) {
    let local = || ServerSocketOptions::new().address([127, 0, 0, 1]);
    // Connecting, toward a server that never accepts.
    let server = net.listen(0, local(), -1).await.unwrap();
    drop(
        net.open("127.0.0.1", server.local_port(), SocketOptions::new())
            .unwrap(),
    );
    drop(server);

    // Open, with output that nobody has asked to be written.
    let (client, peer) = pair(&net).await;
    client.send(Bytes::from(vec![7; 1 << 20])).unwrap();
    drop(client);
    assert_eq!(to_the_end(&*peer).await.0.len(), 1 << 20);

    // Closing, with output queued.
    let (client, peer) = pair(&net).await;
    client.send(Bytes::from(vec![7; 1 << 20])).unwrap();
    client.close();
    assert_eq!(client.ready_state(), ReadyState::Closing);
    drop(client);
    assert_eq!(to_the_end(&*peer).await.0.len(), 1 << 20);

    // Closed.
    let (client, peer) = pair(&net).await;
    peer.close();
    to_the_end(&*client).await;
    drop(client);
    to_the_end(&*peer).await;
    drop(peer);

    // In the middle of a wait.
    let (client, peer) = pair(&net).await;
    assert!(future::poll_once(client.next_event()).await.is_none());
    drop(client);
    to_the_end(&*peer).await;
    net.idle().await;
}

#[test]
fn every_way_of_running_does_everything() {
    type Work = (&'static str, fn(Smol) -> Body<'static>);
    let table: &[Work] = &[
        ("echo", |net| Box::pin(echo(net))),
        ("8 MiB with back-pressure", |net| {
            Box::pin(eight_mebibytes(net))
        }),
        ("drop at every state", |net| {
            Box::pin(drop_at_every_state(net))
        }),
    ];
    for (name, work) in table {
        for way in WAYS {
            println!("{name} by {way:?}");
            run(*way, work);
        }
    }
}

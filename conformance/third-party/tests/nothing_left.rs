//! What the kit does not look at: threads. A socket that has ended leaves none behind (LIFE-8).

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use futures_lite::future::{block_on, poll_once};
use socket2::{Domain, Socket, Type};
use tcpsocket::{
    Bytes, Error, ErrorName, Host, Resolver, ServerSocketOptions, SocketOptions, SocketProvider,
    SocketProviderExt, TcpServerSocketExt, TcpSocketExt, async_trait,
};
use third_party::ThirdParty;

const PATIENCE: Duration = Duration::from_secs(20);

/// One test at a time, since each counts the threads of the process.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn told() -> Error {
    Error::new(ErrorName::NotAllowed, "the test says so")
}

/// The threads of this process that are ours, by their names.
fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("this is Linux");
    let names = tasks.filter_map(|it| std::fs::read_to_string(it.ok()?.path().join("comm")).ok());
    let ours = ["writer", "reader", "accept", "dial", "lookup"];
    names
        .map(|it| it.trim().to_owned())
        .filter(|it| ours.iter().any(|name| it.starts_with(name)))
        .collect()
}

fn wait_until(what: &str, fact: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !fact() {
        assert!(
            Instant::now() < end,
            "waited in vain: {what}: {:?}",
            threads()
        );
        thread::yield_now();
    }
}

#[test]
fn no_thread_outlives_its_connection() {
    let _alone = alone();
    let provider = ThirdParty::new();
    let peers = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = peers.local_addr().expect("an address").port();
    let options = SocketOptions::new().linger(Duration::from_millis(50));
    let (mut handles, mut silent) = (Vec::new(), Vec::new());
    for how in 0..8 {
        let opened = block_on(provider.connect("127.0.0.1", port, options.clone()));
        let socket = opened.expect("the peer listens");
        // It neither reads, nor writes, nor ends.
        silent.push(peers.accept().expect("it connected"));
        // The reader goes into the kernel, and in every second round the writer too.
        let mut waiting = Box::pin(socket.next_event());
        assert!(block_on(poll_once(&mut waiting)).is_none());
        drop(waiting);
        if how % 2 == 1 {
            let more_than_it_takes = Bytes::from(vec![0; 64 << 20]);
            assert_eq!(socket.send(more_than_it_takes).ok(), Some(false));
        }
        match how / 2 {
            0 => socket.close(),
            1 => socket.abort(None),
            2 => socket.abort(Some(told())),
            // Not pushed: its only handle is dropped.
            _ => continue,
        }
        handles.push(socket);
    }
    wait_until("all threads have ended", || threads().is_empty());
    block_on(provider.idle());
}

#[test]
fn no_acceptor_outlives_its_server() {
    let _alone = alone();
    let provider = ThirdParty::new();
    let options = ServerSocketOptions::new().address([127, 0, 0, 1]);
    // Whether its thread is in the kernel when it is closed is chance, so there are many.
    for _ in 0..50 {
        let server = block_on(provider.listen(0, options.clone(), -1)).expect("a port");
        let mut waiting = Box::pin(server.next_event());
        assert!(block_on(poll_once(&mut waiting)).is_none());
        (0..50).for_each(|_| thread::yield_now());
        server.close();
        assert!(block_on(waiting).is_none());
    }
    wait_until("all threads have ended", || threads().is_empty());
}

/// Two addresses: one that does not answer, one that does.
#[derive(Debug)]
struct Two([SocketAddr; 2]);

#[async_trait]
impl Resolver for Two {
    async fn lookup(&self, _: &Host, _: u16) -> Result<Vec<SocketAddr>, Error> {
        Ok(self.0.to_vec())
    }
}

#[test]
fn no_runner_outlives_its_race() {
    let _alone = alone();
    // A backlog that is full drops what else comes.
    let silent = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    silent.bind(&any.into()).expect("a port");
    silent.listen(0).expect("it listens");
    let at = silent.local_addr().ok().and_then(|it| it.as_socket());
    let at = at.expect("an address");
    let mut filling = Vec::new();
    while let Ok(it) = TcpStream::connect_timeout(&at, Duration::from_millis(200)) {
        filling.push(it);
    }
    // The same port of another address: the whole of 127.0.0.0/8 is this machine.
    let there = TcpListener::bind(SocketAddr::from(([127, 0, 0, 2], at.port()))).expect("the port");
    let two = Two([at, there.local_addr().expect("an address")]);
    let provider = ThirdParty::with_resolver(Arc::new(two));
    let opened = block_on(provider.connect("two.example", at.port(), SocketOptions::new()));
    let socket = opened.expect("the second answers");
    wait_until("the loser has ended", || {
        !threads().iter().any(|it| it.starts_with("dial"))
    });
    socket.close();
    let (peer, _) = there.accept().expect("it connected");
    drop(peer);
    block_on(provider.idle());
    wait_until("all threads have ended", || threads().is_empty());
}

//! The measured process: one variant, one workload. Says what it counted on its last line.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Instant;

use async_executor::Executor;
use bytes::Bytes;
use smol::Async;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use std::net::{TcpListener, TcpStream};

use tcpsocket::{
    Event, ServerEvent, ServerSocketOptions, SocketOptions, SocketProvider, SocketProviderExt,
    TcpServerSocketExt, TcpSocket, TcpSocketExt,
};
use tcpsocket_smol::{Loop, Smol};

use crate::{Failure, MESSAGE, MIB, Variant, Workload, heap};

const PIECES: &[u8] = &[7; 65_536];
const HOST: &str = "127.0.0.1";

pub(crate) fn run(variant: &str, workload: &str, count: &str, port: &str) -> Result<(), Failure> {
    let task = Task {
        workload: Workload::ALL
            .into_iter()
            .find(|it| it.name() == workload)
            .ok_or("no such workload")?,
        count: count.parse()?,
        port: port.parse()?,
    };
    match Variant::ALL.into_iter().find(|it| it.name() == variant) {
        Some(Variant::Loop) => {
            let event_loop = Loop::new()?;
            let net = Smol::on(&event_loop);
            event_loop.block_on(task.ours(net))
        }
        Some(Variant::Spawner) => {
            let executor: &'static Executor<'static> = Box::leak(Box::new(Executor::new()));
            let net = Smol::with_spawner(move |it| executor.spawn(it).detach());
            // A task, and not the future of `run`: that one is polled whenever anything at all wakes.
            smol::block_on(executor.run(executor.spawn(task.ours(net))))
        }
        Some(Variant::Bare) => smol::block_on(task.ours(Smol::new())),
        Some(Variant::Plain) => smol::block_on(task.plain()),
        None => Err("no such variant".into()),
    }
}

/// What is to be done, the same for every variant.
#[derive(Clone, Copy, Debug)]
struct Task {
    workload: Workload,
    /// Messages, MiB or sockets.
    count: usize,
    /// Where the peer listens, if it does.
    port: u16,
}

impl Task {
    async fn ours(self, net: Smol) -> Result<(), Failure> {
        match self.workload {
            Workload::EchoServer => self.serve(&net).await?,
            Workload::EchoClient => self.ask(&net).await?,
            Workload::Send64K => self.send(&net, 65_536).await?,
            Workload::Send4K => self.send(&net, 4_096).await?,
            Workload::Receive => self.receive(&net).await?,
            Workload::Idle => self.idle(&net).await?,
        }
        net.idle().await;
        Ok(())
    }

    async fn serve(self, net: &Smol) -> Result<(), Failure> {
        let options = ServerSocketOptions::new().address(Ipv4Addr::LOCALHOST);
        let server = net.listen(0, options, 1).await?;
        println!("port {}", server.local_port());
        let Some(ServerEvent::Connect(socket)) = server.next_event().await else {
            return Err("nobody came".into());
        };
        server.close();
        drop(server);
        let mut meter = Meter::new(self.count / 10);
        while let Some(event) = socket.next_event().await {
            match event {
                Event::Data(data) => {
                    meter.tick();
                    socket.send(data.into_bytes())?;
                }
                Event::Error(error) => return Err(error.into()),
                _ => {}
            }
        }
        meter.tell(0);
        Ok(())
    }

    async fn connect(self, net: &Smol) -> Result<Arc<dyn TcpSocket>, Failure> {
        Ok(net.connect(HOST, self.port, SocketOptions::new()).await?)
    }

    async fn ask(self, net: &Smol) -> Result<(), Failure> {
        let socket = self.connect(net).await?;
        let mut meter = Meter::new(self.count / 10);
        for _ in 0..self.count {
            socket.send(Bytes::from_static(&PIECES[..MESSAGE]))?;
            let mut missing = MESSAGE;
            while missing > 0 {
                match socket.next_event().await {
                    Some(Event::Data(data)) => missing = missing.saturating_sub(data.len()),
                    Some(Event::Drain) => {}
                    other => return Err(format!("the reply did not come: {other:?}").into()),
                }
            }
            meter.tick();
        }
        meter.tell(0);
        end(&*socket).await
    }

    async fn send(self, net: &Smol, piece: usize) -> Result<(), Failure> {
        let socket = self.connect(net).await?;
        let mut meter = Meter::new(self.count / 10);
        for sent in 1..=self.count * MIB / piece {
            let go_on = socket.send(Bytes::from_static(&PIECES[..piece]))?;
            if !go_on {
                match socket.next_event().await {
                    Some(Event::Drain) => {}
                    other => return Err(format!("no drain came: {other:?}").into()),
                }
            }
            if (sent * piece).is_multiple_of(MIB) {
                meter.tick();
            }
        }
        socket.close();
        end(&*socket).await?;
        meter.tell(0);
        Ok(())
    }

    async fn receive(self, net: &Smol) -> Result<(), Failure> {
        let socket = self.connect(net).await?;
        let mut meter = Meter::new(self.count / 10);
        let mut missing = MIB;
        while let Some(event) = socket.next_event().await {
            match event {
                Event::Data(data) => meter.received(data.len(), &mut missing),
                Event::Error(error) => return Err(error.into()),
                _ => {}
            }
        }
        meter.tell(0);
        Ok(())
    }

    async fn idle(self, net: &Smol) -> Result<(), Failure> {
        // The first one pays for what all share.
        let mut sockets = Vec::with_capacity(self.count);
        sockets.push(self.connect(net).await?);
        park(&*sockets[0])?;
        let before = heap::live();
        for _ in 1..self.count {
            let socket = self.connect(net).await?;
            park(&*socket)?;
            sockets.push(socket);
        }
        Meter::new(0).tell((heap::live() - before) / (self.count as i64 - 1));
        for socket in sockets {
            socket.close();
            end(&*socket).await?;
        }
        Ok(())
    }

    async fn plain(self) -> Result<(), Failure> {
        if self.workload == Workload::EchoServer {
            let listener = Async::<TcpListener>::bind((Ipv4Addr::LOCALHOST, 0))?;
            println!("port {}", listener.get_ref().local_addr()?.port());
            let (stream, _) = listener.accept().await?;
            drop(listener);
            return self.plain_serve(stream).await;
        }
        let mut meter = Meter::new(self.count / 10);
        let mut stream = self.plain_connect().await?;
        match self.workload {
            Workload::EchoServer => {}
            Workload::EchoClient => {
                let mut reply = [0; MESSAGE];
                for _ in 0..self.count {
                    stream.write_all(&PIECES[..MESSAGE]).await?;
                    stream.read_exact(&mut reply).await?;
                    meter.tick();
                }
                meter.tell(0);
            }
            Workload::Send64K | Workload::Send4K => {
                let piece = if self.workload == Workload::Send64K {
                    65_536
                } else {
                    4_096
                };
                for sent in 1..=self.count * MIB / piece {
                    stream.write_all(&PIECES[..piece]).await?;
                    if (sent * piece).is_multiple_of(MIB) {
                        meter.tick();
                    }
                }
                stream.close().await?;
                meter.tell(0);
            }
            Workload::Receive => {
                let mut buffer = vec![0; 65_536];
                let mut missing = MIB;
                loop {
                    match stream.read(&mut buffer).await? {
                        0 => break,
                        len => meter.received(len, &mut missing),
                    }
                }
                meter.tell(0);
            }
            Workload::Idle => {
                let mut streams = Vec::with_capacity(self.count);
                streams.push(stream);
                let before = heap::live();
                for _ in 1..self.count {
                    let stream = self.plain_connect().await?;
                    let mut cx = Context::from_waker(Waker::noop());
                    if stream.poll_readable(&mut cx).is_ready() {
                        return Err("an idle stream has something to read".into());
                    }
                    streams.push(stream);
                }
                Meter::new(0).tell((heap::live() - before) / (self.count as i64 - 1));
            }
        }
        Ok(())
    }

    async fn plain_connect(self) -> Result<Async<TcpStream>, Failure> {
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let stream = Async::<TcpStream>::connect(at).await?;
        stream.get_ref().set_nodelay(true)?;
        Ok(stream)
    }

    async fn plain_serve(self, mut stream: Async<TcpStream>) -> Result<(), Failure> {
        stream.get_ref().set_nodelay(true)?;
        let mut meter = Meter::new(self.count / 10);
        let mut buffer = vec![0; 16_384];
        loop {
            match stream.read(&mut buffer).await? {
                0 => break,
                len => {
                    meter.tick();
                    stream.write_all(&buffer[..len]).await?;
                }
            }
        }
        meter.tell(0);
        Ok(())
    }
}

/// Waits for nothing: leaves the socket as a program leaves it that waits for its next event.
fn park(socket: &dyn TcpSocket) -> Result<(), Failure> {
    match socket.poll_event(&mut Context::from_waker(Waker::noop())) {
        std::task::Poll::Pending => Ok(()),
        std::task::Poll::Ready(event) => {
            Err(format!("an idle socket has an event: {event:?}").into())
        }
    }
}

async fn end(socket: &dyn TcpSocket) -> Result<(), Failure> {
    socket.close();
    socket.closed().await?;
    Ok(())
}

/// Counts from the end of the warm-up to the last tick.
#[derive(Debug)]
struct Meter {
    /// Not counted: the first messages grow queues and buffers.
    warm_up: usize,
    ticks: usize,
    begin: Sample,
    last: Sample,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    ticks: usize,
    allocations: u64,
}

impl Meter {
    fn new(warm_up: usize) -> Meter {
        let now = Sample {
            at: Instant::now(),
            ticks: 0,
            allocations: heap::allocations(),
        };
        Meter {
            warm_up,
            ticks: 0,
            begin: now,
            last: now,
        }
    }

    /// A message or a MiB is done.
    fn tick(&mut self) {
        self.ticks += 1;
        self.last.ticks = self.ticks;
        self.last.allocations = heap::allocations();
        if self.ticks == self.warm_up {
            self.last.at = Instant::now();
            self.begin = self.last;
        }
    }

    fn received(&mut self, mut len: usize, missing: &mut usize) {
        while len >= *missing {
            len -= *missing;
            *missing = MIB;
            self.tick();
        }
        *missing -= len;
    }

    fn tell(&self, bytes: i64) {
        let ticks = self.last.ticks - self.begin.ticks;
        let allocations = self.last.allocations - self.begin.allocations;
        let seconds = self.begin.at.elapsed().as_secs_f64();
        println!("done {ticks} {allocations} {seconds} {bytes}");
    }
}

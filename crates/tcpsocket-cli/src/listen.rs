//! `tcpsocket listen`.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_lite::future::or;
use tcpsocket::{
    BinaryType, ServerEvent, ServerSocketOptions, SocketProvider, SocketProviderExt,
    TcpServerSocket, TcpServerSocketExt, TcpSocket,
};

use crate::exit::Failure;
use crate::session::{self, Ended, Pipes};
use crate::trace::{self, Traced};
use crate::{args, say};

/// Accepts one connection, or one after another, and copies both ways.
pub(crate) async fn run(net: &dyn SocketProvider, wanted: &args::Listen) -> Result<(), Failure> {
    let options = ServerSocketOptions::new()
        .binary_type(BinaryType::ArrayBuffer)
        .address(wanted.address);
    let server = net.listen(wanted.port, options, -1).await?;
    let at = SocketAddr::new(wanted.address, server.local_port());
    say(&format_args!("listening on {at}"));
    if wanted.trace {
        trace::header();
    }
    let mut pipes = Pipes::start(wanted.trace)?;
    let ended = serve(&*server, &mut pipes, wanted).await;
    pipes.finish(ended).await
}

async fn serve(
    server: &dyn TcpServerSocket,
    pipes: &mut Pipes,
    wanted: &args::Listen,
) -> Result<Ended, Failure> {
    while let Some(mut socket) = next(server, pipes).await? {
        if !wanted.keep {
            server.close();
        }
        if wanted.trace {
            socket = Traced::accepted(socket);
        }
        let peer = format!("{} port {}", socket.host(), socket.port());
        match session::run(socket, pipes, false).await {
            ended if !wanted.keep => return ended,
            Ok(Ended::OutputGone) => break,
            // The rest of the input is for the next connection.
            Ok(Ended::Closed | Ended::Cut) => {}
            // One peer's failure does not affect the next.
            Err(failure) => say(&format_args!("{failure} ({peer})")),
        }
    }
    Ok(Ended::OutputGone)
}

/// The next connection, as long as there is an output for it.
async fn next(
    server: &dyn TcpServerSocket,
    pipes: &Pipes,
) -> Result<Option<Arc<dyn TcpSocket>>, Failure> {
    let gone = async {
        pipes.output_gone().await;
        Ok(None)
    };
    let connection = async {
        loop {
            match server.next_event().await {
                Some(ServerEvent::Connect(socket)) => return Ok(Some(socket)),
                Some(ServerEvent::Error(error)) => return Err(error.into()),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    };
    or(gone, connection).await
}

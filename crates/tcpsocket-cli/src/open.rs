//! `tcpsocket open`.

use std::fs;
use std::time::{Duration, Instant};

use async_io::Timer;
use futures_lite::future::or;
use tcpsocket::{
    BinaryType, Error, ErrorName, Event, OpenRequest, SocketOptions, SocketProvider, StartTls,
    TcpSocket, TcpSocketExt,
};
use tcpsocket_tls::{Client, Trust};

use crate::args;
use crate::exit::Failure;
use crate::session::{self, Pipes};
use crate::trace::{self, Traced};

/// The default of every implementation (OPT-3).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// A TLS client with the trust roots of the command line.
pub(crate) fn client(wanted: &args::Open) -> Result<Client, Failure> {
    if wanted.ehlo.is_some() && wanted.starttls != Some(StartTls::Smtp) {
        let message = "--ehlo needs --starttls smtp; the other protocols send no name";
        return Err(Error::new(ErrorName::InvalidAccess, message).into());
    }
    let trust = match &wanted.ca {
        None => Trust::platform(),
        Some(file) => {
            let refuse = |why: String| {
                let message = format!("cannot use the certificates in {}: {why}", file.display());
                Failure::Socket(Error::new(ErrorName::InvalidAccess, message))
            };
            let pem = fs::read(file).map_err(|error| refuse(error.to_string()))?;
            let trust = Trust::nobody().and_pem(&pem);
            trust.map_err(|error| refuse(error.message().to_owned()))?
        }
    };
    Ok(Client::new(trust))
}

/// Opens a connection, copies both ways, and returns after `Close`, with all received bytes written.
pub(crate) async fn run(net: &dyn SocketProvider, wanted: &args::Open) -> Result<(), Failure> {
    let begun = Instant::now();
    let limit = wanted.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
    let options = SocketOptions::new()
        .binary_type(BinaryType::ArrayBuffer)
        .use_secure_transport(wanted.tls)
        .connect_timeout(limit)
        .alpn(wanted.alpn.iter().map(|protocol| protocol.as_bytes()));
    let request = OpenRequest::new(&wanted.host, wanted.port)?.with_options(options);
    let mut socket = net.open_with(request)?;
    if wanted.trace {
        trace::header();
        socket = Traced::opened(socket);
    }
    if let Some(protocol) = wanted.starttls
        && let Err(error) = begin_tls(&*socket, protocol, wanted, limit, begun + limit).await
    {
        // So that the trace shows the end.
        let _ = socket.closed().await;
        return Err(error.into());
    }
    let mut pipes = Pipes::start(wanted.trace)?;
    let ended = session::run(socket, &mut pipes, wanted.close_on_eof).await;
    pipes.finish(ended).await
}

/// Waits for `Open`, and speaks the dialogue in the clear that leads to TLS. The implementation bounds the connect and the handshake;
/// only the timer here bounds the dialogue between them.
async fn begin_tls(
    socket: &dyn TcpSocket,
    protocol: StartTls,
    wanted: &args::Open,
    limit: Duration,
    end: Instant,
) -> Result<(), Error> {
    match socket.next_event().await {
        Some(Event::Open) => {}
        Some(Event::Error(error)) => return Err(error),
        _ => {
            let message = "the connection ended before it was open";
            return Err(Error::new(ErrorName::NetworkInterrupt, message));
        }
    }
    let late = async {
        Timer::at(end).await;
        let message = format!(
            "{}:{} did not agree to TLS within {limit:?}; is it a {protocol} server that begins in the clear?",
            socket.host(),
            socket.port()
        );
        let error = Error::new(ErrorName::NetworkTimeout, message);
        // First, because giving up the dialogue would end the socket without a reason.
        socket.abort(Some(error.clone()));
        Err(error)
    };
    match &wanted.ehlo {
        Some(name) => or(socket.starttls_as(protocol, name), late).await,
        None => or(socket.starttls(protocol), late).await,
    }
}

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

/// What an implementation takes if nothing is said (OPT-3).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Whom the command line says to trust.
pub(crate) fn client(wanted: &args::Open) -> Result<Client, Failure> {
    if wanted.ehlo.is_some() && wanted.starttls != Some(StartTls::Smtp) {
        let message = "--ehlo is for --starttls smtp; the other protocols do not ask for a name";
        return Err(Error::new(ErrorName::InvalidAccess, message).into());
    }
    let trust = match &wanted.ca {
        None => Trust::platform(),
        Some(file) => {
            let refuse = |why: String| {
                let message = format!("cannot use the certificates in {}: {why}", file.display());
                Failure::Socket(Error::new(ErrorName::InvalidAccess, message))
            };
            let pem = fs::read(file).map_err(|it| refuse(it.to_string()))?;
            let trust = Trust::nobody().and_pem(&pem);
            trust.map_err(|it| refuse(it.message().to_owned()))?
        }
    };
    Ok(Client::new(trust))
}

/// Opens, copies both ways, and returns after `Close`, when all that arrived is written.
pub(crate) async fn run(net: &dyn SocketProvider, wanted: &args::Open) -> Result<(), Failure> {
    let begun = Instant::now();
    let limit = wanted.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
    let options = SocketOptions::new()
        .binary_type(BinaryType::ArrayBuffer)
        .use_secure_transport(wanted.tls)
        .connect_timeout(limit)
        .alpn(wanted.alpn.iter().map(|it| it.as_bytes()));
    let request = OpenRequest::new(&wanted.host, wanted.port)?.with_options(options);
    let mut socket = net.open_with(request)?;
    if wanted.trace {
        trace::header();
        socket = Traced::opened(socket);
    }
    if let Some(protocol) = wanted.starttls
        && let Err(error) = begin_tls(&*socket, protocol, wanted, limit, begun + limit).await
    {
        // The end, for the trace.
        let _ = socket.closed().await;
        return Err(error.into());
    }
    let mut pipes = Pipes::start(wanted.trace)?;
    let ended = session::run(socket, &mut pipes, wanted.close_on_eof).await;
    pipes.finish(ended).await
}

/// Waits for `Open`, and says in clear what leads to TLS. The implementation bounds the one, and its handshake after the other;
/// what is between has no clock but ours.
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
            "{}:{} did not agree to TLS within {limit:?}; is it a server for {protocol}, and one that begins in clear?",
            socket.host(),
            socket.port()
        );
        let error = Error::new(ErrorName::NetworkTimeout, message);
        // Before the words are given up, which ends the socket without a reason.
        socket.abort(Some(error.clone()));
        Err(error)
    };
    match &wanted.ehlo {
        Some(name) => or(socket.starttls_as(protocol, name), late).await,
        None => or(socket.starttls(protocol), late).await,
    }
}

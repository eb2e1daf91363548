//! A host whose plugin may reach public mail servers and nothing else.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use tcpsocket::{
    Control, Error, ErrorName, Event, Gate, Host, Meter, NoMeter, OpenRequest, SocketProvider,
    TcpSocket, TcpSocketExt, async_trait, is_public,
};
use tcpsocket_smol::{Loop, Smol};

/// Public mail servers, and nothing else.
#[derive(Debug)]
struct MailOnly;

#[async_trait]
impl Gate for MailOnly {
    async fn name(&self, _host: &Host, port: u16) -> Result<(), Error> {
        allow_if(matches!(port, 465 | 587 | 993 | 995)) // asked before any lookup
    }

    async fn connect(&self, _host: &Host, found: &[SocketAddr]) -> Result<Vec<SocketAddr>, Error> {
        allow_if(found.iter().all(|at| is_public(at.ip())))?; // asked before any packet
        Ok(found.to_vec()) // these are dialled; nothing is looked up again
    }

    async fn bind(&self, _at: SocketAddr) -> Result<(), Error> {
        allow_if(false) // no servers
    }

    async fn accept(&self, _local: SocketAddr, _peer: SocketAddr) -> Result<(), Error> {
        allow_if(false)
    }

    fn watch(&self, _socket: Weak<dyn Control>) -> Arc<dyn Meter> {
        Arc::new(NoMeter) // keep the control to revoke, return a meter of your own to count
    }
}

fn allow_if(allowed: bool) -> Result<(), Error> {
    let refusal = || {
        Error::new(
            ErrorName::NotAllowed,
            "this plugin may reach mail servers only",
        )
    };
    allowed.then_some(()).ok_or_else(refusal)
}

/// What the host offers its plugin instead of `std::net`.
fn open_for_plugin(net: &Smol, host: &str, port: u16) -> Result<Arc<dyn TcpSocket>, Error> {
    net.open_with(OpenRequest::new(host, port)?.with_gate(Arc::new(MailOnly)))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let event_loop = Loop::new()?;
    let net = Smol::on(&event_loop);
    event_loop.block_on(async {
        // Put a mail server of yours here: its line will say `Open`.
        for (host, port) in [("mail.example.org", 22), ("localhost", 993)] {
            let outcome = match open_for_plugin(&net, host, port) {
                Ok(socket) => socket.next_event().await,
                Err(error) => Some(Event::Error(error)),
            };
            match outcome {
                Some(Event::Error(error)) => println!("{host}:{port}: {error}"),
                other => println!("{host}:{port}: {other:?}"),
            }
        }
        net.idle().await;
    });
    Ok(())
}

//! TLS: from the first byte, by upgrade, and how it fails.

pub(super) mod certificates;
pub(super) mod closing;
pub(super) mod cuts;
pub(super) mod failing;
pub(super) mod opening;
pub(super) mod stream;
pub(super) mod upgrade;
pub(super) mod upgrade_failing;
pub(super) mod upgrade_order;
pub(super) mod upgrade_stalling;

/// What these cases have in common.
mod prelude {
    use std::collections::HashSet;
    use std::net::{IpAddr, SocketAddr};

    use tcpsocket::{Host, Resolver, Secure, Security, SocketOptions, async_trait};

    pub(super) use std::time::Duration;

    pub(super) use super::super::prelude::*;
    pub(super) use crate::Step::{CloseNotify, KeyUpdate, Tls, WriteBelow};
    pub(super) use crate::cx::Partner;
    pub(super) use crate::socket::Socket;
    pub(super) use crate::tls::NAME;
    pub(super) use crate::{Certificate, CutBy, TlsServer, TlsVersion};

    pub(super) const SECURE: &[Capability] = &[Capability::Secure];
    pub(super) const UPGRADE: &[Capability] = &[Capability::Upgrade];

    /// A server that nothing is wrong with.
    pub(super) fn server() -> TlsServer {
        TlsServer::default()
    }

    /// A peer that reads everything inside TLS, says goodbye, and ends.
    pub(super) fn secure_reader() -> Script {
        Script::listen([Accept, Tls(server()), ReadToEnd, CloseNotify, Fin])
    }

    /// A peer that reads `clear` bytes, and then all that comes inside TLS.
    pub(super) fn upgrader(clear: usize) -> Script {
        Script::listen([
            Accept,
            Read(clear),
            Tls(server()),
            ReadToEnd,
            CloseNotify,
            Fin,
        ])
    }

    /// Options that ask for TLS from the first byte.
    pub(super) fn secure(cx: &Cx) -> SocketOptions {
        cx.options().use_secure_transport(true)
    }

    /// `open` under TLS, without waiting for anything.
    pub(super) fn opening(cx: &Cx, to: &Partner) -> Result<Socket, Failure> {
        cx.open_with(cx.request(to)?.with_options(secure(cx)))
    }

    /// `open` under TLS, and the event `Open`.
    pub(super) async fn open(cx: &Cx, to: &Partner) -> Result<Socket, Failure> {
        let a = opening(cx, to)?;
        a.expect("open").await?;
        Ok(a)
    }

    /// Waits until what a socket sends is stuck.
    pub(super) async fn stuck(of: &Socket) -> Outcome {
        loop {
            let held = of.raw().buffered_amount();
            of.quiet().await?;
            if of.raw().buffered_amount() == held {
                return Ok(());
            }
        }
    }

    /// What was agreed on.
    pub(super) fn agreed(of: &Socket) -> Result<Secure, Failure> {
        match of.raw().security() {
            Security::Secure(it) => Ok(it),
            other => Err(Failure::compared(
                "security",
                "Secure",
                format!("{other:?}"),
            )),
        }
    }

    /// Fails unless `security` is this, `plain`, `handshaking` or `secure`, and `ssl` fits.
    pub(super) fn protected(cx: &Cx, of: &Socket, how: &str) -> Outcome {
        let actual = match of.raw().security() {
            Security::Plain => "plain",
            Security::Handshaking => "handshaking",
            Security::Secure(_) => "secure",
            _ => "something else",
        };
        cx.check("security", actual, how)?;
        cx.check("ssl", of.raw().ssl(), how != "plain")
    }

    /// Fails if any part of `secret` arrived at this peer as it is, outside TLS.
    pub(super) fn not_in_clear(cx: &Cx, at: &Partner, secret: &[u8]) -> Outcome {
        const PART: usize = 16;
        // Where TLS has begun, `clear` and `received` of the report say what came before.
        let seen = match at.report().tls {
            Some(_) => at.wire(),
            None => at.received(),
        };
        let parts: HashSet<_> = secret.chunks_exact(PART).collect();
        // Most places are passed over by their first two bytes; the peers of some cases receive megabytes.
        let pair = |it: &[u8]| usize::from(it[0]) << 8 | usize::from(it[1]);
        let mut begins = vec![false; 1 << 16];
        parts.iter().for_each(|it| begins[pair(it)] = true);
        let found = seen
            .windows(PART)
            .any(|it| begins[pair(it)] && parts.contains(it));
        cx.check_that("nothing secret is in the clear", !found)
    }

    /// How many bytes wait for an upgrade that fails: enough to arm a drain.
    pub(super) const SECRET: usize = 70_000;

    /// Nothing of what was sent behind the upgrade came in the clear.
    pub(super) fn kept(cx: &Cx, a: &Socket, peer: &Partner) -> Outcome {
        let sent = a.sent();
        not_in_clear(cx, peer, &sent[sent.len() - SECRET..])?;
        a.buffers(0)
    }

    /// Knows one address for every name.
    #[derive(Debug)]
    struct Here(SocketAddr);

    #[async_trait]
    impl Resolver for Here {
        async fn lookup(&self, _name: &Host, _port: u16) -> Result<Vec<SocketAddr>, Error> {
            Ok(vec![self.0])
        }
    }

    /// A request for this name that leads to this peer.
    pub(super) fn named(cx: &Cx, name: &str, to: &Partner) -> Result<OpenRequest, Failure> {
        let ip: Result<IpAddr, _> = to.host().parse();
        let ip = ip.map_err(|_| Failure::new("a peer without an address"))?;
        let resolver = Here(SocketAddr::new(ip, to.port()));
        Ok(OpenRequest::new(name, to.port())?
            .with_options(cx.options())
            .with_resolver(Arc::new(resolver)))
    }
}

//! Peers that speak TLS, against each other.

use tcpsocket::Bytes;

use super::Stage;
use crate::pattern::pattern;
use crate::tls::NAME;
use crate::{
    Certificate, CutBy, End, Outcome, Peer, Report, Script, Step, TlsClient, TlsReport, TlsServer,
    TlsVersion,
};

impl Stage<'_> {
    pub(super) async fn tls(&self) -> Outcome {
        self.tls_both_ways().await?;
        self.tls_after_clear_text().await?;
        self.tls_cut().await?;
        self.tls_reset().await?;
        self.tls_refused().await?;
        self.tls_broken().await
    }

    async fn tls_both_ways(&self) -> Outcome {
        let bytes = pattern(3, 300_000);
        for version in TlsVersion::ALL {
            let server = TlsServer::default().only(version).alpn(["imap", "pop"]);
            let listener = self.peer(Script::listen([
                Step::Accept,
                Step::Tls(server),
                Step::Read(bytes.len()),
                Step::Write(bytes.clone()),
                Step::CloseNotify,
                Step::Fin,
                Step::ReadToEnd,
            ]))?;
            let dialler = self.peer(Script::dial([
                Step::Connect(listener.address()),
                Step::TlsClient(TlsClient::new(NAME).alpn(["smtp", "pop"])),
                Step::WritePieces {
                    bytes: bytes.clone(),
                    piece: 50_000,
                },
                Step::ReadToEnd,
                Step::Fin,
            ]))?;
            self.until("TLS both ways", &*dialler, |it| it.done).await?;
            self.until("TLS both ways", &*listener, |it| it.done)
                .await?;
            for peer in [&*listener, &*dialler] {
                self.check("all bytes arrive", peer.received() == bytes, peer)?;
                self.check("encrypted", !shows(&peer.wire(), &bytes), peer)?;
                let told = tls(peer);
                self.check("the version", told.version == Some(version), peer)?;
                self.check("the protocol", told.alpn.as_deref() == Some(b"pop"), peer)?;
                self.check("FIN", peer.report().end == Some(End::Fin), peer)?;
            }
            let told = tls(&*listener);
            let sni = told.server_name.as_deref() == Some(NAME);
            self.check("the name that was sent", sni, &*listener)?;
            let offered = told.offered == [b"smtp".to_vec(), b"pop".to_vec()];
            self.check("what was offered", offered, &*listener)?;
            self.check("no goodbye", !told.close_notify, &*listener)?;
            self.check("a goodbye", tls(&*dialler).close_notify, &*dialler)?;
        }
        Ok(())
    }

    async fn tls_after_clear_text(&self) -> Outcome {
        let listener = self.peer(Script::listen([
            Step::Accept,
            Step::Read(4),
            Step::Write(Bytes::from_static(b"go")),
            Step::Tls(TlsServer::default()),
            Step::KeyUpdate,
            Step::Echo,
            Step::CloseNotify,
            Step::Fin,
        ]))?;
        let dialler = self.peer(Script::dial([
            Step::Connect(listener.address()),
            Step::Write(Bytes::from_static(b"stls")),
            Step::Read(2),
            Step::TlsClient(TlsClient::new("127.0.0.1")),
            Step::Write(Bytes::from_static(b"secret")),
            Step::Read(6),
            Step::CloseNotify,
            Step::Fin,
            Step::ReadToEnd,
        ]))?;
        self.until("an upgrade", &*listener, |it| it.done).await?;
        self.until("an upgrade", &*dialler, |it| it.done).await?;
        let told = tls(&*listener);
        let four = told.clear == 4 && listener.received() == b"stlssecret";
        self.check("what came in the clear", four, &*listener)?;
        let nameless = told.server_name.is_none() && told.offered.is_empty();
        self.check("no name and no protocols", nameless, &*listener)?;
        self.check("a goodbye", told.close_notify, &*listener)?;
        let two = tls(&*dialler).clear == 2 && dialler.received() == b"gosecret";
        self.check("what came in the clear", two, &*dialler)
    }

    async fn tls_cut(&self) -> Outcome {
        for (after, by) in [
            (0, CutBy::Fin),
            (100, CutBy::Fin),
            (20_000, CutBy::Fin),
            (20_000, CutBy::Silence),
        ] {
            let listener = self.peer(Script::listen([
                Step::Accept,
                Step::Tls(TlsServer::default().cut(after, by)),
                Step::Write(pattern(4, 30_000)),
                Step::CloseNotify,
                Step::Fin,
            ]))?;
            let handshake = after < 1000;
            let most = if by == CutBy::Fin { 30_000 } else { 16_384 };
            let dialler = self.peer(Script::dial([
                Step::Connect(listener.address()),
                Step::TlsClient(TlsClient::new(NAME)),
                Step::Read(most),
                Step::Fin,
            ]))?;
            if by == CutBy::Fin {
                self.until("a stream that is cut", &*dialler, |it| {
                    it.trouble.is_some() && it.end == Some(End::Fin)
                })
                .await?;
                self.check(
                    "nobody says goodbye",
                    !tls(&*dialler).close_notify,
                    &*dialler,
                )?;
            } else {
                self.until("the end of one who was left alone", &*listener, |it| {
                    it.done && it.end == Some(End::Fin)
                })
                .await?;
            }
            self.check("so much", tls(&*listener).written == after, &*listener)?;
            let complete = tls(&*dialler).complete;
            self.check("where it was cut", complete != handshake, &*dialler)?;
        }
        Ok(())
    }

    async fn tls_reset(&self) -> Outcome {
        let listener = self.peer(Script::listen([
            Step::Accept,
            Step::Tls(TlsServer::default().cut(300, CutBy::Reset)),
        ]))?;
        let dialler = self.peer(Script::dial([
            Step::Connect(listener.address()),
            Step::TlsClient(TlsClient::new(NAME)),
        ]))?;
        self.until("a handshake that is reset", &*dialler, |it| {
            it.end == Some(End::Reset)
        })
        .await?;
        self.until("the one who did it", &*listener, |it| it.done)
            .await
    }

    async fn tls_refused(&self) -> Outcome {
        let listener = self.peer(Script::listen([
            Step::Accept,
            Step::Tls(TlsServer::new(Certificate::WrongHost)),
        ]))?;
        let dialler = self.peer(Script::dial([
            Step::Connect(listener.address()),
            Step::TlsClient(TlsClient::new(NAME)),
        ]))?;
        let failed = |it: &Report| it.tls.as_ref().is_some_and(|it| it.failure.is_some());
        self.until("a certificate that is refused", &*dialler, failed)
            .await?;
        self.until("it is told so", &*listener, failed).await?;
        self.check("by an alert", tls(&*listener).alert == Some(42), &*listener)
    }

    async fn tls_broken(&self) -> Outcome {
        let listener = self.peer(Script::listen([
            Step::Accept,
            Step::Tls(TlsServer::default()),
            Step::Write(Bytes::from_static(b"good")),
            Step::WriteBelow(Bytes::from_static(b"bad, and no record")),
        ]))?;
        let dialler = self.peer(Script::dial([
            Step::Connect(listener.address()),
            Step::TlsClient(TlsClient::new(NAME)),
            Step::ReadToEnd,
        ]))?;
        self.until("a broken record", &*dialler, |it| it.trouble.is_some())
            .await?;
        let first = dialler.received() == b"good";
        self.check("what came before it", first, &*dialler)
    }
}

fn tls(peer: &dyn Peer) -> TlsReport {
    peer.report().tls.unwrap_or_default()
}

/// Whether any part of `secret` can be seen.
fn shows(wire: &[u8], secret: &[u8]) -> bool {
    wire.windows(16).any(|it| secret.starts_with(it))
}

//! A peer's TLS: its certificate, its choices, the place where it breaks off, and its report.

mod certificate;
mod session;

use std::fmt;

pub(crate) use self::certificate::NAME;
pub use self::certificate::{Certificate, roots};
pub use self::session::{TlsAcceptor, TlsSession};

/// How a peer speaks TLS, as the server; the argument of [`Step::Tls`](crate::Step::Tls).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsServer {
    /// The certificate that it presents.
    pub certificate: Certificate,
    /// The only version that it speaks; `None` for TLS 1.2 and 1.3.
    pub version: Option<TlsVersion>,
    /// The protocols that it chooses from by ALPN. If empty, it ignores ALPN; otherwise it refuses all others.
    pub alpn: Vec<Vec<u8>>,
    /// Whether it demands a certificate of the other side.
    pub demands_certificate: bool,
    /// Whether it accepts early data in resumed sessions.
    pub takes_early_data: bool,
    /// Where it breaks off, if it does.
    pub cut: Option<Cut>,
}

impl TlsServer {
    /// Speaks both versions, ignores ALPN, and presents this certificate.
    pub fn new(certificate: Certificate) -> TlsServer {
        TlsServer {
            certificate,
            version: None,
            alpn: Vec::new(),
            demands_certificate: false,
            takes_early_data: false,
            cut: None,
        }
    }

    /// The same in one version only.
    pub fn only(mut self, version: TlsVersion) -> TlsServer {
        self.version = Some(version);
        self
    }

    /// The same with these protocols.
    pub fn alpn<T: Into<Vec<u8>>>(mut self, names: impl IntoIterator<Item = T>) -> TlsServer {
        self.alpn = names.into_iter().map(Into::into).collect();
        self
    }

    /// The same, demanding a certificate.
    pub fn demanding_certificate(mut self) -> TlsServer {
        self.demands_certificate = true;
        self
    }

    /// The same, accepting early data.
    pub fn taking_early_data(mut self) -> TlsServer {
        self.takes_early_data = true;
        self
    }

    /// The same, breaking off after this many bytes of ciphertext.
    pub fn cut(mut self, after: usize, by: CutBy) -> TlsServer {
        self.cut = Some(Cut { after, by });
        self
    }
}

impl Default for TlsServer {
    /// One that shows a [good certificate](Certificate::Good).
    fn default() -> TlsServer {
        TlsServer::new(Certificate::Good)
    }
}

/// How a peer speaks TLS as the client, the argument of [`Step::TlsClient`](crate::Step::TlsClient): for the self-test of
/// worlds. It trusts the kit's roots.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsClient {
    /// The name or the address that it expects of the server.
    pub name: String,
    /// The protocols that it offers by ALPN.
    pub alpn: Vec<Vec<u8>>,
}

impl TlsClient {
    /// One that offers no protocols.
    pub fn new(name: impl Into<String>) -> TlsClient {
        TlsClient {
            name: name.into(),
            alpn: Vec::new(),
        }
    }

    /// The same, offering these protocols.
    pub fn alpn<T: Into<Vec<u8>>>(mut self, names: impl IntoIterator<Item = T>) -> TlsClient {
        self.alpn = names.into_iter().map(Into::into).collect();
        self
    }
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

impl TlsVersion {
    /// Both.
    pub const ALL: [TlsVersion; 2] = [TlsVersion::V1_2, TlsVersion::V1_3];

    /// `TLSv1.2` or `TLSv1.3`.
    pub fn as_str(self) -> &'static str {
        match self {
            TlsVersion::V1_2 => "TLSv1.2",
            TlsVersion::V1_3 => "TLSv1.3",
        }
    }
}

/// Where a peer breaks off. The steps behind that place are left out: it reads to the end, and its script is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cut {
    /// When it has written this many bytes of ciphertext, the handshake's included.
    pub after: usize,
    /// How.
    pub by: CutBy,
}

/// How a peer breaks off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CutBy {
    /// It sends FIN, and continues to read.
    Fin,
    /// It resets the connection.
    Reset,
    /// It writes nothing more, and continues to read.
    Silence,
}

/// A peer's view of TLS in its last connection.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsReport {
    /// The number of bytes received in the clear, before [`Step::Tls`](crate::Step::Tls).
    pub clear: usize,
    /// Whether the handshake is complete.
    pub complete: bool,
    /// Whether it resumed a session.
    pub resumed: bool,
    /// The name received as SNI.
    pub server_name: Option<String>,
    /// The protocols received by ALPN.
    pub offered: Vec<Vec<u8>>,
    /// The agreed protocol.
    pub alpn: Option<Vec<u8>>,
    /// The agreed version.
    pub version: Option<TlsVersion>,
    /// The certificates that it has sent, its own first.
    pub chain: Vec<Vec<u8>>,
    /// Whether any early data arrived.
    pub early_data: bool,
    /// Bytes of ciphertext that it has written.
    pub written: usize,
    /// Whether the other side has sent `close_notify`.
    pub close_notify: bool,
    /// The number of the other side's fatal alert.
    pub alert: Option<u8>,
    /// Why TLS has failed here.
    pub failure: Option<String>,
}

impl fmt::Debug for TlsReport {
    /// Without the certificates, which would hide all else.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsReport")
            .field("clear", &self.clear)
            .field("complete", &self.complete)
            .field("resumed", &self.resumed)
            .field("server_name", &self.server_name)
            .field("alpn", &self.alpn)
            .field("version", &self.version)
            .field("early_data", &self.early_data)
            .field("written", &self.written)
            .field("close_notify", &self.close_notify)
            .field("alert", &self.alert)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

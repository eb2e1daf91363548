//! TLS without I/O. The page below is the README.
#![doc = include_str!("../README.md")]

mod chain;
mod client;
mod failure;
mod pem;
mod session;
mod trust;
mod verifier;
mod x509;

pub use rustls;
pub use rustls::pki_types::CertificateDer;

pub use crate::client::Client;
pub use crate::failure::tls_failed;
pub use crate::session::{Incoming, MAX_DATA, MAX_WRITE, Session};
pub use crate::trust::Trust;

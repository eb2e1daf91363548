//! TLS without I/O; the page below is the README.
#![doc = include_str!("../README.md")]

mod client;
mod failure;
mod session;
mod trust;

pub use rustls;
pub use rustls::pki_types::CertificateDer;

pub use crate::client::Client;
pub use crate::failure::tls_failed;
pub use crate::session::{Incoming, MAX_DATA, MAX_WRITE, Session};
pub use crate::trust::Trust;

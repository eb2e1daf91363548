//! Sessions against a rustls server, in memory.

mod certificates;
mod closing;
mod cuts;
mod handshake;
mod messages;
mod support;
mod transfer;
mod trust;
mod versions;

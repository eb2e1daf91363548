//! The runtime-agnostic interface. The page below is the README.

#![doc = include_str!("../README.md")]

mod address;
mod capabilities;
mod error;
mod event;
mod ext;
mod gate;
mod handlers;
mod host;
mod options;
mod provider;
mod security;
mod server;
mod socket;
mod starttls;
mod state;

pub use async_trait::async_trait;
pub use bytes::Bytes;

pub use crate::address::{canonical_address, canonical_ip, is_public};
pub use crate::capabilities::Capabilities;
pub use crate::error::{Error, ErrorClass, ErrorName, UnknownErrorName};
pub use crate::event::{Close, Data, Event, ServerEvent};
pub use crate::ext::{
    Events, MARK, NextEvent, NextServerEvent, ServerEvents, SocketProviderExt, TcpServerSocketExt,
    TcpSocketExt,
};
pub use crate::gate::{Control, Gate, Meter, NoMeter, Resolver};
pub use crate::handlers::{Handlers, ServerHandlers};
pub use crate::host::Host;
pub use crate::options::{ListenRequest, OpenRequest, ServerSocketOptions, SocketOptions};
pub use crate::provider::SocketProvider;
pub use crate::security::{Secure, Security};
pub use crate::server::TcpServerSocket;
pub use crate::socket::TcpSocket;
pub use crate::starttls::StartTls;
pub use crate::state::{BinaryType, ReadyState};

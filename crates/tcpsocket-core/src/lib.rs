//! The machine of tcpsocket; the page below is the README.
#![doc = include_str!("../README.md")]

mod connector;
mod failure;
mod machine;
mod queue;

pub use crate::connector::{CONNECT_TIMEOUT, Connector, MOST_ADDRESSES, STAGGER, later};
pub use crate::failure::{connect_failed, listen_failed, stream_failed};
pub use crate::machine::{DISCARD_LIMIT, Input, Machine, Reading, Release, Settings};
pub use crate::queue::{Spent, SpentItem};

//! The implementation on smol; the page below is the README.
#![doc = include_str!("../README.md")]

mod admission;
mod event_loop;
mod foreign;
mod hosts;
mod order;
mod provider;
mod resolver;
mod scratch;
mod server;
mod socket;
mod source;
mod stream;
mod sys;
mod tls;

pub use crate::event_loop::Loop;
pub use crate::provider::{Smol, Task};
pub use crate::resolver::SystemResolver;

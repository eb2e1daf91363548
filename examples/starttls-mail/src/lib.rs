//! A mail client's first minute: STARTTLS, and what the server offers then. The page below is the README.
#![doc = include_str!("../README.md")]

mod ask;
mod by_hand;
mod protection;
mod reply;

pub use crate::ask::ask;
pub use crate::by_hand::ask_by_hand;
pub use crate::protection::protection;

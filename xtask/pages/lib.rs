//! The README and the pages of the book: every Rust block in them is compiled, and those with a `main` are run.
//!
//! The blocks of the guide to STARTTLS stand in `examples/starttls-mail`, those of the guide for implementers in
//! `examples/tiny-provider`; the tests of these crates compare them.

#[doc = include_str!("../../README.md")]
pub mod readme {}

#[doc = include_str!("../../docs/start.md")]
pub mod start {}

#[doc = include_str!("../../docs/concepts/turns.md")]
pub mod turns {}

#[doc = include_str!("../../docs/concepts/back-pressure.md")]
pub mod back_pressure {}

#[doc = include_str!("../../docs/concepts/closing.md")]
pub mod closing {}

#[doc = include_str!("../../docs/guide/hosting.md")]
pub mod hosting {}

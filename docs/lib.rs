//! The pages of the book, so that every Rust block in them is compiled.
//!
//! Those of the guide to STARTTLS are run: they stand in `examples/starttls-mail`, and its tests demand it. So do those of the guide for
//! implementers in `examples/tiny-provider`.

#[doc = include_str!("start.md")]
pub mod start {}

#[doc = include_str!("concepts/turns.md")]
pub mod turns {}

#[doc = include_str!("concepts/back-pressure.md")]
pub mod back_pressure {}

#[doc = include_str!("concepts/closing.md")]
pub mod closing {}

#[doc = include_str!("guide/hosting.md")]
pub mod hosting {}

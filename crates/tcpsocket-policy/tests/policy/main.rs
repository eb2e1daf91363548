//! The policy crate through its public interface, over a provider that only pretends.

mod composition;
mod failures;
mod fake;
mod gates;
mod generations;
mod guard;
mod levels;
mod log;
mod manifests;
mod revocation;

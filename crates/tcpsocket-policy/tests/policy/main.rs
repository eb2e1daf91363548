//! The policy crate through its public interface, over a provider that only pretends.

mod composition;
mod fake;
mod generations;
mod guard;
mod levels;
mod log;
mod manifests;
mod revocation;

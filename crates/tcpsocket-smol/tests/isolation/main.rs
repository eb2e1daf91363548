//! What one socket, thread or piece of foreign code can do to the others: nothing.

mod blocking;
mod endings;
mod locks;
mod loops;
mod panics;
mod passes;
mod support;
mod tls_peer;

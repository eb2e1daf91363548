//! What one socket, thread or piece of foreign code can do to the others: nothing.

mod loops;
mod panics;
mod support;

//! The command as its users meet it: the built binary, its input, output and exit code.

mod demo;
mod open;
mod pressure;
mod support;

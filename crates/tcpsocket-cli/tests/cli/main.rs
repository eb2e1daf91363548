//! The command as its users meet it: the built binary, its input, output and exit code.

mod demo;
mod failures;
mod listen;
mod memory;
mod open;
mod openssl;
mod pipes;
mod pressure;
mod secure;
mod starttls;
mod support;
mod tls;
mod trace;
mod words;

//! The conformance kit; the page below is the README.

#![doc = include_str!("../README.md")]

mod capability;
mod case;
pub mod cases;
mod cx;
mod descriptors;
mod mutants;
mod pattern;
mod property;
mod restricted;
mod runner;
mod selftest;
mod server;
mod socket;
mod specification;
mod std_world;
mod subject;
mod sync;
mod tls;
mod underlay;
mod wait;
mod warden;
mod world;

pub use crate::capability::Capability;
pub use crate::case::{BoxFuture, Case, Failure, Level, Outcome};
pub use crate::cases::CASES;
pub use crate::cx::Cx;
pub use crate::mutants::{MUTANTS, Mutant};
pub use crate::restricted::{App, Policy, Restricted, Trust};
pub use crate::runner::Runner;
pub use crate::selftest::selftest;
pub use crate::specification::{SPECIFICATION, page};
pub use crate::std_world::StdWorld;
pub use crate::subject::{Setup, Started, Subject};
pub use crate::tls::{
    Certificate, Cut, CutBy, TlsAcceptor, TlsClient, TlsReport, TlsServer, TlsSession, TlsVersion,
    roots,
};
pub use crate::world::{End, Peer, Report, Role, Script, Step, World};

/// The `main` of a test target with `harness = false` that judges one or more subjects.
/// The [crate's page](crate) shows a whole one.
#[macro_export]
macro_rules! main {
    ($($subject:expr),+ $(,)?) => {
        fn main() -> ::std::process::ExitCode {
            let args: ::std::vec::Vec<::std::string::String> = ::std::env::args().skip(1).collect();
            $crate::Runner::new(::std::vec![$(::std::boxed::Box::new($subject)),+]).run(&args)
        }
    };
}

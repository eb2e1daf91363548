//! Counts what a message, a MiB and an idle socket cost, side by side with plain smol.
//!
//! The subject runs in a process of its own (`subject.rs`), so that its system calls can be counted from outside; its
//! peer is blocking `std::net` in the process that counts (`peer.rs`).

mod heap;
mod measure;
mod peer;
mod subject;

use std::fmt;
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask bench [OPTION]...

  --quick           fewer messages and repetitions: counts are good, rates are not
  --with TOOL       counts system calls with perf or strace (default: perf if it works here, else strace)
  --detail          also which system calls, by strace
  --only WORKLOAD   echo-server, echo-client, send-64k, send-4k, receive or idle
";

/// What anything here may fail with.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    Loop,
    Spawner,
    Bare,
    Plain,
}

impl Variant {
    const ALL: [Variant; 4] = [
        Variant::Loop,
        Variant::Spawner,
        Variant::Bare,
        Variant::Plain,
    ];

    fn name(self) -> &'static str {
        match self {
            Variant::Loop => "on-loop",
            Variant::Spawner => "spawner",
            Variant::Bare => "bare",
            Variant::Plain => "smol",
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Variant::Loop => "Smol::on(&Loop), under Loop::block_on",
            Variant::Spawner => {
                "Smol::with_spawner(..), under smol::block_on with an async-executor"
            }
            Variant::Bare => "Smol::new(), under smol::block_on",
            Variant::Plain => {
                "Async<TcpStream>, under smol::block_on: what the others are compared with"
            }
        }
    }
}

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Workload {
    EchoServer,
    EchoClient,
    Send64K,
    Send4K,
    Receive,
    Idle,
}

impl Workload {
    const ALL: [Workload; 6] = [
        Workload::EchoServer,
        Workload::EchoClient,
        Workload::Send64K,
        Workload::Send4K,
        Workload::Receive,
        Workload::Idle,
    ];

    fn name(self) -> &'static str {
        match self {
            Workload::EchoServer => "echo-server",
            Workload::EchoClient => "echo-client",
            Workload::Send64K => "send-64k",
            Workload::Send4K => "send-4k",
            Workload::Receive => "receive",
            Workload::Idle => "idle",
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Workload::EchoServer => "per 64-byte echo, the serving side",
            Workload::EchoClient => "per 64-byte echo, the asking side",
            Workload::Send64K => "per MiB sent in pieces of 64 KiB",
            Workload::Send4K => "per MiB sent in pieces of 4 KiB",
            Workload::Receive => "per MiB received",
            Workload::Idle => "per idle open socket",
        }
    }

    fn is_bulk(self) -> bool {
        matches!(
            self,
            Workload::Send64K | Workload::Send4K | Workload::Receive
        )
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The size of an echoed message.
const MESSAGE: usize = 64;
const MIB: usize = 1 << 20;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args[..] {
        ["subject", variant, workload, count, port] => subject::run(variant, workload, count, port),
        _ => match measure::Plan::parse(&args) {
            Some(plan) => measure::run(&plan),
            None => {
                eprint!("{USAGE}");
                return ExitCode::FAILURE;
            }
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

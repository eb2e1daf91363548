//! The runner judged: cases that pass, fail, hang, crash, leave, leak and cannot run, and lists of known failures.
//!
//! A target without harness, because the runner starts its own program again for every case.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tcpsocket::{
    Capabilities, Error, ErrorName, ListenRequest, OpenRequest, SocketProvider, TcpServerSocket,
    TcpSocket, async_trait,
};
use tcpsocket_conformance::{Capability, Case, Failure, Mutant, Runner, Setup, Started, Subject};

/// The first argument of the program when it is to judge, not to test.
const JUDGE: &str = "judge";
/// Where the judging program looks for known failures.
const EXPECTATIONS: &str = "TCPSOCKET_EXPECTATIONS";

static CASES: &[Case] = &[
    Case {
        id: "fake/passes",
        requirement: "This holds.",
        run: |_| Box::pin(async { Ok(()) }),
        ..Case::MUST
    },
    Case {
        id: "fake/fails",
        requirement: "One is two.",
        run: |cx| Box::pin(async move { cx.check("one", 1, 2) }),
        ..Case::MUST
    },
    Case {
        id: "fake/hangs",
        requirement: "This ends.",
        deadline: Duration::from_millis(300),
        run: |_| Box::pin(std::future::pending()),
        ..Case::MUST
    },
    Case {
        id: "fake/spins",
        requirement: "This ends, too.",
        deadline: Duration::from_millis(600),
        run: |_| {
            Box::pin(async {
                let spins = std::thread::Builder::new().name("spins".into());
                let spinning = spins.spawn(|| {
                    loop {
                        std::hint::spin_loop();
                    }
                });
                drop(spinning);
                std::future::pending().await
            })
        },
        ..Case::MUST
    },
    Case {
        id: "fake/crashes",
        requirement: "This does not panic.",
        run: |_| Box::pin(async { panic!("as the test wants it") }),
        ..Case::MUST
    },
    Case {
        id: "fake/leaves",
        requirement: "This does not end the process.",
        run: |_| Box::pin(async { std::process::exit(0) }),
        ..Case::MUST
    },
    Case {
        id: "fake/starts-a-process",
        requirement: "What a case starts may hold its output when it has ended.",
        deadline: Duration::from_secs(1),
        run: |_| {
            Box::pin(async {
                let started = Command::new("sleep").arg("2").spawn();
                started.map_err(|error| Failure::new(error.to_string()))?;
                Ok(())
            })
        },
        ..Case::MUST
    },
    Case {
        id: "fake/not-here",
        requirement: "This shows only while it runs.",
        run: |_| Box::pin(async { Err(Failure::not_here("there is no such thing here")) }),
        ..Case::MUST
    },
    Case {
        id: "fake/leaks",
        requirement: "This leaves no descriptor behind.",
        run: |_| {
            Box::pin(async {
                std::mem::forget(std::net::UdpSocket::bind("127.0.0.1:0"));
                Ok(())
            })
        },
        ..Case::MUST
    },
    Case {
        id: "fake/cannot-run",
        requirement: "This needs what is not declared.",
        needs: &[Capability::Listen],
        ..Case::MUST
    },
    Case {
        id: "fake/offers-no-servers",
        requirement: "No servers are offered.",
        run: |cx| {
            Box::pin(async move { cx.check("listen", cx.provider().capabilities().listen, false) })
        },
        ..Case::MUST
    },
    Case {
        id: "fake/has-no-guards",
        requirement: "This needs guards.",
        guarded: true,
        ..Case::MUST
    },
];

static MUTANTS: &[Mutant] = &[
    Mutant {
        name: "boasts",
        repeats: "Nobody.",
        clauses: &["OPT-1"],
        what: "It offers servers.",
        caught_by: &["fake/offers-no-servers"],
        wrap: |it| Arc::new(Boasts(it)),
        ..Mutant::SOUND
    },
    Mutant {
        name: "harmless",
        what: "It does as it should.",
        caught_by: &["fake/offers-no-servers", "fake/fails"],
        ..Mutant::SOUND
    },
    Mutant {
        name: "panics",
        what: "It ends the process, which shows nothing.",
        caught_by: &["fake/passes"],
        wrap: |_| panic!("as the test wants it"),
        ..Mutant::SOUND
    },
    Mutant {
        name: "needs-servers",
        what: "It breaks what there is not.",
        caught_by: &["fake/fails"],
        needs: &[Capability::Listen],
        ..Mutant::SOUND
    },
    Mutant {
        name: "nobodys",
        what: "It names no case.",
        ..Mutant::SOUND
    },
];

/// Offers what it has not.
#[derive(Debug)]
struct Boasts(Arc<dyn SocketProvider>);

#[async_trait]
impl SocketProvider for Boasts {
    fn capabilities(&self) -> Capabilities {
        let mut offers = self.0.capabilities();
        offers.listen = true;
        offers
    }

    fn open_with(&self, request: OpenRequest) -> Result<Arc<dyn TcpSocket>, Error> {
        self.0.open_with(request)
    }

    async fn listen_with(&self, request: ListenRequest) -> Result<Arc<dyn TcpServerSocket>, Error> {
        self.0.listen_with(request).await
    }

    async fn idle(&self) {
        self.0.idle().await;
    }
}

/// Offers nothing and opens nothing: the cases above do not ask.
#[derive(Debug)]
struct Nothing;

fn refused() -> Error {
    Error::new(ErrorName::NotSupported, "nothing is offered here")
}

#[async_trait]
impl SocketProvider for Nothing {
    fn capabilities(&self) -> Capabilities {
        Capabilities::NONE
    }

    fn open_with(&self, _request: OpenRequest) -> Result<Arc<dyn TcpSocket>, Error> {
        Err(refused())
    }

    async fn listen_with(
        &self,
        _request: ListenRequest,
    ) -> Result<Arc<dyn TcpServerSocket>, Error> {
        Err(refused())
    }

    async fn idle(&self) {}
}

struct Fake;

impl Subject for Fake {
    fn name(&self) -> &str {
        "fake"
    }

    fn start(&self, _setup: Setup) -> Started {
        Started::new(Arc::new(Nothing), futures_lite::future::block_on)
    }
}

/// What the judging program said.
struct Said {
    text: String,
    success: bool,
}

fn judging(expectations: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.arg(JUDGE).args(args);
    command.env(EXPECTATIONS, expectations);
    command
}

fn judge(expectations: &Path, args: &[&str]) -> Said {
    let output = judging(expectations, args)
        .output()
        .expect("this program can be started");
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Said {
        text,
        success: output.status.success(),
    }
}

impl Said {
    fn has(&self, words: &[&str]) {
        for words in words {
            assert!(
                self.text.contains(words),
                "{words:?} is missing in:\n{}",
                self.text
            );
        }
    }

    fn ends(&self, success: bool) {
        assert_eq!(self.success, success, "{}", self.text);
    }
}

fn every_verdict_is_told(nowhere: &Path) {
    let table: &[(&str, bool, &[&str])] = &[
        (
            "fake/passes",
            true,
            &["case fake/passes ... ok", "1 passed; 0 failed"],
        ),
        (
            "fake/fails",
            false,
            &[
                "One is two.",
                "expected: 2",
                "actual:   1",
                "0 passed; 1 failed",
            ],
        ),
        (
            "fake/hangs",
            false,
            &[
                "case fake/hangs ... FAILED (timeout)",
                "0 passed; 1 failed",
                "threads at the kill:",
                ": waits, 0.0",
            ],
        ),
        (
            "fake/spins",
            false,
            &[
                "case fake/spins ... FAILED (timeout)",
                "threads at the kill:\n  spins: running, 0.",
                ": waits, 0.0",
            ],
        ),
        (
            "fake/crashes",
            false,
            &[
                "case fake/crashes ... FAILED (crash)",
                "as the test wants it",
            ],
        ),
        (
            "fake/leaves",
            false,
            &["case fake/leaves ... FAILED (crash)"],
        ),
        (
            "fake/leaks",
            false,
            &[
                "case fake/leaks ... FAILED",
                "the provider's leftovers (LIFE-8)",
                "descriptors: socket:[",
            ],
        ),
        (
            "fake/starts-a-process",
            true,
            &["case fake/starts-a-process ... ok"],
        ),
        (
            "fake/not-here",
            true,
            &["there is no such thing here", "0 failed; 1 ignored"],
        ),
        (
            "fake/cannot-run",
            true,
            &["listen is not declared", "0 passed; 0 failed; 1 ignored"],
        ),
        (
            "fake/has-no-guards",
            true,
            &["the subject has no guards", "0 passed; 0 failed; 1 ignored"],
        ),
    ];
    for (id, success, words) in table {
        let said = judge(nowhere, &["--filter", id]);
        said.has(words);
        said.ends(*success);
        if !success {
            said.has(&["rerun: ", &format!("--filter {id} --seed 1")]);
        }
    }
}

fn known_failures_are_counted_apart(directory: &Path) {
    write(directory, "\"fake/fails\" = \"later\"\n");
    let said = judge(directory, &["--filter", "fake/fails"]);
    said.has(&["later", "known failures: 1"]);
    said.ends(true);
}

fn stale_and_unknown_entries_are_errors(directory: &Path) {
    write(directory, "\"fake/passes\" = \"it used to fail\"\n");
    let said = judge(directory, &["--filter", "fake/passes"]);
    said.has(&["it used to fail"]);
    said.ends(false);
    write(directory, "\"fake/renamed\" = \"it used to fail\"\n");
    let said = judge(directory, &["--filter", "fake/passes"]);
    said.has(&["no case fake/renamed"]);
    said.ends(false);
}

fn nothing_to_judge_is_an_error(nowhere: &Path) {
    judge(nowhere, &["--filter", "no-such-case"]).ends(false);
    judge(nowhere, &["--subject", "nobody"]).ends(false);
    let said = judge(nowhere, &["--list"]);
    said.has(&["fake/passes", "One is two."]);
    said.ends(true);
}

fn the_verdict_stands_although_nobody_reads_it(nowhere: &Path) {
    for (filter, success) in [("fake/passes", true), ("fake/fails", false)] {
        let mut child = judging(nowhere, &["--filter", filter])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("this program can be started");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), success, "{said}");
        assert!(said.is_empty(), "{said}");
    }
}

fn mutants_must_be_caught(nowhere: &Path) {
    let said = judge(nowhere, &["--mutants", "--mutant", "boasts"]);
    said.has(&["mutant boasts ... caught by fake/offers-no-servers"]);
    said.has(&["1 caught; 0 survived; 0 ignored"]);
    said.ends(true);

    let said = judge(nowhere, &["--mutants"]);
    said.has(&[
        "mutant harmless ... SURVIVED fake/offers-no-servers\n",
        "fake/offers-no-servers must fail: passed",
        "mutant panics ... SURVIVED fake/passes",
        "as the test wants it",
        "mutant needs-servers ... ignored, listen is not declared",
        "mutant nobodys ... SURVIVED",
        "no named case fails because of it",
        "1 caught; 3 survived; 1 ignored",
    ]);
    said.ends(false);

    let all = [
        "--mutants",
        "--all-cases",
        "--filter",
        "fake/offers*",
        "--filter",
        "fake/passes",
    ];
    let said = judge(nowhere, &all);
    said.has(&[
        "boasts (1)",
        "cases that no mutant fails: 1 of 2",
        "fake/passes",
    ]);
}

fn one_mutant_is_judged(nowhere: &Path) {
    let filter = "fake/offers-no-servers";
    let said = judge(nowhere, &["--mutant", "boasts", "--filter", filter]);
    said.has(&[
        "actual:   true",
        &format!("--mutant boasts --filter {filter}"),
    ]);
    said.ends(false);
    judge(nowhere, &["--mutant", "harmless", "--filter", filter]).ends(true);
    let said = judge(nowhere, &["--mutant", "nowhere"]);
    said.has(&["no mutant nowhere"]);
    said.ends(false);
    for (args, words) in [
        (&["--all-cases"][..], "--all-cases needs --mutants"),
        (&["--mutants", "--filter", "fake"], "--filter needs"),
        (
            &["--mutants", "--json", "f"],
            "cannot be combined with --mutants",
        ),
    ] {
        let said = judge(nowhere, args);
        said.has(&[words]);
        said.ends(false);
    }
    let said = judge(nowhere, &["--mutants", "--list"]);
    said.has(&["boasts [OPT-1]", "It offers servers."]);
    said.ends(true);
}

fn write(directory: &Path, text: &str) {
    std::fs::create_dir_all(directory).expect("a directory for the test");
    let mut file = std::fs::File::create(directory.join("fake.toml")).expect("a file in it");
    file.write_all(text.as_bytes()).expect("a small file");
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|it| it == JUDGE) {
        let expectations = PathBuf::from(std::env::var_os(EXPECTATIONS).unwrap_or_default());
        return Runner::new(vec![Box::new(Fake)])
            .prefix([JUDGE])
            .cases(CASES)
            .mutants(MUTANTS)
            .expectations(expectations)
            .run(&args[1..]);
    }
    if args.iter().any(|it| it == "--list") {
        return ExitCode::SUCCESS;
    }
    let directory = std::env::temp_dir().join(format!("tcpsocket-runner-{}", std::process::id()));
    let nowhere = directory.join("nowhere");
    every_verdict_is_told(&nowhere);
    known_failures_are_counted_apart(&directory);
    stale_and_unknown_entries_are_errors(&directory);
    nothing_to_judge_is_an_error(&nowhere);
    the_verdict_stands_although_nobody_reads_it(&nowhere);
    mutants_must_be_caught(&nowhere);
    one_mutant_is_judged(&nowhere);
    let _ = std::fs::remove_dir_all(&directory);
    println!("\ntest result: ok. 6 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
    ExitCode::SUCCESS
}

//! A slow link, and one that loses packets: a loopback of our own in a network namespace.
//!
//! This program runs itself again in there, with the servers beside it.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use tcpsocket::SocketOptions;

use super::net::Way;
use super::pki::Authority;
use super::process::{Folder, Server, program};
use super::run::Run;
use super::{Fixture, nginx, redis};

/// The option by which this program knows that it is in the namespace.
pub(super) const INSIDE: &str = "--inside";

const LIMIT: Duration = Duration::from_secs(60);

/// What the slow link carries, in bits a second.
const RATE: u64 = 32_000_000;

const FILE: u64 = 4 << 20;

pub(super) const FIXTURE: Fixture = Fixture {
    name: "link",
    needs: &[
        ("ip", "iproute2"),
        ("nft", "nftables"),
        ("nginx", "nginx-light"),
        ("redis-server", "redis-server"),
        ("tc", "iproute2"),
        ("unshare", "util-linux"),
    ],
    run,
};

/// A link, and means to make it, one of which must be possible.
struct Link {
    name: &'static str,
    means: &'static [Means],
}

/// What makes a link, and what prints how many packets it has lost.
struct Means {
    name: &'static str,
    make: &'static str,
    lost: &'static str,
}

const LINKS: &[Link] = &[
    Link {
        name: "slow",
        means: &[Means {
            name: "tbf",
            make: "tc qdisc add dev lo root tbf rate 32mbit burst 64kb latency 400ms",
            lost: r"tc -s qdisc show dev lo | sed -n 's/.*(dropped \([0-9]*\).*/\1/p'",
        }],
    },
    Link {
        name: "lossy",
        means: &[
            Means {
                name: "nftables",
                make: "nft 'add table inet loss; \
                       add chain inet loss in { type filter hook input priority 0; }; \
                       add rule inet loss in numgen random mod 100 < 2 counter drop'",
                lost: r"nft list table inet loss | sed -n 's/.*counter packets \([0-9]*\).*/\1/p'",
            },
            Means {
                name: "netem",
                make: "tc qdisc add dev lo root netem loss 2%",
                lost: r"tc -s qdisc show dev lo | sed -n 's/.*(dropped \([0-9]*\).*/\1/p'",
            },
        ],
    },
];

/// The environment variable with the command that prints how many packets were lost.
const LOST: &str = "TCPSOCKET_LOST";

fn run(run: &mut Run, _: &Folder) -> Result<(), String> {
    for link in LINKS {
        let mut reasons = Vec::new();
        let mut possible = link.means.iter().filter(|means| match possible(means) {
            Ok(()) => true,
            Err(message) => {
                reasons.push(format!("{} ({message})", means.name));
                false
            }
        });
        let chosen = possible.next();
        drop(possible);
        match chosen {
            Some(means) => inside_of(run, link, means)?,
            None => run.kernel_cannot(&format!("a {} link", link.name), &reasons.join(" and ")),
        }
    }
    Ok(())
}

/// In a namespace, as whoever we are. The loopback has packets as a network has them.
fn namespace(means: &Means) -> Command {
    let mut unshare = Command::new("unshare");
    let script = format!(
        "set -e; ip link set lo mtu 1500 gso_max_size 1500 gso_max_segs 1 up; {}; exec \"$0\" \"$@\"",
        means.make
    );
    unshare.args(["--map-root-user", "--net", "sh", "-c", &script]);
    let path = std::env::var("PATH").unwrap_or_default();
    unshare.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    unshare.env(LOST, means.lost);
    unshare
}

/// Whether the kernel can do this.
fn possible(means: &Means) -> Result<(), String> {
    let output = namespace(means)
        .arg("true")
        .output()
        .map_err(|error| format!("unshare: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

/// Runs the checks of a link in there.
fn inside_of(run: &mut Run, link: &Link, means: &Means) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("in the namespace: {error}");
    let mut child = namespace(means)
        .arg(std::env::current_exe().map_err(failed)?)
        .args(["servers", INSIDE, link.name])
        .arg(&run.tool)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut counts = None;
    for line in child
        .stdout
        .take()
        .into_iter()
        .flat_map(|it| BufReader::new(it).lines())
    {
        let line = line.map_err(failed)?;
        match line.strip_prefix(COUNTS) {
            Some(numbers) => {
                let mut numbers = numbers.split(' ').map(str::parse::<usize>);
                if let (Some(Ok(passed)), Some(Ok(failed))) = (numbers.next(), numbers.next()) {
                    counts = Some((passed, failed));
                }
            }
            None => println!("{line} [{}]", means.name),
        }
    }
    let status = child.wait().map_err(failed)?;
    match counts {
        Some((passed, failed)) => {
            run.add(passed, failed);
            Ok(())
        }
        None => Err(format!("the checks in the namespace ended with {status}")),
    }
}

/// Begins the line with the counts, for the program outside.
const COUNTS: &str = "counts: ";

/// What runs in the namespace.
pub(super) fn inside(link: &str, tool: PathBuf) -> ExitCode {
    let mut run = Run::new(tool, false);
    run.begin("link");
    let checks = match link {
        "slow" => slow,
        _ => lossy,
    };
    let outcome = Folder::new("link-inside").and_then(|folder| checks(&mut run, &folder));
    if let Err(message) = outcome {
        run.fail("the servers", &message);
    }
    println!("{COUNTS}{} {}", run.passed, run.failed);
    ExitCode::SUCCESS
}

/// The servers, and what is needed to reach them.
struct Servers {
    nginx: Server,
    redis: Server,
    digest: [u8; 32],
    believes: tcpsocket_tls::Client,
}

fn start(folder: &Folder) -> Result<Servers, String> {
    program("nginx")?;
    let authority = Authority::new(folder.path(), "authority")?;
    let digest = nginx::noise(&folder.path().join("file"), FILE)?;
    Ok(Servers {
        nginx: nginx::start(folder, &authority.server()?)?,
        redis: redis::start(folder)?,
        digest,
        believes: authority.client()?,
    })
}

fn slow(run: &mut Run, folder: &Folder) -> Result<(), String> {
    let servers = start(folder)?;
    // What the bucket lets through at once, and what is no payload.
    let least = Duration::from_secs_f64((FILE - (256 << 10)) as f64 * 8.0 / RATE as f64);
    let in_time = |bytes_times: u32, begun: Instant, told: String| match begun.elapsed()
        >= least * bytes_times
    {
        true => Ok(told),
        false => Err(format!("{told}: the link was not slow")),
    };
    for way in Way::ALL {
        for (at, tls) in [(0, false), (1, true)] {
            let name = if tls { "HTTPS" } else { "HTTP" };
            run.check(&format!("4 MiB by {name} over 32 Mbit/s, {way}"), || {
                let begun = Instant::now();
                let wanted = ("/file", FILE, servers.digest);
                let told =
                    nginx::download(way, &servers.believes, servers.nginx.ports[at], tls, wanted)?;
                in_time(1, begun, told)
            });
        }
        run.check(
            &format!("4 MiB to redis over 32 Mbit/s and back, {way}"),
            || {
                let begun = Instant::now();
                let port = servers.redis.port();
                let told = way.run(&servers.believes, LIMIT, async |net| {
                    redis::large(net, port, SocketOptions::new(), FILE).await
                })?;
                in_time(2, begun, told)
            },
        );
    }
    Ok(())
}

fn lossy(run: &mut Run, folder: &Folder) -> Result<(), String> {
    let servers = start(folder)?;
    for way in Way::ALL {
        for (at, tls) in [(0, false), (1, true)] {
            let name = if tls { "HTTPS" } else { "HTTP" };
            run.check(
                &format!("4 MiB by {name}, 2 % of the packets lost, {way}"),
                || {
                    let wanted = ("/file", FILE, servers.digest);
                    losing(|| {
                        nginx::download(
                            way,
                            &servers.believes,
                            servers.nginx.ports[at],
                            tls,
                            wanted,
                        )
                    })
                },
            );
        }
        run.check(
            &format!("4 MiB to redis and back, 2 % of the packets lost, {way}"),
            || {
                let port = servers.redis.port();
                losing(|| {
                    way.run(&servers.believes, LIMIT, async |net| {
                        redis::large(net, port, SocketOptions::new(), FILE).await
                    })
                })
            },
        );
    }
    Ok(())
}

/// That packets were lost, and how many.
fn losing(check: impl FnOnce() -> Result<String, String>) -> Result<String, String> {
    let before = lost()?;
    let told = check()?;
    match lost()? - before {
        0 => Err(format!("{told}: no packet was lost")),
        count => Ok(format!("{told}, {count} packets lost")),
    }
}

fn lost() -> Result<u64, String> {
    let command = std::env::var(LOST).map_err(|it| format!("{LOST}: {it}"))?;
    let output = Command::new("sh").args(["-c", &command]).output();
    let output = output.map_err(|it| format!("{command}: {it}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim()
        .parse()
        .map_err(|_| format!("{command}: {}", String::from_utf8_lossy(&output.stderr)))
}

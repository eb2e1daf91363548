//! From a request to a connection: gates, one lookup, gates again, and then the race of RFC 8305, a thread for each runner.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6, TcpStream};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tcpsocket::{Error, ErrorName, Gate, Host, OpenRequest, Resolver, canonical_address};

use crate::attempt::{Attempt, Stopped};
use crate::foreign::{ask, ask_gate};
use crate::net;

/// What `Gate::name` of every gate says.
pub(crate) type Admission = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// How long connecting may take (OPT-3).
const TIMEOUT: Duration = Duration::from_secs(30);
/// How many addresses are dialled for one open (GATE-20).
const MOST_ADDRESSES: usize = 32;
/// The head start of each runner.
const STAGGER: Duration = Duration::from_millis(250);

pub(crate) fn admission(request: &OpenRequest) -> Admission {
    let gates = request.gates().to_vec();
    let (host, port) = (request.host().clone(), request.port());
    Box::pin(async move {
        for gate in gates {
            ask_gate(|| gate.name(&host, port)).await?;
        }
        Ok(())
    })
}

/// Takes as long as it takes; the attempt may be given up meanwhile, and then the error is of no interest.
pub(crate) fn connect(
    attempt: &Arc<Attempt>,
    admission: Option<Admission>,
    request: &OpenRequest,
    resolver: &dyn Resolver,
) -> Result<TcpStream, Error> {
    let (host, port) = (request.host(), request.port());
    let timeout = request.options().connect_timeout.unwrap_or(TIMEOUT);
    if let Some(admission) = admission {
        attempt.run(admission, None).map_err(stopped)??;
    }
    // The clock runs while we look up and dial, and not while a gate decides (GATE-7).
    let began = Instant::now();
    let scope = host.zone().map(interface);
    let found = match host.literal() {
        Some(ip) => vec![literal(ip, scope.flatten(), port)],
        None => {
            let question = ask(|| resolver.lookup(host, port));
            let answer = attempt.run(question, began.checked_add(timeout));
            let panicked = || Err(Error::new(ErrorName::Network, "a resolver has panicked"));
            answer.map_err(stopped)?.unwrap_or_else(panicked)?
        }
    };
    let left = timeout.saturating_sub(began.elapsed());
    if let Some(it) = found.iter().find(|it| it.port() != port) {
        let why = format!("asked for {host} at port {port}, the resolver answered with {it}");
        return Err(Error::new(ErrorName::Network, why));
    }
    let found: Vec<SocketAddr> = found.into_iter().map(canonical_address).collect();
    if found.is_empty() {
        let why = format!("{host} has no address");
        return Err(Error::new(ErrorName::DomainNotFound, why));
    }
    let admitted = attempt
        .run(admit(request.gates(), host, found), None)
        .map_err(stopped)??;
    if scope == Some(None) {
        let why = format!("{host}: there is no such interface");
        return Err(Error::new(ErrorName::ConnectionRefused, why));
    }
    let end = Instant::now().checked_add(left);
    let stream = race(attempt, in_turn(admitted), end)?;
    let options = request.options();
    net::set_up(&stream, options.no_delay, options.keep_alive).map_err(net::broken)?;
    Ok(stream)
}

fn stopped(why: Stopped) -> Error {
    match why {
        Stopped::TimedOut => net::timed_out("no connection within connect_timeout"),
        Stopped::GivenUp => Error::new(ErrorName::Network, "the attempt was given up"),
    }
}

fn literal(ip: IpAddr, scope: Option<u32>, port: u16) -> SocketAddr {
    match (ip, scope) {
        (IpAddr::V6(ip), Some(scope)) => SocketAddrV6::new(ip, port, 0, scope).into(),
        (ip, _) => SocketAddr::new(ip, port),
    }
}

/// The number of an interface, which a zone is or names. Gates must not notice that there is none (NAME-13).
fn interface(zone: &str) -> Option<u32> {
    // `std` has no if_nametoindex; on Linux the answer is in a file.
    let named = || {
        let index = std::fs::read_to_string(format!("/sys/class/net/{zone}/ifindex")).ok()?;
        index.trim().parse().ok()
    };
    zone.parse().ok().or_else(named)
}

/// Shows all addresses to every gate, and keeps those that all of them returned.
async fn admit(
    gates: &[Arc<dyn Gate>],
    host: &Host,
    found: Vec<SocketAddr>,
) -> Result<Vec<SocketAddr>, Error> {
    let mut left = found.clone();
    for gate in gates {
        let admitted = ask_gate(|| gate.connect(host, &found)).await?;
        left.retain(|it| admitted.contains(it));
        if left.is_empty() {
            let why = "no address of this host may be dialled";
            return Err(Error::new(ErrorName::NotAllowed, why));
        }
    }
    Ok(left)
}

/// One of each family in turn, beginning with that of the first, and no more than may be dialled.
fn in_turn(all: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = all.first().is_some_and(SocketAddr::is_ipv6);
    let (ours, theirs): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|it| it.is_ipv6() == first_is_v6);
    let (mut ours, mut theirs) = (ours.into_iter(), theirs.into_iter());
    let mut turns = Vec::new();
    loop {
        let pair = [ours.next(), theirs.next()];
        if pair == [None, None] {
            turns.truncate(MOST_ADDRESSES);
            return turns;
        }
        turns.extend(pair.into_iter().flatten());
    }
}

/// The first connection wins; the others are closed as they come.
fn race(
    attempt: &Arc<Attempt>,
    addresses: Vec<SocketAddr>,
    end: Option<Instant>,
) -> Result<TcpStream, Error> {
    if let [only] = addresses[..] {
        return dial(only, end, || attempt.is_given_up());
    }
    let is_over = Over::default();
    let (finish, finished) = mpsc::channel();
    let mut waiting = addresses.into_iter();
    let (mut running, mut furthest) = (0, None);
    loop {
        if let Some(next) = waiting.next() {
            let (attempt, finish) = (attempt.clone(), finish.clone());
            let over = is_over.0.clone();
            let lost = move || over.load(Ordering::Relaxed) || attempt.is_given_up();
            let runner = move || {
                let _ = finish.send(dial(next, end, lost));
            };
            let runner = thread::Builder::new()
                .name(format!("dial {next}"))
                .spawn(runner);
            runner.map_err(net::no_thread)?;
            running += 1;
        }
        // Runners look at the clock and at the attempt by themselves.
        let patience = match waiting.len() {
            0 => TIMEOUT,
            _ => STAGGER,
        };
        match finished.recv_timeout(patience) {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => {
                running -= 1;
                furthest = Some(further(furthest, error));
            }
            Err(_) => {}
        }
        if attempt.is_given_up() {
            return Err(stopped(Stopped::GivenUp));
        }
        match furthest.take() {
            Some(_) if running == 0 && has_come(end) => {
                return Err(stopped(Stopped::TimedOut));
            }
            Some(error) if running == 0 && waiting.len() == 0 => return Err(error),
            it => furthest = it,
        }
    }
}

/// Tells the runners, when it is dropped, that the race is over.
#[derive(Default)]
struct Over(Arc<AtomicBool>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn has_come(end: Option<Instant>) -> bool {
    end.is_some_and(|it| it <= Instant::now())
}

/// The error of the one that got further (ERR-13).
fn further(a: Option<Error>, b: Error) -> Error {
    use std::error::Error as _;
    let rank = |it: &Error| {
        let cause = it
            .source()
            .and_then(|it| it.downcast_ref::<std::io::Error>());
        match (it.name(), cause.map(std::io::Error::kind)) {
            (ErrorName::ConnectionRefused, Some(std::io::ErrorKind::ConnectionRefused)) => 2,
            (ErrorName::NetworkTimeout, _) => 1,
            _ => 0,
        }
    };
    match a {
        Some(a) if rank(&a) >= rank(&b) => a,
        _ => b,
    }
}

/// Dials one address. Linux bounds a blocking connect by the write timeout and goes on waiting at the next call, so that
/// we can look up now and then.
fn dial(to: SocketAddr, end: Option<Instant>, lost: impl Fn() -> bool) -> Result<TcpStream, Error> {
    let explain = |it| net::connect_error(to, it);
    let kind = Type::STREAM;
    let socket =
        Socket::new(Domain::for_address(to), kind, Some(Protocol::TCP)).map_err(explain)?;
    socket
        .set_write_timeout(Some(net::LOOK_UP))
        .map_err(explain)?;
    loop {
        if lost() {
            return Err(stopped(Stopped::GivenUp));
        }
        if has_come(end) {
            return Err(stopped(Stopped::TimedOut));
        }
        match socket.connect(&to.into()) {
            Ok(()) if net::is_itself(&socket).map_err(explain)? => {
                let _ = socket.set_linger(Some(Duration::ZERO));
                return Err(explain(io::ErrorKind::ConnectionRefused.into()));
            }
            Ok(()) => return Ok(socket.into()),
            Err(it) if net::again(&it) => {}
            Err(it) => return Err(explain(it)),
        }
    }
}

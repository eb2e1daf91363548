//! Gates that a host registers with its guard: one more say, behind the policy's (PERM-25).

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, Weak};

use tcpsocket::{
    Bytes, Control, Error, ErrorName, Event, Gate, Host, Meter, NoMeter, OpenRequest,
    SocketProvider, async_trait,
};
use tcpsocket_policy::{App, Guarded, Level, Manifest, Policy};

use Level::{Certified, Hosted, Privileged};

use crate::fake::Fake;
use crate::log::{
    Log, app, app_named, assert_ended, assert_refusal, assert_server_ended, listen, next, next_of,
    open, ready,
};

type Notes = Arc<Mutex<Vec<String>>>;

/// Notes what it is asked and told, admits what it is told to, and keeps its controls.
#[derive(Clone, Default)]
struct Notary {
    id: &'static str,
    notes: Notes,
    admits: Option<Vec<IpAddr>>,
    refuses_bytes: bool,
    controls: Arc<Mutex<Vec<Weak<dyn Control>>>>,
}

impl Notary {
    fn note(&self, what: String) {
        self.notes
            .lock()
            .unwrap()
            .push(format!("{}: {what}", self.id));
    }
}

impl std::fmt::Debug for Notary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.id)
    }
}

#[async_trait]
impl Gate for Notary {
    async fn name(&self, host: &Host, port: u16) -> Result<(), Error> {
        self.note(format!("name {host} {port}"));
        Ok(())
    }
    async fn connect(&self, _host: &Host, all: &[SocketAddr]) -> Result<Vec<SocketAddr>, Error> {
        self.note(format!("connect {all:?}"));
        let admitted = |at: &&SocketAddr| {
            let listed = self.admits.as_ref().map(|ips| ips.contains(&at.ip()));
            listed.unwrap_or(true)
        };
        Ok(all.iter().filter(admitted).copied().collect())
    }
    async fn bind(&self, at: SocketAddr) -> Result<(), Error> {
        self.note(format!("bind {at}"));
        Ok(())
    }
    async fn accept(&self, local: SocketAddr, peer: SocketAddr) -> Result<(), Error> {
        self.note(format!("accept {peer} at {local}"));
        match &self.admits {
            Some(ips) if !ips.contains(&peer.ip()) => {
                Err(Error::new(ErrorName::NotAllowed, "not that one"))
            }
            _ => Ok(()),
        }
    }
    fn watch(&self, it: Weak<dyn Control>) -> Arc<dyn Meter> {
        self.note("watch".to_owned());
        self.controls.lock().unwrap().push(it);
        Arc::new(self.clone())
    }
}

impl Meter for Notary {
    fn queue(&self, bytes: usize) -> Result<(), Error> {
        self.note(format!("queue {bytes}"));
        match self.refuses_bytes {
            true => Err(Error::new(ErrorName::QuotaExceeded, "too much")),
            false => Ok(()),
        }
    }
    fn moved(&self, written: usize, read: usize, dropped: usize) {
        self.note(format!("moved {written} {read} {dropped}"));
    }
}

fn take(notes: &Notes) -> Vec<String> {
    std::mem::take(&mut notes.lock().unwrap())
}

fn ips(all: &[&str]) -> Vec<IpAddr> {
    all.iter().map(|it| it.parse().unwrap()).collect()
}

/// Two gates of one host, with one book.
fn two() -> (Notary, Notary, Notes) {
    let notes = Notes::default();
    let one = |id| Notary {
        id,
        notes: notes.clone(),
        ..Notary::default()
    };
    (one("a"), one("b"), notes)
}

#[test]
fn every_step_is_asked_in_order() {
    let fake = Fake::new();
    let (a, b, notes) = two();
    let net = Guarded::new(fake.clone(), app(Certified), Policy::firefox_os())
        .with_gate(Arc::new(a))
        .with_gate(Arc::new(b));
    let socket = open(&net).unwrap();
    assert_eq!(
        take(&notes),
        [
            "a: name 192.0.2.1 993",
            "b: name 192.0.2.1 993",
            "a: watch",
            "b: watch",
            "a: connect [192.0.2.1:993]",
            "b: connect [192.0.2.1:993]",
        ]
    );
    socket.send(Bytes::from_static(b"hello")).unwrap();
    assert_eq!(
        take(&notes),
        [
            "a: queue 5",
            "b: queue 5",
            "a: moved 5 5 0",
            "b: moved 5 5 0"
        ]
    );
    let _server = listen(&net, 0).unwrap();
    ready(fake.peer(40_000, SocketAddr::from(([192, 0, 2, 7], 5000)))).unwrap();
    assert_eq!(
        take(&notes),
        [
            "a: bind 127.0.0.1:0",
            "b: bind 127.0.0.1:0",
            "a: bind 127.0.0.1:40000",
            "b: bind 127.0.0.1:40000",
            "a: watch",
            "b: watch",
            "a: accept 192.0.2.7:5000 at 127.0.0.1:40000",
            "b: accept 192.0.2.7:5000 at 127.0.0.1:40000",
            "a: watch",
            "b: watch",
        ]
    );
}

#[test]
fn what_the_policy_denies_is_not_shown_to_them() {
    let fake = Fake::new();
    let (a, _, notes) = two();
    for (app, policy) in [
        (app(Hosted), Policy::firefox_os()),
        (app(Certified), Policy::new()),
        (
            App::new("app", Privileged, Manifest::new(Privileged)),
            Policy::firefox_os(),
        ),
    ] {
        let net = Guarded::new(fake.clone(), app, policy).with_gate(Arc::new(a.clone()));
        assert_refusal(&open(&net).unwrap_err());
        assert_refusal(&listen(&net, 8080).unwrap_err());
    }
    assert!(take(&notes).is_empty());
}

/// Of several gates, only what all of them return is dialled; if nothing is left, that is a refusal.
#[test]
fn only_addresses_that_all_admit_remain() {
    let all = ips(&["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    let host = Host::parse("db.example").unwrap();
    for (a_admits, b_admits, remain) in [
        (None, Some(ips(&["192.0.2.2"])), ips(&["192.0.2.2"])),
        (
            Some(ips(&["192.0.2.1", "192.0.2.2"])),
            Some(ips(&["192.0.2.2", "192.0.2.3"])),
            ips(&["192.0.2.2"]),
        ),
        (
            Some(ips(&["192.0.2.1"])),
            Some(ips(&["192.0.2.3"])),
            ips(&[]),
        ),
    ] {
        let fake = Fake::new();
        *fake.answers.lock().unwrap() = all.clone();
        let (mut a, mut b, notes) = two();
        (a.admits, b.admits) = (a_admits, b_admits);
        let net = Guarded::new(fake.clone(), app(Certified), Policy::firefox_os())
            .with_gate(Arc::new(a))
            .with_gate(Arc::new(b));
        net.open_with(OpenRequest::new("db.example", 993).unwrap())
            .unwrap();
        let gate = fake.opened.lock().unwrap()[0].gates()[0].clone();
        let found: Vec<SocketAddr> = all.iter().map(|ip| SocketAddr::new(*ip, 993)).collect();
        let remaining = ready(gate.connect(&host, &found)).unwrap();
        let remaining: Vec<IpAddr> = remaining.iter().map(SocketAddr::ip).collect();
        assert_eq!(remaining, remain);
        // Each is shown all of them (GATE-5).
        let shown = take(&notes);
        let shown = shown.iter().filter(|it| it.contains("192.0.2.3:993"));
        assert_eq!(shown.count(), 4);
    }
}

/// A meter that refuses takes back what those before it were told (ACC-5).
#[test]
fn a_meter_that_refuses_is_told_to_those_that_had_agreed() {
    let (a, mut b, notes) = two();
    b.refuses_bytes = true;
    let net = Guarded::new(Fake::new(), app(Certified), Policy::firefox_os())
        .with_gate(Arc::new(a))
        .with_gate(Arc::new(b));
    let socket = open(&net).unwrap();
    take(&notes);
    let error = socket.send(Bytes::from_static(b"hello")).unwrap_err();
    assert_eq!(error.name(), ErrorName::QuotaExceeded);
    assert_eq!(error.message(), "a limit of this app is reached");
    assert_eq!(take(&notes), ["a: queue 5", "b: queue 5", "a: moved 0 0 5"]);
    // No byte, nothing to take back.
    assert!(socket.send(Bytes::new()).is_err());
    assert_eq!(take(&notes), ["a: queue 0", "b: queue 0"]);
}

#[test]
fn a_refused_peer_is_told_to_nobody_but_the_host() {
    let fake = Fake::new();
    let log = Log::default();
    let (mut a, _, _) = two();
    a.admits = Some(ips(&["127.0.0.1"]));
    let net = Guarded::new(fake.clone(), app(Certified), Policy::firefox_os())
        .with_audit(log.sink())
        .with_gate(Arc::new(a));
    let server = listen(&net, 8080).unwrap();
    log.take();
    let peer = SocketAddr::from(([192, 0, 2, 7], 5000));
    assert!(ready(fake.peer(8080, peer)).is_err());
    assert!(next_of(&*server).is_pending());
    let told: Vec<String> = log.take_all().iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "app may accept 192.0.2.7:5000 at 127.0.0.1:8080: no rule denies it (rule: default)",
            "app: accept 192.0.2.7:5000 at 127.0.0.1:8080 failed: NotAllowedError: not that one",
        ]
    );
}

#[test]
fn a_control_of_such_a_gate_ends_what_it_watches() {
    let (a, _, _) = two();
    let controls = a.controls.clone();
    let net = Guarded::new(Fake::new(), app(Certified), Policy::firefox_os());
    let net = net.with_gate(Arc::new(a));
    let (socket, server) = (open(&net).unwrap(), listen(&net, 8080).unwrap());
    assert!(matches!(next(&*socket), Some(Event::Open)));
    for control in controls.lock().unwrap().iter() {
        let why = Error::new(
            ErrorName::NotAllowed,
            "the owner of 192.0.2.1 has complained",
        );
        control.upgrade().unwrap().abort(why);
    }
    assert_ended(&*socket);
    assert_server_ended(&*server);
}

/// The host hears of a gate's refusal when it falls, once, whether or not the app ever looks.
#[test]
fn a_refusal_is_told_when_it_falls() {
    let log = Log::default();
    let refuses: Says = Says(Error::new(ErrorName::NotAllowed, "10.1.2.3 is ours"));
    let net = Guarded::new(Fake::new(), app(Certified), Policy::firefox_os());
    let net = net.with_audit(log.sink()).with_gate(Arc::new(refuses));
    let socket = open(&net).unwrap();
    let failures = |log: &Log| -> Vec<String> {
        let entries = log.take_all().into_iter();
        let failed = entries.filter(|it| it.failure().is_some());
        failed.map(|it| it.to_string()).collect()
    };
    let told = "app: open 192.0.2.1:993 failed: NotAllowedError: 10.1.2.3 is ours";
    assert_eq!(failures(&log), [told]);
    assert_ended(&*socket);
    assert_eq!(failures(&log), [""; 0]);
}

/// Refuses every address, in these words.
#[derive(Debug)]
struct Says(Error);

#[async_trait]
impl Gate for Says {
    async fn name(&self, _host: &Host, _port: u16) -> Result<(), Error> {
        Ok(())
    }
    async fn connect(&self, _host: &Host, _all: &[SocketAddr]) -> Result<Vec<SocketAddr>, Error> {
        Err(self.0.clone())
    }
    async fn bind(&self, _at: SocketAddr) -> Result<(), Error> {
        Ok(())
    }
    async fn accept(&self, _local: SocketAddr, _peer: SocketAddr) -> Result<(), Error> {
        Ok(())
    }
    fn watch(&self, _it: Weak<dyn Control>) -> Arc<dyn Meter> {
        Arc::new(NoMeter)
    }
}

/// A guard below takes gates out of a request that are no guard's; those that belong to a guard stay with it.
#[test]
fn a_guard_below_leaves_them_in() {
    let fake = Fake::new();
    let (inner, outer, notes) = two();
    let net = Guarded::new(fake, app_named("system", Certified), Policy::firefox_os());
    let net = net.with_gate(Arc::new(inner));
    let net = Guarded::new(net, app_named("app", Certified), Policy::firefox_os());
    let net = net.with_gate(Arc::new(outer));
    open(&net).unwrap();
    let asked = take(&notes);
    let names: Vec<_> = asked.iter().filter(|it| it.contains("name")).collect();
    assert_eq!(names, ["a: name 192.0.2.1 993", "b: name 192.0.2.1 993"]);
}

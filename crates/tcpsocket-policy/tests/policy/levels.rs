//! Levels, the manifest's permission, the low-port rule and the default: who may do what.

use std::net::SocketAddr;

use proptest::prelude::*;
use tcpsocket::{ErrorName, ListenRequest, OpenRequest, SocketProvider};
use tcpsocket_policy::{App, Ask, Guarded, Level, Manifest, Policy, Rule, Verdict};

use Level::{Certified, Hosted, Privileged};
use Rule::{Default as Otherwise, LowPort};
use Verdict::{Allowed, Denied};

use crate::fake::Fake;
use crate::log::{Log, app, assert_refusal, ready};

/// Granted, claimed, and the lower of them.
const LEVELS: [(Level, Level, Level); 9] = [
    (Hosted, Hosted, Hosted),
    (Hosted, Privileged, Hosted),
    (Hosted, Certified, Hosted),
    (Privileged, Hosted, Hosted),
    (Privileged, Privileged, Privileged),
    (Privileged, Certified, Privileged),
    (Certified, Hosted, Hosted),
    (Certified, Privileged, Privileged),
    (Certified, Certified, Certified),
];

type Outcome = (Verdict, Rule);

/// What is done, with a port, and what a privileged and a certified app that requested the permission may do of it.
const OPERATIONS: [(Operation, u16, Outcome, Outcome); 20] = {
    use Operation::*;
    let yes = (Allowed, Otherwise);
    let low = (Denied, LowPort);
    [
        (Open, 1, yes, yes),
        (Open, 25, yes, yes),
        (Open, 80, yes, yes),
        (Open, 993, yes, yes),
        (Open, 1023, yes, yes),
        (Open, 1024, yes, yes),
        (Open, 65_535, yes, yes),
        (Listen, 0, yes, yes),
        (Listen, 1, low, yes),
        (Listen, 80, low, yes),
        (Listen, 1023, low, yes),
        (Listen, 1024, yes, yes),
        (Listen, 8080, yes, yes),
        (Listen, 65_535, yes, yes),
        (BindAutomatic, 1, low, yes),
        (BindAutomatic, 1023, low, yes),
        (BindAutomatic, 1024, yes, yes),
        (BindAutomatic, 40_000, yes, yes),
        (ForgottenBind, 1023, low, yes),
        (ForgottenBind, 1024, yes, yes),
    ]
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Open,
    Listen,
    /// Listens on an automatic port, which turns out to be this one.
    BindAutomatic,
    /// The same, on a provider that does not ask about it.
    ForgottenBind,
}

fn expected(level: Level, requested: bool, privileged: Outcome, certified: Outcome) -> Outcome {
    match (level, requested) {
        (Hosted, _) => (Denied, Rule::Level),
        (_, false) => (Denied, Rule::Manifest),
        (Privileged, true) => privileged,
        (Certified, true) => certified,
    }
}

fn every_app() -> impl Iterator<Item = (App, Level, bool)> {
    LEVELS.into_iter().flat_map(|(granted, claimed, level)| {
        [false, true].into_iter().map(move |requested| {
            let manifest = Manifest::new(claimed);
            let manifest = match requested {
                true => manifest.requesting_tcp_socket(),
                false => manifest,
            };
            (App::new("app", granted, manifest), level, requested)
        })
    })
}

/// Each row through the guard: the answer, what the sink is told, and that nothing of a refusal reaches the provider.
#[test]
fn levels_manifests_ports_and_operations_decide_as_the_table_says() {
    let mut rows = 0;
    for (app, level, requested) in every_app() {
        assert_eq!(app.level(), Some(level));
        assert_eq!(app.has_permission(), level > Hosted && requested);
        for (operation, port, privileged, certified) in OPERATIONS {
            let row = format!("{app:?} {operation:?} {port}");
            let (verdict, rule) = expected(level, requested, privileged, certified);
            let fake = Fake::new();
            let log = Log::default();
            let net = Guarded::new(fake.clone(), app.clone(), Policy::firefox_os())
                .with_audit(log.sink());

            let listen = |asked: u16| {
                let server = ready(net.listen_with(ListenRequest::new(asked).unwrap()))?;
                let bound = if asked == 0 {
                    *fake.automatic_port.lock().unwrap()
                } else {
                    asked
                };
                assert_eq!(server.local_port(), bound, "{row}");
                Ok(())
            };
            let answer = match operation {
                Operation::Open => net
                    .open_with(OpenRequest::new("192.0.2.1", port).unwrap())
                    .map(drop),
                Operation::Listen => listen(port),
                Operation::BindAutomatic | Operation::ForgottenBind => {
                    *fake.automatic_port.lock().unwrap() = port;
                    *fake.forgets_bind.lock().unwrap() = operation == Operation::ForgottenBind;
                    listen(0)
                }
            };

            let told = log.take();
            let last = told
                .last()
                .unwrap_or_else(|| panic!("{row}: nothing was recorded"));
            assert_eq!(
                (last.verdict(), last.rule()),
                (verdict, rule),
                "{row}: {last}"
            );
            assert_eq!(last.app(), "app");
            match (verdict, answer) {
                (Allowed, answer) => answer.unwrap_or_else(|error| panic!("{row}: {error}")),
                (Denied, Ok(())) => panic!("{row} went through"),
                (Denied, Err(error)) => assert_refusal(&error),
            }
            let known_at_call = told.len() == 1;
            if verdict == Denied && known_at_call && operation != Operation::ForgottenBind {
                assert!(fake.opened.lock().unwrap().is_empty(), "{row}");
                assert!(fake.listened.lock().unwrap().is_empty(), "{row}");
            }
            assert!(verdict == Allowed || !fake.listens_on(port), "{row}");

            let policy = Policy::firefox_os();
            let explained = match operation {
                Operation::Open => policy.explain(&app, &Ask::open("192.0.2.1", port).unwrap()),
                _ => policy.explain(&app, &Ask::listen(port).unwrap()),
            };
            assert_eq!(
                (explained.verdict(), explained.rule()),
                (verdict, rule),
                "{row}"
            );
            rows += 1;
        }
    }
    assert_eq!(rows, 9 * 2 * 20);
}

#[test]
fn a_new_policy_allows_nothing_to_anybody() {
    assert_eq!(Policy::new(), Policy::default());
    let host = "example.org".parse().unwrap();
    let at = |text: &str| -> SocketAddr { text.parse().unwrap() };
    let asks = [
        Ask::open("example.org", 443).unwrap(),
        Ask::open("127.0.0.1", 8080).unwrap(),
        Ask::connect(&host, at("192.0.2.1:443")),
        Ask::listen(0).unwrap(),
        Ask::listen(8080).unwrap(),
        Ask::bind(at("127.0.0.1:0")),
        Ask::bind(at("127.0.0.1:8080")),
        Ask::accept(at("127.0.0.1:8080"), at("127.0.0.1:40000")),
    ];
    for (app, level, requested) in every_app() {
        for ask in &asks {
            let decision = Policy::new().explain(&app, ask);
            assert_eq!(decision.verdict(), Denied, "{decision}");
            if level > Hosted && requested {
                assert_eq!(decision.rule(), Otherwise, "{decision}");
            }
        }
        let net = Guarded::new(Fake::new(), app, Policy::new());
        let refused = net.open_with(OpenRequest::new("127.0.0.1", 8080).unwrap());
        assert_refusal(&refused.unwrap_err());
        let refused = ready(net.listen_with(ListenRequest::new(0).unwrap()));
        assert_refusal(&refused.unwrap_err());
    }
}

/// Peers come from any port, and go to a low one only if the server may be there.
#[test]
fn the_low_port_rule_is_about_the_port_that_is_listened_on() {
    let policy = Policy::firefox_os();
    let at = |text: &str| -> SocketAddr { text.parse().unwrap() };
    let host = "192.0.2.1".parse().unwrap();
    let table = [
        (Ask::bind(at("127.0.0.1:80")), Denied),
        (Ask::bind(at("[::1]:80")), Denied),
        (Ask::bind(at("[::]:1023")), Denied),
        (Ask::bind(at("0.0.0.0:1024")), Allowed),
        (Ask::bind(at("0.0.0.0:0")), Allowed),
        (
            Ask::accept(at("127.0.0.1:80"), at("192.0.2.7:40000")),
            Denied,
        ),
        (
            Ask::accept(at("127.0.0.1:8080"), at("192.0.2.7:80")),
            Allowed,
        ),
        (Ask::connect(&host, at("192.0.2.1:22")), Allowed),
    ];
    for (ask, verdict) in table {
        let decision = policy.explain(&app(Privileged), &ask);
        assert_eq!(decision.verdict(), verdict, "{decision}");
        let decision = policy.explain(&app(Certified), &ask);
        assert_eq!(decision.verdict(), Allowed, "{decision}");
    }
}

/// Everything else is allowed by [`Policy::firefox_os`]: it has no hosts, address spaces or peers of its own.
#[test]
fn loopback_and_private_networks_are_open_to_firefox_os() {
    let policy = Policy::firefox_os();
    for host in [
        "127.0.0.1",
        "::1",
        "localhost",
        "10.0.0.1",
        "169.254.169.254",
        "fe80::1%eth0",
        "router.local",
    ] {
        let decision = policy.explain(&app(Privileged), &Ask::open(host, 80).unwrap());
        assert!(decision.is_allowed(), "{decision}");
    }
}

#[test]
fn words_and_levels_are_one_to_one() {
    for level in Level::ALL {
        assert_eq!(level.to_string().parse(), Ok(level));
    }
    for word in ["", "Web", "hosted", "trusted", "privileged ", "certified\0"] {
        let error = word.parse::<Level>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "the levels are \"web\", \"privileged\" and \"certified\""
        );
    }
    assert!(Level::ALL.is_sorted());
}

#[test]
fn explanations_say_who_what_and_which_rule() {
    let policy = Policy::firefox_os();
    let hosted = App::new(
        "game",
        Certified,
        Manifest::new(Hosted).requesting_tcp_socket(),
    );
    let silent = App::new("clock", Privileged, Manifest::new(Privileged));
    let revoked = app(Certified);
    revoked.grant().revoke();
    let host = "irc.example".parse().unwrap();
    let mapped: SocketAddr = "[::ffff:192.0.2.1]:6697".parse().unwrap();
    let table = [
        (
            policy.explain(&hosted, &Ask::open("irc.example", 6697).unwrap()),
            "game may not open irc.example:6697: sockets take a privileged app; this one is web, granted certified and \
             claiming web (rule: level)",
        ),
        (
            policy.explain(&silent, &Ask::open("::1", 6697).unwrap()),
            "clock may not open [::1]:6697: its manifest does not request tcp-socket (rule: manifest)",
        ),
        (
            policy.explain(&revoked, &Ask::listen(0).unwrap()),
            "app may not listen on an automatic port: the host has revoked what it granted (rule: grant)",
        ),
        (
            policy.explain(&app(Privileged), &Ask::connect(&host, mapped)),
            "app may dial 192.0.2.1:6697 for irc.example: no rule denies it (rule: default)",
        ),
        (
            Policy::new().explain(&app(Certified), &Ask::bind(mapped)),
            "app may not bind 192.0.2.1:6697: no rule allows it (rule: default)",
        ),
        (
            policy.explain(
                &app(Privileged),
                &Ask::accept("127.0.0.1:99".parse().unwrap(), mapped),
            ),
            "app may not accept 192.0.2.1:6697 at 127.0.0.1:99: listening below 1024 takes a certified app; this one \
             is privileged, granted privileged and claiming privileged (rule: low-port)",
        ),
    ];
    for (decision, text) in table {
        assert_eq!(decision.to_string(), text);
    }
    assert_eq!(
        Ask::open("h", 0).unwrap_err().name(),
        ErrorName::InvalidAccess
    );
    assert_eq!(
        Ask::listen(65_536).unwrap_err().name(),
        ErrorName::InvalidAccess
    );
}

fn any_level() -> impl Strategy<Value = Level> {
    prop::sample::select(Level::ALL.to_vec())
}

proptest! {
    /// Neither the host's grant nor the manifest's claim is ever exceeded, whatever the grant goes through.
    #[test]
    fn the_effective_level_exceeds_neither_side(
        claimed in any_level(),
        first in any_level(),
        changes in prop::collection::vec(prop::option::of(any_level()), 0..8),
    ) {
        let app = App::new("app", first, Manifest::new(claimed).requesting_tcp_socket());
        let mut granted = Some(first);
        for change in std::iter::once(None).chain(changes.into_iter().map(Some)) {
            match change {
                Some(Some(level)) => { app.grant().set_level(level); granted = Some(level) }
                Some(None) => { app.grant().revoke(); granted = None }
                None => {}
            }
            prop_assert_eq!(app.grant().level(), granted);
            prop_assert!(app.level() <= granted);
            prop_assert!(app.level() <= Some(claimed));
            prop_assert!(granted.is_none() || app.level() == granted || app.level() == Some(claimed));
        }
    }

    /// A higher level, more trust or a request never takes anything away: rules about levels are monotonic.
    #[test]
    fn more_trust_never_allows_less(
        (claimed, granted, more_claimed, more_granted) in (any_level(), any_level(), any_level(), any_level()),
        requested in any::<bool>(),
        listen in any::<bool>(),
        port in prop_oneof![1u16..1030, any::<u16>()],
    ) {
        let ask = if listen { Ask::listen(port).unwrap() } else { Ask::open("h", port.max(1)).unwrap() };
        let manifest = |level| match requested {
            true => Manifest::new(level).requesting_tcp_socket(),
            false => Manifest::new(level),
        };
        let less = App::new("app", granted, manifest(claimed));
        let more = App::new(
            "app",
            granted.max(more_granted),
            manifest(claimed.max(more_claimed)).requesting_tcp_socket(),
        );
        let policy = Policy::firefox_os();
        if policy.explain(&less, &ask).is_allowed() {
            prop_assert!(policy.explain(&more, &ask).is_allowed());
        }
    }
}

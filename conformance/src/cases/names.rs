//! Names and resolvers: who is asked, how often, and what becomes of the answer.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::{Mutex, Weak};

use tcpsocket::{Control, Gate, Host, Meter, NoMeter, Resolver, async_trait};

use super::prelude::*;

const NAMES: &[Capability] = &[Capability::Names, Capability::Resolver];
const GUARDED_NAMES: &[Capability] = &[Capability::Names, Capability::Resolver, Capability::Gates];

pub(super) const CASES: &[Case] = &[
    Case {
        id: "names/resolver-of-the-request",
        clauses: &["GATE-18", "GATE-3", "NAME-1", "IF-8"],
        needs: NAMES,
        requirement: "A request's resolver is asked once, for the canonical name; host echoes the given one.",
        run: |cx| Box::pin(resolver_of_the_request(cx)),
        ..Case::MUST
    },
    Case {
        id: "names/literals-are-not-looked-up",
        clauses: &["GATE-3"],
        needs: NAMES,
        requirement: "An address literal causes no lookup.",
        run: |cx| Box::pin(literals_are_not_looked_up(cx)),
        ..Case::MUST
    },
    Case {
        id: "names/empty-answer",
        clauses: &["GATE-18", "ERR-3", "IF-11"],
        needs: NAMES,
        requirement: "A name without an address is DomainNotFoundError, as an event.",
        run: |cx| Box::pin(empty_answer(cx)),
        ..Case::MUST
    },
    Case {
        id: "names/error-of-the-resolver",
        clauses: &["GATE-18"],
        needs: NAMES,
        requirement: "The resolver's error is reported.",
        run: |cx| Box::pin(error_of_the_resolver(cx)),
        ..Case::MUST
    },
    Case {
        id: "names/next-address-after-a-refusal",
        clauses: &["GATE-16"],
        level: Level::Should,
        needs: NAMES,
        requirement: "If an address refuses, the next one of the answer is dialled.",
        run: |cx| Box::pin(next_address_after_a_refusal(cx)),
        ..Case::MUST
    },
    Case {
        id: "names/next-address-after-silence",
        clauses: &["GATE-16"],
        level: Level::Should,
        needs: NAMES,
        requirement: "A silent address does not keep the next one from being dialled.",
        run: |cx| Box::pin(next_address_after_silence(cx)),
        ..Case::MUST
    },
    Case {
        id: "names/quiet-after-a-refused-address",
        clauses: &["EVT-3", "RX-3", "CL-13"],
        needs: NAMES,
        requirement: "After a refused first address a connection is like any other: quiet while idle, and closed in time.",
        run: |cx| Box::pin(quiet_after_a_refused_address(cx)),
        ..Case::MUST
    },
    Case {
        id: "names/another-port",
        clauses: &["GATE-18"],
        needs: NAMES,
        requirement: "An answer with a port other than the request's is NetworkError, and nothing is dialled.",
        run: |cx| Box::pin(another_port(cx)),
        ..Case::MUST
    },
    Case {
        id: "names/timeout-bounds-the-lookup",
        clauses: &["OPT-3"],
        needs: &[
            Capability::Names,
            Capability::Resolver,
            Capability::ConnectTimeout,
        ],
        requirement: "A lookup without an answer ends in NetworkTimeoutError, and is dropped.",
        run: |cx| Box::pin(timeout_bounds_the_lookup(cx)),
        ..Case::MUST
    },
    Case {
        id: "names/localhost",
        clauses: &["IF-8", "NAME-1"],
        needs: &[Capability::Names],
        requirement: "localhost is found without the request's resolver, and host echoes the given name.",
        run: |cx| Box::pin(localhost(cx)),
        ..Case::MUST
    },
    Case {
        id: "names/below-localhost",
        clauses: &["NAME-9", "NAME-7"],
        needs: &[Capability::Names],
        requirement: "localhost and the names below it mean this machine, without a resolver, with a final dot or without.",
        run: |cx| Box::pin(below_localhost(cx)),
        ..Case::MUST
    },
    Case {
        id: "names/final-dot",
        clauses: &["NAME-7", "NAME-1", "IF-8"],
        needs: GUARDED_NAMES,
        requirement: "The resolver receives a final dot; gates see the name without it.",
        run: |cx| Box::pin(final_dot(cx)),
        ..Case::MUST
    },
    Case {
        id: "names/answers-with-zones",
        clauses: &["NAME-12", "NAME-6"],
        needs: GUARDED_NAMES,
        requirement: "Meaningless zones and flow information are neither shown to gates nor dialled.",
        run: |cx| Box::pin(answers_with_zones(cx)),
        ..Case::MUST
    },
    Case {
        id: "names/thousands-of-addresses",
        clauses: &["GATE-20", "GATE-5"],
        needs: GUARDED_NAMES,
        requirement: "Gates see every address of an answer; at most 32 of them are dialled.",
        run: |cx| Box::pin(thousands_of_addresses(cx)),
        ..Case::MUST
    },
    Case {
        id: "names/every-gate-must-admit",
        clauses: &["GATE-1", "GATE-5"],
        needs: GUARDED_NAMES,
        requirement: "Every gate is asked once, about all addresses; an address omitted by one of them is not dialled.",
        run: |cx| Box::pin(every_gate_must_admit(cx)),
        ..Case::MUST
    },
    Case {
        id: "names/gates-before-and-after-the-lookup",
        clauses: &["GATE-2", "GATE-3", "GATE-5", "NAME-6"],
        needs: GUARDED_NAMES,
        requirement: "name is asked before the lookup, connect about all canonical answers after it.",
        run: |cx| Box::pin(gates_before_and_after_the_lookup(cx)),
        ..Case::MUST
    },
    Case {
        id: "names/refused-names-are-not-looked-up",
        clauses: &["GATE-3", "GATE-4"],
        needs: GUARDED_NAMES,
        requirement: "A name refused by a gate is never looked up.",
        run: |cx| Box::pin(refused_names_are_not_looked_up(cx)),
        ..Case::MUST
    },
    Case {
        id: "names/lookup-given-up",
        clauses: &["GATE-6", "CL-3"],
        needs: NAMES,
        requirement: "close drops a pending lookup, and only Close comes.",
        run: |cx| Box::pin(lookup_given_up(cx)),
        ..Case::MUST
    },
];

/// Notes what it is asked, and answers what it was told to.
#[derive(Debug)]
struct Book {
    answer: Result<Vec<SocketAddr>, ErrorName>,
    asked: Mutex<Vec<String>>,
}

impl Book {
    fn new(answer: Result<Vec<SocketAddr>, ErrorName>) -> Arc<Book> {
        Arc::new(Book {
            answer,
            asked: Mutex::default(),
        })
    }

    fn asked(&self) -> Vec<String> {
        crate::sync::lock(&self.asked).clone()
    }
}

#[async_trait]
impl Resolver for Book {
    async fn lookup(&self, name: &Host, port: u16) -> Result<Vec<SocketAddr>, Error> {
        crate::sync::lock(&self.asked).push(format!("{name} {port}"));
        self.answer
            .clone()
            .map_err(|name| Error::new(name, "the case says so"))
    }
}

fn named(cx: &Cx, port: u16, book: &Arc<Book>) -> Result<OpenRequest, Failure> {
    let request = OpenRequest::new("Peer.Example.", port)?;
    Ok(request
        .with_options(cx.options())
        .with_resolver(book.clone()))
}

fn address(of: &crate::cx::Partner) -> Result<SocketAddr, Failure> {
    let text = format!("{}:{}", of.host(), of.port());
    text.parse()
        .map_err(|_| Failure::new(format!("{text} is no address")))
}

async fn resolver_of_the_request(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    let book = Book::new(Ok(vec![address(&peer)?]));
    let a = cx.open_with(named(&cx, peer.port(), &book)?)?;
    a.is(ReadyState::Connecting)?;
    a.expect("open").await?;
    cx.check("host", a.raw().host(), "Peer.Example.")?;
    a.sends(100, true)?;
    a.close();
    a.expect("close clean").await?;
    peer.gets(&a.sent(), End::Fin).await?;
    let question = format!("peer.example {}", peer.port());
    cx.check("the resolver was asked", book.asked(), vec![question])
}

async fn literals_are_not_looked_up(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    let book = Book::new(Ok(Vec::new()));
    let a = cx.open_with(cx.request(&peer)?.with_resolver(book.clone()))?;
    a.expect("open").await?;
    cx.check("the resolver was asked", book.asked(), Vec::new())
}

async fn empty_answer(cx: Cx) -> Outcome {
    let book = Book::new(Ok(Vec::new()));
    let a = cx.open_with(named(&cx, 80, &book)?)?;
    a.expect("error DomainNotFoundError, close failed").await?;
    a.is(ReadyState::Closed)
}

async fn error_of_the_resolver(cx: Cx) -> Outcome {
    for name in [ErrorName::Network, ErrorName::NetworkTimeout] {
        let book = Book::new(Err(name));
        let a = cx.open_with(named(&cx, 80, &book)?)?;
        a.expect(&format!("error {name}, close failed")).await?;
        cx.check("lookups", book.asked().len(), 1)?;
    }
    Ok(())
}

/// The other address of a peer: the same port of `::1`, where nobody listens unless a case lets somebody.
fn other(of: &crate::cx::Partner) -> SocketAddr {
    SocketAddr::new(Ipv6Addr::LOCALHOST.into(), of.port())
}

async fn next_address_after_a_refusal(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    let book = Book::new(Ok(vec![other(&peer), address(&peer)?]));
    let a = cx.open_with(named(&cx, peer.port(), &book)?)?;
    a.expect("open").await?;
    cx.check("lookups", book.asked().len(), 1)
}

async fn next_address_after_silence(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    cx.peer(Script::silent().v6().port(peer.port()))?;
    let book = Book::new(Ok(vec![other(&peer), address(&peer)?]));
    let a = cx.open_with(named(&cx, peer.port(), &book)?)?;
    a.expect("open").await?;
    a.sends(10, true)?;
    a.close();
    a.expect("close clean").await?;
    peer.gets(&a.sent(), End::Fin).await
}

async fn quiet_after_a_refused_address(cx: Cx) -> Outcome {
    // Whether the refusal is news before the connection is up, or after, is chance.
    for write in ["1", "2", "3", "4"] {
        let peer = cx.peer(Script::listen([
            Accept,
            Wait(write),
            Write(cx.bytes(10)),
            Wait("never"),
        ]))?;
        let book = Book::new(Ok(vec![other(&peer), address(&peer)?]));
        let a = cx.open_with(named(&cx, peer.port(), &book)?)?;
        a.expect("open").await?;
        a.quiet().await?;
        cx.signal(write);
        a.expect("data 10").await?;
        a.quiet().await?;
        a.close();
        a.expect("close clean").await?;
        cx.fence().await?;
    }
    Ok(())
}

async fn another_port(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    let asked_for = cx.peer(reader())?;
    let book = Book::new(Ok(vec![address(&asked_for)?, address(&peer)?]));
    let a = cx.open_with(named(&cx, asked_for.port(), &book)?)?;
    a.expect("error NetworkError, close failed").await?;
    cx.fence().await?;
    let connections = asked_for.report().connections + peer.report().connections;
    cx.check("connections", connections, 0)
}

async fn timeout_bounds_the_lookup(cx: Cx) -> Outcome {
    let request = OpenRequest::new("peer.example", 80)?
        .with_options(cx.options().connect_timeout(SHORT))
        .with_resolver(Arc::new(Silent(cx.clone())));
    let began = cx.world().now();
    let a = cx.open_with(request)?;
    a.expect("error NetworkTimeoutError, close failed").await?;
    let took = cx.world().now() - began;
    cx.check_that("it took as long as it may", took >= SHORT)?;
    cx.signalled("lookup dropped").await
}

async fn localhost(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    let request = OpenRequest::new("LocalHost", peer.port())?;
    let a = cx.open_with(request.with_options(cx.options()))?;
    a.expect("open").await?;
    cx.check("host", a.raw().host(), "LocalHost")?;
    a.sends(10, true)?;
    a.close();
    a.expect("close clean").await?;
    peer.gets(&a.sent(), End::Fin).await
}

async fn below_localhost(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    for host in ["localhost.", "Kit.LocalHost", "a.kit.localhost."] {
        let request = OpenRequest::new(host, peer.port())?.with_options(cx.options());
        let a = cx.open_with(request)?;
        a.expect("open").await?;
        cx.check("host", a.raw().host(), host)?;
        a.close();
        a.expect("close clean").await?;
    }
    Ok(())
}

/// Whether the names that it is asked about are absolute.
#[derive(Debug)]
struct Dots {
    answer: SocketAddr,
    seen: Mutex<Vec<String>>,
}

#[async_trait]
impl Resolver for Dots {
    async fn lookup(&self, name: &Host, _port: u16) -> Result<Vec<SocketAddr>, Error> {
        crate::sync::lock(&self.seen).push(name.lookup_name().into_owned());
        Ok(vec![self.answer])
    }
}

async fn final_dot(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    let request = |host| OpenRequest::new(host, peer.port());
    for (request, host, looked_up) in [
        (request("Peer.Example.")?, "Peer.Example.", "peer.example."),
        (request("Peer.Example")?, "Peer.Example", "peer.example"),
        (
            request("Peer.Example")?.with_absolute_name(),
            "Peer.Example",
            "peer.example.",
        ),
    ] {
        let dots = Arc::new(Dots {
            answer: address(&peer)?,
            seen: Mutex::default(),
        });
        let warden = Warden::new(&cx, Answers::default());
        let request = request.with_options(cx.options());
        let a = cx.open_with(warden.guards(request.with_resolver(dots.clone())))?;
        a.expect("open").await?;
        cx.check("host", a.raw().host(), host)?;
        warden.was_asked(&["name peer.example", "connect 127.0.0.1"])?;
        let seen = crate::sync::lock(&dots.seen).clone();
        cx.check("what is looked up", seen, vec![looked_up.to_owned()])?;
    }
    Ok(())
}

/// Notes the addresses that it is shown, and keeps them.
#[derive(Debug, Default)]
struct Notes(Mutex<Vec<SocketAddr>>);

#[async_trait]
impl Gate for Notes {
    async fn name(&self, _host: &Host, _port: u16) -> Result<(), Error> {
        Ok(())
    }

    async fn connect(&self, _host: &Host, all: &[SocketAddr]) -> Result<Vec<SocketAddr>, Error> {
        crate::sync::lock(&self.0).extend_from_slice(all);
        Ok(all.to_vec())
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

async fn answers_with_zones(cx: Cx) -> Outcome {
    let peer = cx.peer(reader().v6())?;
    let zoned = |flow, zone| SocketAddrV6::new(Ipv6Addr::LOCALHOST, peer.port(), flow, zone);
    for answer in [zoned(0, 7), zoned(5, 0)] {
        let book = Book::new(Ok(vec![answer.into()]));
        let notes = Arc::new(Notes::default());
        let request = named(&cx, peer.port(), &book)?.with_gate(notes.clone());
        let a = cx.open_with(request)?;
        a.expect("open").await?;
        let shown = crate::sync::lock(&notes.0).clone();
        cx.check("what the gate was shown", shown, vec![other(&peer)])?;
    }
    Ok(())
}

async fn thousands_of_addresses(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    // At none of these anybody listens; at the last one somebody does.
    let nobody = |n: u16| {
        let [high, low] = n.to_be_bytes();
        SocketAddr::from(([127, 1, high, low], peer.port()))
    };
    for (before, opens) in [(3000, false), (32, false), (0, true)] {
        let mut all: Vec<_> = (1..=before).map(nobody).collect();
        all.push(address(&peer)?);
        let notes = Arc::new(Notes::default());
        let book = Book::new(Ok(all.clone()));
        let request = named(&cx, peer.port(), &book)?.with_gate(notes.clone());
        let a = cx.open_with(request)?;
        match opens {
            true => a.expect("open").await?,
            false => {
                a.expect("error ConnectionRefusedError, close failed")
                    .await?;
                cx.fence().await?;
                cx.check("connections", peer.report().connections, 0)?;
            }
        }
        let shown = crate::sync::lock(&notes.0).clone();
        cx.check("what the gate was shown", shown, all)?;
    }
    Ok(())
}

async fn every_gate_must_admit(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    let beside = cx.peer(reader().v6().port(peer.port()))?;
    let both = [address(&peer)?, other(&peer)];
    let keeps = |label, asked: &Arc<Mutex<Vec<String>>>, kept: &[SocketAddr]| {
        let answers = Answers {
            addresses: Some(kept.to_vec()),
            ..Answers::default()
        };
        Warden::labelled(&cx, label, asked.clone(), answers)
    };
    let questions = [
        "1 name peer.example",
        "2 name peer.example",
        "1 connect 127.0.0.1 ::1",
        "2 connect 127.0.0.1 ::1",
    ];
    // Both gates keep the second address, or none that the other keeps.
    for (first, second, opens) in [
        (&both[..], &both[1..], true),
        (&both[1..], &both[..], true),
        (&both[..1], &both[1..], false),
    ] {
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let gates = [keeps("1 ", &asked, first), keeps("2 ", &asked, second)];
        let book = Book::new(Ok(both.to_vec()));
        let request = named(&cx, peer.port(), &book)?;
        let a = cx.open_with(gates[1].guards(gates[0].guards(request)))?;
        match opens {
            true => a.expect("open").await?,
            false => a.expect("error NotAllowedError, close failed").await?,
        }
        gates[0].was_asked(&questions)?;
        a.close();
        cx.fence().await?;
        let connections = peer.report().connections;
        cx.check("connections to what was left out", connections, 0)?;
        if opens {
            let there = |it: &crate::Report| it.connections == 1;
            beside.until("what was kept is dialled", there).await?;
        }
    }
    Ok(())
}

async fn gates_before_and_after_the_lookup(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    let plain = address(&peer)?;
    let mapped = match plain {
        SocketAddr::V4(it) => SocketAddr::new(it.ip().to_ipv6_mapped().into(), it.port()),
        SocketAddr::V6(_) => plain,
    };
    let warden = Warden::new(
        &cx,
        Answers {
            name: Answer::AllowAt("allowed"),
            ..Answers::default()
        },
    );
    let book = Book::new(Ok(vec![mapped]));
    let a = cx.open_with(warden.guards(named(&cx, peer.port(), &book)?))?;
    warden.is_asked("name peer.example").await?;
    cx.fence().await?;
    cx.check("lookups before the name is allowed", book.asked().len(), 0)?;
    cx.signal("allowed");
    a.expect("open").await?;
    cx.check("lookups", book.asked().len(), 1)?;
    warden.was_asked(&["name peer.example", "connect 127.0.0.1"])
}

async fn refused_names_are_not_looked_up(cx: Cx) -> Outcome {
    for answer in [Answer::Refuse, Answer::RefuseAt("refused")] {
        let at_once = matches!(answer, Answer::Refuse);
        let warden = Warden::new(
            &cx,
            Answers {
                name: answer,
                ..Answers::default()
            },
        );
        let book = Book::new(Ok(Vec::new()));
        let request = warden.guards(named(&cx, 80, &book)?);
        if at_once {
            let opened = cx.provider().open_with(request);
            cx.check_error("open", opened, "NotAllowedError")?;
        } else {
            let a = cx.open_with(request)?;
            cx.signal("refused");
            a.expect("error NotAllowedError, close failed").await?;
        }
        cx.check("lookups", book.asked().len(), 0)?;
    }
    Ok(())
}

/// Never answers, and tells when it is dropped.
#[derive(Debug)]
struct Silent(Cx);

struct Dropped<'a>(&'a Cx);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        self.0.signal("lookup dropped");
    }
}

#[async_trait]
impl Resolver for Silent {
    async fn lookup(&self, _name: &Host, _port: u16) -> Result<Vec<SocketAddr>, Error> {
        let _dropped = Dropped(&self.0);
        self.0.signal("lookup begun");
        std::future::pending().await
    }
}

async fn lookup_given_up(cx: Cx) -> Outcome {
    let request = OpenRequest::new("peer.example", 80)?
        .with_options(cx.options())
        .with_resolver(Arc::new(Silent(cx.clone())));
    let a = cx.open_with(request)?;
    cx.signalled("lookup begun").await?;
    a.close();
    a.expect("close clean").await?;
    cx.signalled("lookup dropped").await
}

//! Deliberately broken providers, by which the kit proves that its cases catch their faults.

mod amounts;
mod bend;
mod closing;
mod drains;
mod errors;
mod foreign;
mod gates;
mod guards;
mod handles;
mod meters;
mod names;
mod options;
mod receiving;
mod sending;
mod servers;
mod states;
mod tls;
mod waits;

use std::fmt;
use std::sync::Arc;

use tcpsocket::{Capabilities, SocketProvider};

use crate::{App, Capability, Restricted, Setup, Started, Subject, World};

/// Every mutant, by what it breaks.
pub const MUTANTS: &[&[Mutant]] = &[
    sending::MUTANTS,
    amounts::MUTANTS,
    drains::MUTANTS,
    receiving::MUTANTS,
    closing::MUTANTS,
    states::MUTANTS,
    errors::MUTANTS,
    waits::MUTANTS,
    handles::MUTANTS,
    servers::MUTANTS,
    gates::MUTANTS,
    meters::MUTANTS,
    foreign::MUTANTS,
    names::MUTANTS,
    options::MUTANTS,
    tls::MUTANTS,
    guards::MUTANTS,
];

/// One fault, which some implementation really had.
///
/// It wraps the provider under judgement, so an implementation can try the kit's mutants without code of its own.
#[derive(Clone, Copy)]
pub struct Mutant {
    /// The fault, in a few words with hyphens.
    pub name: &'static str,
    /// The origin of the fault.
    pub repeats: &'static str,
    /// The clauses that it breaks.
    pub clauses: &'static [&'static str],
    /// The fault, in a sentence.
    pub what: &'static str,
    /// The cases that catch it, each of them every time.
    pub caught_by: &'static [&'static str],
    /// The capabilities that it needs.
    pub needs: &'static [Capability],
    /// Breaks the provider under judgement.
    pub wrap: fn(Arc<dyn SocketProvider>) -> Arc<dyn SocketProvider>,
    /// Breaks the subject's guards: makes a broken guard in their place.
    pub guard: fn(&dyn Subject, Arc<dyn SocketProvider>, App) -> Option<Restricted>,
}

impl Mutant {
    /// A mutant without a fault, for use as `..Mutant::SOUND`.
    pub const SOUND: Mutant = Mutant {
        name: "",
        repeats: "",
        clauses: &[],
        what: "",
        caught_by: &[],
        needs: &[],
        wrap: |it| it,
        guard: |subject, provider, app| subject.restricted(provider, app),
    };

    /// Why it cannot break an implementation with these capabilities, if it cannot.
    pub(crate) fn precondition(&self, offers: &Capabilities) -> Option<String> {
        let missing = self.needs.iter().find(|it| !it.declared(offers));
        missing.map(|it| format!("{it} is not declared"))
    }
}

impl fmt::Debug for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutant")
            .field("name", &self.name)
            .field("clauses", &self.clauses)
            .finish_non_exhaustive()
    }
}

/// A subject whose guards are broken. Its provider is broken when it was started.
pub(crate) struct Mutated {
    pub(crate) subject: Arc<dyn Subject>,
    pub(crate) mutant: &'static Mutant,
}

impl Subject for Mutated {
    fn name(&self) -> &str {
        self.subject.name()
    }

    fn start(&self, setup: Setup) -> Started {
        self.subject.start(setup)
    }

    fn restricted(&self, provider: Arc<dyn SocketProvider>, app: App) -> Option<Restricted> {
        (self.mutant.guard)(&*self.subject, provider, app)
    }

    fn world(&self) -> Arc<dyn World> {
        self.subject.world()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::MUTANTS;
    use crate::CASES;

    #[test]
    fn each_says_what_it_is_and_is_caught() {
        let ids: HashSet<_> = CASES
            .iter()
            .flat_map(|it| it.iter())
            .map(|it| it.id)
            .collect();
        let mut seen = HashSet::new();
        for mutant in MUTANTS.iter().flat_map(|it| it.iter()) {
            let name = mutant.name;
            assert!(seen.insert(name), "{name} occurs twice");
            let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            assert!(!name.is_empty() && name.bytes().all(fits), "{name}");
            assert!(mutant.what.ends_with('.'), "{name}");
            assert!(mutant.repeats.ends_with('.'), "{name}");
            assert!(!mutant.clauses.is_empty(), "{name} breaks no clause");
            assert!(!mutant.caught_by.is_empty(), "{name} is caught by nothing");
            for id in mutant.caught_by {
                assert!(ids.contains(id), "{name}: there is no case {id}");
            }
        }
    }
}

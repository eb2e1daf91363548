//! Which gates are a guard's.
//!
//! A guard drops the gates that its app made and keeps those of a guard around it, so it has to tell them apart. [`Gate`] has
//! no way down to a concrete type, and what a gate says of itself can be said by any gate. But a gate of ours that is alive
//! has an address that no other value has, and an app cannot make one of ours: the type is private.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use tcpsocket::Gate;

use crate::lock;

/// The addresses of the gates that guards have made and that are alive.
static OURS: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());

/// Marks a gate. It must not be of a type without size, and must [`unmark`] itself in its drop.
pub(crate) fn mark<G: Gate>(gate: &Arc<G>) {
    const { assert!(size_of::<G>() > 0) };
    lock(&OURS).insert(Arc::as_ptr(gate).addr());
}

/// For the drop of a marked gate.
pub(crate) fn unmark<G: Gate>(gate: &G) {
    lock(&OURS).remove(&std::ptr::from_ref(gate).addr());
}

pub(crate) fn is_marked(gate: &Arc<dyn Gate>) -> bool {
    lock(&OURS).contains(&Arc::as_ptr(gate).addr())
}

//! Random scripts against a model.

use super::prelude::*;
use crate::property::{self, About, DEADLINE};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "properties/sending",
        clauses: &["TX-3", "TX-4", "TX-5", "TX-6", "TURN-1", "TURN-2", "EVT-3"],
        requirement: "Whatever is sent, answers, amounts and drains match the model, and every byte arrives.",
        deadline: DEADLINE,
        run: |cx| Box::pin(property::holds(cx, About::Sending)),
        ..Case::MUST
    },
    Case {
        id: "properties/receiving",
        clauses: &["RX-1", "RX-5", "RX-6", "RX-8", "EVT-2"],
        requirement: "Whatever the peer sends and the caller suspends, data matches the model, complete and without repetition.",
        deadline: DEADLINE,
        run: |cx| Box::pin(property::holds(cx, About::Receiving)),
        ..Case::MUST
    },
    Case {
        id: "properties/ending",
        clauses: &["CL-1", "CL-4", "CL-8", "CL-18", "EVT-3", "TURN-5"],
        requirement: "Whoever ends the connection, and whenever, the data before the end is complete, and the end matches the model.",
        deadline: DEADLINE,
        run: |cx| Box::pin(property::holds(cx, About::Ending)),
        ..Case::MUST
    },
];

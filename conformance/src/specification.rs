//! Where clauses stand.

/// The version of the specification that the cases show. What changes it is said in `docs/spec/versioning.md`.
pub const SPECIFICATION: &str = "0.1";

/// Areas in the order of the specification, and their pages.
const PAGES: &[(&str, &str)] = &[
    ("IF", "interface"),
    ("ST", "states"),
    ("ROW", "states"),
    ("TX", "sending"),
    ("RX", "receiving"),
    ("CL", "closing"),
    ("ERR", "errors"),
    ("SRV", "servers"),
    ("TURN", "turns"),
    ("EVT", "turns"),
    ("ACT", "activity"),
    ("GATE", "gates"),
    ("NAME", "gates"),
    ("OPT", "options"),
    ("LIFE", "lifecycle"),
    ("ACC", "lifecycle"),
    ("TLS", "tls"),
    ("PERM", "permissions"),
];

/// The clauses that are no MUST, as their headings say.
const SHOULD: &[&str] = &[
    "ACT-7", "ACT-9", "ERR-16", "ERR-17", "GATE-16", "GATE-17", "LIFE-4", "LIFE-8", "NAME-10",
    "OPT-9", "TX-12", "TLS-24", "TLS-28", "TLS-30", "EVT-15",
];

/// The place of a clause, as `docs/spec/sending.md#tx-4-must`; `None` for what is no clause.
///
/// ```
/// use tcpsocket_conformance::page;
///
/// assert_eq!(page("TX-4").as_deref(), Some("docs/spec/sending.md#tx-4-must"));
/// assert_eq!(page("XX-4"), None);
/// ```
pub fn page(clause: &str) -> Option<String> {
    let (area, _) = clause.split_once('-')?;
    let (_, page) = PAGES.iter().find(|(it, _)| *it == area)?;
    // Rows stand in a table and have no heading.
    let anchor = match (area, SHOULD.contains(&clause)) {
        ("ROW", _) => String::new(),
        (_, true) => format!("#{}-should", clause.to_lowercase()),
        (_, false) => format!("#{}-must", clause.to_lowercase()),
    };
    Some(format!("docs/spec/{page}.md{anchor}"))
}

/// For sorting clauses as the specification has them.
pub(crate) fn order(clause: &str) -> (usize, u32) {
    let (area, number) = clause.split_once('-').unwrap_or((clause, ""));
    let area = PAGES.iter().position(|(it, _)| *it == area);
    (area.unwrap_or(PAGES.len()), number.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clauses_are_sorted_by_area_and_by_number() {
        let mut ids = ["TLS-1", "TX-10", "TX-9", "IF-2"];
        ids.sort_by_key(|it| order(it));
        assert_eq!(ids, ["IF-2", "TX-9", "TX-10", "TLS-1"]);
    }
}

//! The specification's clauses, areas and pages.

/// The version of the specification that the cases show; see `docs/spec/versioning.md`.
pub const SPECIFICATION: &str = "0.1";

/// Areas in the order of the specification, with their pages and titles.
const PAGES: &[(&str, &str, &str)] = &[
    ("IF", "interface", "Interface"),
    ("ST", "states", "States"),
    ("ROW", "states", "Transitions"),
    ("TX", "sending", "Sending"),
    ("RX", "receiving", "Receiving"),
    ("CL", "closing", "Closing"),
    ("ERR", "errors", "Errors"),
    ("SRV", "servers", "Servers"),
    ("TURN", "turns", "Turns"),
    ("EVT", "turns", "Events"),
    ("ACT", "activity", "Activity"),
    ("GATE", "gates", "Gates"),
    ("NAME", "gates", "Names"),
    ("OPT", "options", "Options"),
    ("LIFE", "lifecycle", "Life cycle"),
    ("ACC", "lifecycle", "Meters"),
    ("TLS", "tls", "TLS"),
    ("PERM", "permissions", "Permissions"),
];

/// Each clause's id, level and statement, separated by tabs. Copied from the specification, which is not in the package.
const CLAUSES: &str = include_str!("../clauses.txt");

/// A clause of the specification, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clause {
    pub(crate) id: &'static str,
    /// `MUST`, `SHOULD`, `MAY` or `HOST`.
    pub(crate) level: &'static str,
    /// With code between backticks.
    pub(crate) statement: &'static str,
}

/// Every clause.
pub(crate) fn clauses() -> impl Iterator<Item = Clause> {
    CLAUSES.lines().filter_map(|line| {
        let (id, rest) = line.split_once('\t')?;
        let (level, statement) = rest.split_once('\t')?;
        Some(Clause {
            id,
            level,
            statement,
        })
    })
}

/// The clause with this id.
pub(crate) fn clause(id: &str) -> Option<Clause> {
    clauses().find(|clause| clause.id == id)
}

/// The title of an area.
pub(crate) fn subject(area: &str) -> Option<&'static str> {
    let page = PAGES.iter().find(|(name, ..)| *name == area);
    page.map(|(_, _, subject)| *subject)
}

/// The place of a clause, such as `docs/spec/sending.md#tx-4-must`; `None` if there is no such clause.
///
/// ```
/// use tcpsocket_conformance::page;
///
/// assert_eq!(page("TX-4").as_deref(), Some("docs/spec/sending.md#tx-4-must"));
/// assert_eq!(page("XX-4"), None);
/// ```
pub fn page(id: &str) -> Option<String> {
    let (area, _) = id.split_once('-')?;
    let (_, page, _) = PAGES.iter().find(|(name, ..)| *name == area)?;
    let level = clause(id).map_or("MUST", |clause| clause.level);
    // Rows are in a table and have no heading.
    let anchor = match area {
        "ROW" => String::new(),
        _ => format!("#{id}-{level}").to_lowercase(),
    };
    Some(format!("docs/spec/{page}.md{anchor}"))
}

/// Sorts clauses in the order of the specification.
pub(crate) fn order(clause: &str) -> (usize, u32) {
    let (area, number) = clause.split_once('-').unwrap_or((clause, ""));
    let area = PAGES.iter().position(|(name, ..)| *name == area);
    (area.unwrap_or(PAGES.len()), number.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_clause_has_a_level_a_statement_and_an_area() {
        assert!(clauses().count() > 200, "the table lost its clauses");
        assert_eq!(clauses().count(), CLAUSES.lines().count());
        for clause in clauses() {
            let area = clause.id.split('-').next().unwrap();
            assert!(subject(area).is_some(), "{}", clause.id);
            assert!(["MUST", "SHOULD", "MAY", "HOST"].contains(&clause.level));
            assert!(clause.statement.len() > 10, "{}", clause.id);
        }
    }

    #[test]
    fn a_place_has_the_level_of_its_clause() {
        let should = "docs/spec/sending.md#tx-12-should";
        assert_eq!(page("TX-12").as_deref(), Some(should));
        assert_eq!(page("ROW-1").as_deref(), Some("docs/spec/states.md"));
    }

    #[test]
    fn clauses_are_sorted_by_area_and_by_number() {
        let mut ids = ["TLS-1", "TX-10", "TX-9", "IF-2"];
        ids.sort_by_key(|it| order(it));
        assert_eq!(ids, ["IF-2", "TX-9", "TX-10", "TLS-1"]);
    }
}

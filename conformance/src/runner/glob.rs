//! Patterns of case ids.

/// Whether `id` matches: `*` stands for any text. A pattern without one matches every id that contains it.
pub(super) fn matches(pattern: &str, id: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(last) = parts.next_back() else {
        return id.contains(first);
    };
    let Some(mut rest) = id.strip_prefix(first) else {
        return false;
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_stand_for_any_text() {
        let table = [
            ("sending/*", "sending/a", true),
            ("sending/*", "closing/a", false),
            ("*mark", "sending/exactly-the-mark", true),
            ("*mark", "sending/marks", false),
            ("s*-the-*k", "sending/exactly-the-mark", true),
            ("s*the*the*k", "sending/exactly-the-mark", false),
            ("a*a", "a", false),
            ("*", "", true),
            ("mark", "sending/exactly-the-mark", true),
            ("mark", "sending/one", false),
        ];
        for (pattern, id, expected) in table {
            assert_eq!(matches(pattern, id), expected, "{pattern} {id}");
        }
    }
}

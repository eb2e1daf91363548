//! `tcpsocket demo` from outside.

use crate::support::{Running, within};

#[test]
fn the_demo_passes_its_own_checks() {
    let mut demo = Running::start(["demo"]);
    let output = demo.all_output();
    demo.end().assert_fine();
    let output = String::from_utf8(within(&output, "the output")).unwrap();
    let (_, checks) = output.split_once("\nChecks\n").unwrap();
    let count = |word: &str| {
        checks
            .lines()
            .filter(|it| it.trim_start().starts_with(word))
            .count()
    };
    assert!(count("ok") >= 10, "{output}");
    assert_eq!(count("FAILED"), 0, "{output}");
}

#[test]
fn the_checks_and_the_summary_fit_a_screen() {
    let mut demo = Running::start(["demo"]);
    let output = demo.all_output();
    demo.end().assert_fine();
    let output = String::from_utf8(within(&output, "the output")).unwrap();
    let (_, checks) = output.split_once("\nChecks\n").unwrap();
    // 24 lines, of which one is the title and one the next prompt.
    assert!(checks.lines().count() <= 22, "{checks}");
    for line in checks.lines() {
        assert!(line.chars().count() <= 80, "{line:?}");
    }
    let last = checks.lines().last().unwrap();
    assert!(last.starts_with("All ") && last.ends_with(" checks passed."));
}

#[test]
fn the_timeline_is_in_columns_and_short() {
    let mut demo = Running::start(["demo"]);
    let output = demo.all_output();
    demo.end().assert_fine();
    let output = String::from_utf8(within(&output, "the output")).unwrap();
    let (timeline, _) = output.split_once("\nChecks\n").unwrap();
    let rows = timeline.lines().filter(|it| it.starts_with(' '));
    let mut seen = 0;
    for row in rows {
        let side = row.get(10..16).unwrap_or_default();
        let sides = [
            "side  ", "client", "server", "app   ", "host  ", "system", "      ",
        ];
        assert!(sides.contains(&side), "{row:?}");
        assert!(row.chars().count() <= 80, "{row:?}");
        seen += 1;
    }
    assert!((20..80).contains(&seen), "{seen} rows\n{output}");
}

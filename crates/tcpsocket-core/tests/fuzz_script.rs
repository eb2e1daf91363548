//! The fuzzer's script on made-up bytes, so that it compiles and holds without a fuzzer.

mod script;
mod world;

use script::Seen;

const SCRIPTS: usize = 4_000;

/// What failed once.
const REGRESSIONS: &[&[u8]] = &[
    // Connected, not told, closed, and then the end of output fails: it was wanted again and again.
    &[0, 46, 19, 11],
];

#[test]
fn whatever_the_script_the_invariants_hold() {
    for script in REGRESSIONS {
        script::run(script);
    }
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 32) as u8
    };
    let mut total = Seen::default();
    for _ in 0..SCRIPTS {
        let length = usize::from(next());
        let script: Vec<u8> = (0..length).map(|_| next()).collect();
        let seen = script::run(&script);
        total.opens += seen.opens;
        total.data += seen.data;
        total.drains += seen.drains;
        total.errors += seen.errors;
        total.closes += seen.closes;
    }
    println!("{SCRIPTS} scripts: {total:?}");
    let least = SCRIPTS / 20;
    for (what, times) in [
        ("opens", total.opens),
        ("data", total.data),
        ("drains", total.drains),
        ("errors", total.errors),
        ("closes", total.closes),
    ] {
        assert!(times >= least, "only {times} {what}");
    }
}

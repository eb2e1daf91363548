//! Bytes are a script, and whatever it does, the invariants of the machine hold.
//!
//! `cargo +nightly fuzz run script`, in `crates/tcpsocket-core`; with a stable compiler, `RUSTC_BOOTSTRAP=1 cargo fuzz run script`.

#![no_main]

#[path = "../../tests/script/mod.rs"]
mod script;
#[path = "../../tests/world/mod.rs"]
mod world;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    script::run(bytes);
});

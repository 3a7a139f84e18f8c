//! What a run has to say even when every test passes.

use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Says that a test did not run, and why. The test harness cannot tell a skipped test from one that passed, so that this
/// goes past it to standard error; `scripts/test` repeats at its end what was skipped.
pub fn skip(test: &str, why: &str) {
    note(&format!("SKIPPED {test}: {why}"));
    if let Some(run) = std::env::var_os("RELAYPOST_TEST_RUN") {
        let list = Path::new(&run).join("skipped");
        let mut list = File::options()
            .create(true)
            .append(true)
            .open(list)
            .unwrap();
        writeln!(list, "{test}: {why}").unwrap();
    }
}

/// Shows a measured figure, also of a test that passes.
pub fn note(line: &str) {
    // Written directly: the test harness keeps what `eprintln!` prints in a test that passes.
    let line = format!("{line}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

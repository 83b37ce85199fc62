//! Tests that need more than every machine has say so loudly, and fail where everything is expected to be there.

/// Says that the calling test did not run. With `KUBEPKI_TEST_ALL` in the environment, as in the full run, that is a
/// failure.
#[allow(clippy::print_stderr, reason = "nobody would notice otherwise")]
pub fn skipped(test: &str, reason: &str) {
    assert!(std::env::var_os("KUBEPKI_TEST_ALL").is_none(), "{test} could not run: {reason}");
    eprintln!("\n*** NOT RUN: {test}: {reason} ***\n");
}

/// Whether the test runs as root; says that it does not run otherwise.
pub fn root_only(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skipped(test, "only root can give files to other users and mount file systems");
    }
    root
}

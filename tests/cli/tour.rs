//! The tour of the README runs to its end, with nothing but the example itself.

use std::path::Path;
use std::process::Command;

use crate::support::skip::skipped;

#[test]
fn the_tour_runs_to_its_end_and_leaves_nothing_behind() {
    let tour = Path::new(env!("CARGO_BIN_EXE_kubepki")).with_file_name("examples").join("tour");
    if !tour.exists() {
        return skipped("the tour", "examples are built by a plain `cargo test` only");
    }
    let temporary = tempfile::tempdir().unwrap();
    let output = Command::new(tour).env_clear().env("TMPDIR", temporary.path()).output().unwrap();
    let (shown, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{shown}{said}");
    for command in ["create-certs", "check-expiry", "rotate-certs", "get-credentials", "show"] {
        assert!(shown.contains(&format!("$ kubepki {command} ")), "{command}: {shown}");
    }
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "the folder is gone");
}

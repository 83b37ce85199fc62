//! What a machine answers over SSH: files and facts that make sense, or no answer.

#![no_main]

use std::path::Path;

use kubepki::node::LockOwner;
use kubepki::node::ssh::fuzzing::{facts, files, held};
use kubepki_fuzz::NOW;
use libfuzzer_sys::fuzz_target;

// Standard output, up to the last zero byte; then standard error.
fuzz_target!(|data: &[u8]| {
    let end = data.iter().rposition(|byte| *byte == 0);
    let (stdout, stderr) = end.map_or((data, &[][..]), |at| (&data[..at], &data[at + 1..]));
    for careful in [false, true] {
        let Some(found) = files(Path::new("/etc/kubernetes"), stdout, stderr, careful) else { continue };
        assert!(found.iter().all(|file| file.path.starts_with("/etc/kubernetes")));
    }
    facts(stdout);
    let asking = LockOwner { command: "create-certs".to_owned(), who: "jane@cp1".to_owned(), pid: 1, since: NOW };
    assert!(held(data, &asking).to_string().starts_with("cp1: "));
});

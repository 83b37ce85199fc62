//! A journal that is read can be written and read again, also when its checksum is right and its content is not.

#![no_main]

use kubepki::apply::change::sha256;
use kubepki::apply::journal::Journal;
use libfuzzer_sys::fuzz_target;

fn check(text: &[u8]) {
    let Ok(journal) = Journal::parse(text) else { return };
    let written = journal.to_text().expect("every journal can be written");
    assert_eq!(Journal::parse(written.as_bytes()).expect("what was written is read"), journal);
}

fuzz_target!(|data: &[u8]| {
    check(data);
    let mut body = data.to_vec();
    body.extend_from_slice(b",\n");
    let checksum = sha256(&body);
    body.extend_from_slice(format!("  \"checksum\": \"{checksum}\"\n}}\n").as_bytes());
    check(&body);
});

//! The data file of an etcd: names that stand in it or no answer, and soon.

#![no_main]

use kubepki::plan::rotate::etcd_data;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(found) = etcd_data::read(data) else { return };
    assert!(found.nodes.is_sorted() && found.members.is_sorted());
    for name in &found.nodes {
        assert!(data.windows(name.len().max(1)).any(|window| window == name.as_bytes()) || name.is_empty());
    }
});

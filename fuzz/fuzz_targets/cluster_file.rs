//! A cluster file that is read can be written and read again.

#![no_main]

use std::path::Path;

use kubepki::cli::cluster_file::ClusterFile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let path = Path::new("cluster.yaml");
    let Ok(file) = ClusterFile::parse(data, path) else { return };
    // JSON is YAML.
    let text = serde_json::to_vec(&file).expect("every cluster file can be written");
    assert_eq!(ClusterFile::parse(&text, path).expect("what was written is read"), file);
});

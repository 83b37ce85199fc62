//! Files of SSH: host keys and key files are judged whatever is in them, and jump hosts are read as they are written.

#![no_main]

use kubepki::node::ssh::fuzzing::{judged, jump_hosts, openssh_key};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for name in ["cp1.example.com", "[10.0.0.1]:2222"] {
        judged(data, name, b"\0\0\0\x0bssh-ed25519\0\0\0\0");
    }
    if let Some((_, key)) = openssh_key(data) {
        assert!(data.windows(key.len().max(1)).any(|window| window == key) || key.is_empty());
    }
    let Some(hops) = std::str::from_utf8(data).ok().and_then(jump_hosts) else { return };
    // A machine of the name `none` cannot be told from no machine.
    if !hops.is_empty() && !hops[0].eq_ignore_ascii_case("none") {
        assert_eq!(jump_hosts(&hops.join(",")), Some(hops));
    }
});

//! What a server says in place of a handshake: certificates or a reason.

#![no_main]

use std::time::Duration;

use kubepki::node::probe::chain_through;
use kubepki::pki::certificate::Certificate;
use kubepki_fuzz::{Talker, anywhere, assert_harmless};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    match chain_through(&Talker(data), &anywhere(), None, Duration::from_secs(60)) {
        Ok(shown) => shown.iter().for_each(|der| drop(Certificate::from_der(der))),
        Err(reason) => assert_harmless(&reason),
    }
});

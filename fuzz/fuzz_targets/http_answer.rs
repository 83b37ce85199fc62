//! What a server answers over HTTP, and what its metrics say: an answer within its limits, or a reason.

#![no_main]

use std::time::Duration;

use kubepki::live::component::{Component, healthy, running};
use kubepki::live::credential::Credential;
use kubepki::live::places::Places;
use kubepki::node::http::{Limits, Request, ask};
use kubepki_fuzz::{Talker, anywhere, assert_harmless};
use libfuzzer_sys::fuzz_target;

const MANIFEST: &str = "- --listen-client-urls=http://127.0.0.1:2379\n- --listen-metrics-urls=http://127.0.0.1:2381\n";

fuzz_target!(|data: &[u8]| {
    let limits = Limits { time: Duration::from_secs(60), size: 4096 };
    match ask(&Talker(data), &anywhere(), None, &Request::get("/"), limits) {
        Ok(response) => {
            assert!(response.body.len() <= limits.size);
            assert!(!(100..200).contains(&response.status));
        }
        Err(reason) => assert_harmless(&reason.to_string()),
    }

    let places = Places::of_texts(|component| (component == Component::Etcd).then_some(MANIFEST));
    let metrics = [b"HTTP/1.1 200 OK\r\n\r\n", data].concat();
    for answer in [data, &metrics] {
        let credential = Credential::default();
        if let Err(reason) = running(&Talker(answer), Component::Etcd, &places, &credential, limits) {
            assert_harmless(&reason.to_string());
        }
        if let Err(reason) = healthy(&Talker(answer), Component::Etcd, &places, &credential, limits) {
            assert_harmless(&reason.to_string());
        }
    }
});

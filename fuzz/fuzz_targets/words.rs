//! Words that come as options, in files and in certificates: what is read is written as it is read.

#![no_main]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use kubepki::node::probe::Endpoint;
use kubepki::pki::algorithm::KeyAlgorithm;
use kubepki::pki::issue::Template;
use kubepki::pki::lifetime::{self, Lifetime, Threshold};
use kubepki::pki::name::Name;
use kubepki::pki::profile::Profile;
use kubepki::pki::san::San;
use kubepki::pki::spec::template;
use kubepki::pki::usage::ExtendedKeyUsage;
use kubepki::plan::credentials;
use kubepki::plan::rotate::scope::Scope;
use kubepki::report::text::printable;
use kubepki_fuzz::{NOW, assert_harmless, key};
use libfuzzer_sys::fuzz_target;

fn round<T: FromStr<Err: Debug> + Display + PartialEq + Debug>(text: &str) -> Option<T> {
    let value: T = text.parse().ok()?;
    let shown = value.to_string();
    assert_eq!(shown.parse::<T>().as_ref().ok(), Some(&value), "{text:?} is shown as {shown:?}");
    Some(value)
}

fuzz_target!(|text: &str| {
    if let Some(lifetime) = round::<Lifetime>(text) {
        let (from, to) = lifetime::period(NOW, lifetime);
        assert!(from <= NOW && NOW <= to);
        assert_eq!(lifetime::same_period(NOW, from, to).1, to);
    }
    if let Some(threshold) = round::<Threshold>(text) {
        threshold.reached(NOW, NOW, NOW);
    }
    round::<San>(text);
    round::<Endpoint>(text);
    round::<KeyAlgorithm>(text);
    round::<Profile>(text);
    if let Some(usage) = round::<ExtendedKeyUsage>(text) {
        Template::leaf(Name::new("jane", &[]), &[usage], &[], key().public_key(), (NOW, NOW));
    }
    let _ = text.parse::<Scope>();
    credentials::with_endpoint("https://10.0.0.1:6443", text);
    credentials::with_endpoint(text, "10.0.0.1:6443");
    if template::check(text).is_ok() && !template::is_template(text) {
        assert_eq!(template::expand(text, |_| None).as_deref(), Ok(text));
    }
    assert_harmless(&printable(text, false));
});

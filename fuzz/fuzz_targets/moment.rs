//! `--at`: whatever moment is meant, certificates are judged as of it, and the verdict is shown.

#![no_main]

use std::cell::OnceCell;

use kubepki::cli::check_expiry::moment;
use kubepki::diagnose::{Policy, diagnose};
use kubepki::observe::{Keys, Wanted, observe};
use kubepki::pki::issue::Template;
use kubepki::pki::lifetime::{Lifetime, period};
use kubepki::pki::name::Name;
use kubepki::report::expiry::ExpiryReport;
use kubepki::report::table::Look;
use kubepki::report::{Report as _, monitoring, prometheus, time_text};
use kubepki::snapshot::Snapshot;
use kubepki_fuzz::{Files, NOW, assert_harmless, key};
use libfuzzer_sys::fuzz_target;

thread_local! {
    static SNAPSHOT: OnceCell<Snapshot> = const { OnceCell::new() };
}

/// A machine with an authority and nothing else.
fn machine() -> Snapshot {
    let validity = period(NOW, Lifetime::days(3650));
    let authority = Template::authority(Name::new("kubernetes", &[]), &[], key().public_key(), validity);
    let pem = authority.self_sign(key()).expect("a P-256 key signs").to_pem().into_bytes();
    let files = Files(vec![("/etc/kubernetes/pki/ca.crt".into(), pem)]);
    observe(&[&files], &Wanted::machine(Keys::PublicHalf), NOW)
}

fuzz_target!(|text: &str| {
    let Ok(moment) = moment::parse(text) else { return };
    let at = moment.seen_from(NOW);
    assert!(at.offset().is_utc());
    let shown = time_text::rfc3339(at);
    assert_eq!(moment::parse(&shown).map(|moment| moment.seen_from(NOW)), at.replace_nanosecond(0).map_err(|_| shown));
    SNAPSHOT.with(|snapshot| {
        let snapshot = snapshot.get_or_init(machine);
        let diagnosis = diagnose(snapshot, &Policy::at(at));
        let rows = diagnosis.rows.iter().collect();
        let report = ExpiryReport { rows, snapshot, at, made_at: NOW, renew_all: String::new() };
        assert_harmless(&report.view(NOW).render(Look { width: Some(100), coloured: false }));
        assert_harmless(&monitoring::line(&report).0);
        assert_harmless(&prometheus::text(&report));
        report.to_value().expect("every report can be written");
    });
});

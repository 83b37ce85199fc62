//! Certificates keep their bytes, and their successors carry over everything they say.

#![no_main]

use kubepki::pki::certificate::Certificate;
use kubepki::pki::der::{OID_AKI, OID_SKI};
use kubepki::pki::issue::Template;
use kubepki::pki::lifetime::{same_period, used_percent};
use kubepki::pki::pem_file::PemFile;
use kubepki_fuzz::{NOW, assert_harmless, key};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(certificate) = Certificate::from_der(data) else { return };
    assert_eq!(certificate.der(), data);
    assert_harmless(certificate.subject().text());
    assert_harmless(&format!("{certificate:?}"));
    assert!(certificate.certifies(certificate.public_key()));

    let file = PemFile::parse(certificate.to_pem().as_bytes());
    let ders: Vec<&[u8]> = file.certificates().map(|block| block.der.as_slice()).collect();
    assert_eq!(ders, [data]);

    let (from, to) = (certificate.not_before(), certificate.not_after());
    assert!(used_percent(from, to, NOW).is_finite());
    let period = same_period(NOW, from, to);
    assert!(period.0 <= period.1);
    let template = Template::renewing(&certificate, key().public_key(), period);
    let renewed = template.self_sign(key()).expect("a P-256 key signs");
    assert_eq!(renewed.subject(), certificate.subject());
    let carried = |one: &Certificate| -> Vec<_> {
        one.extensions().iter().filter(|it| it.oid != OID_SKI && it.oid != OID_AKI).cloned().collect()
    };
    assert_eq!(carried(&renewed), carried(&certificate));
    assert_eq!((renewed.not_before(), renewed.not_after()), period);
});

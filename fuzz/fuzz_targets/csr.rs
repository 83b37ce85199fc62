//! Requests: hostile ones as they are, and hostile attributes under a signature that is right.

#![no_main]

use kubepki::pki::csr::Request;
use kubepki::pki::name::Name;
use kubepki::pki::pem_file::encode;
use kubepki_fuzz::{assert_harmless, key, pem};
use libfuzzer_sys::fuzz_target;
use yasna::Tag;
use yasna::models::ObjectIdentifier;

const TAG: &str = "CERTIFICATE REQUEST";

/// A request of the shared key with these bytes in the place of its attributes.
fn signed(attributes: &[u8]) -> Vec<u8> {
    let (algorithm, _) = key().signature_algorithm().expect("a P-256 key signs");
    let info = yasna::construct_der(|writer| {
        writer.write_sequence(|info| {
            info.next().write_u8(0);
            info.next().write_der(Name::new("jane", &[]).der());
            info.next().write_der(key().public_key());
            info.next().write_tagged_implicit(Tag::context(0), |writer| {
                writer.write_sequence(|inner| inner.next().write_der(attributes))
            });
        });
    });
    let signature = key().sign(&info).expect("a P-256 key signs");
    yasna::construct_der(|writer| {
        writer.write_sequence(|request| {
            request.next().write_der(&info);
            request.next().write_sequence(|inner| inner.next().write_oid(&ObjectIdentifier::from_slice(algorithm)));
            request.next().write_bitvec_bytes(&signature, signature.len() * 8);
        });
    })
}

fuzz_target!(|data: &[u8]| {
    if let Ok(request) = Request::from_pem(&pem(data, &[TAG])) {
        assert_harmless(request.subject.text());
        assert_eq!(Name::from_der(request.subject.der()).as_ref(), Ok(&request.subject));
    }
    if let Ok(request) = Request::from_pem(encode(TAG, &signed(data)).as_bytes()) {
        assert_eq!(request.subject.common_name(), Some("jane"));
        assert_eq!(request.public_key, key().public_key());
    }
});

//! A manifest of revocations that is read can be written and read again, and every text of a register or an audit log is one.

#![no_main]

use kubepki::pki::register::Register;
use kubepki::pki::revocation::manifest;
use kubepki::pki::{audit_log, crl};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = crl::read(data);
    let told = audit_log::read(data);
    let register = Register::read(data);
    if let Some(text) = register.with(&told.certificates).expect("every entry can be written") {
        assert!(told.certificates.iter().all(|issued| Register::read(&text).knows(&issued.sha256)));
    }
    match manifest::read(data) {
        Ok(revocations) => {
            let text = manifest::write(&revocations).expect("every revocation can be written");
            assert_eq!(manifest::read(text.as_bytes()).expect("what was written is read"), revocations);
        }
        Err(fault) => assert!(!fault.message.is_empty()),
    }
});

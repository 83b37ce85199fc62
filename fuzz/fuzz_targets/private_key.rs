//! A key that can be loaded has the public half that was read without loading it, and is written as it was read.

#![no_main]

use kubepki::pki::pem_file::PemFile;
use kubepki::pki::private_key::{PrivateKey, public_half, rsa_public_key_info};
use kubepki_fuzz::pem;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = rsa_public_key_info(data);
    let text = pem(data, &["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"]);
    let half = public_half(&text);
    let Ok(key) = PrivateKey::from_pem(&text) else { return };
    assert_eq!(half.as_deref(), Ok(key.public_key()));
    let read = PemFile::parse(&text);
    let written = PemFile::parse(key.to_pem().as_bytes());
    let der = |file: &PemFile| file.private_key().map(|block| (block.tag.clone(), block.der.clone()));
    assert_eq!(der(&written), der(&read));
    assert!(key.signature_algorithm().is_ok(), "{}", key.kind());
});

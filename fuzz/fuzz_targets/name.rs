//! Names keep their bytes, are shown without control characters, and what is written is what is read.

#![no_main]

use kubepki::pki::name::Name;
use kubepki_fuzz::assert_harmless;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(name) = Name::from_der(data) {
        assert_eq!(name.der(), data);
        assert_harmless(name.text());
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut parts = text.split('\n');
    let common_name = parts.next().unwrap_or_default();
    let mut organizations: Vec<String> = parts.map(str::to_owned).collect();
    let name = Name::new(common_name, &organizations);
    assert_eq!(Name::from_der(name.der()).as_ref(), Ok(&name));
    assert_harmless(name.text());
    assert_eq!(name.common_name().unwrap_or_default(), common_name);
    // A set has no order.
    let mut found = name.organizations().to_vec();
    found.sort();
    organizations.sort();
    assert_eq!(found, organizations);
});

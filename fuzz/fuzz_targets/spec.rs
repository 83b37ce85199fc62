//! A spec that is read can be written and read again, and everything in it resolves or says why not.

#![no_main]

use kubepki::pki::profile::Profile;
use kubepki::pki::spec::{NodeValues, Overrides, Spec};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for base in [None, Some(Profile::Kubeadm)] {
        let Ok(spec) = Spec::read(data, base) else { continue };
        let text = spec.to_yaml().expect("every spec can be written");
        let again = Spec::read(text.as_bytes(), None).expect("what was written is read");
        assert_eq!(again.explicit(), Spec { algorithm_is_wanted: true, ..spec.explicit() }, "{text}");

        let node = NodeValues { name: "cp1".to_owned(), address: std::net::IpAddr::from([10, 0, 0, 1]) };
        for entry in &spec.authorities {
            let _ = spec.resolve_authority(entry);
        }
        for entry in &spec.certificates {
            let _ = spec.resolve_leaf(entry, &node);
        }
        for entry in &spec.kubeconfigs {
            let _ = spec.resolve_kubeconfig(entry, &node);
        }
        assert_eq!(spec.clone().with(Overrides::default()).as_ref(), Ok(&spec));
    }
});

//! What API servers are told about revocations: a file of authorizers, a manifest or a kubeadm configuration that can be changed
//! says afterwards what it was to say, and the same change once more changes nothing.

#![no_main]

use std::path::PathBuf;

use kubepki::pki::authorization::{Denied, refused, with_denied};
use kubepki::pki::client_trust::ClientTrust;
use kubepki::pki::component::flag;
use kubepki::pki::kubeadm_config::{ExtraArgument, Part, with_extra_arguments, without_values_below};
use kubepki::pki::manifest_flags::{Edit, edited};
use libfuzzer_sys::fuzz_target;

const OWN: &str = "/etc/kubernetes/pki/kubepki/own.yaml";

fuzz_target!(|data: &[u8]| {
    if let Ok(trust) = ClientTrust::read(data)
        && let Ok(text) = trust.to_text()
    {
        let again = ClientTrust::read(text.as_bytes()).expect("what was written is read");
        assert_eq!(again.is_pinned(), trust.is_pinned());
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    authorizers(text);
    manifest(text);
    configuration(text);
});

fn authorizers(text: &str) {
    let _ = refused(text);
    let denied = Denied {
        fingerprints: ["ab".repeat(32), "cd".repeat(32)].into(),
        groups: ["dev 'one' \"two\"".to_owned()].into(),
    };
    let Ok(new) = with_denied(text, &denied, OWN) else { return };
    assert_eq!(refused(&new).as_ref(), Ok(&denied.fingerprints));
    assert_eq!(with_denied(&new, &denied, OWN).as_ref(), Ok(&new));
    let freed = with_denied(&new, &Denied::default(), OWN).expect("nobody can be refused");
    assert!(refused(&freed).is_ok_and(|left| left.is_empty()));
}

fn manifest(text: &str) {
    // An item that is a mapping is no word, and no kubelet starts such a pod.
    let is_mapping = |line: &str| line.trim_start().starts_with("- ") && line.contains("--") && line.contains(':');
    if text.lines().any(is_mapping) {
        return;
    }
    let edits = [
        Edit::Replace("--authorization-mode", "--authorization-config", OWN),
        Edit::Set("--client-ca-file", "/a/b"),
        Edit::Remove("--profiling"),
    ];
    let Ok(new) = edited(text, &edits) else { return };
    assert_eq!(flag(&new, "--authorization-config"), Some(OWN));
    assert_eq!(flag(&new, "--client-ca-file"), Some("/a/b"));
    assert_eq!(flag(&new, "--profiling"), None);
    assert_eq!(edited(&new, &edits).as_ref(), Ok(&new));
}

fn configuration(text: &str) {
    let argument = |part, name: &str, value: Option<&str>| ExtraArgument {
        part,
        name: name.to_owned(),
        value: value.map(str::to_owned),
    };
    let arguments = [
        argument(Part::ApiServer, "authorization-config", Some(OWN)),
        argument(Part::ApiServer, "authorization-mode", None),
        argument(Part::Etcd, "client-crl-file", Some(OWN)),
    ];
    let Ok(changed) = with_extra_arguments(text, &arguments) else { return };
    let new = changed.unwrap_or_else(|| text.to_owned());
    assert_eq!(with_extra_arguments(&new, &arguments), Ok(None));
    let folder = [PathBuf::from("/etc/kubernetes/pki/kubepki")];
    let Ok(back) = without_values_below(&new, &folder) else { return };
    let back = back.unwrap_or(new);
    assert_eq!(without_values_below(&back, &folder), Ok(None));
}

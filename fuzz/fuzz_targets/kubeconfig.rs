//! An edit changes what it was asked to and nothing else, and the same edit again changes nothing at all.

#![no_main]

use std::path::Path;

use kubepki::pki::kubeconfig::{Authentication, Credential, DataField, Kubeconfig, Names, Replacement};
use libfuzzer_sys::fuzz_target;

const FOLDER: &str = "/home/jane/.kube";

/// Everything a kubeconfig says, but for one field of one entry, in lines.
fn everything_but(config: &Kubeconfig, except: Option<(DataField, &str)>) -> Vec<String> {
    use DataField::{CertificateAuthority, ClientCertificate, ClientKey};
    let mut lines = Vec::new();
    let data = |field, entry: &str, material: &kubepki::pki::kubeconfig::Material| {
        let bytes = material.embedded.as_ref().map(|embedded| embedded.as_ref().map(|bytes| bytes.to_vec()).ok());
        if except == Some((field, entry)) { String::new() } else { format!("{bytes:?} {:?}", material.file) }
    };
    for one in &config.clusters {
        let said = (&one.server, &one.tls_server_name, one.insecure_skip_tls_verify);
        lines.push(format!("{:?} {said:?}", one.name));
        lines.push(data(CertificateAuthority, &one.name, &one.certificate_authority));
    }
    for one in &config.users {
        let said = (&one.token, &one.token_file, one.has_password, &one.exec);
        lines.push(format!("{:?} {said:?}", one.name));
        lines.push(data(ClientCertificate, &one.name, &one.client_certificate));
        lines.push(data(ClientKey, &one.name, &one.client_key));
    }
    for one in &config.contexts {
        lines.push(format!("{:?} {:?} {:?} {:?}", one.name, one.cluster, one.user, one.namespace));
    }
    lines.push(format!("{:?}", config.current_context));
    lines
}

fn replace(data: &[u8], config: &Kubeconfig) {
    let clusters = config.clusters.iter().map(|one| (DataField::CertificateAuthority, &one.name));
    let users = config
        .users
        .iter()
        .flat_map(|one| [DataField::ClientCertificate, DataField::ClientKey].map(|field| (field, &one.name)));
    for (field, entry) in clusters.chain(users).take(4) {
        let wanted = [Replacement { field, entry, pem: b"-----BEGIN new" }];
        let Ok(text) = Kubeconfig::replace_data(data, &wanted) else { continue };
        let after = Kubeconfig::parse(&text, Path::new(FOLDER)).expect("what was written is read");
        assert_eq!(everything_but(&after, Some((field, entry))), everything_but(config, Some((field, entry))));
        let material = match field {
            DataField::CertificateAuthority => after.cluster(entry).map(|one| &one.certificate_authority),
            DataField::ClientCertificate => after.user(entry).map(|one| &one.client_certificate),
            DataField::ClientKey => after.user(entry).map(|one| &one.client_key),
        };
        let embedded = material.and_then(|material| material.embedded.as_ref()).and_then(|bytes| bytes.as_ref().ok());
        assert_eq!(embedded.map(|bytes| bytes.as_slice()), Some(&b"-----BEGIN new"[..]));
        assert_eq!(*Kubeconfig::replace_data(&text, &wanted).expect("again"), *text);
    }
}

fn merge(data: &[u8], config: Option<&Kubeconfig>) {
    let names = Names { cluster: "k".to_owned(), user: "u".to_owned(), context: "u@k".to_owned() };
    let proof = Authentication::Embedded { certificate: b"certificate", key: b"key" };
    let credential = Credential::new(names, "https://10.0.0.1:6443", b"authority", proof);
    let Ok(merged) = credential.merge_into(data, true) else { return };
    let after = Kubeconfig::parse(&merged.text, Path::new(FOLDER)).expect("what was written is read");
    assert_eq!(after.current_context.as_deref(), Some("u@k"));
    assert!(after.problems.is_empty(), "{:?}", after.problems);
    for (kind, found) in [
        ("cluster", after.cluster("k").is_some()),
        ("user", after.user("u").is_some()),
        ("context", after.context("u@k").is_some()),
    ] {
        assert!(found, "no {kind}");
    }
    let before = config.map(|config| config.clusters.len() + config.users.len() + config.contexts.len());
    let count = after.clusters.len() + after.users.len() + after.contexts.len();
    assert_eq!(before.unwrap_or_default() + merged.added.len(), count);
    let again = credential.merge_into(&merged.text, true).expect("again");
    assert!(!again.changed && again.text == merged.text);
}

fn copy(data: &[u8]) {
    let file = |_: &Path| Err("there are no files here".to_owned());
    let Ok(credential) = Credential::copied(data, Path::new(FOLDER), None, &file) else { return };
    let document = credential.document();
    let copy = Kubeconfig::parse(&document, Path::new("/")).expect("what was written is read");
    assert_eq!(copy.names(None).as_ref(), Ok(credential.names()));
}

fuzz_target!(|data: &[u8]| {
    let parsed = Kubeconfig::parse(data, Path::new(FOLDER));
    if let Ok(config) = &parsed {
        replace(data, config);
    }
    merge(data, parsed.as_ref().ok());
    copy(data);
});

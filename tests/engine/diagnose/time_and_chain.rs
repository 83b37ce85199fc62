//! Dates, issuers, signatures and what certificates are made of.

use super::*;

#[test]
fn expired_and_not_yet_valid() {
    let mut cluster = Cluster::healthy();
    let leaf = cluster.ca.issue_with("kube-apiserver-kubelet-client", &[], CLIENT, &[], |template| {
        template.not_after = NOW - Duration::hours(76);
    });
    cluster.put_pair("apiserver-kubelet-client", &leaf);
    only(&cluster, FindingId::CertificateExpired, "apiserver-kubelet-client");
    let diagnosis_message = |cluster: &Cluster| {
        let snapshot = look(&cluster.write());
        let diagnosis = diagnose::diagnose(&snapshot, &Policy::at(NOW));
        diagnosis.row("apiserver-kubelet-client").unwrap().findings[0].message.clone()
    };
    assert_eq!(diagnosis_message(&cluster), "expired 3 d 4 h ago, on 2026-01-28 20:00:00 UTC");
    let leaf = cluster.ca.issue_with("kube-apiserver-kubelet-client", &[], CLIENT, &[], |template| {
        template.not_before = NOW + Duration::seconds(1);
    });
    cluster.put_pair("apiserver-kubelet-client", &leaf);
    only(&cluster, FindingId::CertificateNotYetValid, "apiserver-kubelet-client");
}

#[test]
fn what_is_on_the_ledger_of_a_node_is_revoked() {
    let mut cluster = Cluster::healthy();
    let snapshot = look(&cluster.write());
    let diagnosis = diagnose::diagnose(&snapshot, &Policy::at(NOW));
    let serial = diagnosis.row("apiserver-kubelet-client").unwrap().certificate.unwrap().serial().to_string();
    let entry = |not_before: &str| {
        format!(
            "apiVersion: certificates.microsoft.com/v1\nkind: RenewRevocation\nmetadata: {{name: lost}}\nspec:\n  \
             revocations:\n  - kind: SerialNumber\n    serialNumber: {serial}\n    notBefore: {not_before}\n"
        )
    };
    let ledger = "/etc/kubernetes/pki/.kubepki/revocations.yaml";
    cluster.put(ledger, entry("2100-01-01T00:00:00Z"), 0o600);
    only(&cluster, FindingId::CertificateRevoked, "apiserver-kubelet-client");
    cluster.put(ledger, entry("2000-01-01T00:00:00Z"), 0o600);
    assert_eq!(found(&look(&cluster.write()), &Policy::at(NOW)), BTreeSet::new(), "it was issued later");
}

#[test]
fn thresholds_count_from_their_very_second() {
    let cluster = Cluster::healthy();
    let snapshot = look(&cluster.write());
    let day = |days: i64| ISSUED + Duration::days(days);
    let ids = |policy: &Policy| found(&snapshot, policy).into_iter().map(|(id, _)| id).collect::<BTreeSet<_>>();
    assert_eq!(ids(&Policy::at(day(292) - Duration::seconds(1))), BTreeSet::new());
    // The kubelet has until 90 %; what it signed itself it does not renew.
    let due = BTreeSet::from([FindingId::CertificateExpiring, FindingId::RenewalPending]);
    assert_eq!(ids(&Policy::at(day(292))), due);
    let asked = Policy { warn_is_default: false, ..Policy::at(day(292)) };
    assert_eq!(ids(&asked), BTreeSet::from([FindingId::CertificateExpiring]));
    assert_eq!(ids(&Policy::at(day(340))), BTreeSet::from([FindingId::CertificateExpiring]));
    let month = Policy { warn: "30d".parse().unwrap(), warn_is_default: false, ..Policy::at(day(335)) };
    assert_eq!(ids(&month), BTreeSet::from([FindingId::CertificateExpiring]));
    let month = Policy { at: day(335) - Duration::seconds(1), ..month };
    assert_eq!(ids(&month), BTreeSet::new());
    // Valid to the last second of notAfter.
    assert!(!ids(&Policy::at(day(365))).contains(&FindingId::CertificateExpired));
    assert!(ids(&Policy::at(day(365) + Duration::seconds(1))).contains(&FindingId::CertificateExpired));
    let critical = Policy { critical: "40d".parse().unwrap(), ..Policy::at(day(340)) };
    assert_eq!(ids(&critical), BTreeSet::from([FindingId::CertificateCritical]));
    let diagnosis = diagnose::diagnose(&snapshot, &critical);
    assert_eq!(diagnosis.severity(), Some(diagnose::Severity::Broken));
}

#[test]
fn a_ca_is_judged_by_its_own_threshold() {
    let mut cluster = Cluster::healthy();
    // The agent's CA stands alone, so that no leaf is affected. It was made for 396 days.
    cluster.put_pair("agent/ca", &Pair::authority_until("agent-ca", NOW + Duration::days(365)));
    only(&cluster, FindingId::AuthorityExpiring, "agent-ca");
    cluster.put_pair("agent/ca", &Pair::authority_until("agent-ca", NOW + Duration::days(365) + Duration::seconds(1)));
    assert_eq!(found(&look(&cluster.write()), &Policy::at(NOW)), BTreeSet::new());
    let month = Policy { ca_warn: "30d".parse().unwrap(), ..Policy::at(NOW + Duration::days(1)) };
    assert_eq!(found(&look(&cluster.write()), &month), BTreeSet::new());
}

#[test]
fn a_ca_of_a_year_needs_no_attention_from_its_first_day() {
    let mut cluster = Cluster::healthy();
    let end = ISSUED + Duration::days(365);
    cluster.put_pair("agent/ca", &Pair::authority_until("agent-ca", end));
    let snapshot = look(&cluster.write());
    assert_eq!(found(&snapshot, &Policy::at(NOW)), BTreeSet::new());
    let due = found(&snapshot, &Policy { warn: "80%".parse().unwrap(), ..Policy::at(ISSUED + Duration::days(292)) });
    assert!(due.contains(&(FindingId::CertificateExpiring, "agent-ca".to_owned())));
    let asked = Policy { ca_warn_is_default: false, ..Policy::at(NOW) };
    expect(&snapshot, &asked, FindingId::AuthorityExpiring, "agent-ca");
}

#[test]
fn a_kubelet_certificate_past_80_percent_is_given_time() {
    let mut cluster = Cluster::healthy();
    let leaf = cluster.ca.issue_with("system:node:cp1", &["system:nodes"], CLIENT, &[], |template| {
        template.not_after = ISSUED + Duration::days(37);
    });
    cluster.put("/var/lib/kubelet/pki/kubelet-client-2026-01-01-00-00-00.pem", leaf.crt() + &leaf.pem_key(), 0o600);
    let snapshot = look(&cluster.write());
    let pending = |name: &str| (FindingId::RenewalPending, name.to_owned());
    assert_eq!(
        found(&snapshot, &Policy::at(NOW)),
        BTreeSet::from([pending("kubelet.conf"), pending("kubelet-client")])
    );
    let diagnosis = diagnose::diagnose(&snapshot, &Policy::at(NOW));
    assert!(diagnosis.rows.iter().all(|row| row.status() == Status::Ok));
}

#[test]
fn a_leaf_must_not_outlive_its_ca() {
    let mut cluster = Cluster::healthy();
    let leaf = cluster.etcd_ca.issue_with("kube-apiserver-etcd-client", &[], CLIENT, &[], |template| {
        template.not_after = ISSUED + Duration::days(3651);
    });
    cluster.put_pair("apiserver-etcd-client", &leaf);
    only(&cluster, FindingId::OutlivesIssuer, "apiserver-etcd-client");
}

#[test]
fn a_ca_of_the_same_name_is_another_ca() {
    let mut cluster = Cluster::healthy();
    let other = Pair::authority("etcd-ca");
    cluster.put_pair("apiserver-etcd-client", &other.issue("kube-apiserver-etcd-client", &[], CLIENT, &[]));
    only(&cluster, FindingId::IssuerUnknown, "apiserver-etcd-client");
    let stranger = Pair::authority("stranger");
    cluster.put_pair("apiserver-etcd-client", &stranger.issue("kube-apiserver-etcd-client", &[], CLIENT, &[]));
    only(&cluster, FindingId::IssuerUnknown, "apiserver-etcd-client");
    // Signed by itself.
    let key =
        kubepki::pki::private_key::PrivateKey::generate(kubepki::pki::algorithm::KeyAlgorithm::EcdsaP256).unwrap();
    let template = kubepki::pki::issue::Template::renewing(
        &stranger.certificate,
        key.public_key(),
        (ISSUED, ISSUED + Duration::days(365)),
    );
    let itself = Pair { certificate: template.self_sign(&key).unwrap(), key };
    cluster.put_pair("apiserver-etcd-client", &itself);
    only(&cluster, FindingId::IssuerUnknown, "apiserver-etcd-client");
}

#[test]
fn a_leaf_of_the_wrong_ca_of_the_same_node() {
    let mut cluster = Cluster::healthy();
    let leaf = cluster.ca.issue("kube-apiserver-etcd-client", &[], CLIENT, &[]);
    cluster.put_pair("apiserver-etcd-client", &leaf);
    only(&cluster, FindingId::IssuerWrong, "apiserver-etcd-client");
    // What the built-in profiles do is no mistake.
    let mut cluster = Cluster::healthy();
    let leaf = cluster.ca.issue("cp1", &[], BOTH, &etcd_sans());
    cluster.put_pair("etcd/server", &leaf);
    assert_eq!(found(&look(&cluster.write()), &Policy::at(NOW)), BTreeSet::new());
}

#[test]
fn a_signature_that_does_not_fit() {
    let mut cluster = Cluster::healthy();
    let leaf = cluster.etcd_ca.issue("kube-apiserver-etcd-client", &[], CLIENT, &[]);
    let mut der = leaf.certificate.der().to_vec();
    // The last byte of the signature.
    *der.last_mut().unwrap() ^= 1;
    let bent = Pair { certificate: Certificate::from_der(&der).unwrap(), key: leaf.key };
    cluster.put_pair("apiserver-etcd-client", &bent);
    only(&cluster, FindingId::SignatureBad, "apiserver-etcd-client");
    let mut cluster = Cluster::healthy();
    let mut der = Pair::authority("agent-ca").certificate.der().to_vec();
    *der.last_mut().unwrap() ^= 1;
    cluster.put(&format!("{PKI}/agent/ca.crt"), Certificate::from_der(&der).unwrap().to_pem(), 0o644);
    only(&cluster, FindingId::SignatureBad, "agent-ca");
}

#[test]
fn a_signature_that_cannot_be_checked_is_never_fine() {
    if !openssl::is_there("a_signature_that_cannot_be_checked_is_never_fine") {
        return;
    }
    let mut cluster = Cluster::healthy();
    let (certificate, key) = openssl::self_signed(
        "agent-ca",
        &["-newkey", "rsa:2048", "-sha256", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:222"],
        3650,
    );
    cluster.put(&format!("{PKI}/agent/ca.crt"), certificate, 0o644);
    cluster.put(&format!("{PKI}/agent/ca.key"), key, 0o600);
    let snapshot = look(&cluster.write());
    let now = snapshot.node("cp1").unwrap().certificate("agent-ca").unwrap().not_before() + Duration::days(1);
    let all =
        found(&snapshot, &Policy { ca_warn: "0d".parse().unwrap(), warn: "0d".parse().unwrap(), ..Policy::at(now) });
    assert!(all.contains(&(FindingId::SignatureUnsupported, "agent-ca".to_owned())), "{all:?}");
    assert_eq!(FindingId::SignatureUnsupported.status(), Status::Attention);
}

#[test]
fn a_chain_that_nobody_could_check_is_said_to_be_so() {
    let root = TestRoot::new();
    let ca = Pair::authority("elsewhere");
    root.put("/d/x.crt", ca.issue("x", &[], CLIENT, &[]).crt(), 0o644);
    let wanted = Wanted { scopes: vec![Scope::Path("/d/x.crt".into())], keys: Keys::PublicHalf };
    let snapshot = observe::observe(&[&root.node as &dyn Node], &wanted, NOW);
    expect(&snapshot, &Policy::at(NOW), FindingId::IssuerNotSeen, "x.crt");
}

#[test]
fn a_ca_that_may_not_sign() {
    let mut cluster = Cluster::healthy();
    let key =
        kubepki::pki::private_key::PrivateKey::generate(kubepki::pki::algorithm::KeyAlgorithm::EcdsaP256).unwrap();
    let subject = kubepki::pki::name::Name::new("agent-ca", &[]);
    let validity = (ISSUED, ISSUED + Duration::days(3650));
    let mut template = kubepki::pki::issue::Template::authority(subject, &[], key.public_key(), validity);
    // digitalSignature alone
    template.extensions[0].value = vec![0x03, 0x02, 0x07, 0x80];
    let pair = Pair { certificate: template.self_sign(&key).unwrap(), key };
    cluster.put_pair("agent/ca", &pair);
    only(&cluster, FindingId::AuthorityCannotSign, "agent-ca");
}

#[test]
fn weak_signatures_short_keys_and_strange_kinds() {
    if !openssl::is_there("weak_signatures_short_keys_and_strange_kinds") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let ca = openssl::Authority::new(folder.path(), "etcd-ca", &["-newkey", "rsa:2048", "-sha256"]);
    let judge = |arguments: &[&str], digest: &str, name: &str| {
        let mut cluster = Cluster::healthy();
        // Only the files in question, so that dates of today do not matter for the others.
        cluster.files.clear();
        cluster.put(&format!("{PKI}/etcd/ca.crt"), ca.certificate(), 0o644);
        let (certificate, key) = ca.issue("kube-apiserver-etcd-client", arguments, digest);
        cluster.put(&format!("{PKI}/apiserver-etcd-client.crt"), certificate, 0o644);
        cluster.put(&format!("{PKI}/apiserver-etcd-client.key"), key, 0o600);
        let snapshot = look(&cluster.write());
        let now = snapshot.nodes[0].certificate("etcd-ca").unwrap().not_before() + Duration::days(1);
        let all = found(&snapshot, &Policy::at(now));
        let ids: Vec<FindingId> = all.into_iter().filter(|(_, at)| at == name).map(|(id, _)| id).collect();
        ids
    };
    let leaf = "apiserver-etcd-client";
    assert_eq!(judge(&["-newkey", "rsa:2048"], "-sha256", leaf), []);
    assert_eq!(judge(&["-newkey", "rsa:2048"], "-sha1", leaf), [FindingId::SignatureWeak]);
    assert_eq!(judge(&["-newkey", "rsa:1024"], "-sha256", leaf), [FindingId::KeyWeak]);
    assert_eq!(judge(&["-newkey", "ed25519"], "-sha256", leaf), [FindingId::KeyKindUnsupported]);
}

#[test]
fn two_certificates_of_one_ca_have_two_serial_numbers() {
    if !openssl::is_there("two_certificates_of_one_ca_have_two_serial_numbers") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let ca = openssl::Authority::new(folder.path(), "one", &["-newkey", "rsa:2048", "-sha256"]);
    let root = TestRoot::new();
    root.put("/d/ca.crt", ca.certificate(), 0o644);
    for name in ["a", "b"] {
        root.put(&format!("/d/{name}.crt"), ca.issue_with_serial(name, "7"), 0o644);
    }
    let wanted = Wanted { scopes: vec![Scope::Path("/d".into())], keys: Keys::PublicHalf };
    let snapshot = observe::observe(&[&root.node as &dyn Node], &wanted, NOW);
    let now = snapshot.nodes[0].artifacts[0].content().unwrap().certificates().next().unwrap().not_before();
    let all = found(&snapshot, &Policy::at(now + Duration::days(1)));
    assert_eq!(all, BTreeSet::from([(FindingId::SerialDuplicate, "b.crt".to_owned())]));
}

#[test]
fn a_damaged_extension_is_not_fine() {
    let mut cluster = Cluster::healthy();
    let leaf = cluster.etcd_ca.issue_with("kube-apiserver-etcd-client", &[], CLIENT, &[], |template| {
        // subjectAltName whose content is no sequence
        template.extensions.push(kubepki::pki::der::Extension::new(
            kubepki::pki::der::OID_SAN,
            false,
            vec![0x02, 0x01, 0x05],
        ));
    });
    cluster.put_pair("apiserver-etcd-client", &leaf);
    only(&cluster, FindingId::ExtensionUnreadable, "apiserver-etcd-client");
}

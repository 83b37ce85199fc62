//! What was asked for and cannot be had here is never taken for done: keys that are elsewhere, names that nobody would
//! present, authorities that count no more.

use kubepki::error::ExitCode;
use kubepki::pki::issue::Template;
use kubepki::pki::lifetime::Threshold;
use kubepki::pki::name::Name;
use kubepki::plan::blueprint::Blueprint;
use kubepki::plan::rotate::Request;
use kubepki::plan::rotate::scope::Scope;
use time::{Duration, OffsetDateTime};

use super::obstacles::{refused, says};
use crate::support::cluster::{CLIENT, Cluster, ISSUED, NOW, Pair};
use crate::support::rotation::{only, plan, rotate};

/// A node whose authorities are kept elsewhere.
fn external() -> Cluster {
    let mut cluster = Cluster::healthy();
    for name in ["ca", "etcd/ca", "front-proxy-ca"] {
        cluster.remove(&format!("/etc/kubernetes/pki/{name}.key"));
    }
    cluster
}

#[test]
fn a_rotation_of_nothing_for_want_of_keys_fails_and_says_who_can_help() {
    let cluster = external();
    let way_out = ["managed elsewhere", "rotate-certs --csr-only", "--import-signed"];
    for words in [&["ca"][..], &["leaf"], &["ca", "leaf"], &["etcd-ca"], &["apiserver"]] {
        says(&refused(&cluster, &only(words), ExitCode::Failed), &way_out);
    }
    let same_key = Request { same_key: true, ..Request::default() };
    says(&refused(&cluster, &same_key, ExitCode::Failed), &way_out);
    let due = Request { due: Some(Threshold::UsedPercent(5.0)), ..only(&["leaf"]) };
    says(&refused(&cluster, &due, ExitCode::Failed), &way_out);
    let mut without = Cluster::healthy();
    without.remove("/etc/kubernetes/pki/sa.key");
    says(
        &refused(&without, &only(&["sa"]), ExitCode::Failed),
        &["nothing can be replaced here: sa:", "key is not here"],
    );
}

#[test]
fn what_can_be_done_without_the_missing_keys_is_done() {
    // The token keys, and what nobody waits for.
    let blueprint = plan(&external().write(), &Request::default(), NOW).unwrap();
    assert_eq!((blueprint.certificates.len(), blueprint.changes().count()), (0, 2));
    assert!(blueprint.warnings.iter().any(|it| it.contains("managed elsewhere")), "{:?}", blueprint.warnings);
    let due = Request { due: Some(Threshold::UsedPercent(80.0)), ..only(&["leaf"]) };
    assert!(plan(&external().write(), &due, NOW).unwrap().is_empty(), "nothing is due");
    let mut one = Cluster::healthy();
    one.remove("/etc/kubernetes/pki/ca.key");
    let (_, changed) = rotate(&one.write(), &only(&["leaf"]), NOW).unwrap();
    assert!(changed.contains(&"/etc/kubernetes/pki/etcd/server.crt".to_owned()), "{changed:?}");
}

#[test]
fn a_certificate_without_a_place_for_its_key_gets_advice_that_helps() {
    let mut cluster = Cluster::healthy();
    cluster.put("/etc/kubernetes/pki/copy.crt", cluster.ca.issue("keyless", &[], CLIENT, &[]).crt(), 0o644);
    let text = refused(&cluster, &only(&["copy"]), ExitCode::Failed);
    says(&text, &["copy.crt", "private key is not here", "the ending .key", "take the file away"]);
    assert!(!text.contains("--only"), "it was named: {text}");
    let blueprint = plan(&cluster.write(), &only(&["leaf"]), NOW).unwrap();
    let warning = blueprint.warnings.iter().find(|it| it.contains("copy.crt")).unwrap();
    assert!(!warning.contains("--only"), "{warning}");
}

fn with_name(words: &[&str]) -> Request {
    Request { add_sans: vec!["api.example.com".parse().unwrap()], ..only(words) }
}

#[test]
fn names_of_servers_are_not_lost_on_others() {
    let cluster = Cluster::healthy();
    let without =
        |words: &[&str]| Request { add_sans: Vec::new(), remove_sans: with_name(&[]).add_sans, ..only(words) };
    for (words, who) in [
        (&["admin.conf", "front-proxy-client"][..], "`front-proxy-client`, `admin.conf` are no servers' certificates"),
        (&["apiserver", "admin.conf"], "`admin.conf` is no server's certificate"),
        (&["sa"], "none of the selected certificates"),
        (&["front-proxy-ca"], "none of the selected certificates"),
    ] {
        for request in [with_name(words), without(words)] {
            says(&refused(&cluster, &request, ExitCode::Usage), &[who, "--add-san", "--only apiserver"]);
        }
    }
    let has_name = |blueprint: &Blueprint, name: &str| {
        blueprint.differences.iter().any(|(_, path, _)| path.file_name().is_some_and(|file| file == name))
    };
    for (words, server) in [(&["leaf"][..], "apiserver.crt"), (&["etcd-ca"], "server.crt"), (&["ca"], "peer.crt")] {
        let blueprint = plan(&cluster.write(), &with_name(words), NOW).unwrap();
        assert!(has_name(&blueprint, server), "{words:?}: {:?}", blueprint.differences);
    }
}

#[test]
fn a_name_that_is_there_needs_neither_a_new_certificate_nor_a_key_to_sign_it() {
    let cluster = external();
    let request = Request {
        add_sans: vec!["kubernetes.default".parse().unwrap(), "10.0.0.1".parse().unwrap()],
        only_differences: true,
        ..only(&["apiserver"])
    };
    let blueprint = plan(&cluster.write(), &request, NOW).unwrap();
    assert!(blueprint.is_empty() && blueprint.warnings.is_empty(), "{:?}", blueprint.warnings);
    let other = Request { only_differences: true, ..with_name(&["apiserver"]) };
    says(&refused(&cluster, &other, ExitCode::Failed), &["managed elsewhere"]);
}

/// A node whose front-proxy CA is an intermediate under a root that ends at `end`.
fn under_a_root(end: OffsetDateTime) -> Cluster {
    let root = Pair::authority_until("root", end);
    let intermediate = root.issue_with("front-proxy-ca", &[], &[], &[], |template| {
        let validity = (ISSUED, ISSUED + Duration::days(1000));
        *template = Template::authority(Name::new("front-proxy-ca", &[]), &[], &template.public_key, validity);
    });
    let mut cluster = Cluster::healthy();
    cluster.put_pair("front-proxy-client", &intermediate.issue("front-proxy-client", &[], CLIENT, &[]));
    cluster.put_pair("front-proxy-ca", &intermediate);
    cluster.put_pair("root", &root);
    cluster
}

#[test]
fn nothing_is_issued_below_a_root_that_has_ended() {
    let ended = under_a_root(ISSUED + Duration::days(10));
    for (words, name) in [
        (&["front-proxy-ca"][..], "`front-proxy-ca`"),
        (&["front-proxy-client"], "`front-proxy-client`"),
        (&["leaf"], "`front-proxy-client`"),
    ] {
        let text = refused(&ended, &only(words), ExitCode::Failed);
        says(&text, &["node cp1", "/etc/kubernetes/pki/root.crt", "ended on 2026-01-11", name, "--only root.crt"]);
    }
    // Whoever replaces the root as well may.
    for words in [&["root.crt"][..], &["root.crt", "front-proxy-client"], &["ca"], &[]] {
        let request = Request { ca_validity: Some("10y".parse().unwrap()), ..only(words) };
        rotate(&ended.write(), &request, NOW).unwrap();
        let same_key = Request { same_key: true, ..request };
        rotate(&ended.write(), &same_key, NOW).unwrap();
    }
    // What has another authority is not concerned.
    rotate(&ended.write(), &only(&["etcd-ca"]), NOW).unwrap();
    let sound = under_a_root(ISSUED + Duration::days(2000));
    for scope in ["front-proxy-ca", "front-proxy-client"] {
        let request = only(&[scope]);
        assert!(request.only.0.contains(&Scope::Named(scope.to_owned())));
        rotate(&sound.write(), &request, NOW).unwrap();
    }
}

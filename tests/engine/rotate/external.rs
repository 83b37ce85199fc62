//! Authorities whose key is elsewhere: what is asked for there, and what is made of what comes back.

use std::path::Path;

use kubepki::error::{ExitCode, exit_code};
use kubepki::node::Node;
use kubepki::pki::issue::{Issuer, Template};
use kubepki::pki::name::Name;
use kubepki::plan::blueprint::{Blueprint, IssuerPlan};
use kubepki::plan::rotate::{self, External, Import, Offered, Request};
use kubepki::snapshot::NodeSnapshot;
use time::Duration;

use super::obstacles::says;
use super::{due, renewed};
use crate::support::cluster::{CLIENT, Cluster, ISSUED, NOW, Pair, SERVER};
use crate::support::elsewhere::{AUTHORITIES, Asked, Elsewhere};
use crate::support::root::TestRoot;
use crate::support::rotation::{look, only, rotate, see};

/// A node without these keys, and who has them.
fn without(names: &[&str]) -> (Cluster, Elsewhere) {
    let (mut cluster, mut elsewhere) = (Cluster::healthy(), Elsewhere::new());
    elsewhere.take(&mut cluster.files, names);
    (cluster, elsewhere)
}

fn ask(elsewhere: &Elsewhere, root: &TestRoot, request: &Request) -> Vec<Asked> {
    let nodes: [&dyn Node; 1] = [&root.node];
    elsewhere.ask(&nodes, request)
}

fn names(asked: &[Asked]) -> Vec<String> {
    let mut names: Vec<String> = asked.iter().map(Asked::name).collect();
    names.sort();
    names
}

fn import(root: &TestRoot, elsewhere: &Elsewhere, request: &Request) -> Import {
    let request = Request { external: elsewhere.offer(), ..request.clone() };
    rotate::import(&see(root), &request, NOW).unwrap()
}

/// Takes what came back and proves the node.
fn take(root: &TestRoot, elsewhere: &Elsewhere, request: &Request) -> (Blueprint, Vec<String>) {
    rotate(root, &Request { external: elsewhere.offer(), ..request.clone() }, NOW).unwrap()
}

fn refused(root: &TestRoot, elsewhere: &Elsewhere, request: &Request) -> String {
    let before = look(root);
    let error = rotate(root, &Request { external: elsewhere.offer(), ..request.clone() }, NOW).unwrap_err();
    let error = anyhow::Error::from(error);
    assert_eq!((exit_code(&error), look(root)), (ExitCode::Failed, before));
    format!("{error} | {}", kubepki::error::hints(&error).join(" "))
}

const OF_CLUSTER: [&str; 7] = [
    "admin.conf",
    "apiserver",
    "apiserver-kubelet-client",
    "controller-manager.conf",
    "kubelet-client",
    "scheduler.conf",
    "super-admin.conf",
];

#[test]
fn requests_say_what_the_certificates_in_use_say_and_are_for_their_keys() {
    let (cluster, elsewhere) = without(&["ca"]);
    let root = cluster.write();
    let asked = ask(&elsewhere, &root, &Request::default());
    assert_eq!(names(&asked), OF_CLUSTER, "kubelets and kubeconfigs too, and nothing that can be signed here");
    let server = asked.iter().find(|one| one.name() == "apiserver").unwrap();
    assert!(server.path.ends_with("cp1/apiserver.crt"), "{}", server.path.display());
    let old = see(&root).nodes[0].certificate("apiserver").unwrap().clone();
    assert!(old.certifies(&server.request.public_key));
    assert_eq!((&server.request.subject, server.request.sans.as_slice()), (old.subject(), old.sans()));
    assert_eq!(server.request.usages, old.extended_key_usage().unwrap());
}

#[test]
fn what_is_asked_for_is_what_was_selected() {
    let (cluster, elsewhere) = without(&AUTHORITIES);
    let root = cluster.write();
    let of = |request: &Request| names(&ask(&elsewhere, &root, request));
    assert_eq!(of(&only(&["apiserver", "admin.conf"])), ["admin.conf", "apiserver"]);
    assert_eq!(of(&only(&["cluster-ca"])), OF_CLUSTER, "an authority stands for what it signed");
    assert_eq!(of(&only(&["front-proxy-ca"])), ["front-proxy-client"]);
    assert_eq!(of(&due()), Vec::<String>::new());
    let name = "api.example.com".parse().unwrap();
    let request = Request { add_sans: vec![name], ..only(&["apiserver"]) };
    let asked = ask(&elsewhere, &root, &request);
    assert!(asked[0].request.sans.iter().any(|san| san.to_string() == "DNS:api.example.com"));
    let whole = Cluster::healthy().write();
    let into = Offered { folder: "/nowhere".into(), found: NodeSnapshot::empty("local") };
    let request = Request { external: External::Asked, ..Request::default() };
    let error = rotate::ask(&see(&whole), &request, &into, NOW).unwrap_err();
    assert!(error.to_string().contains("keys of its authorities are here"), "{error}");
}

#[test]
fn what_the_same_authority_signed_is_taken_and_keys_stay() {
    let (cluster, elsewhere) = without(&AUTHORITIES);
    let root = cluster.write();
    let before = see(&root);
    elsewhere.sign_all(&ask(&elsewhere, &root, &Request::default()));
    let (blueprint, changes) = take(&root, &elsewhere, &only(&["leaf"]));
    assert!(changes.iter().all(|path| !path.contains(".key") && !path.ends_with("ca.crt")), "{changes:?}");
    assert_eq!(renewed(&before, &see(&root)).len(), 12, "{changes:#?}");
    assert!(blueprint.certificates.iter().all(|plan| matches!(plan.issuer, IssuerPlan::Taken(_))));
    // The same again is there already.
    let again = import(&root, &elsewhere, &only(&["leaf"]));
    assert!(again.blueprint.is_empty() && again.problems.is_empty() && again.good == 12, "{again:?}");
}

#[test]
fn authorities_with_keys_are_rotated_as_always_in_the_same_run() {
    let (cluster, elsewhere) = without(&["etcd/ca"]);
    let root = cluster.write();
    let before = see(&root);
    elsewhere.sign_all(&ask(&elsewhere, &root, &Request::default()));
    let (_, changes) = take(&root, &elsewhere, &Request::default());
    let is_changed = |path: &str| changes.iter().any(|other| *other == format!("/etc/kubernetes/pki/{path}"));
    for path in ["ca.key", "ca.crt", "apiserver.key", "front-proxy-ca.key", "sa.key", "etcd/server.crt"] {
        assert!(is_changed(path), "{path}: {changes:#?}");
    }
    for path in ["etcd/ca.crt", "etcd/server.key", "apiserver-etcd-client.key"] {
        assert!(!is_changed(path), "{path}");
    }
    assert!(renewed(&before, &see(&root)).contains(&"pki/etcd/peer.crt".to_owned()));
}

#[test]
fn bad_and_missing_ones_are_told_and_keep_no_good_one_out() {
    let (cluster, elsewhere) = without(&AUTHORITIES);
    let root = cluster.write();
    let asked = ask(&elsewhere, &root, &Request::default());
    let one = |name: &str| asked.iter().find(|one| one.name() == name).unwrap();
    let ca = &elsewhere.keys["kubernetes"];
    let signed =
        |template: Template, by: &Pair| template.sign(Issuer { certificate: &by.certificate, key: &by.key }).unwrap();
    let put = |name: &str, template: Template, by: &Pair| elsewhere.put(&one(name).path, &[&signed(template, by)]);
    elsewhere.sign(one("apiserver"), ca);
    // Another key, another subject, more usages, another authority, over already, a CA.
    put("admin.conf", one("super-admin.conf").template(), ca);
    let mut template = one("super-admin.conf").template();
    template.subject = Name::new("kubernetes-super-admin", &["system:nodes".to_owned()]);
    put("super-admin.conf", template, ca);
    put("scheduler.conf", one("scheduler.conf").template().with_usages(&[CLIENT, SERVER].concat()), ca);
    put("controller-manager.conf", one("controller-manager.conf").template(), &Pair::authority("kubernetes"));
    let mut template = one("kubelet-client").template();
    template.not_after = NOW - Duration::days(1);
    put("kubelet-client", template, ca);
    let request = &one("etcd-peer").request;
    let sans = request.sans.clone();
    let validity = (ISSUED, NOW + Duration::days(9));
    put(
        "etcd-peer",
        Template::authority(request.subject.clone(), &sans, &request.public_key, validity),
        &elsewhere.keys["etcd-ca"],
    );
    std::fs::write(elsewhere.at("cp1/etcd-server.crt"), "rubbish").unwrap();
    let import = import(&root, &elsewhere, &Request::default());
    let said = |name: &str, words: &str| {
        let problem = import.problems.iter().find(|it| it.name == name).unwrap();
        assert_eq!(problem.node, "cp1");
        assert!(problem.to_string().contains(words), "{name}: {words}: {problem}");
        assert!(!problem.hint().is_empty());
    };
    said("admin.conf", "it is for another key than the one that waits here");
    said("super-admin.conf", "its subject is");
    said("scheduler.conf", "beyond that the usage serverAuth");
    said("controller-manager.conf", "it is not issued by `ca`");
    said("kubelet-client", "it expired on 2026-01-31");
    said("etcd-peer", "it is a CA certificate");
    said("etcd-server", "no certificate");
    said("front-proxy-client", "there is no cp1/front-proxy-client.crt in ");
    assert_eq!((import.good, import.problems.len()), (1, 11));
    let (_, changes) = take(&root, &elsewhere, &only(&["leaf"]));
    assert_eq!(changes, ["/etc/kubernetes/pki/apiserver.crt"]);
}

#[test]
fn names_that_are_wanted_otherwise_have_to_be_in_what_comes_back() {
    let (cluster, elsewhere) = without(&["ca"]);
    let root = cluster.write();
    let wish = Request { add_sans: vec!["api.example.com".parse().unwrap()], ..only(&["apiserver"]) };
    elsewhere.sign_all(&ask(&elsewhere, &root, &only(&["apiserver"])));
    assert!(import(&root, &elsewhere, &wish).problems[0].to_string().contains("lacks the name DNS:api.example.com"));
    elsewhere.sign_all(&ask(&elsewhere, &root, &wish));
    assert!(import(&root, &elsewhere, &only(&["apiserver"])).problems[0].to_string().contains("has beyond that"));
    take(&root, &elsewhere, &wish);
}

#[test]
fn a_new_authority_comes_with_everything_it_has_to_sign_or_not_at_all() {
    let (cluster, elsewhere) = without(&["ca"]);
    let root = cluster.write();
    let asked = ask(&elsewhere, &root, &Request::default());
    let new = elsewhere.succeed("ca", "kubernetes");
    for one in asked.iter().filter(|one| one.name() != "scheduler.conf") {
        elsewhere.sign(one, &new);
    }
    let wish = only(&["cluster-ca"]);
    let text = refused(&root, &elsewhere, &wish);
    says(&text, &["`ca` cannot be replaced", "no cp1/scheduler.conf.crt", "have it signed"]);
    // What the old one signed does not follow the new one.
    let late = asked.iter().find(|one| one.name() == "scheduler.conf").unwrap();
    elsewhere.sign(late, &elsewhere.keys["kubernetes"]);
    says(&refused(&root, &elsewhere, &wish), &["scheduler.conf", "not issued by `ca`", "signed again"]);
    elsewhere.sign(late, &new);
    std::fs::write(elsewhere.at("ca-cross.crt"), new.crt()).unwrap();
    says(&refused(&root, &elsewhere, &wish), &["ca-cross.crt", "not signed by the old authority"]);
    elsewhere.cross("ca", &new);
    let (_, changes) = take(&root, &elsewhere, &wish);
    let now = see(&root);
    assert_eq!(now.nodes[0].certificate("ca").unwrap().fingerprint(), new.certificate.fingerprint());
    assert!(changes.iter().all(|path| !path.contains(".key") && !path.contains("etcd")), "{changes:?}");
    let again = import(&root, &elsewhere, &wish);
    assert!(again.blueprint.is_empty() && again.problems.is_empty(), "{again:?}");
}

#[test]
fn an_authority_is_not_replaced_by_whatever_is_put_in_its_place() {
    let (cluster, elsewhere) = without(&["ca"]);
    let root = cluster.write();
    elsewhere.sign_all(&ask(&elsewhere, &root, &Request::default()));
    let other = Pair::authority("kubernetes");
    let leaf = other.issue("kubernetes", &[], SERVER, &[]);
    let ended = Pair::authority_until("kubernetes", ISSUED + Duration::days(1));
    let bundle = format!("{}{}", other.crt(), Pair::authority("stranger").crt());
    for (content, words) in [
        (leaf.crt(), "it is no CA certificate"),
        (ended.crt(), "it expired on 2026-01-02"),
        (bundle, "others come with it"),
        ("rubbish".to_owned(), "no certificate"),
    ] {
        std::fs::write(elsewhere.at("ca.crt"), content).unwrap();
        let import = import(&root, &elsewhere, &Request::default());
        let problem = import.problems.iter().find(|it| it.name == "ca").unwrap_or_else(|| panic!("{words}"));
        assert!(problem.to_string().contains(words), "{words}: {problem}");
        assert!(!import.blueprint.changes().any(|(_, file)| file.name == "ca"), "{words}");
    }
    std::fs::remove_file(elsewhere.at("ca.crt")).unwrap();
    // One whose key is here is replaced from here.
    elsewhere.succeed("etcd-ca", "etcd-ca");
    let import = import(&root, &elsewhere, &Request::default());
    assert!(import.problems.iter().any(|it| it.name == "etcd-ca" && it.to_string().contains("its key is here")));
}

#[test]
fn an_authority_gets_a_longer_life_for_the_key_it_has_and_nothing_else_changes() {
    let (cluster, elsewhere) = without(&AUTHORITIES);
    let root = cluster.write();
    let old = &elsewhere.keys["etcd-ca"];
    let validity = (NOW, NOW + Duration::days(5000));
    let renewed = Template::renewing(&old.certificate, old.key.public_key(), validity).self_sign(&old.key).unwrap();
    elsewhere.put(&elsewhere.at("etcd/ca.crt"), &[&renewed]);
    let (blueprint, changes) = take(&root, &elsewhere, &only(&["etcd-ca"]));
    assert_eq!(changes, ["/etc/kubernetes/pki/etcd/ca.crt"]);
    assert!(!kubepki::plan::rounds::are_needed(&blueprint));
    let mut named = Template::renewing(&old.certificate, old.key.public_key(), validity);
    named.subject = Name::new("another", &[]);
    elsewhere.put(&elsewhere.at("etcd/ca.crt"), &[&named.self_sign(&old.key).unwrap()]);
    let import = import(&root, &elsewhere, &only(&["etcd-ca"]));
    assert!(import.problems[0].to_string().contains("for the key in use, but its subject is CN=another"));
}

#[test]
fn intermediates_come_and_go_with_what_they_signed() {
    let (cluster, elsewhere) = without(&["ca"]);
    let root = cluster.write();
    let ca = &elsewhere.keys["kubernetes"];
    let intermediate = |name: &str| {
        ca.issue_with(name, &[], &[], &[], |template| {
            let validity = (ISSUED, ISSUED + Duration::days(1000));
            *template = Template::authority(Name::new(name, &[]), &[], &template.public_key, validity);
        })
    };
    for name in ["one", "two"] {
        let middle = intermediate(name);
        for one in ask(&elsewhere, &root, &only(&["apiserver", "kubelet-client"])) {
            let leaf = one.template().sign(Issuer { certificate: &middle.certificate, key: &middle.key }).unwrap();
            elsewhere.put(&one.path, &[&leaf, &middle.certificate]);
        }
        take(&root, &elsewhere, &only(&["leaf"]));
        for path in ["/etc/kubernetes/pki/apiserver.crt", "/var/lib/kubelet/pki/kubelet-client-current.pem"] {
            let now = see(&root);
            let content = now.nodes[0].at(Path::new(path)).unwrap().content().unwrap();
            let names: Vec<_> =
                content.certificates().map(|it| it.subject().common_name().unwrap().to_owned()).collect();
            assert_eq!(names[1..], [name], "{path}");
        }
    }
}

#[test]
fn what_begins_later_than_the_clock_of_a_node_says_waits() {
    let (cluster, elsewhere) = without(&["ca"]);
    let root = cluster.write();
    // Signed five minutes before.
    elsewhere.sign_all(&ask(&elsewhere, &root, &only(&["apiserver"])));
    let request = Request { external: elsewhere.offer(), ..only(&["apiserver"]) };
    for (behind, problems) in [(0, 0), (299, 0), (301, 1), (-600, 0)] {
        let mut snapshot = see(&root);
        snapshot.nodes[0].facts.as_mut().unwrap().clock_skew = Duration::seconds(-behind);
        let import = rotate::import(&snapshot, &request, NOW).unwrap();
        assert_eq!(import.problems.len(), problems, "{behind}");
        assert!(import.problems.iter().all(|it| it.to_string().contains("the clock of cp1 shows")), "{import:?}");
    }
}

#[test]
fn a_key_that_does_not_fit_cannot_ask() {
    let (mut cluster, _elsewhere) = without(&["ca"]);
    cluster.put("/etc/kubernetes/pki/apiserver.key", Pair::authority("other").pem_key(), 0o600);
    let into = Offered { folder: "/nowhere".into(), found: NodeSnapshot::empty("local") };
    let request = Request { external: External::Asked, ..Request::default() };
    let error = anyhow::Error::from(rotate::ask(&see(&cluster.write()), &request, &into, NOW).unwrap_err());
    says(&format!("{error}"), &["node cp1", "apiserver.key", "does not belong"]);
    says(&kubepki::error::hints(&error).join(" "), &["create-certs --csr-only --force --only apiserver"]);
}

#[test]
fn what_is_revoked_is_not_taken() {
    use kubepki::apply::{existing, mint};
    use kubepki::pki::revocation::manifest;
    use kubepki::plan::blueprint::Bans;
    let (cluster, elsewhere) = without(&["ca"]);
    let root = cluster.write();
    elsewhere.sign_all(&ask(&elsewhere, &root, &only(&["admin.conf"])));
    let mut blueprint = import(&root, &elsewhere, &only(&["admin.conf"])).blueprint;
    let IssuerPlan::Taken(taken) = &blueprint.certificates[0].issuer else { panic!("{blueprint:?}") };
    let entry = format!("{{kind: serialNumber, serialNumber: \"{}\"}}", taken.certificate.serial());
    let text = format!(
        "apiVersion: certificates.microsoft.com/v1\nkind: RenewRevocation\nmetadata: {{name: leak}}\n\
         spec: {{revocations: [{entry}]}}\n"
    );
    let revocations = manifest::read(text.as_bytes()).unwrap_or_else(|fault| panic!("{fault}"));
    blueprint.bans = Some(Bans { revocations, now: NOW });
    let nodes: [&dyn Node; 1] = [&root.node];
    let error = mint::mint(&blueprint, &|source| existing::key(&nodes, source), &|_| ()).unwrap_err();
    says(&format!("{error:#}"), &["admin.conf", "cannot be taken", "the revocation leak"]);
}

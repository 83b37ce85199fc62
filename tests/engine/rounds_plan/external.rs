//! Authorities whose keys are elsewhere go through the same rounds: the new ones and what they signed come along.

use kubepki::error::hints;
use kubepki::node::Node;
use kubepki::plan::rotate::Request;

use super::scenes::Script;
use super::walks::{CLUSTER, ETCD, FRONT_PROXY, TOKENS, walk};
use super::{plan, restarts, steps};
use crate::support::elsewhere::{AUTHORITIES, Elsewhere, certificate};
use crate::support::members::Members;
use crate::support::rotation::only;

const NAMES: [(&str, &str); 3] = [("ca", "kubernetes"), ("etcd/ca", "etcd-ca"), ("front-proxy-ca", "front-proxy-ca")];

/// A cluster that has no key of these authorities, and a request with new ones that have signed everything.
fn scene(mut members: Members, names: &[&str], with_cross: bool) -> (Members, Request) {
    let elsewhere = Elsewhere::take_all(&mut members, names);
    let roots = members.write();
    let nodes: Vec<&dyn Node> = roots.iter().map(|root| &root.node as &dyn Node).collect();
    let asked = elsewhere.ask(&nodes, &Request::default());
    for (name, common_name) in NAMES.iter().filter(|(name, _)| names.contains(name)) {
        let new = elsewhere.succeed(name, common_name);
        asked.iter().filter(|one| one.issuer == *common_name).for_each(|one| elsewhere.sign(one, &new));
        if with_cross {
            elsewhere.cross(name, &new);
        }
    }
    let request = Request { external: elsewhere.offer(), ..Request::default() };
    (members, request)
}

/// The whole story; `about` are the files that change. Keys of leaves stay, so the story has an end of its own.
fn tell(members: &Members, request: &Request, about: &[&str]) {
    let script = walk(members, request);
    let is_about = |path: &str| about.iter().any(|part| path.contains(part));
    let old: Vec<_> = script.first.nodes[0].disk.files.keys().filter(|path| path.ends_with("ca.crt")).collect();
    let old = old
        .into_iter()
        .filter(|path| is_about(path))
        .map(|path| &script.first.nodes[0].disk.at(path).unwrap().roots[0]);
    let old: Vec<_> = old.map(|root| root.fingerprint()).collect();
    for (first, last) in script.first.nodes.iter().zip(&script.last.nodes) {
        for path in last.disk.files.keys() {
            let (before, now) = (first.disk.at(path), last.disk.at(path).unwrap());
            let place = format!("{path} on {}", last.name);
            assert!(!path.contains("/kubepki/"), "{place} was only for the meantime");
            let knows_old = now.roots.iter().any(|root| old.contains(&root.fingerprint()));
            assert!(!knows_old, "{place} still trusts an old authority");
            if !is_about(path) && !path.contains("/manifests/") {
                assert!(before.is_some_and(|before| before == now), "{place} is nobody's business");
            }
        }
        assert!(last.disk.unfit().is_empty());
        assert!(first.disk.files.keys().all(|path| last.disk.files.contains_key(path)), "{} lost a file", last.name);
    }
}

#[test]
fn everything_is_replaced_from_elsewhere_while_everybody_believes_everybody() {
    let (members, request) = scene(Members::new(3, 1), &AUTHORITIES, true);
    tell(&members, &request, &[CLUSTER, ETCD, FRONT_PROXY, TOKENS].concat());
}

#[test]
fn so_it_is_with_each_authority_alone_and_others_as_always() {
    for (names, about) in [(&["ca"][..], CLUSTER), (&["etcd/ca"], ETCD), (&["front-proxy-ca"], FRONT_PROXY)] {
        let (members, request) = scene(Members::new(3, 1), names, true);
        let scopes = only(&[match names[0] {
            "ca" => "cluster-ca",
            "etcd/ca" => "etcd-ca",
            other => other,
        }]);
        tell(&members, &Request { only: scopes.only, ..request.clone() }, about);
        // The other authorities have their keys here, and are replaced in the same run.
        let script = walk(&members, &request);
        let replaced = |path: &str| {
            let at = |scene: &super::scenes::Scene| scene.nodes[0].disk.at(path).unwrap().roots[0].fingerprint();
            at(&script.first) != at(&script.last)
        };
        assert!(AUTHORITIES.iter().all(|name| replaced(&format!("/etc/kubernetes/pki/{name}.crt"))), "{names:?}");
    }
}

#[test]
fn no_signer_is_moved_and_bundles_are_not_turned_around_where_no_key_lies_beside_them() {
    let (members, request) = scene(Members::new(2, 1), &AUTHORITIES, true);
    let blueprint = plan(&members, &Request { only: only(&["ca"]).only, ..request });
    let steps = steps(&blueprint, "cp1");
    assert!(!steps.iter().any(|step| step.contains("kubepki/ca.")), "{steps:#?}");
    let issued = steps.iter().find(|step| step.contains("apiserver apiserver-kubelet-client")).unwrap();
    assert!(!issued.contains(" ca ") && !issued.contains("front-proxy-ca"), "{issued}");
    let all = "etcd 2, kube-apiserver 2, kube-controller-manager 3, kube-scheduler 2, kubelet 2";
    assert_eq!(restarts(&blueprint, "cp1"), all);
    assert!(
        blueprint.keys.iter().all(|key| key.id.contains("kubelet")),
        "no other key leaves a node: {:?}",
        blueprint.keys
    );
    assert!(!blueprint.warnings.iter().any(|it| it.contains("cross")), "{:?}", blueprint.warnings);
}

#[test]
fn without_a_certificate_of_the_new_key_by_the_old_one_somebody_is_cut_off_and_the_plan_says_so() {
    let (members, request) = scene(Members::new(2, 1), &["ca"], false);
    let blueprint = plan(&members, &Request { only: only(&["cluster-ca"]).only, ..request.clone() });
    let warning = blueprint.warnings.iter().find(|it| it.contains("ca-cross.crt")).unwrap();
    assert!(warning.contains("trusts the old one alone"), "{warning}");
    let wrong =
        super::walks::try_walk(&members, &Request { only: only(&["cluster-ca"]).only, ..request }).err().unwrap();
    assert!(wrong.contains("who trusts the old CA alone does not believe the API server"), "{wrong}");
}

#[test]
fn a_signer_whose_new_key_is_not_here_is_refused() {
    let (mut members, request) = scene(Members::new(2, 0), &AUTHORITIES, true);
    let manifest = members.manifest("cp2", "kube-controller-manager");
    let flag = "--cluster-signing-cert-file=";
    assert!(manifest.text.contains(&format!("{flag}\n")));
    manifest.text = manifest.text.replace(&format!("{flag}\n"), &format!("{flag}/etc/kubernetes/pki/ca.crt\n"));
    let error = anyhow::Error::from(members.plan(&members.write(), &request).unwrap_err());
    let text = format!("{error} {}", hints(&error).join(" "));
    for words in ["node cp2", "signs with /etc/kubernetes/pki/ca.crt", "key is not here", flag.trim_end_matches('=')] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn kubelets_are_asked_for_and_get_what_was_signed_for_the_keys_they_have() {
    let (members, request) = scene(Members::new(1, 1), &["ca"], true);
    let script = Script::of(&members, &Request { only: only(&["cluster-ca"]).only, ..request });
    let new = certificate(&script.last.nodes[1].disk.at("/etc/kubernetes/pki/ca.crt").unwrap().text);
    for kind in ["client", "server"] {
        let path = format!("/var/lib/kubelet/pki/kubelet-{kind}-current.pem");
        let at = |scene: &super::scenes::Scene| scene.nodes[1].disk.at(&path).unwrap().clone();
        let (old, now) = (at(&script.first), at(&script.last));
        assert!(now.chain[0].certifies(old.key.as_ref().unwrap()) && now.key == old.key, "{kind}");
        assert_eq!(now.chain[0].issuer().der(), new.subject().der());
        assert_ne!(now.chain[0].serial(), old.chain[0].serial());
    }
}

//! A rotation on a test node, from looking to writing, and what it really changed.

use std::collections::BTreeSet;
use std::path::PathBuf;

use kubepki::apply::{change, existing, mint, requests};
use kubepki::error::Failure;
use kubepki::node::Node;
use kubepki::observe::{self, Keys, Wanted};
use kubepki::plan::blueprint::Blueprint;
use kubepki::plan::rotate::scope::Scopes;
use kubepki::plan::rotate::{self, Request};
use kubepki::snapshot::Snapshot;
use kubepki::verify;
use time::OffsetDateTime;

use super::cluster::NOW;
use super::root::TestRoot;
use super::tree::{Entry, Tree, picture};
use super::world::{STATE, quiet, transactions};

/// Everything on the node.
pub fn see(root: &TestRoot) -> Snapshot {
    observe::observe(&[&root.node], &Wanted::machine(Keys::PublicHalf), NOW)
}

/// A request with these values of `--only`.
pub fn only(words: &[&str]) -> Request {
    Request { only: Scopes(words.iter().map(|word| word.parse().unwrap()).collect()), ..Request::default() }
}

/// The plan of a request on what is there.
pub fn plan(root: &TestRoot, request: &Request, now: OffsetDateTime) -> Result<Blueprint, Failure> {
    rotate::plan(&see(root), request, now)
}

/// Plans and carries out, proves the result, and returns the plan and the paths that changed, sorted.
pub fn rotate(root: &TestRoot, request: &Request, now: OffsetDateTime) -> Result<(Blueprint, Vec<String>), Failure> {
    let before = look(root);
    let blueprint = plan(root, request, now)?;
    if let Some(request) = minted(root, &blueprint, now) {
        transactions(&root.node, &quiet).run(request).unwrap();
    }
    let broken = verify::broken_promises(&blueprint, &see(root));
    assert!(broken.is_empty(), "{broken:#?}");
    prove(&root.node);
    Ok((blueprint, changed(&before, &look(root))))
}

/// The transaction of a plan, with everything minted; `None` when nothing changes.
pub fn minted(root: &TestRoot, blueprint: &Blueprint, now: OffsetDateTime) -> Option<change::Request> {
    let nodes: [&dyn Node; 1] = [&root.node];
    let minted = mint::mint(blueprint, &|source| existing::key(&nodes, source), &|_| ()).unwrap();
    let operation = blueprint.operation(&change::operation_id(now).unwrap());
    let requests = requests::requests(blueprint, &operation, &nodes, &minted).unwrap();
    requests.into_iter().next().map(|(_, request)| request)
}

/// Every certificate fits the key beside it and is signed by an authority that is there, and so is every kubeconfig.
pub fn prove(node: &dyn Node) {
    use kubepki::pki::chain::{Signature, find_issuer};
    let snapshot = observe::observe(&[node], &Wanted::machine(Keys::PublicHalf), NOW);
    let node = &snapshot.nodes[0];
    let contents: Vec<_> = node
        .artifacts
        .iter()
        .filter(|it| !it.path.starts_with("/root"))
        .filter_map(|it| Some((it, it.content()?)))
        .collect();
    let authorities: Vec<_> = contents.iter().flat_map(|(_, it)| it.certificates()).filter(|it| it.is_ca()).collect();
    let is_signed =
        |certificate| matches!(find_issuer(certificate, authorities.iter().copied()), Some((_, Signature::Good)));
    for (artifact, content) in &contents {
        let path = artifact.path.display();
        if let (Some(certificate), Some((_, key))) = (content.certificates().next(), node.key_for(artifact)) {
            assert!(certificate.certifies(&key.as_ref().unwrap().public_key), "{path}: key");
        }
        if artifact.id() != Some("kubelet") {
            assert!(content.certificates().next().is_none_or(is_signed), "{path}: chain");
        }
        for user in content.kubeconfig.iter().flatten().flat_map(|kubeconfig| &kubeconfig.users) {
            let certificate = user.certificate.certificates().next().unwrap();
            assert!(certificate.certifies(&user.key.key().unwrap().public_key), "{path}: key");
            assert!(is_signed(certificate), "{path}: chain");
        }
        for cluster in content.kubeconfig.iter().flatten().flat_map(|kubeconfig| &kubeconfig.clusters) {
            let trusted: Vec<_> = cluster.authority.certificates().map(|it| it.fingerprint()).collect();
            let own = node.certificate("ca").unwrap().fingerprint();
            assert!(trusted.contains(&own), "{path}: trusts the CA");
        }
    }
}

/// Everything on the node except kubepki's own folder.
pub fn look(root: &TestRoot) -> Tree {
    picture(&root.at("/"), &[STATE, "/etc/kubernetes/tmp"])
}

/// The files and links that differ, as the node names them, sorted.
pub fn changed(before: &Tree, after: &Tree) -> Vec<String> {
    let paths: BTreeSet<&PathBuf> = before.keys().chain(after.keys()).collect();
    let differs = |path: &&&PathBuf| before.get(**path) != after.get(**path);
    let is_file = |path: &&&PathBuf| !matches!(after.get(**path), Some(Entry::Folder { .. }));
    paths.iter().filter(differs).filter(is_file).map(|path| format!("/{}", path.display())).collect()
}

//! What holds for every rotation, whatever lies around: only planned files change, and nothing that fitted stops fitting.

use std::collections::BTreeMap;
use std::path::Path;

use kubepki::pki::chain::{Signature, find_issuer};
use kubepki::pki::lifetime::Threshold;
use kubepki::plan::blueprint::Basis;
use kubepki::plan::rotate::Request;
use kubepki::snapshot::Snapshot;
use proptest::prelude::*;
use time::Duration;

use crate::support::cluster::{BOTH, CLIENT, Cluster, ISSUED, NOW, Pair, SERVER, base64, embedded, kubeconfig};
use crate::support::root::TestRoot;
use crate::support::rotation::{look, minted, only, plan, see};
use crate::support::world::{quiet, transactions};

/// Something that lies around on a node.
#[derive(Debug, Clone)]
struct Thing {
    folder: &'static str,
    kind: usize,
    number: usize,
}

const FOLDERS: [&str; 4] =
    ["/etc/kubernetes/pki", "/etc/kubernetes/pki/etcd", "/etc/kubernetes/pki/a/b", "/var/lib/kubelet/pki"];

fn thing() -> impl Strategy<Value = Thing> {
    (prop::sample::select(&FOLDERS[..]), 0..14_usize, 0..100_usize).prop_map(|(folder, kind, number)| Thing {
        folder,
        kind,
        number,
    })
}

fn request() -> impl Strategy<Value = Request> {
    let scopes = prop::sample::select(vec![
        vec![],
        vec!["leaf"],
        vec!["ca"],
        vec!["sa"],
        vec!["cluster-ca"],
        vec!["etcd-ca", "admin.conf"],
        vec!["front-proxy-ca"],
        vec!["apiserver", "etcd-peer"],
    ]);
    (scopes, any::<bool>(), any::<bool>()).prop_map(|(scopes, same_key, longer)| {
        let is_sa = scopes == ["sa"];
        let ca_validity = longer.then(|| "30y".parse().unwrap());
        Request { same_key: same_key && !is_sa, ca_validity, ..only(&scopes) }
    })
}

/// Puts a thing on the node.
fn place(root: &TestRoot, cluster: &Cluster, thing: &Thing) {
    let at = |ending: &str| format!("{}/thing-{}{ending}", thing.folder, thing.number);
    let stranger = || Pair::authority("stranger");
    let (ca, etcd) = (&cluster.ca, &cluster.etcd_ca);
    let put = |ending: &str, content: String| root.put(&at(ending), content, 0o640);
    let dns = || vec![format!("thing-{}", thing.number).parse().unwrap()];
    match thing.kind {
        0 => put(".txt", "nothing\n".into()),
        1 => put(".crt", ca.crt()),
        2 => put(".crt", stranger().crt() + &ca.crt() + &etcd.crt() + &cluster.front_proxy_ca.crt()),
        3 => {
            let leaf = ca.issue("thing", &[], SERVER, &dns());
            put(".crt", leaf.crt() + &ca.crt());
            put(".key", leaf.pem_key());
        }
        4 => {
            let leaf = etcd.issue("thing", &[], BOTH, &dns());
            put(".pem", leaf.pem_key() + &leaf.crt());
        }
        5 => put(".crt", ca.issue("keyless", &[], CLIENT, &[]).crt()),
        6 => {
            let authority = stranger();
            let leaf = authority.issue("thing", &[], CLIENT, &[]);
            put(".crt", leaf.crt());
            put(".key", leaf.pem_key());
        }
        7 => {
            let client = ca.issue("thing", &["dev"], CLIENT, &[]);
            put(".conf", kubeconfig("thing", &(ca.crt() + &etcd.crt()), &embedded(&client)));
        }
        8 => {
            let (text, _) = &cluster.files["/etc/kubernetes/admin.conf"];
            put(".conf", format!("# a copy\n{text}"));
        }
        9 => {
            let (crt, key) = (&cluster.files["/etc/kubernetes/pki/apiserver.crt"], "/etc/kubernetes/pki/apiserver.key");
            put(".crt", crt.0.clone());
            put(".key", cluster.files[key].0.clone());
        }
        10 => root.link(&at(".crt"), "/etc/kubernetes/pki/ca.crt"),
        11 => put(".pub", cluster.files["/etc/kubernetes/pki/sa.pub"].0.clone()),
        12 => put(".conf", "[req]\nprompt = no\n".into()),
        _ => put(".crt", format!("Bag Attributes\n  friendlyName: x\n{}", base64("not PEM"))),
    }
}

/// Whether pair and chain of each place fit, by path.
fn fits(snapshot: &Snapshot) -> BTreeMap<String, (bool, bool)> {
    let node = &snapshot.nodes[0];
    let contents: Vec<_> = node.artifacts.iter().filter_map(|it| Some((it, it.content()?))).collect();
    let authorities: Vec<_> = contents.iter().flat_map(|(_, it)| it.certificates()).filter(|it| it.is_ca()).collect();
    let chain = |leaf| matches!(find_issuer(leaf, authorities.iter().copied()), Some((_, Signature::Good)));
    let mut fits = BTreeMap::new();
    for (artifact, content) in contents {
        let path = artifact.path.display().to_string();
        if let Some(certificate) = content.certificates().next() {
            let key = node.key_for(artifact).and_then(|(_, key)| key.as_ref().ok());
            let pair = key.is_some_and(|key| certificate.certifies(&key.public_key));
            fits.insert(path.clone(), (pair, chain(certificate)));
        }
        for user in content.kubeconfig.iter().flatten().flat_map(|it| &it.users) {
            if let (Some(certificate), Some(key)) = (user.certificate.certificates().next(), user.key.key()) {
                let pair = certificate.certifies(&key.public_key);
                fits.insert(format!("{path}#{}", user.name), (pair, chain(certificate)));
            }
        }
    }
    fits
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn only_planned_files_change_and_what_fitted_goes_on_fitting(
        things in prop::collection::vec(thing(), 0..7),
        request in request(),
    ) {
        let cluster = Cluster::healthy();
        let root = cluster.write_in_memory();
        let mut seen = std::collections::HashSet::new();
        for thing in things.iter().filter(|thing| seen.insert((thing.folder, thing.number))) {
            place(&root, &cluster, thing);
        }
        let (before, fitted) = (look(&root), fits(&see(&root)));
        let blueprint = plan(&root, &request, NOW).unwrap();
        if let Some(request) = minted(&root, &blueprint, NOW) {
            transactions(&root.node, &quiet).run(request).unwrap();
        }
        let planned: std::collections::BTreeSet<_> =
            blueprint.changes().map(|(_, file)| file.path.strip_prefix("/").unwrap().to_owned()).collect();
        let after = look(&root);
        for path in before.keys().chain(after.keys()) {
            prop_assert!(before.get(path) == after.get(path) || planned.contains(path), "{}", path.display());
        }
        for (path, (pair, chain)) in fitted {
            let now = fits(&see(&root)).get(&path).copied().unwrap_or_default();
            let file = Path::new(&path).file_name().unwrap().to_string_lossy().into_owned();
            let is_told = blueprint.warnings.iter().any(|warning| warning.contains(&file));
            prop_assert!(!pair || now.0, "{path}: pair");
            prop_assert!(!chain || now.1 || is_told, "{path}: chain; {:?}", blueprint.warnings);
        }
        // Once more, on what is there now.
        plan(&root, &request, NOW).unwrap();
    }
}

#[test]
fn renewing_what_is_due_never_touches_an_authority() {
    let root = Cluster::healthy().write();
    for percent in (0..=1100).step_by(20) {
        let now = ISSUED + Duration::days(365) * percent / 100;
        let due = Some(Threshold::UsedPercent(80.0));
        match plan(&root, &Request { due, ..only(&["leaf"]) }, now) {
            Ok(blueprint) => {
                let authorities = blueprint.certificates.iter().filter(|plan| match &plan.basis {
                    Basis::Renewal { old, .. } => old.is_ca(),
                    _ => true,
                });
                assert_eq!(authorities.count(), 0, "at {percent} %");
                assert_eq!(blueprint.is_empty(), percent < 80, "at {percent} %");
                assert!(!blueprint.changes().any(|(_, file)| file.path.ends_with("ca.crt")), "at {percent} %");
            }
            // After ten years the authorities have ended, and nothing can be issued.
            Err(error) => assert!(percent >= 1000 && error.to_string().contains("ended"), "{percent}: {error}"),
        }
    }
}

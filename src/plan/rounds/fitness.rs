//! Whether a cluster is fit to go through the rounds: told before anything is made.

use std::collections::BTreeMap;

use time::{Duration, OffsetDateTime};

use crate::plan::restart::Manifest;
use crate::snapshot::Snapshot;

/// What has less time left than this could end before the last round has.
const SOON: Duration = Duration::hours(2);

/// New certificates begin five minutes before they are made, and nodes whose clocks are further apart would not take them.
const APART: Duration = Duration::minutes(4);

/// What stands in the way, in words, by node.
pub fn obstacles(snapshot: &Snapshot, manifests: &[Manifest], now: OffsetDateTime) -> Vec<String> {
    let mut obstacles = ending(snapshot, now);
    obstacles.extend(clocks(snapshot));
    obstacles.extend(upgrade(manifests));
    obstacles
}

/// Certificates of the cluster's own that may end meanwhile.
fn ending(snapshot: &Snapshot, now: OffsetDateTime) -> Vec<String> {
    let own = snapshot.artifacts().filter(|(_, artifact)| artifact.part.is_some_and(|part| !part.is_key));
    own.filter_map(|(node, artifact)| {
        let content = artifact.content()?;
        let kubeconfig = content.kubeconfig.as_ref().and_then(|kubeconfig| kubeconfig.as_ref().ok());
        let users = kubeconfig.into_iter().flat_map(|kubeconfig| &kubeconfig.users);
        let clients = users.filter_map(|user| user.certificate.certificates().next());
        let ends = content.certificates().chain(clients).map(|certificate| certificate.not_after()).min()?;
        let words = if ends <= now { "has ended" } else { "would end before the rotation has" };
        (ends <= now + SOON).then(|| format!("{}: the certificate in {} {words}", node.name, artifact.path.display()))
    })
    .collect()
}

fn clocks(snapshot: &Snapshot) -> Option<String> {
    let clocks = snapshot.nodes.iter().filter_map(|node| Some((&node.name, node.facts.as_ref()?.clock_skew)));
    let (slow, fast) = (clocks.clone().min_by_key(|(_, skew)| *skew)?, clocks.max_by_key(|(_, skew)| *skew)?);
    let apart = fast.1 - slow.1;
    (apart > APART).then(|| format!("the clocks of {} and {} are {} s apart", slow.0, fast.0, apart.whole_seconds()))
}

/// Different versions of one component: somebody is at work.
fn upgrade(manifests: &[Manifest]) -> Vec<String> {
    let mut versions: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for manifest in manifests {
        let image = manifest.text.lines().find_map(|line| line.trim().trim_start_matches("- ").strip_prefix("image:"));
        let Some((_, tag)) = image.and_then(|image| image.trim().trim_matches(['"', '\'']).rsplit_once(':')) else {
            continue;
        };
        versions.entry(&manifest.component).or_default().entry(tag).or_insert(&manifest.node);
    }
    let differ = versions.into_iter().filter(|(_, tags)| tags.len() > 1);
    differ
        .map(|(component, tags)| {
            let each: Vec<String> = tags.iter().map(|(tag, node)| format!("{tag} on {node}")).collect();
            format!("an upgrade is under way: {component} is {}", each.join(" and "))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_images_of_one_component_are_an_upgrade() {
        let manifest = |node: &str, component: &str, image: &str| Manifest {
            node: node.to_owned(),
            component: component.to_owned(),
            path: "/m".into(),
            text: format!("spec:\n  containers:\n  - command: [x]\n    image: {image}\n"),
            sha256: String::new(),
        };
        let old = manifest("cp1", "etcd", "registry.k8s.io/etcd:3.6.10-0");
        let same = manifest("cp2", "etcd", "\"registry.example.com:5000/etcd:3.6.10-0\"");
        let other = manifest("cp2", "kube-apiserver", "registry.k8s.io/kube-apiserver:v1.36.2");
        assert!(upgrade(&[old.clone(), same, other]).is_empty());
        let new = manifest("cp2", "etcd", "registry.k8s.io/etcd:3.7.0-0");
        assert_eq!(upgrade(&[old, new]), ["an upgrade is under way: etcd is 3.6.10-0 on cp1 and 3.7.0-0 on cp2"]);
    }
}

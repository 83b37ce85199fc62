//! Processes that are older than files which they read only when they start: they still hold what was there before.

use std::path::PathBuf;
use std::time::Duration;

use super::proof::{administrator, places, read};
use crate::cli::session::Session;
use crate::cli::target::{Target, TargetNode};
use crate::live::component::{Component, running};
use crate::live::credential::Credential;
use crate::node::fleet::{AT_ONCE, side_by_side};
use crate::node::http::Limits;
use crate::node::{Node, Query};
use crate::pki::layout::{Flavour, Role};

/// For one question and its answer: whoever is not well answers late or never, and is found by other means.
const LIMIT: Duration = Duration::from_secs(5);

/// Clocks tell seconds apart in files, and hundredths in processes.
const BLUR: time::Duration = time::Duration::seconds(1);

/// Every process of the target that is too old, with its node, component and the reason. Processes that do not tell since
/// when they run are passed over.
pub fn stale(session: &Session, target: &Target) -> Vec<(String, String, String)> {
    let nodes: Vec<&dyn Node> = target.nodes.iter().map(|node| &*node.node).collect();
    let looked = side_by_side(&nodes, AT_ONCE, &session.interrupt, &|_| {}, &|node| {
        let own = target.nodes.iter().find(|one| one.node.name() == node.name());
        Ok(own.map(|own| of(target, own)).unwrap_or_default())
    });
    looked.into_iter().flatten().flatten().collect()
}

fn of(target: &Target, node: &TargetNode) -> Vec<(String, String, String)> {
    let Some(kubernetes) = node.layout.kubernetes_dir.as_ref().filter(|_| node.layout.flavour == Flavour::Kubeadm)
    else {
        return Vec::new();
    };
    let (Some(credential), Ok(places)) = (administrator(target, node), places(node)) else { return Vec::new() };
    let pki = |name: &str| node.layout.pki_dir.join(name);
    let mut components: Vec<(Component, Vec<PathBuf>)> =
        vec![(Component::Kubelet, vec![kubernetes.join("kubelet.conf")])];
    if node.role == Role::ControlPlane {
        components.extend([
            (Component::Etcd, vec![pki("etcd/ca.crt")]),
            (Component::ApiServer, vec![pki("etcd/ca.crt"), pki("sa.pub"), pki("sa.key")]),
            (
                Component::ControllerManager,
                vec![pki("ca.crt"), pki("sa.key"), kubernetes.join("controller-manager.conf")],
            ),
            (Component::Scheduler, vec![kubernetes.join("scheduler.conf")]),
        ]);
    }
    let mut stale = Vec::new();
    for (component, files) in components {
        let etcds = (component == Component::Etcd)
            .then(|| Credential::read_pair(&*node.node, &pki("etcd/healthcheck-client"), &pki("etcd/ca.crt")).ok());
        let credential = etcds.flatten().unwrap_or_else(|| credential.clone());
        let Ok(process) = running(&*node.node, component, &places, &credential, Limits::within(LIMIT)) else {
            continue;
        };
        let later = files.into_iter().find_map(|path| {
            let changed = read(node, Query::Metadata(path.clone())).ok()?.metadata?.modified;
            (changed > process.started_at + BLUR).then_some((path, changed))
        });
        if let Some((path, changed)) = later {
            let seconds = (changed - process.started_at).whole_seconds();
            let words = format!("{component} reads {} only when it starts, and is {seconds} s older", path.display());
            stale.push((node.node.name().to_owned(), component.name().to_owned(), words));
        }
    }
    stale
}

//! What a rotation looks at on its target: certificates and keys, and signs of nodes that are not part of it.

use std::path::{Path, PathBuf};

use crate::cli::session::Session;
use crate::cli::target::{Extent, Place, Target, TargetNode};
use crate::error::Failure;
use crate::node::local::LocalNode;
use crate::node::{FoundState, Node, Query};
use crate::observe::{self, Keys, Scope, Wanted};
use crate::plan::blueprint::{Basis, Blueprint};
use crate::plan::rotate::reach::{self, Surroundings};
use crate::plan::rotate::{Reach, etcd_data};
use crate::snapshot::Snapshot;

/// Everything that is there, keys by their public halves.
///
/// # Errors
/// Exit code 1 when a node cannot be read.
pub(super) fn observe(target: &Target, session: &Session) -> anyhow::Result<Snapshot> {
    let mut nodes = Vec::new();
    for node in &target.nodes {
        let wanted = Wanted { scopes: vec![Scope::of(&node.layout)], keys: Keys::PublicHalf };
        let found = observe::node(&*node.node, &wanted);
        if let Some(error) = &found.error {
            return Err(Failure::failed(format!("node {}: {error}", found.name)).into());
        }
        nodes.push(found);
    }
    Ok(Snapshot { taken_at: session.now, nodes })
}

/// How much of the cluster the target is.
///
/// # Errors
/// When the machine cannot be read.
pub(super) fn reach(target: &Target, place: &Place, snapshot: &Snapshot) -> anyhow::Result<Reach> {
    match target.extent {
        Extent::WholeCluster => Ok(Reach { is_live: true, ..Reach::default() }),
        Extent::PartOfCluster => {
            let others = vec!["the cluster file lists more nodes than those chosen".to_owned()];
            Ok(Reach { is_live: true, others, ..Reach::default() })
        }
        Extent::Machine => {
            let mut reach = Reach { is_live: true, ..Reach::default() };
            for (node, found) in target.nodes.iter().zip(&snapshot.nodes) {
                let kubernetes = node.layout.kubernetes_dir.as_deref().unwrap_or(Path::new(MACHINE));
                let around = surroundings(&*node.node, kubernetes, *place == Place::ThisMachine)?;
                reach.others.extend(reach::signs(found, &around));
                reach.doubts.extend(around.doubt);
            }
            Ok(reach)
        }
        // A folder is only a folder, unless it is the one this machine lives on.
        Extent::Folder if target.nodes.iter().any(is_this_machines) => {
            let machine = LocalNode::open("local", "/")?;
            let found = observe::node(&machine, &Wanted::machine(Keys::PublicHalf));
            let around = surroundings(&machine, Path::new(MACHINE), true)?;
            let others = reach::signs(&found, &around);
            Ok(Reach { is_live: !others.is_empty(), others, doubts: around.doubt.into_iter().collect() })
        }
        Extent::Folder => Ok(Reach::default()),
    }
}

/// A warning when authorities change in this machine's own folder without its kubeconfigs.
pub(super) fn uncovered(target: &Target, blueprint: &Blueprint) -> anyhow::Result<Option<String>> {
    let replaces_authority =
        blueprint.certificates.iter().any(|plan| matches!(&plan.basis, Basis::Renewal { old, .. } if old.is_ca()));
    if target.extent != Extent::Folder || !replaces_authority || !target.nodes.iter().any(is_this_machines) {
        return Ok(None);
    }
    let machine = LocalNode::open("local", "/")?;
    let found = machine.read(&[Query::Metadata(Path::new(MACHINE).join("admin.conf"))])?;
    let has_kubeconfigs = found.iter().any(|file| !matches!(file.state, FoundState::Missing));
    Ok(has_kubeconfigs.then(|| {
        format!("the kubeconfigs in {MACHINE} keep the old CA: leave --pki-dir away to cover them and the kubelet too")
    }))
}

const MACHINE: &str = "/etc/kubernetes";

fn is_this_machines(node: &TargetNode) -> bool {
    node.layout.pki_dir == Path::new(MACHINE).join("pki")
}

/// What the machine says about its cluster besides certificates.
fn surroundings(node: &dyn Node, kubernetes: &Path, is_this_machine: bool) -> anyhow::Result<Surroundings> {
    let manifests = ["etcd", "kube-apiserver"].map(|name| kubernetes.join(format!("manifests/{name}.yaml")));
    let [etcd_manifest, apiserver_manifest] = manifests.map(|path| text(node, path));
    let (etcd_manifest, apiserver_manifest) = (etcd_manifest?, apiserver_manifest?);
    let folder = etcd_manifest.as_deref().and_then(reach::data_folder).unwrap_or("/var/lib/etcd");
    let path = Path::new(folder).join("member/snap/db");
    let doubt = |reason: &str| {
        Some(format!(
            "other nodes may exist that cannot be seen from here, and would be cut off: etcd's data in {} {reason}; if \
             there are any, give all nodes with --cluster-file FILE",
            path.display()
        ))
    };
    let data = node.read(&[Query::File(path.clone())])?.into_iter().next();
    let (data, doubt) = match data.map(|found| found.state) {
        Some(FoundState::File(bytes)) => match etcd_data::read(&bytes) {
            Some(data) => (data, None),
            None => (etcd_data::Found::default(), doubt("cannot be followed")),
        },
        Some(FoundState::Unreadable(reason)) => {
            (etcd_data::Found::default(), doubt(&format!("cannot be read: {reason}")))
        }
        _ => (etcd_data::Found::default(), None),
    };
    Ok(Surroundings {
        etcd_manifest,
        apiserver_manifest,
        registered_nodes: data.nodes,
        etcd_members: data.members,
        doubt,
        is_this_machine,
    })
}

/// The text of kube-apiserver's manifest on a node.
///
/// # Errors
/// When the node cannot be read.
pub(super) fn apiserver_manifest(node: &TargetNode) -> anyhow::Result<Option<String>> {
    match &node.layout.kubernetes_dir {
        Some(folder) => text(&*node.node, folder.join("manifests/kube-apiserver.yaml")),
        None => Ok(None),
    }
}

fn text(node: &dyn Node, path: PathBuf) -> anyhow::Result<Option<String>> {
    Ok(match node.read(&[Query::File(path)])?.into_iter().next().map(|found| found.state) {
        Some(FoundState::File(bytes)) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        _ => None,
    })
}

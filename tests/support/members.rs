//! Several nodes of one cluster in temporary folders, and the plan of a rotation over all of them.

use kubepki::apply::change::{self, Request as Changes};
use kubepki::apply::{existing, mint, requests};
use kubepki::error::Failure;
use kubepki::node::Node;
use kubepki::observe::{self, Keys, Wanted};
use kubepki::pki::layout::Role;
use kubepki::plan::blueprint::Blueprint;
use kubepki::plan::restart::{Manifest, Means};
use kubepki::plan::rotate::{self, Reach, Request};
use kubepki::plan::rounds::{self, Setting};

use super::cluster::{Cluster, ENDPOINT, Files, NOW, put_into};
use super::manifests;
use super::root::TestRoot;

/// What distinguishes the restarts of a planned operation.
pub const STAMP: &str = "20260201T000000Z-0000000a";

/// One node.
pub struct Member {
    pub name: String,
    pub role: Role,
    /// Address at which its servers are reached.
    pub address: String,
    /// Content and mode by absolute path.
    pub files: Files,
}

/// All nodes of a cluster, control planes first, and how it restarts its components.
pub struct Members {
    pub members: Vec<Member>,
    pub manifests: Vec<Manifest>,
    pub means: Means,
}

impl Members {
    /// So many control planes as kubeadm makes them, `cp1` and on, with stacked etcd, and workers `w1` and on. The last node's
    /// kubelet serves with a certificate of the cluster's.
    pub fn new(control_planes: usize, workers: usize) -> Self {
        let cluster = Cluster::healthy();
        let (mut members, mut manifests) = (Vec::new(), Vec::new());
        for number in 1..=control_planes {
            let name = format!("cp{number}");
            let address = if number == 1 { ENDPOINT.to_owned() } else { format!("10.0.0.{number}") };
            manifests.extend(manifests::of_control_plane(&name, &address));
            let files = if number == 1 { cluster.files.clone() } else { cluster.control_plane(&name, &address) };
            members.push(Member { name, role: Role::ControlPlane, address, files });
        }
        for number in 1..=workers {
            let (name, address) = (format!("w{number}"), format!("10.0.1.{number}"));
            members.push(Member { files: cluster.worker(&name), role: Role::Worker, address, name });
        }
        if let Some(last) = members.last_mut() {
            cluster.put_kubelet_serving(&mut last.files, &last.name);
        }
        Self { members, manifests, means: Means::default() }
    }

    /// The manifest of a node's component.
    pub fn manifest(&mut self, node: &str, component: &str) -> &mut Manifest {
        self.manifests.iter_mut().find(|it| it.node == node && it.component == component).unwrap()
    }

    /// Everything on disk.
    pub fn write(&self) -> Vec<TestRoot> {
        let write = |member: &Member| {
            let root = TestRoot::named(&member.name);
            put_into(&root, &member.files);
            for manifest in self.manifests.iter().filter(|manifest| manifest.node == member.name) {
                root.put(manifest.path.to_str().unwrap(), &manifest.text, 0o600);
            }
            root
        };
        self.members.iter().map(write).collect()
    }

    /// The plan of a rotation, laid out over the rounds.
    pub fn plan(&self, roots: &[TestRoot], request: &Request) -> Result<Blueprint, Failure> {
        let nodes: Vec<&dyn Node> = roots.iter().map(|root| &root.node as &dyn Node).collect();
        let snapshot = observe::observe(&nodes, &Wanted::machine(Keys::PublicHalf), NOW);
        let reach = Reach { is_live: true, ..Reach::default() };
        let mut request = Request { reach, restarts: true, ..request.clone() };
        assert!(rounds::are_needed(&rotate::plan(&snapshot, &request, NOW)?), "nothing that nodes share is replaced");
        request.rounds = true;
        let mut blueprint = rotate::plan(&snapshot, &request, NOW)?;
        let roles: Vec<(String, Role)> = self.members.iter().map(|member| (member.name.clone(), member.role)).collect();
        let setting = Setting { roles: &roles, means: &self.means, manifests: &self.manifests, stamp: STAMP };
        rounds::arrange(&mut blueprint, &setting)?;
        Ok(blueprint)
    }

    /// What the plan of a rotation does on each node, file by file, with everything minted.
    pub fn minted(&self, roots: &[TestRoot], request: &Request) -> Vec<(String, Changes)> {
        let blueprint = self.plan(roots, request).unwrap();
        let nodes: Vec<&dyn Node> = roots.iter().map(|root| &root.node as &dyn Node).collect();
        let minted = mint::mint(&blueprint, &|source| existing::key(&nodes, source), &|_| ()).unwrap();
        let operation = blueprint.operation(&change::operation_id(NOW).unwrap());
        let requests = requests::requests(&blueprint, &operation, &nodes, &minted).unwrap();
        requests.into_iter().map(|(node, request)| (node.name().to_owned(), request)).collect()
    }
}

//! The moments between the rounds of a rotation, on a real control plane that a test leads through them by hand.
//!
//! What an operation would write is written here, and what it would restart is restarted; then the moment is asked for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kubepki::apply::copies::At;
use kubepki::apply::journal::{Entry, FileState, Journal};
use kubepki::cli::live::between::{Barriers, Letting};
use kubepki::cli::rolling::Moment;
use kubepki::cli::session::Session;
use kubepki::cli::target::{Extent, Target, TargetNode};
use kubepki::error::{ExitCode, exit_code};
use kubepki::live::api_server::ApiServer;
use kubepki::live::authority_set::AuthoritySet;
use kubepki::live::credential::Credential;
use kubepki::live::signing::{State, Wanted};
use kubepki::live::wait::until;
use kubepki::node::http::Limits;
use kubepki::node::interrupt::Interrupt;
use kubepki::node::local::LocalNode;
use kubepki::node::probe::Endpoint;
use kubepki::pki::algorithm::KeyAlgorithm;
use kubepki::pki::csr;
use kubepki::pki::issue::Template;
use kubepki::pki::kubeconfig::{DataField, Kubeconfig, Replacement};
use kubepki::pki::layout::{Flavour, Layout, Role};
use kubepki::pki::name::Name;
use kubepki::pki::private_key::PrivateKey;
use kubepki::plan::phase::{Phase, Step};
use kubepki::report::{Format, Ui, Verbosity};
use serde_json::json;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::support::cluster::{CLIENT, kubeconfig};
use crate::support::kubernetes::ControlPlane;
use crate::support::made::Made;
use crate::support::managers::ControllerManager;
use crate::support::process::free_ports;
use crate::support::skip;
use crate::support::world::{ID, operation};

const LIMITS: Limits = Limits { time: Duration::from_secs(60), size: 64 * 1024 * 1024 };

const BUNDLES: [&str; 4] = ["pki/ca.crt", "pki/etcd/ca.crt", "pki/front-proxy-ca.crt", "pki/sa.pub"];

const LEAVES: [&str; 16] = [
    "pki/etcd/server.key",
    "pki/etcd/server.crt",
    "pki/etcd/peer.key",
    "pki/etcd/peer.crt",
    "pki/etcd/healthcheck-client.key",
    "pki/etcd/healthcheck-client.crt",
    "pki/apiserver-etcd-client.key",
    "pki/apiserver-etcd-client.crt",
    "pki/apiserver-kubelet-client.key",
    "pki/apiserver-kubelet-client.crt",
    "pki/front-proxy-client.key",
    "pki/front-proxy-client.crt",
    "pki/apiserver.key",
    "pki/apiserver.crt",
    "pki/sa.key",
    "pki/ca.key",
];

const KUBECONFIGS: [&str; 4] = ["admin.conf", "super-admin.conf", "controller-manager.conf", "scheduler.conf"];

const STEPS: [Phase; 4] = [Phase::TrustBoth, Phase::Kubelets, Phase::IssueNew, Phase::DropOld];

/// Every file of the node at every point of the operation.
struct Contents {
    old: BTreeMap<String, Vec<u8>>,
    new: BTreeMap<String, Vec<u8>>,
}

impl Contents {
    fn of(old: &Made, new: &Made) -> Self {
        let read = |made: &Made| {
            let names = BUNDLES.iter().chain(&LEAVES).chain(&KUBECONFIGS);
            names.map(|name| ((*name).to_owned(), std::fs::read(made.kubernetes(name)).unwrap())).collect()
        };
        Self { old: read(old), new: read(new) }
    }

    fn at(&self, name: &str, at: At) -> Option<Vec<u8>> {
        let (old, new) = (self.old.get(name)?, self.new.get(name)?);
        let both = || [old.as_slice(), new.as_slice()].concat();
        let trusting_both = |config: &[u8]| {
            let pem = [self.old["pki/ca.crt"].as_slice(), self.new["pki/ca.crt"].as_slice()].concat();
            let field = DataField::CertificateAuthority;
            let replacement = Replacement { field, entry: "kubernetes", pem: &pem };
            Kubeconfig::replace_data(config, &[replacement]).unwrap().to_vec()
        };
        let (is_bundle, is_config) = (BUNDLES.contains(&name), KUBECONFIGS.contains(&name));
        Some(match at {
            At::After(Phase::TrustBoth | Phase::Kubelets) if is_bundle => both(),
            At::After(Phase::TrustBoth | Phase::Kubelets) if is_config => trusting_both(old),
            At::After(Phase::IssueNew) if is_bundle => [new.as_slice(), old.as_slice()].concat(),
            At::After(Phase::IssueNew) if is_config => trusting_both(new),
            At::After(Phase::IssueNew | Phase::DropOld) => new.clone(),
            At::Start | At::After(_) => old.clone(),
        })
    }
}

/// A control plane, and an operation that exchanges everything of it.
struct Lab {
    node: Made,
    contents: Contents,
    plane: ControlPlane,
    manager: Option<ControllerManager>,
    port: u16,
}

impl Lab {
    fn start(binaries: &Path) -> Self {
        let port = free_ports(1)[0];
        let (node, new) = (Made::for_port(port, "kubeadm"), Made::for_port(port, "kubeadm"));
        let contents = Contents::of(&node, &new);
        let plane = ControlPlane::start(binaries, &node.kubernetes(""), port, "etcd/ca.crt", &[]);
        let mut lab = Self { node, contents, plane, manager: None, port };
        std::fs::create_dir_all(lab.node.kubernetes("manifests")).unwrap();
        for (name, flags) in [
            ("kube-apiserver", format!("    - --bind-address=127.0.0.1\n    - --secure-port={port}\n")),
            ("etcd", format!("    - --listen-client-urls={}\n", lab.plane.etcd.client_url(0))),
        ] {
            std::fs::write(lab.node.kubernetes(&format!("manifests/{name}.yaml")), flags).unwrap();
        }
        lab.manage(At::Start);
        lab
    }

    /// Starts the controller manager anew, as it is to run at that point.
    fn manage(&mut self, at: At) {
        self.manager = None;
        let (root, signer) = (self.node.kubernetes("root-ca.crt"), self.node.kubernetes("signing"));
        std::fs::write(&root, self.contents.at("pki/ca.crt", at).unwrap()).unwrap();
        let has_new = matches!(at, At::After(Phase::IssueNew | Phase::DropOld));
        let signing = if has_new { &self.contents.new } else { &self.contents.old };
        std::fs::write(signer.with_extension("key"), &signing["pki/ca.key"]).unwrap();
        std::fs::write(signer.with_extension("crt"), &signing["pki/ca.crt"]).unwrap();
        self.manager = Some(ControllerManager::start(&self.plane, &root, &signer));
    }

    /// Brings files and processes to a point of the operation.
    fn go(&mut self, at: At) {
        self.write(at);
        self.plane.etcd.restart_member(0);
        self.plane.restart_server("etcd/ca.crt");
        self.manage(at);
    }

    /// Brings all files to a point of the operation.
    fn write(&self, at: At) {
        for name in BUNDLES.iter().chain(&LEAVES).chain(&KUBECONFIGS) {
            let path = self.node.kubernetes(name);
            let beside = path.with_extension("beside");
            std::fs::write(&beside, self.contents.at(name, at).unwrap()).unwrap();
            std::fs::rename(&beside, &path).unwrap();
        }
    }

    fn credential(&self) -> Credential {
        Credential::read(&LocalNode::open("cp1", "/").unwrap(), &self.node.kubernetes("super-admin.conf")).unwrap()
    }

    /// Asks the API server as an administrator.
    fn ask<T>(&self, question: impl FnOnce(&ApiServer<'_>) -> T) -> T {
        let (node, credential) = (LocalNode::open("cp1", "/").unwrap(), self.credential());
        let endpoint = Endpoint { host: "127.0.0.1".to_owned(), port: self.port };
        question(&ApiServer::new(&node, endpoint, &credential, LIMITS).unwrap())
    }

    fn target(&self) -> Target {
        let layout = Layout {
            flavour: Flavour::Kubeadm,
            pki_dir: self.node.pki(""),
            kubernetes_dir: Some(self.node.kubernetes("")),
            kubelet_dir: Some(self.node.stage.at("root/var/lib/kubelet")),
        };
        let node = Box::new(LocalNode::open("cp1", "/").unwrap());
        let node = TargetNode { node, role: Role::ControlPlane, layout, trouble: None };
        Target { extent: Extent::WholeCluster, cluster: None, nodes: vec![node] }
    }

    fn journal(&self) -> Journal {
        let mut changes = Vec::new();
        for (step, phase) in STEPS.into_iter().enumerate() {
            let before = if step == 0 { At::Start } else { At::After(STEPS[step - 1]) };
            for name in BUNDLES.iter().chain(&LEAVES).chain(&KUBECONFIGS) {
                if self.contents.at(name, before) != self.contents.at(name, At::After(phase)) {
                    let path = self.node.kubernetes(name).display().to_string();
                    changes.push(Entry { path, step, before: FileState::Absent, after: FileState::Absent });
                }
            }
        }
        Journal {
            api_version: "kubepki.io/v1".to_owned(),
            kind: "Journal".to_owned(),
            node: "cp1".to_owned(),
            operation: operation(ID),
            directories: Vec::new(),
            directory_mode: 0o755,
            changes,
            restarting: Vec::new(),
            steps: STEPS.map(|phase| Step { phase, ..Step::default() }).to_vec(),
            done: 0,
            begun: false,
            words: Vec::new(),
        }
    }

    fn session() -> Session {
        Session::start(Ui::new(Format::None, None, Verbosity::OnlyErrors, false))
    }

    fn between(&self, moment: Moment, letting: Letting) -> anyhow::Result<()> {
        self.between_in(&Self::session(), moment, letting)
    }

    /// It does not pass, however long one waits: somebody gives up after a while.
    #[track_caller]
    fn holds(&self, moment: Moment) {
        let session = Self::session();
        let interrupt = session.interrupt.clone();
        let impatient = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(6));
            interrupt.ask();
        });
        let held = self.between_in(&session, moment, Letting::default());
        impatient.join().unwrap();
        assert_eq!(held.as_ref().map_err(exit_code).unwrap_err(), ExitCode::Interrupted, "{moment:?}: {held:?}");
    }

    fn between_in(&self, session: &Session, moment: Moment, letting: Letting) -> anyhow::Result<()> {
        let (target, journal) = (self.target(), self.journal());
        let folder = self.node.kubernetes("");
        let content = |_: &TargetNode, _: &Journal, path: &Path, at: At| {
            let name = path.strip_prefix(&folder).unwrap().display().to_string();
            Ok(self.contents.at(&name, at).map(Zeroizing::new))
        };
        let legs = [(&target.nodes[0], journal)];
        Barriers::new(session, &target, Box::new(content), letting).between(moment, &legs)
    }

    #[track_caller]
    fn passes(&self, moment: Moment) {
        let done = self.between(moment, Letting::default());
        let words = || format!("{}\n{}", self.plane.words(), self.manager.as_ref().unwrap().words());
        done.unwrap_or_else(|error| panic!("{moment:?}: {error:#}\n{}", words()));
    }

    fn authorities(&self, at: At) -> AuthoritySet {
        AuthoritySet::from_pem(&self.contents.at("pki/ca.crt", at).unwrap())
    }
}

/// Asks until the answer is yes.
#[track_caller]
fn wait<T>(probe: impl FnMut() -> Result<T, String>) -> T {
    until(Instant::now() + Duration::from_secs(120), &Interrupt::default(), probe).unwrap()
}

/// What a cluster has that was made with kubeadm and is in use.
fn settle(lab: &Lab) {
    lab.ask(|api| {
        let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "kubeadm:cluster-admins"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "kubeadm:cluster-admins"}]});
        api.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding).unwrap();
        let ca = String::from_utf8(lab.contents.old["pki/ca.crt"].clone()).unwrap();
        let info = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cluster-info"},
            "data": {"kubeconfig": kubeconfig("x", &ca, "{}")}});
        api.post("/api/v1/namespaces/kube-public/configmaps", &info).unwrap();
        let uploaded = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "kubeadm-certs"}});
        api.post("/api/v1/namespaces/kube-system/secrets", &uploaded).unwrap();
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
            "metadata": {"name": "legacy", "annotations": {"kubernetes.io/service-account.name": "default"}}});
        wait(|| api.get("/api/v1/namespaces/default/serviceaccounts/default").map_err(|error| error.to_string()));
        api.post("/api/v1/namespaces/default/secrets", &secret).unwrap();
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "c", "image": "x"}]}});
        api.post("/api/v1/namespaces/default/pods", &pod).unwrap();
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let now = OffsetDateTime::now_utc();
        let template = Template::leaf(Name::new("jane", &[]), CLIENT, &[], key.public_key(), (now, now));
        let request = csr::request(&template, &key).unwrap();
        let wanted = Wanted {
            name: "jane",
            request: &request,
            signer: "kubernetes.io/kube-apiserver-client",
            usages: &["client auth"],
            lifetime: Some(86400),
        };
        api.request_certificate(&wanted).unwrap();
        api.approve("jane", "Checked", "by a test").unwrap();
        wait(|| match api.signing_request("jane").map_err(|error| error.to_string())?.state {
            State::Issued(_) => Ok(()),
            other => Err(format!("{other:?}")),
        });
    });
}

#[test]
fn each_round_begins_only_when_running_processes_have_proven_the_one_before() {
    let test = "each_round_begins_only_when_running_processes_have_proven_the_one_before";
    let Some(binaries) = skip::kubernetes(test, skip::MANAGED_CONTROL_PLANE) else { return };
    let mut lab = Lab::start(&binaries);
    settle(&lab);
    let (old, new) = (lab.authorities(At::Start), lab.authorities(At::After(Phase::DropOld)));
    lab.passes(Moment::Before(Phase::TrustBoth));

    // Both are trusted, by all processes and not only in files; and again none but the old.
    lab.write(At::After(Phase::TrustBoth));
    lab.plane.etcd.restart_member(0);
    lab.manage(At::After(Phase::TrustBoth));
    lab.holds(Moment::After(Phase::TrustBoth));
    lab.plane.restart_server("etcd/ca.crt");
    lab.passes(Moment::After(Phase::TrustBoth));
    assert_eq!(lab.ask(|api| api.cluster_info().unwrap()), Some(old.with(&new)));
    lab.go(At::Start);
    lab.passes(Moment::TakenBack(Phase::TrustBoth));
    assert_eq!(lab.ask(|api| api.cluster_info().unwrap()), Some(old.clone()));
    assert_eq!(lab.ask(|api| api.aggregation_trust().unwrap().unwrap().clients), old);
    lab.go(At::After(Phase::TrustBoth));
    lab.passes(Moment::After(Phase::TrustBoth));
    lab.passes(Moment::After(Phase::TrustBoth));
    lab.passes(Moment::After(Phase::Kubelets));

    // Everything is issued from the new, tokens too.
    lab.write(At::After(Phase::IssueNew));
    lab.manage(At::After(Phase::IssueNew));
    lab.holds(Moment::After(Phase::IssueNew));
    lab.plane.restart_server("etcd/ca.crt");
    lab.passes(Moment::After(Phase::IssueNew));
    assert!(lab.ask(|api| api.signing_request("kubepki-probe").unwrap_err().is_not_found()), "nothing is left");

    // Who still needs the old is named.
    let extra: PathBuf = lab.node.kubernetes("somebody.conf");
    std::fs::write(&extra, &lab.contents.old["admin.conf"]).unwrap();
    let stopped = lab.between(Moment::Before(Phase::DropOld), Letting::default()).unwrap_err();
    assert_eq!(exit_code(&stopped), ExitCode::Partial);
    let said = format!("{stopped:#}");
    for part in
        ["somebody.conf: its client certificate", "jane has a client certificate", "Secret default/legacy", "1 pod"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(said.lines().count(), 5, "and nothing else: {said}");
    lab.between(Moment::Before(Phase::DropOld), Letting { force: true, wait_for_tokens: None }).unwrap();
    std::fs::remove_file(&extra).unwrap();
    lab.ask(|api| api.delete_signing_request("jane").unwrap());
    let stopped = lab.between(Moment::Before(Phase::DropOld), Letting::default()).unwrap_err();
    assert_eq!(format!("{stopped:#}").lines().count(), 3, "{stopped:#}");
    let at_once = Letting { force: false, wait_for_tokens: Some("0".parse().unwrap()) };
    lab.between(Moment::Before(Phase::DropOld), at_once).unwrap();

    // The old is gone, from etcd too, which reads its trust only when it starts.
    lab.write(At::After(Phase::DropOld));
    lab.plane.restart_server("etcd/ca.crt");
    lab.manage(At::After(Phase::DropOld));
    lab.holds(Moment::After(Phase::DropOld));
    lab.plane.etcd.restart_member(0);
    lab.passes(Moment::After(Phase::DropOld));
    lab.ask(|api| {
        assert_eq!(api.cluster_info().unwrap(), Some(new.clone()));
        assert_eq!(api.aggregation_trust().unwrap().unwrap().clients, new);
        assert!(!api.has_uploaded_authorities().unwrap());
        assert_eq!(api.token_keys().unwrap().len(), 1);
    });
}

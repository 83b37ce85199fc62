//! What must be so at every moment: everybody who runs believes whom they meet, and signers sign what is believed.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;

use super::process::{Fault, Process};
use super::scenes::{Node, Scene};
use super::things::Content;
use super::trust::{As, Judge, names};
use crate::support::cluster::ENDPOINT;

/// How far the rounds have got everywhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Standing {
    /// Everybody trusts the new.
    pub(super) new_counts: bool,
    /// Everything is issued from the new.
    pub(super) new_serves: bool,
    /// Somebody may trust the old no more.
    pub(super) old_goes: bool,
}

/// What people and pods elsewhere hold: the CA, a client certificate, a front proxy's, the keys of their tokens.
struct Elsewhere {
    roots: Rc<Content>,
    client: Rc<Content>,
    proxy: Rc<Content>,
    tokens: Rc<Content>,
}

impl Elsewhere {
    fn of(scene: &Scene) -> Self {
        let at = |path: &str| scene.nodes[0].disk.at(&format!("/etc/kubernetes/{path}")).unwrap().clone();
        Self {
            roots: at("pki/ca.crt"),
            client: at("admin.conf"),
            proxy: at("pki/front-proxy-client.crt"),
            tokens: at("pki/sa.pub"),
        }
    }
}

/// The laws for one rotation.
pub(super) struct Laws {
    old: Elsewhere,
    new: Elsewhere,
    judge: Judge,
    seen: RefCell<HashSet<(u64, Standing)>>,
}

impl Laws {
    pub(super) fn between(first: &Scene, last: &Scene) -> Self {
        let (old, new) = (Elsewhere::of(first), Elsewhere::of(last));
        Self { old, new, judge: Judge::default(), seen: RefCell::default() }
    }

    /// How many questions of trust were asked.
    pub(super) fn asked(&self) -> usize {
        self.judge.asked.get()
    }

    /// What is wrong at this moment, also if any one component started again by itself now, or any one node did. One that
    /// is about to be started anew anyway, as `is_awaited` says, may miss files.
    pub(super) fn faults(
        &self,
        scene: &Scene,
        standing: Standing,
        is_awaited: &dyn Fn(&Node, &str) -> bool,
    ) -> Vec<String> {
        let mut faults = self.of_moment(scene, standing);
        for (at, node) in scene.nodes.iter().enumerate() {
            let mut rebooted = scene.clone();
            let mut is_up = true;
            for (component, process) in &node.running {
                let name = &node.name;
                match process.again(&node.disk) {
                    Ok(again) if again == *process => {}
                    Ok(again) => {
                        let mut other = scene.clone();
                        other.nodes[at].running.insert(component, again);
                        let found = self.of_moment(&other, standing);
                        faults
                            .extend(found.iter().map(|fault| format!("if {component} of {name} started now: {fault}")));
                    }
                    // For as long as a rename takes; it is checked elsewhere that it takes no longer.
                    Err(Fault::UnfitPair(_)) => {}
                    Err(_) if is_awaited(node, component) => {}
                    Err(fault) => faults.push(format!("{component} of {name} could not start now: {fault:?}")),
                }
                match rebooted.nodes[at].run(component) {
                    Ok(()) => {}
                    Err(Fault::UnfitPair(_)) => is_up = false,
                    Err(_) if is_awaited(node, component) => is_up = false,
                    Err(fault) => faults.push(format!("{component} would not start with node {name}: {fault:?}")),
                }
            }
            let found = if is_up { self.of_moment(&rebooted, standing) } else { Vec::new() };
            faults.extend(found.iter().map(|fault| format!("if node {} started now: {fault}", node.name)));
        }
        faults
    }

    fn of_moment(&self, scene: &Scene, standing: Standing) -> Vec<String> {
        if !self.seen.borrow_mut().insert((scene.fingerprint(), standing)) {
            return Vec::new();
        }
        let mut faults = Vec::new();
        let mut must = |holds: bool, words: &dyn Fn() -> String| {
            if !holds {
                faults.push(words())
            }
        };
        let believes = |roots: &Content, shown: &Content, shown_as: As| self.judge.believes(roots, shown, shown_as);
        etcd(scene, &mut must, &believes);
        for (node, api) in scene.running("kube-apiserver") {
            let at = &node.name;
            let serving = api.holds("--tls-cert-file");
            let clients = api.reads("--client-ca-file", &node.disk);
            let mut client = |who: &str, roots: &Content, shown: &Content| {
                must(believes(roots, serving, As::Server), &|| {
                    format!("{who} does not believe the API server of {at}")
                });
                must(believes(clients, shown, As::Client), &|| {
                    format!("the API server of {at} does not believe {who}")
                });
            };
            for other in &scene.nodes {
                for (component, process) in &other.running {
                    let who = format!("{component} of {}", other.name);
                    match *component {
                        "kubelet" => client(&who, process.holds("--kubeconfig"), process.holds("--client-certificate")),
                        "etcd" | "kube-apiserver" => {}
                        _ => client(&who, process.holds("--kubeconfig"), process.holds("--kubeconfig")),
                    }
                }
                for name in ["admin.conf", "super-admin.conf"] {
                    if let Some(kubeconfig) = other.disk.at(&format!("/etc/kubernetes/{name}")) {
                        client(&format!("{name} of {}", other.name), kubeconfig, kubeconfig);
                    }
                }
            }
            must(names(serving, ENDPOINT), &|| format!("the API server of {at} is not named {ENDPOINT}"));
            for (other, kubelet) in scene.running("kubelet") {
                let shown = api.holds("--kubelet-client-certificate");
                let trusted = believes(kubelet.reads("--client-ca-file", &other.disk), shown, As::Client);
                must(trusted, &|| format!("the kubelet of {} does not believe the API server of {at}", other.name));
                let serves = kubelet.may_hold("--serving").is_none_or(|shown| believes(clients, shown, As::Server));
                must(serves, &|| format!("the bundle of {at} does not cover the kubelet of {}", other.name));
            }
            let proxies = api.reads("--requestheader-client-ca-file", &node.disk);
            for (other, peer) in scene.running("kube-apiserver") {
                let trusted = believes(proxies, peer.holds("--proxy-client-cert-file"), As::Client);
                must(trusted, &|| {
                    format!("aggregated servers by {at} do not believe the API server of {}", other.name)
                });
                must(accepts(api, peer.holds("--service-account-signing-key-file")), &|| {
                    format!("the API server of {at} does not accept tokens of the one of {}", other.name)
                });
            }
            for (other, manager) in scene.running("kube-controller-manager") {
                let name = &other.name;
                must(accepts(api, manager.holds("--service-account-private-key-file")), &|| {
                    format!("the API server of {at} does not accept tokens of the controller manager of {name}")
                });
                must(believes(manager.holds("--root-ca-file"), serving, As::Server), &|| {
                    format!("the CA that {name} publishes does not cover the API server of {at}")
                });
                let signer =
                    manager.may_hold("--cluster-signing-cert-file").map(|signer| signer.chain[0].fingerprint());
                // Where trust is narrowed to single certificates, new ones of the old CA are refused: that is what it is for.
                let is_narrowed = clients.roots.iter().any(|root| !root.is_ca());
                let is_believed = |signer| clients.roots.iter().any(|root| root.fingerprint() == signer);
                must(is_narrowed || signer.is_none_or(is_believed), &|| {
                    format!("the API server of {at} does not believe what the controller manager of {name} signs")
                });
                must(manager.signers(&other.disk).is_none_or(|count| count == 1), &|| {
                    format!("{name} has not one signer")
                });
            }
            for (words, elsewhere, counts, serves) in [
                ("old", &self.old, !standing.old_goes, !standing.old_goes),
                ("new", &self.new, standing.new_counts, standing.new_serves),
            ] {
                let trusts = !serves || believes(&elsewhere.roots, serving, As::Server);
                must(trusts, &|| format!("who trusts the {words} CA alone does not believe the API server of {at}"));
                let trusted = !counts || believes(clients, &elsewhere.client, As::Client);
                must(trusted, &|| format!("the API server of {at} does not believe {words} clients"));
                let trusted = !counts || believes(proxies, &elsewhere.proxy, As::Client);
                must(trusted, &|| format!("the API server of {at} does not believe {words} front proxies"));
                let own = &api.holds("--service-account-key-file").public_keys;
                let accepted = !counts || elsewhere.tokens.public_keys.iter().all(|key| own.contains(key));
                must(accepted, &|| format!("the API server of {at} does not accept {words} tokens"));
            }
        }
        let rulers = scene.nodes.iter().filter(|node| node.is_ruler).count();
        let away = rulers - scene.running("kube-apiserver").count();
        must(away <= 1 && away < rulers, &|| format!("{away} of {rulers} API servers are away"));
        faults
    }
}

fn accepts(api: &Process, signing: &Content) -> bool {
    let keys = &api.holds("--service-account-key-file").public_keys;
    signing.key.as_ref().is_some_and(|key| keys.contains(key))
}

/// Members among themselves, and each with its API server and the health check.
fn etcd(
    scene: &Scene,
    must: &mut dyn FnMut(bool, &dyn Fn() -> String),
    believes: &dyn Fn(&Content, &Content, As) -> bool,
) {
    let peer = |node: &Node, etcd: &Process| etcd.shows("--peer-cert-file", "--peer-key-file", &node.disk).cloned();
    for (node, etcd) in scene.running("etcd") {
        let at = &node.name;
        for (other, member) in scene.running("etcd").filter(|(other, _)| other.name != node.name) {
            // Between two renames there is no pair to show.
            let (Some(server), Some(client)) = (peer(node, etcd), peer(other, member)) else { continue };
            let roots = member.holds("--peer-trusted-ca-file");
            must(believes(roots, &server, As::Server) && names(&server, &node.address), &|| {
                format!("etcd of {} does not believe its peer {at} as a server", other.name)
            });
            must(believes(etcd.holds("--peer-trusted-ca-file"), &client, As::Client), &|| {
                format!("etcd of {at} does not believe its peer {} as a client", other.name)
            });
        }
        let Some(server) = etcd.shows("--cert-file", "--key-file", &node.disk) else { continue };
        let mut client = |who: &str, roots: &Content, shown: &Content| {
            let trusts = believes(roots, server, As::Server) && names(server, "127.0.0.1");
            must(trusts, &|| format!("{who} of {at} does not believe its etcd"));
            let trusted = believes(etcd.holds("--trusted-ca-file"), shown, As::Client);
            must(trusted, &|| format!("etcd of {at} does not believe {who} of its node"));
        };
        if let Some(api) = node.running.get("kube-apiserver")
            && let Some(shown) = api.shows("--etcd-certfile", "--etcd-keyfile", &node.disk)
        {
            client("kube-apiserver", api.holds("--etcd-cafile"), shown);
        }
        let on_disk = |name: &str| node.disk.at(&format!("/etc/kubernetes/pki/etcd/{name}")).unwrap();
        if on_disk("healthcheck-client.crt").fits(on_disk("healthcheck-client.key")) {
            client("the health check", on_disk("ca.crt"), on_disk("healthcheck-client.crt"));
        }
    }
}

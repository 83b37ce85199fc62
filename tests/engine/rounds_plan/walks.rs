//! Rotations walked through move by move, to the end and back from everywhere, with and without components that start again
//! by themselves.

use std::collections::HashSet;
use std::rc::Rc;

use kubepki::apply::sha256;
use kubepki::observe::{Keys, Wanted, observe};
use kubepki::pki::layout::Role;
use kubepki::pki::manifest_flags::{Edit, edited};
use kubepki::plan::phase::Phase;
use kubepki::plan::rotate::Request;

use super::ends;
use super::laws::{Laws, Standing};
use super::process::COMPONENTS;
use super::scenes::{Move, Node, Scene, Script};
use crate::support::cluster::NOW;
use crate::support::members::Members;
use crate::support::rotation::only;

/// So many faults are shown; one mistake has many.
const SHOWN: usize = 12;

/// A walk through a script.
struct Walk<'a> {
    script: &'a Script,
    laws: &'a Laws,
    scene: Scene,
    /// Certificates whose key does not fit since the last move.
    unfit: Vec<(Rc<str>, Rc<str>)>,
}

impl Walk<'_> {
    /// How far the rounds have got when step `at` is under way.
    fn standing(&self, at: usize) -> Standing {
        let is_over = |phase: Phase| self.script.steps[at..].iter().all(|step| step.phase > phase);
        let old_goes = self.script.steps.get(at).is_none_or(|step| step.phase == Phase::DropOld);
        Standing { new_counts: is_over(Phase::TrustBoth), new_serves: is_over(Phase::IssueNew), old_goes }
    }

    /// Makes one move of step `at` and looks around. Says what is wrong then.
    fn go(&mut self, at: usize, happening: &Move, is_back: bool) -> Result<(), String> {
        let step = &self.script.steps[at];
        let own = &self.script.first.nodes[step.node].name;
        let wrong = |what: String| {
            let after = match happening {
                Move::Put { path, .. } => path.to_string(),
                Move::Run { component, .. } => format!("start of {component}"),
            };
            let way = if is_back { "back through" } else { "in" };
            Err(format!("{way} step {at} ({}) on {own}, after {after}: {what}", step.phase))
        };
        if let Err(fault) = self.scene.make(happening) {
            return wrong(format!("{fault:?}"));
        }
        let rulers = self.scene.nodes.iter().filter(|node| node.is_ruler).count();
        let has_api = self.scene.nodes[step.node].running.contains_key("kube-apiserver");
        if matches!(happening, Move::Run { component: "etcd", .. }) && rulers > 1 && has_api {
            return wrong("the API server waits for its etcd".to_owned());
        }
        let away = |node: &&Node| node.is_ruler && node.name != *own && !node.running.contains_key("kube-apiserver");
        if let Some(node) = self.scene.nodes.iter().find(away) {
            return wrong(format!("the API server of {} is still away", node.name));
        }
        let unfit = self.scene.unfit();
        if let Some(stays) = unfit.iter().find(|it| self.unfit.contains(it)) {
            return wrong(format!("the key of {stays:?} still does not fit"));
        }
        self.unfit = unfit;
        let is_awaited = |node: &Node, component: &str| is_back && node.name == *own && step.tells(component);
        let faults = self.laws.faults(&self.scene, self.standing(at), &is_awaited);
        if faults.is_empty() {
            return Ok(());
        }
        wrong(format!("{} faults: {:#?}", faults.len(), &faults[..faults.len().min(SHOWN)]))
    }
}

/// Walks to the end. Returns every scene from which there is a way back, with the step under way and the changes made in it.
fn forward(script: &Script, laws: &Laws) -> Result<Vec<(usize, usize, Scene)>, String> {
    let mut walk = Walk { script, laws, scene: script.first.clone(), unfit: Vec::new() };
    let faults = laws.faults(&walk.scene, Standing::default(), &|_, _| false);
    assert!(faults.is_empty(), "before anything: {faults:#?}");
    let mut places = Vec::new();
    for (at, step) in script.steps.iter().enumerate() {
        for (made, happening) in step.forward() {
            walk.go(at, &happening, false)?;
            if step.phase.can_be_taken_back() {
                places.push((at, made, walk.scene.clone()));
            }
        }
    }
    assert!(walk.unfit.is_empty());
    Ok(places)
}

/// Walks back from every place.
fn backward(script: &Script, laws: &Laws, places: Vec<(usize, usize, Scene)>) -> Result<(), String> {
    let mut known = HashSet::new();
    let mut ends = 0;
    for (from, made, scene) in places {
        // What does not fit there was noticed on the way there; the first move has to end it.
        let unfit = scene.unfit();
        let mut walk = Walk { script, laws, scene, unfit };
        for at in (0..=from).rev() {
            let step = &script.steps[at];
            let made = if at == from { made } else { step.changes.len() };
            if !known.insert((at, made, walk.scene.fingerprint())) {
                break;
            }
            for happening in step.backward(made) {
                walk.go(at, &happening, true)?;
            }
            if at == 0 {
                ends::check_return(script, &walk.scene);
                ends += 1;
            }
        }
    }
    assert!(ends > 0 || script.steps.is_empty());
    Ok(())
}

/// Walks to the end while some component somewhere starts again by itself after each move.
fn restless(script: &Script, laws: &Laws, seed: u64) -> Result<(), String> {
    let mut walk = Walk { script, laws, scene: script.first.clone(), unfit: Vec::new() };
    let mut chance = seed;
    for (at, step) in script.steps.iter().enumerate() {
        for (_, happening) in step.forward() {
            walk.go(at, &happening, false)?;
            // Knuth's numbers; the low bits are no good.
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let draw = usize::try_from(chance >> 33).unwrap();
            let count = walk.scene.nodes.len();
            let (node, component) = (draw % count, COMPONENTS[draw / count % COMPONENTS.len()].component);
            let node = &mut walk.scene.nodes[node];
            if let Some(Ok(again)) = node.running.get(component).map(|process| process.again(&node.disk)) {
                node.running.insert(component, again);
            }
        }
    }
    Ok(())
}

/// Walks through one rotation in every way there is.
pub(super) fn walk(members: &Members, request: &Request) -> Script {
    try_walk(members, request).unwrap_or_else(|wrong| panic!("{wrong}"))
}

/// As [`walk`], or what is wrong.
pub(super) fn try_walk(members: &Members, request: &Request) -> Result<Script, String> {
    let script = Script::of(members, request);
    let laws = Laws::between(&script.first, &script.last);
    let places = forward(&script, &laws)?;
    assert!(laws.asked() > 1000, "{} questions of trust", laws.asked());
    backward(&script, &laws, places)?;
    for seed in 1..=2 {
        restless(&script, &laws, seed)?;
    }
    Ok(script)
}

/// The whole story of one rotation; `about` are the files that it replaces.
fn tell(members: &Members, request: &Request, about: &[&str]) {
    ends::check(&walk(members, request), about);
}

pub(super) const CLUSTER: &[&str] = &[
    "/pki/ca.",
    "/pki/apiserver.",
    "/pki/apiserver-kubelet-client.",
    "/admin.conf",
    "/super-admin.conf",
    "/controller-manager.conf",
    "/scheduler.conf",
    "/kubelet.conf",
    "/kubelet-client-",
    "/kubelet-server-",
];
const TRUST: &[&str] = &["/pki/kubepki/client-trust.crt"];
pub(super) const ETCD: &[&str] = &["/pki/etcd/", "/pki/apiserver-etcd-client."];
pub(super) const FRONT_PROXY: &[&str] = &["/pki/front-proxy-"];
pub(super) const TOKENS: &[&str] = &["/pki/sa."];

fn everything() -> Vec<&'static str> {
    [CLUSTER, ETCD, FRONT_PROXY, TOKENS].concat()
}

#[test]
fn everything_is_replaced_while_everybody_believes_everybody() {
    tell(&Members::new(3, 1), &Request::default(), &everything());
}

#[test]
fn so_it_is_where_api_servers_believe_by_a_bundle_of_their_own() {
    tell(&prepared(Members::new(2, 1), false), &only(&["cluster-ca"]), &[CLUSTER, TRUST].concat());
}

#[test]
fn so_it_is_where_that_bundle_holds_single_certificates_instead_of_their_authority() {
    tell(&prepared(Members::new(2, 1), true), &only(&["cluster-ca"]), &[CLUSTER, TRUST].concat());
}

/// The same control planes prepared for revocations; with `narrowed` nobody is believed but those who have a certificate now.
fn prepared(mut members: Members, narrowed: bool) -> Members {
    let trust = "/etc/kubernetes/pki/kubepki/client-trust.crt";
    let bundle = if narrowed {
        certificates(&members)
    } else {
        members.members[0].files["/etc/kubernetes/pki/ca.crt"].0.clone()
    };
    for member in members.members.iter_mut().filter(|member| member.role == Role::ControlPlane) {
        member.files.insert(trust.to_owned(), (bundle.clone(), 0o644));
    }
    for manifest in &mut members.manifests {
        if matches!(manifest.component.as_str(), "kube-apiserver" | "kube-controller-manager") {
            manifest.text = edited(&manifest.text, &[Edit::Set("--client-ca-file", trust)]).unwrap();
            manifest.sha256 = sha256(manifest.text.as_bytes());
        }
    }
    members
}

/// Everything but authorities that the cluster's CA has signed, on all nodes.
fn certificates(members: &Members) -> String {
    let roots = members.write();
    let nodes: Vec<&dyn kubepki::node::Node> =
        roots.iter().map(|root| &root.node as &dyn kubepki::node::Node).collect();
    let snapshot = observe(&nodes, &Wanted::machine(Keys::PublicHalf), NOW);
    let mut pems = Vec::new();
    for (_, artifact) in snapshot.artifacts() {
        let Some(content) = artifact.content() else { continue };
        let kubeconfig = content.kubeconfig.as_ref().and_then(|found| found.as_ref().ok());
        let users =
            kubeconfig.into_iter().flat_map(|found| &found.users).flat_map(|user| user.certificate.certificates());
        let all = content.certificates().chain(users).filter(|one| !one.is_ca());
        let signed = all.filter(|one| one.issuer().common_name() == Some("kubernetes"));
        pems.extend(signed.map(kubepki::pki::certificate::Certificate::to_pem));
    }
    pems.sort();
    pems.dedup();
    pems.concat()
}

#[test]
fn so_it_is_with_another_algorithm() {
    let request = Request { key_algorithm: Some("ecdsa-p384".parse().unwrap()), ..Request::default() };
    tell(&Members::new(2, 1), &request, &everything());
}

#[test]
fn so_it_is_with_one_control_plane() {
    tell(&Members::new(1, 1), &Request::default(), &everything());
}

#[test]
fn so_it_is_when_nodes_take_turns_in_another_order() {
    let mut members = Members::new(3, 1);
    members.members.reverse();
    members.members.rotate_left(1);
    tell(&members, &Request::default(), &everything());
}

#[test]
fn so_it_is_with_the_cluster_ca_alone() {
    tell(&Members::new(3, 1), &only(&["cluster-ca"]), CLUSTER);
}

#[test]
fn so_it_is_with_the_ca_of_etcd_alone() {
    tell(&Members::new(3, 1), &only(&["etcd-ca"]), ETCD);
}

#[test]
fn so_it_is_with_the_ca_of_the_front_proxy_alone() {
    tell(&Members::new(3, 1), &only(&["front-proxy-ca"]), FRONT_PROXY);
}

#[test]
fn so_it_is_with_token_keys_alone() {
    tell(&Members::new(3, 1), &only(&["sa"]), TOKENS);
}

#[test]
fn so_it_is_with_authorities_together_and_in_pairs() {
    let members = Members::new(2, 1);
    tell(&members, &only(&["ca"]), &[CLUSTER, ETCD, FRONT_PROXY].concat());
    tell(&members, &only(&["etcd-ca", "sa"]), &[ETCD, TOKENS].concat());
    tell(&members, &only(&["cluster-ca", "sa"]), &[CLUSTER, TOKENS].concat());
}

#[test]
fn no_step_before_the_last_round_can_be_left_out() {
    let whole = Script::of(&Members::new(2, 1), &Request::default());
    let needed = whole.steps.iter().take_while(|step| step.phase != Phase::DropOld).count();
    for left_out in 0..needed {
        let mut script = whole.clone();
        let step = script.steps.remove(left_out);
        let laws = Laws::between(&script.first, &script.last);
        assert!(forward(&script, &laws).is_err(), "step {left_out} ({}) is not needed", step.phase);
    }
}

#[test]
fn no_two_rounds_can_change_places() {
    let whole = Script::of(&Members::new(2, 1), &Request::default());
    let phases = [Phase::TrustBoth, Phase::Kubelets, Phase::IssueNew, Phase::DropOld];
    for (one, other) in [(0, 1), (0, 2), (0, 3), (1, 3), (2, 3)] {
        let mut script = whole.clone();
        let place = |phase: Phase| match phases.iter().position(|it| *it == phase).unwrap() {
            at if at == one => other,
            at if at == other => one,
            at => at,
        };
        script.steps.sort_by_key(|step| place(step.phase));
        let laws = Laws::between(&script.first, &script.last);
        assert!(forward(&script, &laws).is_err(), "{} and {}", phases[one], phases[other]);
    }
}

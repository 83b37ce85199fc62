//! What running components say, asked of real ones: etcd members, and an API server with all it stores.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use kubepki::live::NoAnswer;
use kubepki::live::api_server::{ApiServer, Patch};
use kubepki::live::cluster::{COMPONENT_LEASES, NODE_LEASES};
use kubepki::live::component::{Component, healthy, running};
use kubepki::live::credential::Credential;
use kubepki::live::etcd::{Etcd, MemberStatus, Quorum, client_endpoint};
use kubepki::live::places::{Listener, Places};
use kubepki::live::signing::{State, Wanted};
use kubepki::live::wait::until;
use kubepki::node::http::{Limits, Unanswered};
use kubepki::node::interrupt::Interrupt;
use kubepki::node::local::LocalNode;
use kubepki::node::probe::Endpoint;
use kubepki::pki::algorithm::KeyAlgorithm;
use kubepki::pki::csr;
use kubepki::pki::issue::Template;
use kubepki::pki::name::Name;
use kubepki::pki::private_key::PrivateKey;
use serde_json::json;
use time::OffsetDateTime;

use crate::support::cluster::CLIENT;
use crate::support::etcd::{Etcd as Servers, programs};
use crate::support::kubernetes::ControlPlane;
use crate::support::made::Made;
use crate::support::process::{free_ports, succeed};
use crate::support::skip;

const LIMITS: Limits = Limits { time: Duration::from_secs(60), size: 16 * 1024 * 1024 };

fn here() -> LocalNode {
    LocalNode::open("local", "/").unwrap()
}

fn etcd_client(made: &Made, name: &str) -> Credential {
    Credential::read_pair(&here(), &made.pki(name), &made.pki("etcd/ca.crt")).unwrap()
}

/// Asks until the answer is yes.
fn wait<T>(probe: impl FnMut() -> Result<T, String>) -> T {
    until(Instant::now() + Duration::from_secs(120), &Interrupt::default(), probe).unwrap()
}

#[test]
fn members_leader_and_quorum_are_those_of_the_etcd_that_runs() {
    for program in programs("members_leader_and_quorum_are_those_of_the_etcd_that_runs") {
        judge_etcd(&program);
    }
}

fn judge_etcd(program: &Path) {
    let first = Made::new(&["--node-name", "cp1", "--advertise-address", "127.0.0.1", "--key-algorithm", "ecdsa-p256"]);
    let dirs = vec![first.pki(""); 3];
    let mut servers = Servers::start(program, &dirs, "etcd/ca.crt");
    let node = here();
    let credential = etcd_client(&first, "apiserver-etcd-client");
    let endpoint = |index: usize| -> Endpoint { servers.client_url(index).parse().unwrap() };
    let endpoints: Vec<Endpoint> = (0..3).map(endpoint).collect();
    let at = |index: usize| Etcd::new(&node, endpoints[index].clone(), &credential, LIMITS).unwrap();
    let members = wait(|| {
        let members = at(0).members().map_err(|error| error.to_string())?;
        if members.iter().all(|member| !member.client_urls.is_empty()) { Ok(members) } else { Err("starting".into()) }
    });
    let mut names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["m0", "m1", "m2"]);
    let m1 = members.iter().find(|member| member.name == "m1").unwrap();
    assert_eq!(client_endpoint(m1).unwrap(), endpoints[1]);

    let look = |indices: &[usize]| -> Vec<MemberStatus> {
        indices.iter().filter_map(|index| at(*index).status().ok()).collect()
    };
    let all = look(&[0, 1, 2]);
    let quorum = Quorum::of(&members, &all);
    assert!(quorum.is_there() && quorum.can_spare_one(), "{quorum:?} {all:?}");
    assert!(members.iter().any(|member| Some(member.id) == quorum.leader));
    assert!(all.iter().all(|status| !status.version.is_empty() && status.errors.is_empty()), "{all:?}");
    at(2).healthy().unwrap();
    let leads = |index: &usize| all[*index].leader == Some(all[*index].id);
    let (leader, follower) = ((0..3).find(leads).unwrap(), (0..3).find(|index| !leads(index)).unwrap());
    assert_eq!(at(follower).hand_over().unwrap(), None, "it does not lead");
    let next = at(leader).hand_over().unwrap().unwrap();
    let next = members.iter().find(|member| member.name == next).unwrap();
    assert_ne!(next.id, all[leader].id);
    wait(|| match at(follower).status() {
        Ok(status) if status.leader == Some(next.id) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let served = at(0).at(endpoints[1].clone()).served().unwrap();
    let file = std::fs::read(first.pki("etcd/server.crt")).unwrap();
    assert_eq!(served, kubepki::live::credential::certificates(&file));

    // A copy of its data is one for etcd's own tool.
    let folder = tempfile::tempdir().unwrap();
    let (copy, restored) = (folder.path().join("snapshot.db"), folder.path().join("data"));
    std::fs::write(&copy, &*at(0).snapshot(LIMITS).unwrap()).unwrap();
    let beside = program.with_file_name("etcdctl");
    let tool = if beside.exists() { beside } else { "etcdctl".into() };
    let version = succeed(Command::new(&tool).arg("version"));
    // From etcd 3.6 on that is etcdutl's work.
    if !version.contains("3.6") {
        let mut command = Command::new(tool);
        command.env("ETCDCTL_API", "3").args(["snapshot", "restore"]).arg(&copy).arg("--data-dir").arg(&restored);
        succeed(&mut command);
        assert!(restored.join("member/snap/db").exists());
    }

    // One away: still a quorum, none to spare. Two away: none, and the last one says so itself.
    servers.stop_member(2);
    let refused = at(2).healthy().unwrap_err();
    assert!(matches!(refused, NoAnswer::Unanswered(Unanswered::Unreachable(_))), "{refused:?}");
    let quorum = wait(|| {
        let quorum = Quorum::of(&members, &look(&[0, 1, 2]));
        if quorum.is_there() { Ok(quorum) } else { Err(format!("{quorum:?}")) }
    });
    assert_eq!((quorum.voters, quorum.well, quorum.can_spare_one()), (3, 2, false));
    servers.stop_member(1);
    wait(|| match at(0).healthy() {
        Err(NoAnswer::Status { status: 503, message, .. }) if !message.is_empty() => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert!(!Quorum::of(&members, &look(&[0, 1, 2])).is_there());

    // Who is no client of etcd gets no answer at all.
    let stranger = etcd_client(&first, "apiserver-kubelet-client");
    let refused = Etcd::new(&node, endpoints[0].clone(), &stranger, LIMITS).unwrap().members().unwrap_err();
    assert!(refused.is_unauthenticated(), "{refused:?}");

    // A restart shows in the start time.
    let places = Places {
        api_server: None,
        controller_manager: None,
        scheduler: None,
        kubelet: None,
        etcd: Some(Listener { endpoint: endpoints[0].clone(), tls: true }),
        etcd_metrics: None,
    };
    let now = || running(&node, Component::Etcd, &places, &credential, LIMITS).unwrap();
    let before = now();
    assert!(before.version.is_some() && (OffsetDateTime::now_utc() - before.started_at).abs() < time::Duration::HOUR);
    std::thread::sleep(Duration::from_secs(3));
    assert!(!now().is_newer_than(&before));
    servers.stop_member(0);
    (0..3).for_each(|index| servers.start_member(index));
    servers.wait_until_healthy();
    assert!(now().is_newer_than(&before));
    healthy(&node, Component::Etcd, &places, &credential, LIMITS).unwrap();
}

#[test]
fn an_api_server_keeps_what_it_is_told_and_knows_who_asks() {
    let test = "an_api_server_keeps_what_it_is_told_and_knows_who_asks";
    let Some(binaries) = skip::kubernetes(test, skip::CONTROL_PLANE) else { return };
    let port = free_ports(1)[0];
    let made = Made::for_port(port, "kubeadm");
    let mut plane = ControlPlane::start(&binaries, &made.kubernetes(""), port, "etcd/ca.crt", &[]);
    let node = here();
    let endpoint = Endpoint { host: "127.0.0.1".to_owned(), port };
    let read = |name: &str| Credential::read(&node, &made.kubernetes(name)).unwrap();
    let admin = read("super-admin.conf");
    let api = ApiServer::new(&node, endpoint.clone(), &admin, LIMITS).unwrap();
    wait(|| api.ready().map_err(|error| error.to_string()));
    assert!(api.version().unwrap().starts_with('v'));

    // Who asks.
    let user = api.who_am_i().unwrap();
    assert_eq!(user.name, "kubernetes-super-admin");
    assert!(user.groups.contains(&"system:masters".to_owned()));
    assert!(user.credential_id.as_ref().is_none_or(|id| id.starts_with("X509SHA256=")), "{user:?}");
    let scheduler = read("scheduler.conf");
    let low = ApiServer::new(&node, endpoint.clone(), &scheduler, LIMITS).unwrap();
    assert_eq!(low.who_am_i().unwrap().name, "system:kube-scheduler");
    let refused = low.get("/api/v1/namespaces/kube-system/secrets").unwrap_err();
    assert!(refused.status() == Some(403) && !refused.is_unauthenticated(), "{refused}");

    // A stranger with a certificate of another CA for the same name.
    let other = Made::for_port(port, "kubeadm");
    let theirs = Credential::read(&node, &other.kubernetes("super-admin.conf")).unwrap();
    let refused = ApiServer::new(&node, endpoint.clone(), &theirs, LIMITS).unwrap().who_am_i().unwrap_err();
    assert!(matches!(refused, NoAnswer::Unanswered(Unanswered::Untrusted(_))), "{refused:?}");
    let trusting = theirs.trusting(admin.authorities.clone());
    let refused = ApiServer::new(&node, endpoint.clone(), &trusting, LIMITS).unwrap().who_am_i().unwrap_err();
    assert!(refused.is_unauthenticated() && refused.status() == Some(401), "{refused:?}");

    // Objects.
    let texts = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    assert_eq!(api.config_map("default", "note").unwrap(), None);
    api.write_config_map("default", "note", &texts(&[("a", "1"), ("b", "2")])).unwrap();
    api.write_config_map("default", "note", &texts(&[("b", "zwei\n")])).unwrap();
    assert_eq!(api.config_map("default", "note").unwrap(), Some(texts(&[("a", "1"), ("b", "zwei\n")])));
    let path = "/api/v1/namespaces/default/configmaps/note";
    let mut object = api.get(path).unwrap();
    let change = json!([{"op": "remove", "path": "/data/a"}]);
    api.patch(path, Patch::Json, &change).unwrap();
    object["data"]["c"] = "3".into();
    assert_eq!(api.put(path, &object).unwrap_err().status(), Some(409), "somebody else was faster");
    let label = json!({"metadata": {"labels": {"x": "y"}}});
    assert_eq!(api.patch(path, Patch::Strategic, &label).unwrap()["metadata"]["labels"]["x"], "y");
    assert!(api.delete_if_there(path).unwrap());
    assert!(!api.delete_if_there(path).unwrap(), "it is gone already");

    // Nodes and leases.
    let ready = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "w1"}});
    api.post("/api/v1/nodes", &ready).unwrap();
    assert!(!api.node("w1").unwrap().ready, "nobody has reported");
    let status = json!({"status": {
        "conditions": [{"type": "Ready", "status": "True", "message": "kubelet is posting ready status"}],
        "addresses": [{"type": "InternalIP", "address": "10.0.0.7"}], "nodeInfo": {"kubeletVersion": "v1.2.3"},
    }});
    api.patch("/api/v1/nodes/w1/status", Patch::Strategic, &status).unwrap();
    let nodes = api.nodes().unwrap();
    assert!(nodes.len() == 1 && nodes[0].ready && nodes[0].addresses == ["10.0.0.7"], "{nodes:?}");
    assert!(api.node("w2").unwrap_err().is_not_found());
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "kube-scheduler"},
        "spec": {"holderIdentity": "cp1_x", "renewTime": "2026-01-02T03:04:05.600000Z", "leaseTransitions": 7},
    });
    api.post("/apis/coordination.k8s.io/v1/namespaces/kube-system/leases", &lease).unwrap();
    let found = api.lease(COMPONENT_LEASES, "kube-scheduler").unwrap();
    assert_eq!((found.holder.as_deref(), found.transitions), (Some("cp1_x"), 7));
    assert_eq!(found.renewed_at.unwrap().unix_timestamp_nanos(), 1_767_323_045_600_000_000);
    assert!(api.lease(NODE_LEASES, "w1").unwrap_err().is_not_found());

    // Signing requests up to the approval; nobody signs here.
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let validity = (OffsetDateTime::UNIX_EPOCH, OffsetDateTime::UNIX_EPOCH);
    let template = Template::leaf(Name::new("somebody", &[]), CLIENT, &[], key.public_key(), validity);
    let request = csr::request(&template, &key).unwrap();
    let wanted = Wanted {
        name: "kubepki-test",
        request: &request,
        signer: "kubernetes.io/kube-apiserver-client",
        usages: &["client auth"],
        lifetime: Some(3600),
    };
    let made_request = api.request_certificate(&wanted).unwrap();
    assert_eq!((made_request.user.as_str(), &made_request.state), ("kubernetes-super-admin", &State::Pending));
    assert_eq!(made_request.request, request.as_bytes());
    assert_eq!(api.approve("kubepki-test", "Checked", "by a test").unwrap().state, State::Approved);
    assert_eq!(api.signing_requests().unwrap().len(), 1);
    api.delete_signing_request("kubepki-test").unwrap();
    assert!(api.signing_request("kubepki-test").unwrap_err().is_not_found());

    // A restart shows in the start time, and the certificate served is that of the file.
    let places = Places {
        api_server: Some(Listener { endpoint, tls: true }),
        controller_manager: None,
        scheduler: None,
        kubelet: None,
        etcd: None,
        etcd_metrics: None,
    };
    let now = || running(&node, Component::ApiServer, &places, &admin, LIMITS).unwrap();
    let before = now();
    assert!(before.version.as_ref().is_some_and(|version| version.starts_with('v')), "{before:?}");
    healthy(&node, Component::ApiServer, &places, &admin, LIMITS).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    plane.restart_server("etcd/ca.crt");
    assert!(now().is_newer_than(&before));
    let file = std::fs::read(made.pki("apiserver.crt")).unwrap();
    assert_eq!(api.served().unwrap(), kubepki::live::credential::certificates(&file));
    let stopped = running(&node, Component::Scheduler, &places, &admin, LIMITS).unwrap_err();
    assert!(stopped.to_string().contains("kube-scheduler does not run on this node"), "{stopped}");
}

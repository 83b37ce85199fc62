//! Copies of trust in a cluster, asked of a real API server and a real controller manager that writes them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use kubepki::live::api_server::ApiServer;
use kubepki::live::authority_set::AuthoritySet;
use kubepki::live::availability::Probe;
use kubepki::live::cluster_info::Rewritten;
use kubepki::live::credential::{Credential, certificates};
use kubepki::live::signing::{State, Wanted};
use kubepki::live::tokens::{key_id, signed_with};
use kubepki::live::wait::until;
use kubepki::node::http::Limits;
use kubepki::node::interrupt::Interrupt;
use kubepki::node::local::LocalNode;
use kubepki::node::probe::Endpoint;
use kubepki::pki::algorithm::KeyAlgorithm;
use kubepki::pki::csr;
use kubepki::pki::issue::Template;
use kubepki::pki::name::Name;
use kubepki::pki::pem_file::PemFile;
use kubepki::pki::private_key::PrivateKey;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::support::cluster::{CLIENT, base64, kubeconfig};
use crate::support::kubernetes::ControlPlane;
use crate::support::made::Made;
use crate::support::managers::ControllerManager;
use crate::support::process::free_ports;
use crate::support::skip;

const LIMITS: Limits = Limits { time: Duration::from_secs(60), size: 64 * 1024 * 1024 };

/// Asks until the answer is yes.
#[track_caller]
fn wait<T>(probe: impl FnMut() -> Result<T, String>) -> T {
    until(Instant::now() + Duration::from_secs(120), &Interrupt::default(), probe).unwrap()
}

fn here() -> LocalNode {
    LocalNode::open("local", "/").unwrap()
}

/// Two PKIs for one machine: what is old, and what is new.
struct Lab {
    old: Made,
    new: Made,
    port: u16,
}

impl Lab {
    fn new() -> Self {
        let port = free_ports(1)[0];
        Self { old: Made::for_port(port, "kubeadm"), new: Made::for_port(port, "kubeadm"), port }
    }

    /// A file of the old and the same of the new, one behind the other.
    fn both(&self, name: &str) -> String {
        [&self.old, &self.new].map(|made| std::fs::read_to_string(made.pki(name)).unwrap()).concat()
    }

    /// Puts content in the place of a file that is in use.
    fn put(&self, name: &str, content: &str) -> PathBuf {
        let path = self.old.pki(name);
        let beside = path.with_extension("new");
        std::fs::write(&beside, content).unwrap();
        std::fs::rename(&beside, &path).unwrap();
        path
    }

    fn authorities(made: &Made, name: &str) -> AuthoritySet {
        AuthoritySet::from_pem(&std::fs::read(made.pki(name)).unwrap())
    }
}

fn token_key(made: &Made) -> String {
    let file = PemFile::parse(&std::fs::read(made.pki("sa.pub")).unwrap());
    key_id(&file.public_keys().next().unwrap().der)
}

fn equal<T: PartialEq + std::fmt::Debug>(found: &T, wanted: &T) -> Result<(), String> {
    if found == wanted { Ok(()) } else { Err(format!("{found:?} and not {wanted:?}")) }
}

#[test]
fn copies_of_trust_follow_the_controller_manager_and_the_api_server() {
    let test = "copies_of_trust_follow_the_controller_manager_and_the_api_server";
    let Some(binaries) = skip::kubernetes(test, skip::MANAGED_CONTROL_PLANE) else { return };
    let lab = Lab::new();
    let (old, new) = (Lab::authorities(&lab.old, "ca.crt"), Lab::authorities(&lab.new, "ca.crt"));
    let both = old.with(&new);
    let plane = ControlPlane::start(&binaries, &lab.old.kubernetes(""), lab.port, "etcd/ca.crt", &[]);
    let node = here();
    let admin = Credential::read(&node, &lab.old.kubernetes("super-admin.conf")).unwrap();
    let endpoint = Endpoint { host: "127.0.0.1".to_owned(), port: lab.port };
    let api = ApiServer::new(&node, endpoint, &admin, LIMITS).unwrap();
    let root = lab.old.kubernetes("root-ca.crt");
    std::fs::copy(lab.old.pki("ca.crt"), &root).unwrap();
    let signer = lab.old.kubernetes("signing");
    for extension in ["crt", "key"] {
        std::fs::copy(lab.old.pki("ca").with_extension(extension), signer.with_extension(extension)).unwrap();
    }
    let manager = ControllerManager::start(&plane, &root, &signer);

    // Every namespace, and a legacy token Secret.
    wait(|| match api.namespaces_not_trusting(&old) {
        Ok(missing) if missing.is_empty() => Ok(()),
        other => Err(format!("{other:?}\n{}", manager.words())),
    });
    let mut all = api.namespaces_not_trusting(&both).unwrap();
    all.sort_unstable();
    assert_eq!(all, ["default", "kube-node-lease", "kube-public", "kube-system"]);
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "legacy"}});
    api.post("/api/v1/namespaces/default/serviceaccounts", &account).unwrap();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {"name": "legacy", "annotations": {"kubernetes.io/service-account.name": "legacy"}}});
    api.post("/api/v1/namespaces/default/secrets", &secret).unwrap();
    let held = || {
        let secrets = api.token_secrets().map_err(|error| error.to_string())?;
        assert!(secrets.iter().all(|one| (one.namespace.as_str(), one.name.as_str()) == ("default", "legacy")));
        let secret = secrets.into_iter().next().ok_or("no Secret")?;
        assert_eq!(secret.account, "legacy");
        Ok::<_, String>((secret.authorities, secret.key_id))
    };
    wait(|| equal(&held()?, &(Some(old.clone()), Some(token_key(&lab.old)))));

    // A controller manager that is started with both writes both; the token stays.
    drop(manager);
    std::fs::write(&root, lab.both("ca.crt")).unwrap();
    let manager = ControllerManager::start(&plane, &root, &signer);
    wait(|| match api.namespaces_not_trusting(&both) {
        Ok(missing) if missing.is_empty() => Ok(()),
        other => Err(format!("{other:?}\n{}", manager.words())),
    });
    wait(|| equal(&held()?, &(Some(both.clone()), Some(token_key(&lab.old)))));

    // cluster-info, signed anew for each bootstrap token.
    let wanted = certificates(lab.both("ca.crt").as_bytes());
    assert_eq!(api.set_cluster_info(&wanted, &both).unwrap(), Rewritten::Absent);
    assert_eq!(api.cluster_info().unwrap(), None);
    let bootstrap = json!({"apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
        "metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system"},
        "stringData": {"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-signing": "true"}});
    api.post("/api/v1/namespaces/kube-system/secrets", &bootstrap).unwrap();
    let info = kubeconfig("x", &std::fs::read_to_string(lab.old.pki("ca.crt")).unwrap(), "{}")
        .replace("  name: kubernetes\ncontexts", "  name: \"\"\ncontexts")
        .replace("    cluster: kubernetes", "    cluster: \"\"");
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cluster-info"},
        "data": {"kubeconfig": info}});
    api.post("/api/v1/namespaces/kube-public/configmaps", &object).unwrap();
    let signature = || {
        let texts = api.config_map("kube-public", "cluster-info").unwrap().unwrap();
        texts.get("jws-kubeconfig-abcdef").cloned()
    };
    let first = wait(|| signature().ok_or_else(|| format!("not signed\n{}", manager.words())));
    assert_eq!(api.cluster_info().unwrap(), Some(old.clone()));
    assert_eq!(api.set_cluster_info(&wanted, &both).unwrap(), Rewritten::Changed);
    assert_eq!(api.set_cluster_info(&wanted, &both).unwrap(), Rewritten::Same);
    assert_eq!(api.cluster_info().unwrap(), Some(both.clone()));
    wait(|| match signature() {
        Some(now) if now != first => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let strange = Lab::authorities(&lab.old, "front-proxy-ca.crt");
    let theirs: Vec<Vec<u8>> = strange.iter().map(<[u8]>::to_vec).collect();
    assert_eq!(api.set_cluster_info(&theirs, &strange).unwrap(), Rewritten::Foreign(both.clone()));
    assert_eq!(api.cluster_info().unwrap(), Some(both.clone()), "left alone");

    // What aggregated API servers trust grows by itself and shrinks only by being deleted.
    let clients =
        || Ok::<_, String>(api.aggregation_trust().map_err(|error| error.to_string())?.ok_or("none")?.clients);
    wait(|| equal(&clients()?, &old));
    lab.put("ca.crt", &lab.both("ca.crt"));
    wait(|| equal(&clients()?, &both));
    lab.put("ca.crt", &std::fs::read_to_string(lab.new.pki("ca.crt")).unwrap());
    wait(|| match api.who_am_i() {
        Err(error) if error.is_unauthenticated() => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let admin = Credential::read(&node, &lab.new.kubernetes("super-admin.conf")).unwrap().trusting(admin.authorities);
    let api = ApiServer::new(&node, Endpoint { host: "127.0.0.1".to_owned(), port: lab.port }, &admin, LIMITS).unwrap();
    let clients =
        || Ok::<_, String>(api.aggregation_trust().map_err(|error| error.to_string())?.ok_or("none")?.clients);
    assert_eq!(clients().unwrap(), both, "nothing is taken away");
    assert!(api.delete_aggregation_trust().unwrap());
    wait(|| equal(&clients()?, &new));
    let trust = api.aggregation_trust().unwrap().unwrap();
    assert_eq!(trust.front_proxies, strange);
}

#[test]
fn an_api_server_tells_of_keys_proxies_certificates_and_holders() {
    let test = "an_api_server_tells_of_keys_proxies_certificates_and_holders";
    let Some(binaries) = skip::kubernetes(test, skip::MANAGED_CONTROL_PLANE) else { return };
    let lab = Lab::new();
    lab.put("sa.pub", &lab.both("sa.pub"));
    let mut plane = ControlPlane::start(&binaries, &lab.old.kubernetes(""), lab.port, "etcd/ca.crt", &[]);
    let node = here();
    let endpoint = || Endpoint { host: "127.0.0.1".to_owned(), port: lab.port };
    let admin = Credential::read(&node, &lab.old.kubernetes("super-admin.conf")).unwrap();
    let api = ApiServer::new(&node, endpoint(), &admin, LIMITS).unwrap();
    let manager = ControllerManager::start(&plane, &lab.old.pki("ca.crt"), &lab.old.pki("ca"));

    // Keys and tokens: the one that signs stands first, and a token of it is accepted.
    let (old_key, new_key) = (token_key(&lab.old), token_key(&lab.new));
    assert_eq!(api.token_keys().unwrap(), [old_key.clone(), new_key].into());
    let token =
        wait(|| api.new_token("default", "default", 600).map_err(|error| format!("{error}\n{}", manager.words())));
    assert_eq!(signed_with(&token), Some(old_key));
    let holder = Credential { token: Some(token), authorities: admin.authorities.clone(), ..Credential::default() };
    let user = ApiServer::new(&node, endpoint(), &holder, LIMITS).unwrap().who_am_i().unwrap();
    assert_eq!(user.name, "system:serviceaccount:default:default");
    assert!(api.new_token("default", "nobody", 600).unwrap_err().is_not_found());

    // A front proxy is believed, another CA's is not.
    let proxy = |made: &Made| {
        let pair = Credential::read_pair(&node, &made.pki("front-proxy-client"), &made.pki("ca.crt")).unwrap();
        let credential = pair.trusting(admin.authorities.clone());
        let api = ApiServer::new(&node, endpoint(), &credential, LIMITS).unwrap();
        api.who_am_i_behind_proxy("kubepki:probe", "system:authenticated")
    };
    let user = proxy(&lab.old).unwrap();
    assert_eq!((user.name.as_str(), user.groups), ("kubepki:probe", vec!["system:authenticated".to_owned()]));
    assert!(proxy(&lab.new).unwrap_err().is_unauthenticated());

    // Certificates that the cluster has issued.
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let now = OffsetDateTime::now_utc();
    let template = Template::leaf(Name::new("somebody", &[]), CLIENT, &[], key.public_key(), (now, now));
    let wanted = Wanted {
        name: "one",
        request: &csr::request(&template, &key).unwrap(),
        signer: "kubernetes.io/kube-apiserver-client",
        usages: &["client auth", "digital signature"],
        lifetime: Some(600),
    };
    api.request_certificate(&wanted).unwrap();
    api.approve("one", "Checked", "by a test").unwrap();
    wait(|| match api.signing_request("one").map_err(|error| error.to_string())?.state {
        State::Issued(_) => Ok(()),
        other => Err(format!("{other:?}\n{}", manager.words())),
    });
    let of = |made: &Made, now| {
        let found = api.issued_certificates(&Lab::authorities(made, "ca.crt").certificates(), now).unwrap();
        found.into_iter().map(|one| (one.common_name, one.user, one.is_client, one.request)).collect::<Vec<_>>()
    };
    let expected = ("somebody".to_owned(), "kubernetes-super-admin".to_owned(), true, "one".to_owned());
    assert_eq!(of(&lab.old, now), [expected]);
    assert_eq!((of(&lab.new, now), of(&lab.old, now + Duration::from_secs(3600))), (Vec::new(), Vec::new()));

    // Pods with tokens.
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "x"}]}});
    api.post("/api/v1/namespaces/default/pods", &pod).unwrap();
    let mut plain = pod.clone();
    plain["metadata"]["name"] = "q".into();
    plain["spec"]["automountServiceAccountToken"] = false.into();
    api.post("/api/v1/namespaces/default/pods", &plain).unwrap();
    let holders = api.token_holders(now + Duration::from_secs(3600)).unwrap();
    let names: Vec<&str> = holders.iter().map(|pod| pod.name.as_str()).collect();
    assert_eq!(names, ["p"]);
    assert!(api.token_holders(now - Duration::from_secs(3600)).unwrap().is_empty());

    // What belongs to others: a webhook, an aggregated API that is not there, a config map, a Secret.
    let authority = std::fs::read_to_string(lab.old.pki("ca.crt")).unwrap();
    own_copies(&api, &authority);
    let found = api.holders_of(&Lab::authorities(&lab.old, "ca.crt")).unwrap();
    assert_eq!(
        (found.found, found.unread),
        (
            vec![
                "ValidatingWebhookConfiguration hook".to_owned(),
                "APIService v1.example.org".to_owned(),
                "ConfigMap default/theirs".to_owned(),
                "Secret default/theirs".to_owned(),
            ],
            Vec::new()
        )
    );
    assert_eq!(api.holders_of(&Lab::authorities(&lab.new, "ca.crt")).unwrap().found, Vec::<String>::new());
    let low = Credential::read(&node, &lab.old.kubernetes("scheduler.conf")).unwrap();
    let low = ApiServer::new(&node, endpoint(), &low, LIMITS).unwrap();
    let found = low.holders_of(&Lab::authorities(&lab.old, "ca.crt")).unwrap();
    assert!(found.unread.iter().any(|kind| kind.starts_with("Secret: ")), "{found:?}");
    let missing = wait(|| match api.unavailable_apis().map_err(|error| error.to_string())? {
        missing if missing.is_empty() => Err("none".to_owned()),
        missing => Ok(missing),
    });
    assert!(missing.len() == 1 && missing.contains_key("v1.example.org"), "{missing:?}");

    // Uploaded CAs.
    assert!(!api.has_uploaded_authorities().unwrap());
    let uploaded = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "kubeadm-certs"}});
    api.post("/api/v1/namespaces/kube-system/secrets", &uploaded).unwrap();
    assert!(api.has_uploaded_authorities().unwrap() && api.delete_uploaded_authorities().unwrap());
    assert!(!api.has_uploaded_authorities().unwrap() && !api.delete_uploaded_authorities().unwrap());

    // Nodes that are Ready.
    for (name, status) in [("w1", "True"), ("w2", "Unknown")] {
        api.post("/api/v1/nodes", &json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})).unwrap();
        let status: Value = json!({"status": {"conditions": [{"type": "Ready", "status": status}]}});
        let merge = kubepki::live::api_server::Patch::Strategic;
        api.patch(&format!("/api/v1/nodes/{name}/status"), merge, &status).unwrap();
    }
    assert_eq!(api.ready_nodes().unwrap(), ["w1".to_owned()].into());

    // A time without answers is measured, and only that.
    let probe = Probe::start(Box::new(here()), endpoint()).unwrap();
    let until_it_has = |is_so: &dyn Fn(kubepki::live::availability::Measured) -> bool| {
        wait(|| if is_so(probe.so_far()) { Ok(()) } else { Err(format!("{:?}", probe.so_far())) });
    };
    until_it_has(&|measured| measured.questions > 2);
    assert_eq!(probe.so_far().unavailable, Duration::ZERO);
    plane.stop_server();
    until_it_has(&|measured| measured.failures > 1);
    plane.restart_server("etcd/ca.crt");
    let failures = probe.so_far().failures;
    until_it_has(&|measured| measured.unavailable > Duration::ZERO);
    let measured = probe.finish();
    assert!(measured.failures >= failures && measured.questions > measured.failures + 2, "{measured:?}");
    assert!(measured.longest > Duration::ZERO && measured.longest <= measured.unavailable, "{measured:?}");
}

/// Copies of a CA that somebody made for himself.
fn own_copies(api: &ApiServer<'_>, authority: &str) {
    let bundle = base64(authority);
    let hook = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "hook"}, "webhooks": [{"name": "hook.example.org", "sideEffects": "None",
            "admissionReviewVersions": ["v1"], "clientConfig": {"url": "https://192.0.2.9/", "caBundle": bundle},
            "rules": [{"apiGroups": ["example.org"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["x"]}]}]});
    api.post("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations", &hook).unwrap();
    let service = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": "v1.example.org"}, "spec": {"group": "example.org", "version": "v1",
            "groupPriorityMinimum": 1000, "versionPriority": 10, "caBundle": bundle,
            "service": {"name": "nowhere", "namespace": "default"}}});
    api.post("/apis/apiregistration.k8s.io/v1/apiservices", &service).unwrap();
    let map =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "theirs"}, "data": {"bundle": authority}});
    api.post("/api/v1/namespaces/default/configmaps", &map).unwrap();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "theirs"},
        "stringData": {"ca.crt": authority, "tls.key": "nobody's business"}});
    api.post("/api/v1/namespaces/default/secrets", &secret).unwrap();
    let key_only = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hidden"},
        "stringData": {"tls.key": authority}});
    api.post("/api/v1/namespaces/default/secrets", &key_only).unwrap();
}

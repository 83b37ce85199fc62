//! A real kube-apiserver refuses what kubepki's files say, at once and nobody else: by hash, by group, by client trust.

use std::path::Path;
use std::time::{Duration, Instant};

use kubepki::live::api_server::ApiServer;
use kubepki::live::component::Component;
use kubepki::live::credential::Credential;
use kubepki::live::enforcement::Holder;
use kubepki::live::proof::prove;
use kubepki::live::revocation_objects::Stored;
use kubepki::live::wait::until;
use kubepki::node::http::Limits;
use kubepki::node::interrupt::Interrupt;
use kubepki::node::local::LocalNode;
use kubepki::node::probe::{Endpoint, acceptable_through};
use kubepki::pki::authorization::{self, DENY_KUBECONFIG, Denied};
use kubepki::pki::certificate::Certificate;
use kubepki::pki::client_trust::ClientTrust;
use kubepki::pki::pem_file::PemFile;

use crate::support::kubernetes::ControlPlane;
use crate::support::made::Made;
use crate::support::process::{free_ports, said};
use crate::support::skip;

const LIMITS: Limits = Limits { time: Duration::from_secs(60), size: 256 * 1024 * 1024 };

/// An API server that is prepared, and somebody with a kubeconfig of their own.
struct Stage {
    made: Made,
    plane: ControlPlane,
    endpoint: Endpoint,
    node: LocalNode,
}

impl Stage {
    fn new(test: &str) -> Option<Self> {
        let binaries = skip::kubernetes(test, skip::CONTROL_PLANE)?;
        let port = free_ports(1)[0];
        let made = Made::for_port(port, "kubeadm");
        std::fs::create_dir(made.pki("kubepki")).unwrap();
        std::fs::write(made.pki("kubepki/deny.kubeconfig"), DENY_KUBECONFIG).unwrap();
        std::fs::copy(made.pki("ca.crt"), made.pki("kubepki/client-trust.crt")).unwrap();
        let modes = authorization::of_modes("Node,RBAC").unwrap();
        std::fs::write(made.pki("kubepki/authorization.yaml"), modes).unwrap();
        let options = [
            format!("--authorization-config={}", made.pki("kubepki/authorization.yaml").display()),
            format!("--client-ca-file={}", made.pki("kubepki/client-trust.crt").display()),
        ];
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let plane = ControlPlane::start(&binaries, &made.kubernetes(""), port, "etcd/ca.crt", &options);
        let endpoint = Endpoint { host: "127.0.0.1".to_owned(), port };
        Some(Self { made, plane, endpoint, node: LocalNode::open("local", "/").unwrap() })
    }

    fn credential(&self, kubeconfig: &str) -> Credential {
        Credential::read(&self.node, &self.made.kubernetes(kubeconfig)).unwrap()
    }

    fn certificate(&self, kubeconfig: &str) -> Certificate {
        let identity = self.credential(kubeconfig).identity.unwrap();
        Certificate::from_der(&identity.chain[0]).unwrap()
    }

    /// Replaces one of kubepki's files as kubepki does: by a rename.
    fn put(&self, file: &str, content: &str) {
        let path = self.made.pki("kubepki").join(file);
        std::fs::write(path.with_extension("new"), content).unwrap();
        std::fs::rename(path.with_extension("new"), path).unwrap();
    }

    fn deny(&self, denied: &Denied) {
        let path = self.made.pki("kubepki/authorization.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        let deny = self.made.pki("kubepki/deny.kubeconfig");
        let new = authorization::with_denied(&text, denied, deny.to_str().unwrap()).unwrap();
        self.put("authorization.yaml", &new);
        let wanted = kubepki::apply::change::sha256(new.as_bytes());
        let admin = self.credential("super-admin.conf");
        let api = ApiServer::new(&self.node, self.endpoint.clone(), &admin, LIMITS).unwrap();
        wait(|| match api.authorizers_in_force() {
            Ok(Some(hash)) if hash == wanted => Ok(()),
            other => Err(format!("{other:?}\n{}", self.plane.words())),
        });
    }

    fn accepts(&self, kubeconfig: &str) -> bool {
        let verdict = prove(&self.node, Component::ApiServer, &self.endpoint, &self.credential(kubeconfig), LIMITS);
        verdict.accepted.unwrap_or_else(|| panic!("{kubeconfig}: {}\n{}", verdict.reason, self.plane.words()))
    }
}

fn wait(probe: impl FnMut() -> Result<(), String>) {
    until(Instant::now() + Duration::from_secs(120), &Interrupt::default(), probe).unwrap();
}

fn hash(certificate: &Certificate) -> Denied {
    Denied { fingerprints: [certificate.fingerprint_hex()].into(), ..Denied::default() }
}

#[test]
fn a_revoked_certificate_is_refused_at_once_and_nobody_else_is() {
    let Some(stage) = Stage::new("a_revoked_certificate_is_refused_at_once_and_nobody_else_is") else { return };
    for name in ["admin.conf", "super-admin.conf", "scheduler.conf"] {
        assert!(stage.accepts(name), "{name}");
    }
    let revoked = stage.certificate("scheduler.conf");
    stage.deny(&hash(&revoked));
    assert!(!stage.accepts("scheduler.conf"));
    for words in [&["get", "--raw", "/version"][..], &["get", "pods", "-A"], &["api-resources"], &["create", "ns", "x"]]
    {
        assert!(!stage.plane.kubectl("scheduler.conf", words).status.success(), "{words:?}");
    }
    assert!(stage.accepts("admin.conf") && stage.accepts("controller-manager.conf"));
    let admin = stage.credential("super-admin.conf");
    let api = ApiServer::new(&stage.node, stage.endpoint.clone(), &admin, LIMITS).unwrap();
    let judge = |certificate: &Certificate, name: &str| {
        let sha256 = certificate.fingerprint_hex();
        api.judge(&Holder { name, groups: &[], sha256: &sha256 }).unwrap()
    };
    assert!(judge(&revoked, "system:kube-scheduler").denied);
    assert!(!judge(&stage.certificate("controller-manager.conf"), "system:kube-controller-manager").denied);
    // system:masters is allowed before anybody is asked.
    stage.deny(&hash(&stage.certificate("super-admin.conf")));
    assert!(stage.accepts("super-admin.conf") && stage.accepts("scheduler.conf"));
    let groups = Denied { groups: ["kubeadm:cluster-admins".to_owned()].into(), ..Denied::default() };
    stage.deny(&groups);
    assert!(!stage.accepts("admin.conf") && stage.accepts("scheduler.conf"));
    let many = Denied { fingerprints: (0..2500).map(|number| format!("{number:064x}")).collect(), ..groups };
    stage.deny(&many);
    assert!(!stage.accepts("admin.conf") && stage.accepts("scheduler.conf"), "three authorizers of a thousand");
    stage.deny(&Denied::default());
    assert!(stage.accepts("admin.conf"));
}

#[test]
fn narrowed_client_trust_leaves_out_members_of_system_masters_and_the_handshake_shows_it() {
    let test = "narrowed_client_trust_leaves_out_members_of_system_masters_and_the_handshake_shows_it";
    let Some(stage) = Stage::new(test) else { return };
    let good = ["admin.conf", "scheduler.conf", "controller-manager.conf"].map(|name| stage.certificate(name));
    let trust = ClientTrust { authorities: Vec::new(), pinned: good.to_vec() };
    assert!(stage.accepts("super-admin.conf"));
    stage.put("client-trust.crt", &trust.to_text().unwrap());
    let wanted: Vec<&[u8]> = good.iter().map(|one| one.subject().der()).collect();
    wait(|| {
        let names = acceptable_through(&stage.node, &stage.endpoint, Duration::from_secs(60))?;
        let is_there = |name: &&[u8]| names.iter().any(|one| one == name);
        let authority = certificate_in(&stage.made.pki("ca.crt"));
        let is_gone = !is_there(&authority.subject().der());
        if wanted.iter().all(is_there) && is_gone { Ok(()) } else { Err(format!("{} names", names.len())) }
    });
    assert!(!stage.accepts("super-admin.conf"));
    for name in ["admin.conf", "scheduler.conf", "controller-manager.conf"] {
        assert!(stage.accepts(name), "{name}");
    }
}

fn certificate_in(path: &Path) -> Certificate {
    let text = std::fs::read(path).unwrap();
    Certificate::from_der(&PemFile::parse(&text).certificates().next().unwrap().der).unwrap()
}

#[test]
fn the_kind_of_revocations_is_defined_and_takes_the_known_example() {
    let Some(stage) = Stage::new("the_kind_of_revocations_is_defined_and_takes_the_known_example") else { return };
    let admin = stage.credential("super-admin.conf");
    let api = ApiServer::new(&stage.node, stage.endpoint.clone(), &admin, LIMITS).unwrap();
    let definition: serde_json::Value =
        serde_yaml::from_str(include_str!("../../docs/renewrevocation-crd.yaml")).unwrap();
    api.define_revocations(&definition).unwrap();
    api.define_revocations(&definition).unwrap();
    let mut object: serde_json::Value = serde_yaml::from_str(EXAMPLE).unwrap();
    assert_eq!(api.store_revocation(&object).unwrap(), Stored::Created);
    object["spec"]["revocations"].as_array_mut().unwrap().truncate(2);
    assert_eq!(api.store_revocation(&object).unwrap(), Stored::Updated);
    let path = "/apis/certificates.microsoft.com/v1/namespaces/kube-system/renewrevocations/my-renew-revocation";
    assert_eq!(api.get(path).unwrap()["spec"], object["spec"]);
    object["spec"]["revocations"][0]["kind"] = "colour".into();
    assert!(api.store_revocation(&object).is_err());
    let listed = stage.plane.kubectl("super-admin.conf", &["get", "renewrevocations", "-A"]);
    assert!(said(&listed).contains("My list of renew revocations"), "{}", said(&listed));
    assert!(api.delete_revocation("kube-system", "my-renew-revocation").unwrap());
    assert!(!api.delete_revocation("kube-system", "my-renew-revocation").unwrap());
    // Somebody's own definition with another version stays as it is, and nobody waits for it to be served.
    let deleted = stage.plane.kubectl("super-admin.conf", &["delete", "crd", "--all"]);
    assert!(deleted.status.success(), "{}", said(&deleted));
    let mut other = definition.clone();
    other["spec"]["versions"][0]["name"] = "v9".into();
    let other = stage.made.stage.put("other.json", other.to_string());
    let created = stage.plane.kubectl("super-admin.conf", &["create", "-f", other.to_str().unwrap()]);
    assert!(created.status.success(), "{}", said(&created));
    let refused = api.define_revocations(&definition).unwrap_err().to_string();
    assert!(refused.contains("serves no version v1"), "{refused}");
}

const EXAMPLE: &str = "
apiVersion: certificates.microsoft.com/v1
kind: RenewRevocation
metadata:
  name: my-renew-revocation
  namespace: kube-system
spec:
  description: My list of renew revocations
  revocations:
  - description: Revoked certificates by serial number
    kind: serialnumber
    notBefore: \"2020-04-17T17:22:05Z\"
    serialNumber: 77fdf4b1033b387aaace6ce1c18710c2
  - description: Revoked certificates by group
    group: system:nodes
    kind: Group
  - description: Revoked certificates by DNS
    dns: kubernetes.default.svc.
    kind: DNS
  - description: Revoked certificates by DNS Suffix
    dns: .cluster.local
    kind: DNS
  - description: Revoked certificates by IP
    ip: 170.63.128.124
    kind: IP
";

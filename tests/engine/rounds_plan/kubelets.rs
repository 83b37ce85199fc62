//! Kubelets that are not as kubeadm leaves them: with files of their own, or looked at more closely by API servers.

use super::{plan, restarts, steps};
use crate::support::members::Members;
use crate::support::rotation::only;

/// A worker whose kubeconfig refers to files and holds nothing itself, as with `rotateCertificates: false`.
fn by_reference() -> Members {
    let mut members = Members::new(1, 2);
    let files = &mut members.members.iter_mut().find(|member| member.name == "w1").unwrap().files;
    let dated = files.keys().find(|path| path.contains("kubelet-client-2")).unwrap().clone();
    let (pem, _) = files.remove(&dated).unwrap();
    let (certificate, key) = pem.split_at(pem.rfind("-----BEGIN").unwrap());
    files.insert("/var/lib/kubelet/worker.crt".to_owned(), (certificate.to_owned(), 0o644));
    files.insert("/var/lib/kubelet/worker.key".to_owned(), (key.to_owned(), 0o600));
    let (text, _) = files.get_mut("/etc/kubernetes/kubelet.conf").unwrap();
    let embedded = text.lines().find(|line| line.contains("certificate-authority-data")).unwrap().to_owned();
    let current = "/var/lib/kubelet/pki/kubelet-client-current.pem";
    *text = text
        .replace(&embedded, "    certificate-authority: /etc/kubernetes/pki/ca.crt")
        .replace(&format!("client-certificate: {current}"), "client-certificate: /var/lib/kubelet/worker.crt")
        .replace(&format!("client-key: {current}"), "client-key: /var/lib/kubelet/worker.key");
    members
}

#[test]
fn a_kubelet_starts_anew_when_what_its_kubeconfig_refers_to_changes() {
    let blueprint = plan(&by_reference(), &only(&["cluster-ca"]));
    assert_eq!(
        steps(&blueprint, "w1"),
        [
            "kubelets: ca kubelet.conf worker.key kubelet.conf worker.crt | restart kubelet",
            "drop old: ca",
            "drop old: restart kubelet"
        ]
    );
    assert_eq!(restarts_for_a_leaf(), ["kubelet"], "a new certificate alone as well");
}

/// Who starts anew on that worker when only its client certificate is renewed.
fn restarts_for_a_leaf() -> Vec<String> {
    use kubepki::node::Node;
    use kubepki::observe::{Keys, Wanted, observe};
    use kubepki::plan::rotate::{self, Reach, Request};

    use crate::support::cluster::NOW;

    let members = by_reference();
    let roots = members.write();
    let nodes: Vec<&dyn Node> = roots.iter().map(|root| &root.node as &dyn Node).collect();
    let snapshot = observe(&nodes, &Wanted::machine(Keys::PublicHalf), NOW);
    let reach = Reach { is_live: true, ..Reach::default() };
    let request = Request { reach, restarts: true, ..only(&["/var/lib/kubelet/worker.crt"]) };
    let blueprint = rotate::plan(&snapshot, &request, NOW).unwrap();
    super::node(&blueprint, "w1").restarts.clone()
}

#[test]
fn an_api_server_that_checks_kubelets_starts_anew_when_whom_it_trusts_changes() {
    let mut members = Members::new(2, 1);
    let request = only(&["cluster-ca"]);
    assert!(!restarts(&plan(&members, &request), "cp1").contains("kube-apiserver"), "kubeadm's does not check them");
    for name in ["cp1", "cp2"] {
        let manifest = members.manifest(name, "kube-apiserver");
        let more = "    - --kubelet-certificate-authority=/etc/kubernetes/pki/ca.crt\n    - --secure-port";
        manifest.text = manifest.text.replace("    - --secure-port", more);
    }
    assert!(restarts(&plan(&members, &request), "cp1").contains("kube-apiserver 2"));
}

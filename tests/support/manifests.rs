//! Static pods as kubeadm 1.36 writes them: layout and all flags that name files, without probes and resources.

use kubepki::apply::change::sha256;
use kubepki::plan::restart::Manifest;

/// Where the manifest of a component is.
pub fn path(component: &str) -> String {
    format!("/etc/kubernetes/manifests/{component}.yaml")
}

/// The manifests of a control-plane node with its own etcd.
pub fn of_control_plane(node: &str, address: &str) -> Vec<Manifest> {
    let texts = [
        ("etcd", etcd(node, address)),
        ("kube-apiserver", api_server(address)),
        ("kube-controller-manager", pod("kube-controller-manager", "", CONTROLLER_MANAGER)),
        ("kube-scheduler", pod("kube-scheduler", "", SCHEDULER)),
    ];
    texts.into_iter().map(|(component, text)| manifest(node, component, text)).collect()
}

/// A manifest as found on a node.
pub fn manifest(node: &str, component: &str, text: String) -> Manifest {
    let sha256 = sha256(text.as_bytes());
    Manifest { node: node.to_owned(), component: component.to_owned(), path: path(component).into(), text, sha256 }
}

const CONTROLLER_MANAGER: &[&str] = &[
    "authentication-kubeconfig=/etc/kubernetes/controller-manager.conf",
    "authorization-kubeconfig=/etc/kubernetes/controller-manager.conf",
    "bind-address=127.0.0.1",
    "client-ca-file=/etc/kubernetes/pki/ca.crt",
    "cluster-name=kubernetes",
    "cluster-signing-cert-file=/etc/kubernetes/pki/ca.crt",
    "cluster-signing-key-file=/etc/kubernetes/pki/ca.key",
    "controllers=*,bootstrapsigner,tokencleaner",
    "kubeconfig=/etc/kubernetes/controller-manager.conf",
    "leader-elect=true",
    "requestheader-client-ca-file=/etc/kubernetes/pki/front-proxy-ca.crt",
    "root-ca-file=/etc/kubernetes/pki/ca.crt",
    "service-account-private-key-file=/etc/kubernetes/pki/sa.key",
    "use-service-account-credentials=true",
];

const SCHEDULER: &[&str] = &[
    "authentication-kubeconfig=/etc/kubernetes/scheduler.conf",
    "authorization-kubeconfig=/etc/kubernetes/scheduler.conf",
    "bind-address=127.0.0.1",
    "kubeconfig=/etc/kubernetes/scheduler.conf",
    "leader-elect=true",
];

const API_SERVER: &[&str] = &[
    "allow-privileged=true",
    "authorization-mode=Node,RBAC",
    "client-ca-file=/etc/kubernetes/pki/ca.crt",
    "enable-admission-plugins=NodeRestriction",
    "enable-bootstrap-token-auth=true",
    "etcd-cafile=/etc/kubernetes/pki/etcd/ca.crt",
    "etcd-certfile=/etc/kubernetes/pki/apiserver-etcd-client.crt",
    "etcd-keyfile=/etc/kubernetes/pki/apiserver-etcd-client.key",
    "etcd-servers=https://127.0.0.1:2379",
    "kubelet-client-certificate=/etc/kubernetes/pki/apiserver-kubelet-client.crt",
    "kubelet-client-key=/etc/kubernetes/pki/apiserver-kubelet-client.key",
    "kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
    "proxy-client-cert-file=/etc/kubernetes/pki/front-proxy-client.crt",
    "proxy-client-key-file=/etc/kubernetes/pki/front-proxy-client.key",
    "requestheader-allowed-names=front-proxy-client",
    "requestheader-client-ca-file=/etc/kubernetes/pki/front-proxy-ca.crt",
    "requestheader-extra-headers-prefix=X-Remote-Extra-",
    "requestheader-group-headers=X-Remote-Group",
    "requestheader-username-headers=X-Remote-User",
    "secure-port=6443",
    "service-account-issuer=https://kubernetes.default.svc.cluster.local",
    "service-account-key-file=/etc/kubernetes/pki/sa.pub",
    "service-account-signing-key-file=/etc/kubernetes/pki/sa.key",
    "service-cluster-ip-range=10.96.0.0/12",
    "tls-cert-file=/etc/kubernetes/pki/apiserver.crt",
    "tls-private-key-file=/etc/kubernetes/pki/apiserver.key",
];

fn api_server(address: &str) -> String {
    let advertise = format!("advertise-address={address}");
    let flags: Vec<&str> = std::iter::once(advertise.as_str()).chain(API_SERVER.iter().copied()).collect();
    let annotation = format!("kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint: {address}:6443");
    pod("kube-apiserver", &annotation, &flags)
}

fn etcd(node: &str, address: &str) -> String {
    let flags = [
        &format!("advertise-client-urls=https://{address}:2379"),
        "cert-file=/etc/kubernetes/pki/etcd/server.crt",
        "client-cert-auth=true",
        "data-dir=/var/lib/etcd",
        "feature-gates=InitialCorruptCheck=true",
        &format!("initial-advertise-peer-urls=https://{address}:2380"),
        &format!("initial-cluster={node}=https://{address}:2380"),
        "key-file=/etc/kubernetes/pki/etcd/server.key",
        &format!("listen-client-urls=https://127.0.0.1:2379,https://{address}:2379"),
        "listen-metrics-urls=http://127.0.0.1:2381",
        &format!("listen-peer-urls=https://{address}:2380"),
        &format!("name={node}"),
        "peer-cert-file=/etc/kubernetes/pki/etcd/peer.crt",
        "peer-client-cert-auth=true",
        "peer-key-file=/etc/kubernetes/pki/etcd/peer.key",
        "peer-trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt",
        "snapshot-count=10000",
        "trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt",
        "watch-progress-notify-interval=5s",
    ];
    pod("etcd", &format!("kubeadm.kubernetes.io/etcd.advertise-client-urls: https://{address}:2379"), &flags)
}

fn pod(component: &str, annotation: &str, flags: &[&str]) -> String {
    let annotations = if annotation.is_empty() { String::new() } else { format!("  annotations:\n    {annotation}\n") };
    let flags = flags.iter().fold(String::new(), |text, flag| text + "    - --" + flag + "\n");
    let image = if component == "etcd" { "etcd:3.6.8-0".to_owned() } else { format!("{component}:v1.36.2") };
    format!(
        "apiVersion: v1
kind: Pod
metadata:
{annotations}  labels:
    component: {component}
    tier: control-plane
  name: {component}
  namespace: kube-system
spec:
  containers:
  - command:
    - {component}
{flags}    image: registry.k8s.io/{image}
    imagePullPolicy: IfNotPresent
    name: {component}
    volumeMounts:
    - mountPath: /etc/kubernetes/pki
      name: k8s-certs
      readOnly: true
  hostNetwork: true
  priorityClassName: system-node-critical
  volumes:
  - hostPath:
      path: /etc/kubernetes/pki
      type: DirectoryOrCreate
    name: k8s-certs
status: {{}}
"
    )
}

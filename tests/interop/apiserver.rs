//! A kube-apiserver starts on what kubepki makes, and knows everybody the kubeconfigs are for.

use crate::support::kubernetes::ControlPlane;
use crate::support::made::Made;
use crate::support::process::{free_ports, said};
use crate::support::skip;

fn judge(test: &str, profile: &str, etcd_trust: &str) {
    let Some(binaries) = skip::kubernetes(test, skip::CONTROL_PLANE) else { return };
    let port = free_ports(1)[0];
    let made = Made::for_port(port, profile);
    let plane = ControlPlane::start(&binaries, &made.kubernetes(""), port, etcd_trust, &[]);
    for (kubeconfig, user, group) in [
        ("admin.conf", "kubernetes-admin", Some("kubeadm:cluster-admins")),
        ("super-admin.conf", "kubernetes-super-admin", Some("system:masters")),
        ("controller-manager.conf", "system:kube-controller-manager", None),
        ("scheduler.conf", "system:kube-scheduler", None),
    ] {
        let answer = plane.kubectl(kubeconfig, &["auth", "whoami", "-o", "json"]);
        let seen: serde_json::Value = serde_json::from_slice(&answer.stdout)
            .unwrap_or_else(|error| panic!("{kubeconfig}: {error}: {}\n{}", said(&answer), plane.words()));
        let info = &seen["status"]["userInfo"];
        assert_eq!(info["username"], user);
        let groups: Vec<&str> = info["groups"].as_array().unwrap().iter().filter_map(|name| name.as_str()).collect();
        assert_eq!(groups, group.into_iter().chain(["system:authenticated"]).collect::<Vec<_>>(), "{kubeconfig}");
    }
    // Rights that are really looked at: the built-in ones of the scheduler, and those that nobody gave it.
    let may = |kubeconfig: &str, words: &[&str]| {
        plane.kubectl(kubeconfig, &[&["auth", "can-i"], words].concat()).status.success()
    };
    assert!(may("scheduler.conf", &["list", "pods"]) && !may("scheduler.conf", &["list", "secrets"]));
    assert!(may("super-admin.conf", &["delete", "nodes"]) && !may("admin.conf", &["delete", "nodes"]));
    let token = plane.kubectl("super-admin.conf", &["create", "token", "default", "--duration", "10m"]);
    let made_account = plane.kubectl("super-admin.conf", &["create", "serviceaccount", "probe"]);
    assert!(made_account.status.success() || token.status.success(), "{}", said(&made_account));
    // A token signed with sa.key is accepted because of sa.pub.
    let token = plane.kubectl("super-admin.conf", &["create", "token", "probe", "--duration", "10m"]);
    assert!(token.status.success(), "{}", said(&token));
    let bearer = String::from_utf8(token.stdout).unwrap();
    let config = std::fs::read_to_string(made.kubernetes("admin.conf")).unwrap();
    let user = config.find("users:").unwrap();
    let with_token =
        format!("{}users:\n- name: kubernetes-admin\n  user: {{token: {}}}\n", &config[..user], bearer.trim());
    std::fs::write(made.kubernetes("token.conf"), with_token).unwrap();
    let answer = plane.kubectl("token.conf", &["auth", "whoami", "-o", "json"]);
    assert!(said(&answer).contains("system:serviceaccount:default:probe"), "{}", said(&answer));
}

#[test]
fn an_api_server_runs_on_the_kubeadm_profile() {
    judge("an_api_server_runs_on_the_kubeadm_profile", "kubeadm", "etcd/ca.crt");
}

#[test]
fn an_api_server_runs_on_the_aks_arc_profile() {
    judge("an_api_server_runs_on_the_aks_arc_profile", "aks-arc", "ca.crt");
}

#[test]
fn an_api_server_runs_on_the_aks_profile() {
    judge("an_api_server_runs_on_the_aks_profile", "aks", "etcd/ca.crt");
}

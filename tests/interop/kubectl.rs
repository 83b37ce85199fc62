//! kubectl reads every kubeconfig.

use std::process::Command;

use crate::support::made::{MACHINE, Made};
use crate::support::process::succeed;

#[test]
fn kubectl_reads_every_kubeconfig() {
    let test = "kubectl_reads_every_kubeconfig";
    let Some(program) = crate::support::kubernetes::kubectl(test) else { return };
    for profile in ["kubeadm", "aks-arc", "aks"] {
        let options =
            ["--profile", profile, "--key-algorithm", "ecdsa-p256", "--only", "ca,admin.conf,super-admin.conf"];
        let more = ["--only", "controller-manager.conf,scheduler.conf,kubelet.conf"];
        let made =
            Made::new(&[&MACHINE[..], &options, &more, &["--control-plane-endpoint", "[fd00::1]:8443"]].concat());
        for entry in made.entries("kubeconfigs") {
            let path = made.kubernetes(entry["path"].as_str().unwrap());
            let mut command = Command::new(&program);
            command.arg("--kubeconfig").arg(&path).args(["config", "view", "--minify", "--raw", "-o", "json"]);
            let seen: serde_json::Value = serde_json::from_str(&succeed(&mut command)).unwrap();
            let expected = if entry["server"].as_str().unwrap().contains("cluster.") {
                "https://[fd00::1]:8443"
            } else {
                "https://127.0.0.1:6443"
            };
            assert_eq!(seen["clusters"][0]["cluster"]["server"], expected, "{}", path.display());
            assert_eq!(seen["clusters"].as_array().map(Vec::len), Some(1));
            let user = &seen["users"][0];
            let name = entry["commonName"].as_str().unwrap().replace("{{node.name}}", "cp1");
            assert_eq!(user["name"], name);
            assert!(user["user"]["client-key-data"].is_string() && user["user"]["client-certificate-data"].is_string());
            assert_eq!(seen["current-context"], format!("{name}@kubernetes"));
        }
    }
}

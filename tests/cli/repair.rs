//! `repair-certs` on a mounted root: each finding is mended, a second run finds nothing, openssl agrees, and what cannot be
//! known is left alone with the reason.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;

use crate::support::made::{MACHINE, Made};
use crate::support::openssl::{is_there, openssl};
use crate::support::tree::picture;

const NOTHING: &str = "nothing to repair";

fn made() -> Made {
    let made = Made::new(&[&MACHINE[..], &["--key-algorithm", "ecdsa-p256"]].concat());
    made.create(
        &["--yes", "-o", "none", "--only", "kubelet.conf"],
        &[&MACHINE[..], &["--key-algorithm", "ecdsa-p256"]].concat(),
    )
    .expect(0);
    made
}

fn repair(made: &Made, words: &[&str]) -> crate::support::binary::Run {
    let root = made.stage.at("root");
    let mut all = vec!["repair-certs", "--root", root.to_str().unwrap()];
    all.extend_from_slice(words);
    made.stage.run(&all)
}

/// Repairs, and proves that nothing is left.
fn mends(made: &Made, words: &[&str]) -> serde_json::Value {
    let mut all = vec!["--yes", "-o", "json"];
    all.extend_from_slice(words);
    let result = repair(made, &all).expect(0).json();
    assert_eq!(result["provisioningState"], "Succeeded");
    nothing_is_left(made);
    result
}

fn nothing_is_left(made: &Made) {
    let second = repair(made, &["--yes", "-o", "json"]).expect(0);
    assert!(second.err.contains(NOTHING), "{}", second.err);
    let root = made.stage.at("root");
    made.stage.run(&["check-expiry", "--root", root.to_str().unwrap(), "-o", "none"]).expect(0);
}

fn changed(result: &serde_json::Value) -> Vec<String> {
    let files = result["nodes"].as_array().unwrap().iter().flat_map(|node| node["files"].as_array().unwrap());
    files.filter(|file| file["action"] != "unchanged").map(|file| undated(file["path"].as_str().unwrap())).collect()
}

/// A kubelet's files have the second of their making in their name, which is another one for each run.
fn undated(path: &str) -> String {
    match path.split_once("/kubelet-client-2") {
        Some((folder, _)) => format!("{folder}/kubelet-client-DATE.pem"),
        None => path.to_owned(),
    }
}

fn text_of(certificate: &Path, what: &str) -> String {
    openssl(&["x509", "-in", certificate.to_str().unwrap(), "-noout", what])
}

#[test]
fn a_healthy_machine_has_nothing_to_repair_and_is_not_touched() {
    let made = made();
    let before = picture(&made.stage.at("root"), &[]);
    let run = repair(&made, &["--yes", "-o", "json"]).expect(0);
    assert!(run.err.contains(NOTHING), "{}", run.err);
    assert_eq!(run.json()["nodes"][0]["files"].as_array().map(Vec::len), Some(0));
    assert_eq!(before, picture(&made.stage.at("root"), &[]));
}

#[test]
fn only_the_broken_pair_is_made_again_and_says_what_it_said() {
    if !is_there("repair") {
        return;
    }
    let made = made();
    let certificate = made.pki("apiserver.crt");
    let (subject, names) = (
        text_of(&certificate, "-subject"),
        openssl(&["x509", "-in", certificate.to_str().unwrap(), "-noout", "-ext", "subjectAltName,extendedKeyUsage"]),
    );
    let serial = text_of(&certificate, "-serial");
    fs::remove_file(made.pki("apiserver.key")).unwrap();
    let result = mends(&made, &[]);
    assert_eq!(changed(&result), ["/etc/kubernetes/pki/apiserver.key", "/etc/kubernetes/pki/apiserver.crt"]);
    assert_eq!(text_of(&certificate, "-subject"), subject);
    assert_eq!(
        openssl(&["x509", "-in", certificate.to_str().unwrap(), "-noout", "-ext", "subjectAltName,extendedKeyUsage"]),
        names
    );
    assert_ne!(text_of(&certificate, "-serial"), serial);
    let (ca, key) = (made.pki("ca.crt"), made.pki("apiserver.key"));
    openssl(&["verify", "-CAfile", ca.to_str().unwrap(), certificate.to_str().unwrap()]);
    let public = openssl(&["pkey", "-in", key.to_str().unwrap(), "-pubout"]);
    assert_eq!(public, text_of(&certificate, "-pubkey"));
    assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o7777, 0o600);
    let steps = result["nextSteps"].to_string();
    assert!(!steps.contains("restart"), "kube-apiserver rereads its own certificate: {steps}");
}

#[test]
fn each_kind_of_damage_is_mended_and_a_second_run_finds_nothing() {
    type Damage = (&'static str, fn(&Made));
    let damages: [Damage; 16] = [
        ("a missing certificate", |made| fs::remove_file(made.pki("etcd/server.crt")).unwrap()),
        ("a missing pair", |made| {
            fs::remove_file(made.pki("apiserver-etcd-client.crt")).unwrap();
            fs::remove_file(made.pki("apiserver-etcd-client.key")).unwrap();
        }),
        ("swapped keys", |made| {
            let (one, other) = (made.pki("apiserver.key"), made.pki("etcd/peer.key"));
            let kept = fs::read(&one).unwrap();
            fs::copy(&other, &one).unwrap();
            fs::write(&other, kept).unwrap();
        }),
        ("swapped certificates", |made| {
            let (one, other) = (made.pki("apiserver-kubelet-client.crt"), made.pki("apiserver-etcd-client.crt"));
            let kept = fs::read(&one).unwrap();
            fs::copy(&other, &one).unwrap();
            fs::write(&other, kept).unwrap();
        }),
        ("a truncated certificate", |made| {
            let text = fs::read(made.pki("front-proxy-client.crt")).unwrap();
            fs::write(made.pki("front-proxy-client.crt"), &text[..text.len() / 2]).unwrap();
        }),
        ("an empty key", |made| fs::write(made.pki("etcd/healthcheck-client.key"), "").unwrap()),
        ("a truncated kubeconfig", |made| {
            let text = fs::read(made.kubernetes("admin.conf")).unwrap();
            fs::write(made.kubernetes("admin.conf"), &text[..text.len() / 2]).unwrap();
        }),
        ("an empty kubeconfig", |made| fs::write(made.kubernetes("scheduler.conf"), "").unwrap()),
        ("garbage for a kubeconfig", |made| {
            fs::write(made.kubernetes("controller-manager.conf"), [0, 255, 7]).unwrap()
        }),
        ("a missing CA certificate", |made| fs::remove_file(made.pki("ca.crt")).unwrap()),
        ("garbage for a CA certificate", |made| fs::write(made.pki("ca.crt"), "garbage").unwrap()),
        ("a missing public key of tokens", |made| fs::remove_file(made.pki("sa.pub")).unwrap()),
        ("keys that everybody can read", |made| {
            fs::set_permissions(made.pki("apiserver.key"), fs::Permissions::from_mode(0o644)).unwrap();
            fs::set_permissions(made.kubernetes("admin.conf"), fs::Permissions::from_mode(0o666)).unwrap();
            fs::set_permissions(made.pki("ca.crt"), fs::Permissions::from_mode(0o666)).unwrap();
        }),
        ("a key of somebody's, with a broken pair", |made| {
            fs::remove_file(made.pki("apiserver.crt")).unwrap();
            chown(made.pki("apiserver.key"), Some(1234), Some(1234)).unwrap();
        }),
        ("a kubelet without its kubeconfig and a link that leads nowhere", |made| {
            let store = made.stage.at("root/var/lib/kubelet/pki");
            fs::create_dir_all(&store).unwrap();
            symlink(
                "/var/lib/kubelet/pki/kubelet-client-2020-01-02-03-04-05.pem",
                store.join("kubelet-client-current.pem"),
            )
            .unwrap();
            symlink("/nowhere", store.join("kubelet-client-updated.pem")).unwrap();
            fs::remove_file(made.kubernetes("kubelet.conf")).unwrap();
        }),
        ("nearly everything", |made| {
            for name in ["apiserver", "apiserver-kubelet-client", "front-proxy-client", "etcd/server"] {
                fs::remove_file(made.pki(&format!("{name}.crt"))).unwrap();
            }
            for name in ["admin.conf", "controller-manager.conf", "scheduler.conf", "kubelet.conf"] {
                fs::write(made.kubernetes(name), "apiVersion: v1\nkind: Config\n").unwrap();
            }
        }),
    ];
    let made = made();
    for (what, damage) in damages {
        damage(&made);
        let planned = repair(&made, &["--what-if", "-o", "json"]).expect(0).json();
        let result = mends(&made, &[]);
        assert_eq!(changed(&planned), changed(&result), "{what}: what was planned and what was done");
        assert!(!changed(&result).is_empty(), "{what}");
    }
}

#[test]
fn a_kubelets_store_is_as_the_kubelet_makes_it() {
    if !is_there("repair") {
        return;
    }
    let made = made();
    let store = made.stage.at("root/var/lib/kubelet/pki");
    fs::create_dir_all(&store).unwrap();
    // A plain file where a link belongs: the kubelet could not renew it.
    fs::write(store.join("kubelet-client-current.pem"), "garbage").unwrap();
    mends(&made, &["--fix-kubelet-credentials"]);
    let target = fs::read_link(store.join("kubelet-client-current.pem")).unwrap();
    assert!(target.is_absolute() && target.starts_with("/var/lib/kubelet/pki"), "{}", target.display());
    let file = store.join(target.file_name().unwrap());
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("-----BEGIN CERTIFICATE-----"), "certificates first");
    assert!(text.contains("-----BEGIN EC PRIVATE KEY-----"), "then the key");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    assert!(text_of(&file, "-subject").replace(' ', "").contains("O=system:nodes,CN=system:node:cp1"));
    openssl(&[
        "verify",
        "-CAfile",
        made.pki("ca.crt").to_str().unwrap(),
        "-purpose",
        "sslclient",
        file.to_str().unwrap(),
    ]);
    let conf = fs::read_to_string(made.kubernetes("kubelet.conf")).unwrap();
    assert!(conf.contains("client-certificate: /var/lib/kubelet/pki/kubelet-client-current.pem"), "{conf}");
}

#[test]
fn kubelets_alone_are_repaired_when_only_they_are_asked_for() {
    let made = made();
    fs::remove_file(made.pki("apiserver.crt")).unwrap();
    fs::write(made.kubernetes("kubelet.conf"), "").unwrap();
    let result = repair(&made, &["--yes", "-o", "json", "--fix-kubelet-credentials"]).expect(0).json();
    assert!(changed(&result).iter().all(|path| path.contains("kubelet")), "{result}");
    assert!(!made.pki("apiserver.crt").exists());
    assert!(repair(&made, &["--yes", "--fix-cloud-credentials"]).expect(0).err.contains(NOTHING));
}

#[test]
fn an_authority_is_never_replaced_silently() {
    let made = made();
    fs::write(made.pki("ca.key"), "garbage").unwrap();
    fs::remove_file(made.pki("apiserver.crt")).unwrap();
    let before = picture(&made.stage.at("root"), &[]);
    let run = repair(&made, &["--yes"]).expect(1);
    assert!(run.err.contains("backup") && run.err.contains("nothing was changed"), "{}", run.err);
    assert_eq!(before, picture(&made.stage.at("root"), &[]));
}

#[test]
fn what_can_be_mended_is_although_something_else_cannot() {
    let made = made();
    fs::remove_file(made.pki("sa.key")).unwrap();
    fs::remove_file(made.pki("etcd/peer.crt")).unwrap();
    let run = repair(&made, &["--yes", "-o", "json"]).expect(6);
    assert!(run.err.contains("sa.key") && run.err.contains("--force"), "{}", run.err);
    assert!(made.pki("etcd/peer.crt").exists() && !made.pki("sa.key").exists());
    mends(&made, &["--force"]);
}

#[test]
fn without_a_terminal_and_without_yes_nothing_changes() {
    let made = made();
    fs::remove_file(made.pki("apiserver.crt")).unwrap();
    let before = picture(&made.stage.at("root"), &[]);
    let run = repair(&made, &[]).expect(1);
    assert!(run.err.contains("--yes"), "{}", run.err);
    repair(&made, &["--what-if"]).expect(0);
    assert_eq!(before, picture(&made.stage.at("root"), &[]));
    repair(&made, &["--what-if", "--node", "cp9"]).expect(3);
    repair(&made, &["--continue", "--abort"]).expect(2);
}

#[test]
fn one_folder_is_repaired_like_a_machine() {
    let made = made();
    let folder = made.stage.at("root/etc/kubernetes/pki");
    fs::remove_file(made.pki("apiserver.key")).unwrap();
    let run = |words: &[&str]| {
        let mut all = vec!["repair-certs", "--pki-dir", folder.to_str().unwrap()];
        all.extend_from_slice(words);
        made.stage.run(&all)
    };
    run(&["--yes", "-o", "none"]).expect(0);
    assert!(run(&["--yes", "-o", "none"]).expect(0).err.contains(NOTHING));
}

/// A ledger with one entry, as `revoke` leaves it on a node.
fn revoke(made: &Made, entry: &str) {
    let folder = made.pki(".kubepki");
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    let text = format!(
        "apiVersion: certificates.microsoft.com/v1\nkind: RenewRevocation\nmetadata: {{name: leak, namespace: default}}\n\
         spec:\n  revocations:\n  - {entry}\n"
    );
    fs::write(folder.join("revocations.yaml"), text).unwrap();
    fs::set_permissions(folder.join("revocations.yaml"), fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn what_is_revoked_by_serial_is_renewed_and_what_is_revoked_for_good_is_not() {
    if !is_there("repair") {
        return;
    }
    let made = made();
    let serial = text_of(&made.pki("apiserver-kubelet-client.crt"), "-serial");
    let serial = serial.trim().rsplit('=').next().unwrap();
    revoke(&made, &format!("{{kind: SerialNumber, serialNumber: \"{serial}\"}}"));
    let result = mends(&made, &[]);
    let pair = ["/etc/kubernetes/pki/apiserver-kubelet-client.key", "/etc/kubernetes/pki/apiserver-kubelet-client.crt"];
    assert_eq!(changed(&result), pair);
    // Everybody of a group, those to come included: a new one would be revoked at once.
    revoke(&made, "{kind: Group, group: \"kubeadm:cluster-admins\"}");
    let before = picture(&made.stage.at("root"), &[]);
    let run = repair(&made, &["--yes"]).expect(1);
    assert!(run.err.contains("nothing was changed") && run.err.contains("leak"), "{}", run.err);
    assert_eq!(before, picture(&made.stage.at("root"), &[]));
    // Those before a moment only: the new one begins after it, although certificates are dated back.
    revoke(&made, "{kind: Group, group: \"kubeadm:cluster-admins\", notBefore: \"2020-01-01T00:00:00Z\"}");
    assert!(repair(&made, &["--yes"]).expect(0).err.contains(NOTHING));
}

#[test]
fn a_machine_on_which_everything_has_ended_is_mended_whole() {
    let options = [&MACHINE[..], &["--key-algorithm", "ecdsa-p256", "--validity", "1s"]].concat();
    let made = Made::new(&options);
    std::thread::sleep(std::time::Duration::from_secs(2));
    let root = made.stage.at("root");
    made.stage.run(&["check-expiry", "--root", root.to_str().unwrap(), "-o", "none"]).expect(5);
    let authorities = ["ca", "etcd-ca", "front-proxy-ca"].map(|name| fs::read(made.authority(name)).unwrap());
    let result = mends(&made, &[]);
    let count = changed(&result).len();
    assert_eq!(count, 7 * 2 + 4, "every pair and kubeconfig: {:?}", changed(&result));
    assert_eq!(authorities, ["ca", "etcd-ca", "front-proxy-ca"].map(|name| fs::read(made.authority(name)).unwrap()));
    assert!(result["nextSteps"].to_string().contains("restart kube-controller-manager"), "{}", result["nextSteps"]);
}

#[test]
fn an_authority_whose_time_is_over_is_only_renewed_when_forced_and_keeps_its_key() {
    if !is_there("repair") {
        return;
    }
    let options =
        [&MACHINE[..], &["--key-algorithm", "ecdsa-p256", "--ca-validity", "2s", "--validity", "1s"]].concat();
    let made = Made::new(&options);
    std::thread::sleep(std::time::Duration::from_secs(3));
    let key = |made: &Made| text_of(&made.pki("ca.crt"), "-pubkey");
    let (before, old) = (picture(&made.stage.at("root"), &[]), key(&made));
    let run = repair(&made, &["--yes"]).expect(1);
    assert!(run.err.contains("--force"), "{}", run.err);
    assert_eq!(before, picture(&made.stage.at("root"), &[]));
    repair(&made, &["--yes", "--force", "-o", "none"]).expect(0);
    assert_eq!(key(&made), old);
}

#[test]
fn whoever_trusts_an_authority_whose_time_is_over_is_not_given_the_same_once_more() {
    let made = made();
    let root = made.stage.at("root");
    let root = root.to_str().unwrap();
    let words = ["rotate-certs", "--root", root, "--only", "cluster-ca", "--same-key", "--ca-validity", "2s", "--yes"];
    made.stage.run(&words).expect(0);
    std::thread::sleep(std::time::Duration::from_secs(3));
    let before = picture(&made.stage.at("root"), &["etc/kubernetes/tmp"]);
    let run = repair(&made, &["--yes"]).expect(1);
    assert!(run.err.contains("nothing was changed") && run.err.contains("--force"), "{}", run.err);
    assert_eq!(before, picture(&made.stage.at("root"), &["etc/kubernetes/tmp"]));
    repair(&made, &["--yes", "--force", "-o", "none"]).expect(0);
    assert!(repair(&made, &["--yes"]).expect(0).err.contains(NOTHING));
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % u64::try_from(limit).unwrap()).unwrap()
    }
}

#[test]
fn whatever_is_done_to_leaves_and_kubeconfigs_is_mended() {
    let made = made();
    let leaves = [
        "apiserver",
        "apiserver-kubelet-client",
        "front-proxy-client",
        "apiserver-etcd-client",
        "etcd/server",
        "etcd/peer",
        "etcd/healthcheck-client",
    ];
    let mut files: Vec<std::path::PathBuf> =
        leaves.iter().flat_map(|name| ["crt", "key"].map(|ending| made.pki(&format!("{name}.{ending}")))).collect();
    files.extend(
        ["admin.conf", "controller-manager.conf", "scheduler.conf", "kubelet.conf"].map(|name| made.kubernetes(name)),
    );
    for seed in 1..=12 {
        let mut dice = Dice(seed);
        let mut story = Vec::new();
        for _ in 0..=dice.below(4) {
            let path = files[dice.below(files.len())].clone();
            let Ok(text) = fs::read(&path) else { continue };
            let what = dice.below(6);
            story.push((what, path.clone()));
            match what {
                0 => fs::remove_file(&path).unwrap(),
                1 => fs::write(&path, &text[..dice.below(text.len())]).unwrap(),
                2 => fs::write(&path, [7, 255, 0]).unwrap(),
                3 => fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap(),
                4 => fs::write(&path, "").unwrap(),
                _ => {
                    let other = files[dice.below(files.len())].clone();
                    if let Ok(content) = fs::read(&other) {
                        fs::write(&path, content).unwrap();
                        fs::write(&other, text).unwrap();
                    }
                }
            }
        }
        let run = repair(&made, &["--yes", "-o", "none"]);
        assert_eq!(run.code, Some(0), "seed {seed}, {story:?}: {}", run.err);
        nothing_is_left(&made);
    }
}

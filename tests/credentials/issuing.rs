//! What credential a person gets: whose, with which rights, for how long, for which server.

use std::process::Command;

use kubepki::pki::chain::{Signature, issued};
use kubepki::pki::kubeconfig::Source;
use kubepki::pki::san::San;
use kubepki::pki::usage::ExtendedKeyUsage;
use time::{Duration, OffsetDateTime};

use crate::judge::kubectl_reads;
use crate::machine::{Machine, authority, client, leaf, read};
use crate::support::cluster::base64;
use crate::support::skip::skipped;
use crate::support::tree::picture;

const USER: &str = "clusterUser_kubernetes";

#[test]
fn a_day_is_issued_in_the_operators_name_with_the_administrators_rights() {
    let machine = Machine::new();
    let run = machine.stage.run_with(&Machine::line(&[]), &[("LOGNAME", "ann")]).expect(0);
    assert_eq!(run.out, "");
    assert_eq!(run.err.lines().count(), 1, "{}", run.err);
    assert!(run.err.starts_with("Merged \"kubernetes\" as current context in "), "{}", run.err);
    let config = machine.config();
    assert_eq!(config.current_context.as_deref(), Some("kubernetes"));
    assert_eq!(config.clusters[0].server.as_deref(), Some("https://10.0.0.1:6443"));
    assert!(
        matches!(config.clusters[0].certificate_authority.source(), Source::Embedded(ca) if ca == machine.ca.crt().as_bytes())
    );
    let certificate = client(&config, USER);
    assert_eq!(certificate.subject().text(), "CN=ann,O=kubeadm:cluster-admins");
    assert_eq!(certificate.extended_key_usage(), Some(&[ExtendedKeyUsage::ClientAuth][..]));
    assert!(matches!(issued(&certificate, &machine.ca.certificate), Signature::Good));
    let left = certificate.not_after() - OffsetDateTime::now_utc();
    assert!(left > Duration::hours(23) && left <= Duration::hours(24), "{left}");
    assert!(certificate.not_before() < OffsetDateTime::now_utc());
    if let Some(read) = kubectl_reads(&std::fs::read(machine.default_file()).unwrap()) {
        assert_eq!(read.unwrap()["users"][0]["name"], USER);
    }
}

#[test]
fn openssl_takes_the_certificate_for_a_clients() {
    if !Command::new("openssl").arg("version").output().is_ok_and(|output| output.status.success()) {
        return skipped("openssl_takes_the_certificate_for_a_clients", "openssl is not installed");
    }
    let machine = Machine::new();
    machine.get(&["--user-name", "ci", "--group", "b", "--group", "a", "--validity", "90m"]).expect(0);
    let certificate = client(&machine.config(), USER);
    assert_eq!(certificate.subject().organizations(), ["a", "b"]);
    let file = machine.stage.put("client.crt", certificate.to_pem());
    let ca = machine.stage.at("node/etc/kubernetes/pki/ca.crt");
    let verify =
        ["verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", ca.to_str().unwrap(), file.to_str().unwrap()];
    let output = Command::new("openssl").args(verify).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_certificate_that_will_do_is_kept_and_overwriting_issues_anew() {
    let machine = Machine::new();
    machine.get(&[]).expect(0);
    let first = std::fs::read(machine.default_file()).unwrap();
    let run = machine.get(&["-o", "json"]).expect(0);
    assert_eq!(run.json()["action"], "unchanged");
    assert_eq!(std::fs::read(machine.default_file()).unwrap(), first);
    let run = machine.get(&["--overwrite-existing", "-o", "json"]).expect(0);
    assert_eq!(run.json()["action"], "replaced");
    assert_ne!(std::fs::read(machine.default_file()).unwrap(), first);
}

#[test]
fn a_worn_certificate_is_renewed_without_a_question_and_a_foreign_one_is_not() {
    let machine = Machine::new();
    machine.get(&["--user-name", "ann", "--validity", "2s"]).expect(0);
    let worn = client(&machine.config(), USER);
    while OffsetDateTime::now_utc() < worn.not_after() {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let run = machine.get(&["--user-name", "ann", "--validity", "2s", "-o", "json"]).expect(0);
    assert_eq!(run.json()["action"], "replaced");
    assert!(client(&machine.config(), USER).not_after() > worn.not_after());
    for other in [
        &["--user-name", "eve"][..],
        &["--user-name", "ann", "--group", "x"],
        &["--user-name", "ann", "--validity", "1h"],
    ] {
        let before = std::fs::read(machine.default_file()).unwrap();
        let run = machine.get(other).expect(1);
        assert!(run.err.contains("--overwrite-existing"), "{}", run.err);
        assert_eq!(std::fs::read(machine.default_file()).unwrap(), before);
    }
}

#[test]
fn the_administrators_own_credential_is_copied_beside_the_users() {
    let machine = Machine::new();
    machine.get(&[]).expect(0);
    let run = machine.get(&["-a", "-o", "yaml"]).expect(0);
    assert!(run.out.contains("context: kubernetes-admin\n") && run.out.contains("action: merged\n"), "{}", run.out);
    let config = machine.config();
    assert_eq!((config.clusters.len(), config.users.len(), config.contexts.len()), (1, 2, 2));
    assert_eq!(config.current_context.as_deref(), Some("kubernetes-admin"));
    let context = config.context("kubernetes-admin").unwrap();
    assert_eq!((context.cluster.as_str(), context.user.as_str()), ("kubernetes", "clusterAdmin_kubernetes"));
    let admin = read(&machine.stage.at("node/etc/kubernetes/admin.conf"));
    assert_eq!(client(&config, "clusterAdmin_kubernetes"), client(&admin, "kubernetes-admin"));
    machine.get(&["--context", "mine", "--admin"]).expect(0);
    let context = machine.config();
    let context = context.context("mine-admin").unwrap();
    assert_eq!((context.cluster.as_str(), context.user.as_str()), ("mine", "clusterAdmin_mine"));
}

#[test]
fn a_cluster_file_gives_name_group_and_public_endpoint() {
    let machine = Machine::new();
    let kubernetes = machine.stage.at("node/etc/kubernetes");
    let file = format!(
        "apiVersion: kubepki.io/v1\nkind: Cluster\nmetadata: {{name: lab}}\nspec:\n  kubernetesDir: {}\n  \
         controlPlaneEndpoint: api.lab.example.com:443\n  nodes:\n  - {{name: cp1, host: local, role: control-plane}}\n",
        kubernetes.display()
    );
    machine.stage.put("home/.kubepki/clusters/prod/lab.yaml", &file);
    let get = |words: &[&str]| {
        machine.stage.run(&[&["get-credentials", "-n", "lab", "-g", "prod"], words].concat()).expect(0)
    };
    get(&[]);
    get(&["--admin", "--public-fqdn", "--context", "public"]);
    let config = machine.config();
    assert_eq!(config.context("lab").unwrap().user, "clusterUser_prod_lab");
    assert_eq!(config.context("public-admin").unwrap().user, "clusterAdmin_prod_public");
    assert_eq!(config.cluster("lab").unwrap().server.as_deref(), Some("https://10.0.0.1:6443"));
    assert_eq!(config.cluster("public").unwrap().server.as_deref(), Some("https://api.lab.example.com:443"));
    machine.remove("admin.conf");
    get(&["--context", "bare"]);
    let config = machine.config();
    assert_eq!(config.cluster("bare").unwrap().server.as_deref(), Some("https://api.lab.example.com:443"));
    assert!(matches!(config.cluster("bare").unwrap().certificate_authority.source(), Source::Embedded(_)));
}

#[test]
fn the_public_name_is_taken_from_the_api_servers_certificate() {
    let machine = Machine::new();
    let run = machine.get(&["--public-fqdn"]).expect(0);
    assert!(run.err.contains("warning: this cluster has no public name"), "{}", run.err);
    let names =
        ["cp1", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "10.0.0.1", "api.example.com"];
    let sans: Vec<San> = names.iter().map(|name| San::parse(name).unwrap()).collect();
    machine.put("pki/apiserver.crt", leaf(&machine.ca, "kube-apiserver", &[], &sans).crt());
    machine.get(&["--public-fqdn", "--context", "public"]).expect(0);
    assert_eq!(machine.config().cluster("public").unwrap().server.as_deref(), Some("https://api.example.com:6443"));
}

#[test]
fn one_pki_folder_is_enough_where_its_kubeconfig_lies_beside_it() {
    let machine = Machine::new();
    let words = ["get-credentials", "--pki-dir", "node/etc/kubernetes/pki", "-f", "here", "--user-name", "x"];
    machine.stage.run(&words).expect(0);
    assert_eq!(client(&read(&machine.stage.at("here")), USER).subject().common_name(), Some("x"));
    machine.remove("admin.conf");
    let sans: Vec<San> =
        ["kubernetes", "10.96.0.1", "10.0.0.7", "127.0.0.1"].iter().map(|name| San::parse(name).unwrap()).collect();
    machine.put("pki/apiserver.crt", leaf(&machine.ca, "kube-apiserver", &[], &sans).crt());
    let run = machine.stage.run(&[&words[..3], &["-f", "guessed"]].concat()).expect(0);
    assert!(run.err.contains("warning: the server https://10.0.0.7:6443 is a guess"), "{}", run.err);
    assert_eq!(read(&machine.stage.at("guessed")).clusters[0].server.as_deref(), Some("https://10.0.0.7:6443"));
    machine.remove("pki/apiserver.crt");
    let run = machine.stage.run(&words).expect(1);
    assert!(
        run.err.contains("nothing here says where the API server is") && run.err.contains("--cluster-file"),
        "{}",
        run.err
    );
}

#[test]
fn without_the_key_of_an_external_ca_the_administrators_credential_stands_in() {
    let machine = Machine::new();
    machine.remove("pki/ca.key");
    let run = machine.get(&[]).expect(0);
    assert!(run.err.contains("warning: there is no CA key") && run.err.contains("was copied"), "{}", run.err);
    let user = client(&machine.config(), USER);
    assert_eq!(user.subject().common_name(), Some("kubernetes-admin"));
    let run = machine.get(&["--user-name", "ann", "--context", "x"]).expect(1);
    assert!(run.err.contains("no certificate can be issued here") && run.err.contains("--admin"), "{}", run.err);
    machine.remove("admin.conf");
    let run = machine.get(&[]).expect(1);
    assert!(run.err.contains("there is no CA key") && run.err.contains("admin.conf"), "{}", run.err);
}

#[test]
fn a_certificate_never_outlives_its_ca_and_an_ended_ca_signs_nothing() {
    let machine = Machine::with_ca(authority(Duration::days(-1), Duration::hours(2)));
    let run = machine.get(&["--validity", "30d"]).expect(0);
    assert!(run.err.contains("warning: the certificate ends with its CA"), "{}", run.err);
    assert_eq!(client(&machine.config(), USER).not_after(), machine.ca.certificate.not_after());
    // It is all there is to have, so it is kept.
    machine.get(&["--validity", "30d"]).expect(0);
    for (from, to, message) in [(-2, -1, "has expired"), (1, 2, "is not valid yet")] {
        let machine = Machine::with_ca(authority(Duration::days(from), Duration::days(to)));
        let run = machine.get(&[]).expect(1);
        assert!(run.err.contains(message), "{}", run.err);
        assert!(!machine.default_file().exists());
    }
}

#[test]
fn the_group_that_may_do_everything_is_warned_about() {
    let machine = Machine::new();
    let run = machine.get(&["--group", "system:masters"]).expect(0);
    assert!(run.err.contains("warning: the group system:masters may do everything"), "{}", run.err);
    machine.put_admin(&["system:masters"]);
    let run = machine.get(&["--admin"]).expect(0);
    assert!(run.err.contains("warning: this credential belongs to system:masters"), "{}", run.err);
}

#[test]
fn whoever_signs_in_gets_a_plugin() {
    let machine = Machine::new();
    let run = machine.get(&["--format", "exec"]).expect(0);
    assert!(run.err.contains("names no OIDC provider") && run.err.contains("kubelogin is not on PATH"), "{}", run.err);
    machine.put(
        "manifests/kube-apiserver.yaml",
        "spec:\n  containers:\n  - command:\n    - kube-apiserver\n    - --oidc-issuer-url=https://id.example.com\n    - \
         --oidc-client-id=k8s\n",
    );
    let run = machine.get(&["--format", "exec", "--context", "sso", "-o", "json"]).expect(0);
    assert!(!run.err.contains("OIDC"), "{}", run.err);
    assert_eq!(run.json()["notAfter"], serde_json::Value::Null);
    if let Some(read) = kubectl_reads(&std::fs::read(machine.default_file()).unwrap()) {
        let config = read.unwrap();
        let exec = &config["users"].as_array().unwrap().iter().find(|user| user["name"] == "clusterUser_sso").unwrap()
            ["user"]["exec"];
        assert_eq!(exec["command"], "kubelogin");
        assert_eq!(exec["apiVersion"], "client.authentication.k8s.io/v1");
        assert_eq!(exec["interactiveMode"], "IfAvailable");
        assert_eq!(exec["args"][1], "--oidc-issuer-url=https://id.example.com");
    }
    for words in [
        &["--format", "exec", "--admin"][..],
        &["--admin", "--group", "x"],
        &["--format", "exec", "--validity", "1h"],
        &["--format", "azure"],
    ] {
        machine.get(words).expect(2);
    }
}

#[test]
fn bad_input_on_the_node_is_named_and_nothing_changes() {
    type Damage = fn(&Machine);
    let cases: [(Damage, &[&str], &str); 8] = [
        (
            |machine| drop(machine.put("pki/ca.key", authority(Duration::ZERO, Duration::days(1)).pem_key())),
            &[],
            "does not belong to the CA certificate",
        ),
        (
            |machine| {
                drop(machine.put(
                    "pki/ca.key",
                    "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
                ))
            },
            &[],
            "ca.key",
        ),
        (|machine| drop(machine.put("pki/ca.crt", "nothing")), &[], "holds no certificate that can be read"),
        (|machine| drop(machine.put("admin.conf", "clusters: [\n")), &[], "admin.conf:2:1: not valid YAML"),
        (|machine| drop(machine.put("admin.conf", "clusters: [\n")), &["--admin"], "admin.conf:2:1: not valid YAML"),
        (|machine| machine.remove("admin.conf"), &["--admin"], "there is no /etc/kubernetes/admin.conf"),
        (|machine| drop(machine.put("admin.conf", kubeconfig_with_file())), &["--admin"], "/etc/kubernetes/gone.crt"),
        (|machine| drop(machine.put("admin.conf", "{}")), &["--admin"], "no current context"),
    ];
    for (damage, words, message) in cases {
        let machine = Machine::new();
        damage(&machine);
        let before = picture(&machine.stage.at(""), &[]);
        let run = machine.get(words).expect(1);
        assert!(run.err.contains(message) && run.err.contains("hint: "), "{message}: {}", run.err);
        assert_eq!(picture(&machine.stage.at(""), &[]), before, "{message}");
    }
}

fn kubeconfig_with_file() -> String {
    crate::support::cluster::kubeconfig(
        "kubernetes-admin",
        "CA",
        "client-certificate: gone.crt\n    client-key: gone.key",
    )
}

#[test]
fn a_kubeconfig_for_standard_output_is_finished_and_touches_nothing() {
    let machine = Machine::new();
    let run = machine.get(&["-f", "-", "--context", "lab", "--admin"]).expect(0);
    let file = machine.stage.put("printed", &run.out);
    let config = read(&file);
    assert_eq!(config.current_context.as_deref(), Some("lab-admin"));
    assert_eq!(config.context("lab-admin").unwrap().cluster, "lab");
    assert!(run.out.contains(&base64(machine.ca.crt())));
    assert!(!machine.stage.home().join(".kube").exists());
    let key = std::fs::read_to_string(machine.stage.at("node/etc/kubernetes/pki/ca.key")).unwrap();
    assert!(!run.out.contains(key.lines().nth(1).unwrap()) && !run.err.contains("PRIVATE KEY"));
}

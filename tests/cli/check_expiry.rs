//! `check-expiry` as people and scripts call it: documents, exit codes, filters, and what is said of what is not there.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use time::Duration;
use time::format_description::well_known::Rfc3339;

use crate::support::binary::{Run, Stage};
use crate::support::cluster::{CLIENT, Cluster, ISSUED, NOW, Pair, embedded, kubeconfig};
use crate::support::root::TestRoot;

/// A month after the issue.
const AT: &str = "2026-02-01T00:00:00Z";

struct Checked {
    stage: Stage,
    root: TestRoot,
}

impl Checked {
    fn new(cluster: &Cluster) -> Self {
        Self { stage: Stage::new(), root: cluster.write() }
    }

    fn root(&self) -> String {
        self.root.at("/").display().to_string()
    }

    fn pki(&self) -> String {
        self.root.at("/etc/kubernetes/pki").display().to_string()
    }

    /// `check-expiry --root … --at …` and these words.
    fn run(&self, words: &[&str]) -> Run {
        let root = self.root();
        self.stage.run(&[&["check-expiry", "--root", &root, "--at", AT], words].concat())
    }
}

fn rows<'a>(document: &'a Value, list: &str) -> &'a Vec<Value> {
    document[list].as_array().unwrap()
}

fn row<'a>(document: &'a Value, name: &str) -> &'a Value {
    let mut all = rows(document, "certificates").iter().chain(rows(document, "certificateAuthorities"));
    all.find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name} in {document:#}"))
}

#[test]
fn the_document_has_every_key_of_the_contract() {
    let checked = Checked::new(&Cluster::healthy());
    let document = checked.run(&["-o", "json"]).expect(0).json();
    assert_eq!(document["kind"], "CertificateExpirationInfo");
    for key in ["apiVersion", "generatedAt", "certificates", "certificateAuthorities", "nodes", "summary"] {
        assert!(!document[key].is_null(), "{key}");
    }
    let keys = "name expirationDate residualTime externallyManaged caName missing node path source subject issuer \
                serialNumber fingerprintSha256 notBefore notAfter sans keyAlgorithm usedPercent managed status findings";
    let keys: Vec<&str> = keys.split_whitespace().collect();
    for row in rows(&document, "certificates").iter().chain(rows(&document, "certificateAuthorities")) {
        let found: Vec<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(found, keys);
    }
    let apiserver = row(&document, "apiserver");
    assert_eq!(apiserver["path"], "/etc/kubernetes/pki/apiserver.crt");
    assert_eq!((&apiserver["node"], &apiserver["source"]), (&"local".into(), &"pki".into()));
    assert_eq!(apiserver["caName"], "ca");
    assert_eq!(apiserver["subject"], "CN=kube-apiserver");
    assert_eq!(apiserver["notAfter"], "2027-01-01T00:00:00Z");
    assert_eq!(apiserver["expirationDate"], apiserver["notAfter"]);
    assert_eq!(apiserver["residualTime"], 334 * 86_400);
    assert_eq!(apiserver["usedPercent"], 8.49);
    assert_eq!(apiserver["keyAlgorithm"], "ecdsa-p256");
    assert_eq!(apiserver["sans"][0], "DNS:cp1");
    assert_eq!((&apiserver["managed"], &apiserver["status"]), (&true.into(), &"ok".into()));
    assert_eq!(apiserver["fingerprintSha256"].as_str().unwrap().len(), 64);
    assert_eq!(row(&document, "admin.conf")["path"], "/etc/kubernetes/admin.conf#user/kubernetes-admin");
    let trusted = row(&document, "admin.conf#cluster/kubernetes");
    assert_eq!(trusted["path"], "/etc/kubernetes/admin.conf#cluster/kubernetes");
    assert_eq!(row(&document, "kubelet-client")["managed"], false);
    assert_eq!(row(&document, "kubelet[1]")["path"], "/var/lib/kubelet/pki/kubelet.crt[1]");
    assert_eq!(document["nodes"][0]["name"], "local");
    assert_eq!(document["nodes"][0]["reachable"], true);
    let total: u64 = document["summary"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    let all = rows(&document, "certificates").len() + rows(&document, "certificateAuthorities").len();
    assert_eq!(usize::try_from(total), Ok(all));
    assert_eq!(document["summary"]["ok"], total);
    assert_eq!(document["evaluatedAt"], AT);
}

#[test]
fn exit_codes_tell_fine_attention_and_broken_apart() {
    let checked = Checked::new(&Cluster::healthy());
    let root = checked.root();
    let at = |at: &str, more: &[&str]| {
        checked.stage.run(&[&["check-expiry", "--root", &root, "-o", "none", "--at", at], more].concat())
    };
    at("2026-02-01", &[]).expect(0);
    at("2026-11-01", &[]).expect(4);
    at("2028-01-01", &[]).expect(5);
    at("2020-01-01", &[]).expect(5);
    at("2026-11-01", &["--no-fail"]).expect(0);
    at("2028-01-01", &["--no-fail"]).expect(0);
    at("2026-11-01", &["--warn", "10d"]).expect(0);
    at("2026-11-01", &["--critical", "90d"]).expect(5);
    at("2026-02-01", &["--ca-warn", "20y"]).expect(4);
}

#[test]
fn what_is_not_there_is_exit_code_3_and_says_what_is() {
    let checked = Checked::new(&Cluster::healthy());
    let missing = checked.run(&["--only", "apiservr"]).expect(3);
    assert!(missing.err.contains("apiservr") && missing.err.contains("found were"), "{}", missing.err);
    assert!(missing.out.is_empty());
    for words in [
        &["--pki-dir", "gone"][..],
        &["--path", "gone.crt"],
        &["--kubeconfig", "gone.conf"],
        &["--root", "."],
        &["--path", "empty", "-o", "json"],
    ] {
        std::fs::create_dir_all(checked.stage.at("empty")).unwrap();
        let run = checked.stage.run(&[&["check-expiry"], words].concat()).expect(3);
        assert!(run.err.contains("hint: "), "{words:?}: {}", run.err);
    }
    for words in
        [&["--warn", "much"][..], &["--at", "soon"], &["--source", "disk"], &["--endpoint", "a b"], &["--frob"]]
    {
        checked.stage.run(&[&["check-expiry"], words].concat()).expect(2);
    }
    let config = checked.stage.put("config", kubeconfig("x", "", "token: abc"));
    let words = ["check-expiry", "--kubeconfig", config.to_str().unwrap(), "--context", "nope"];
    assert!(checked.stage.run(&words).expect(3).err.contains("nope"));
}

#[test]
fn a_broken_file_is_a_row_and_the_others_are_seen() {
    let mut cluster = Cluster::healthy();
    cluster.put("/etc/kubernetes/pki/apiserver.crt", "garbage", 0o644);
    cluster.put("/etc/kubernetes/admin.conf", "{", 0o600);
    cluster.remove("/etc/kubernetes/pki/etcd/peer.crt");
    let checked = Checked::new(&cluster);
    let document = checked.run(&["-o", "json"]).expect(5).json();
    assert_eq!(row(&document, "apiserver")["status"], "unreadable");
    assert_eq!(row(&document, "apiserver")["expirationDate"], Value::Null);
    assert_eq!(row(&document, "apiserver")["missing"], false);
    assert_eq!(row(&document, "admin.conf")["status"], "unreadable");
    let peer = row(&document, "etcd-peer");
    assert_eq!(
        (&peer["status"], &peer["missing"], &peer["residualTime"]),
        (&"missing".into(), &true.into(), &0.into())
    );
    assert_eq!(peer["findings"][0]["id"], "file-missing");
    assert_eq!(peer["findings"][0]["severity"], "broken");
    assert_eq!(row(&document, "etcd-server")["status"], "ok");
    assert_eq!(document["summary"]["unreadable"], 2);
}

#[test]
fn filters_choose_rows_by_name_and_source() {
    let checked = Checked::new(&Cluster::healthy());
    let names = |words: &[&str]| -> Vec<String> {
        let document = checked.run(&[words, &["-o", "json"]].concat()).expect(0).json();
        let all = rows(&document, "certificates").iter().chain(rows(&document, "certificateAuthorities"));
        all.map(|row| row["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&["--only", "apiserver", "--only", "etcd-ca"]), ["apiserver", "etcd-ca"]);
    assert_eq!(names(&["--only", "apiserver,ca"]), ["apiserver", "ca"]);
    assert_eq!(names(&["--only", "admin.conf"]), ["admin.conf", "admin.conf#cluster/kubernetes"]);
    assert_eq!(names(&["--only", "apiserver.crt"]), ["apiserver"]);
    assert_eq!(names(&["--source", "kubelet"]), ["kubelet-client", "kubelet", "kubelet[1]"]);
    assert_eq!(names(&["--source", "kubelet", "--only", "kubelet-client"]), ["kubelet-client"]);
    assert_eq!(names(&["--source", "pki"]).len(), 10);
}

#[test]
fn kubeconfigs_of_people_are_read_with_their_contexts() {
    let (ca, other) = (Pair::authority("kubernetes"), Pair::authority("other"));
    let jane = ca.issue("jane", &["dev"], CLIENT, &[]);
    let first = kubeconfig("jane", &ca.crt(), &embedded(&jane));
    let late = other.issue_with("joe", &[], CLIENT, &[], |template| template.not_after = NOW - Duration::days(1));
    let second = kubeconfig("joe", &other.crt(), &embedded(&late)).replace("kubernetes", "prod");
    let stage = Stage::new();
    let (first, second) = (stage.put("one", first), stage.put("home/.kube/config", second));
    let check = |words: &[&str]| stage.run(&[&["check-expiry", "--at", AT, "-o", "json"], words].concat());
    let open = check(&["--kubeconfig", first.to_str().unwrap()]).expect(4).json();
    assert_eq!(rows(&open, "certificates")[0]["findings"][0]["id"], "key-exposed");
    for file in [&first, &second] {
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let document = check(&["--kubeconfig", first.to_str().unwrap()]).expect(0).json();
    assert_eq!(rows(&document, "certificates").len(), 1);
    assert_eq!(rows(&document, "certificates")[0]["path"], format!("{}#user/jane", first.display()));
    assert_eq!(rows(&document, "certificates")[0]["managed"], false);
    let both = ["--kubeconfig", first.to_str().unwrap(), "--kubeconfig", second.to_str().unwrap()];
    let document = check(&both).expect(5).json();
    assert_eq!(rows(&document, "certificates").len(), 2);
    let document = check(&[&both[..], &["--context", "jane@kubernetes"]].concat()).expect(0).json();
    assert_eq!(rows(&document, "certificates").len(), 1);
    // Without a file, the user's own.
    let document = check(&["--context", "joe@prod"]).expect(5).json();
    assert_eq!(rows(&document, "certificates")[0]["status"], "expired");
    assert_eq!(rows(&document, "certificateAuthorities")[0]["name"], "config#cluster/prod");
}

#[test]
fn a_bundle_has_a_row_for_each_certificate() {
    let stage = Stage::new();
    let authorities = [Pair::authority("one"), Pair::authority("two"), Pair::authority("three")];
    let bundle = stage.put("ca-bundle.pem", authorities.iter().map(Pair::crt).collect::<Vec<_>>().join("text\n"));
    let path = bundle.to_str().unwrap();
    let document = stage.run(&["check-expiry", "--path", path, "--at", AT, "-o", "json"]).expect(0).json();
    let paths: Vec<&str> =
        rows(&document, "certificateAuthorities").iter().map(|row| row["path"].as_str().unwrap()).collect();
    assert_eq!(paths, [path.to_owned(), format!("{path}[1]"), format!("{path}[2]")]);
    let names: Vec<&str> =
        rows(&document, "certificateAuthorities").iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["ca-bundle.pem", "ca-bundle.pem[1]", "ca-bundle.pem[2]"]);
}

#[test]
fn the_monitoring_line_has_a_state_a_cause_and_numbers() {
    let checked = Checked::new(&Cluster::healthy());
    let root = checked.root();
    let at = |at: &str| checked.stage.run(&["check-expiry", "--root", &root, "--monitoring", "--at", at]);
    let fine = at("2026-02-01").expect(0).out;
    assert!(
        fine.starts_with("CERTS OK - 23 certificates, apiserver expires first, in 334 d | certificates=23;;;0 ok=23;")
    );
    assert!(fine.trim_end().ends_with(&format!("next_expiry={}s", 334 * 86_400)), "{fine}");
    assert_eq!(fine.lines().count(), 1);
    assert!(at("2026-11-01").expect(1).out.starts_with("CERTS WARNING - "));
    let broken = at("2028-01-01").expect(2).out;
    assert!(broken.starts_with("CERTS CRITICAL - ") && broken.contains("expired 1 y ago") && broken.contains(" more)"));
    let gone = checked.stage.run(&["check-expiry", "--pki-dir", "gone", "--monitoring"]).expect(3);
    assert!(gone.out.starts_with("CERTS UNKNOWN - ") && gone.err.is_empty(), "{gone:?}");
}

#[test]
fn gauges_are_written_whole_and_no_series_twice() {
    let mut cluster = Cluster::healthy();
    cluster.put("/etc/kubernetes/pki/ca.crt", cluster.ca.crt() + &cluster.ca.crt(), 0o644);
    cluster.put("/etc/kubernetes/pki/etcd/peer.crt", "x", 0o644);
    let odd = cluster.ca.issue("a\"b\\c\nd", &[], CLIENT, &[]);
    cluster.put("/etc/kubernetes/pki/odd.crt", odd.crt(), 0o644);
    let checked = Checked::new(&cluster);
    let text = checked.run(&["--prometheus"]).expect(5).out;
    let series: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let mut names: Vec<&str> = series.iter().map(|line| line.rsplit_once(' ').unwrap().0).collect();
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all, "a series twice makes Prometheus drop everything");
    let value = |start: &str, part: &str| -> i64 {
        let line = series.iter().find(|line| line.starts_with(start) && line.contains(part)).unwrap();
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    assert_eq!(value("x509_cert_not_before{", "name=\"apiserver\""), ISSUED.unix_timestamp());
    assert_eq!(value("x509_cert_expires_in_seconds{", "name=\"apiserver\""), 334 * 86_400);
    assert_eq!(value("x509_cert_error{", "name=\"etcd-peer\""), 1);
    assert_eq!(value("x509_read_errors{", "node=\"local\""), 1);
    assert!(text.contains("subject_CN=\"a\\\"b\\\\c\\nd\""));
    for name in ["not_before", "not_after", "expired", "expires_in_seconds", "valid_since_seconds", "error"] {
        assert!(text.contains(&format!("# TYPE x509_cert_{name} gauge\n")), "{name}");
    }
    let file = checked.stage.at("kubepki.prom");
    checked.run(&[&format!("--prometheus={}", file.display()), "--no-fail"]).expect(0);
    let written = std::fs::read_to_string(&file).unwrap();
    assert!(written.contains("x509_cert_not_after{"));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    checked.run(&["--prometheus=gone/kubepki.prom"]).expect(1);
}

#[test]
fn the_table_puts_what_is_urgent_first_and_ends_with_the_next_step() {
    let mut cluster = Cluster::healthy();
    let leaf = cluster.etcd_ca.issue_with("kube-apiserver-etcd-client", &[], CLIENT, &[], |template| {
        template.not_after = NOW - Duration::hours(76);
    });
    cluster.put_pair("apiserver-etcd-client", &leaf);
    let (key, _) = cluster.files["/etc/kubernetes/pki/etcd/ca.key"].clone();
    cluster.put("/etc/kubernetes/pki/etcd/ca.key", key, 0o644);
    let checked = Checked::new(&cluster);
    let run = checked.run(&[]).expect(5);
    let lines: Vec<&str> = run.out.lines().collect();
    assert!(lines[0].starts_with("STATUS") && lines[0].contains("RESIDUAL"));
    assert!(
        lines[1].starts_with("expired")
            && lines[1].contains("3 d 4 h ago")
            && lines[1].contains("2026-01-28 20:00 UTC")
    );
    assert!(run.out.contains("etcd-ca: everybody can read the private key"));
    let next = format!("next: kubepki rotate-certs --only apiserver-etcd-client --root {}", checked.root());
    assert_eq!(lines.last(), Some(&next.as_str()));
    assert_eq!(lines[lines.len() - 2], "23 certificates: 1 expired, 1 attention, 21 ok (as of 2026-02-01 00:00 UTC)");
    assert!(run.err.is_empty(), "{}", run.err);
    let all = checked.stage.run(&["check-expiry", "--root", &checked.root(), "--at", "2026-11-01"]).expect(5);
    assert!(all.out.contains(&format!("next: kubepki rotate-certs --due --root {}", checked.root())), "{}", all.out);
}

#[test]
fn tsv_and_queries_suit_scripts() {
    let checked = Checked::new(&Cluster::healthy());
    let tsv = checked.run(&["-o", "tsv", "--source", "pki"]).expect(0).out;
    let line = tsv.lines().find(|line| line.contains("\tapiserver\t")).unwrap();
    assert_eq!(line, "ok\tapiserver\t2027-01-01T00:00:00Z\t334\tca\tlocal\t/etc/kubernetes/pki/apiserver.crt");
    let query = checked.run(&["-o", "tsv", "--query", "certificates[?name=='apiserver'].notAfter"]).expect(0).out;
    assert_eq!(query, "2027-01-01T00:00:00Z\n");
    let yaml = checked.run(&["-o", "yaml"]).expect(0).out;
    let document: Value = serde_yaml::from_str(&yaml).unwrap();
    assert_eq!(row(&document, "ca")["status"], "ok");
}

#[test]
fn watching_ends_with_the_last_exit_code() {
    let checked = Checked::new(&Cluster::healthy());
    let (root, out) = (checked.root(), checked.stage.at("out"));
    let words = ["check-expiry", "--root", &root, "--at", "2026-11-01", "--watch=1s", "-o", "json"];
    let mut command = checked.stage.command(&words);
    let mut child = command.stdout(std::fs::File::create(&out).unwrap()).spawn().unwrap();
    let count = || std::fs::read_to_string(&out).unwrap().matches("\"kind\": \"CertificateExpirationInfo\"").count();
    while count() < 2 {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(4));
}

#[test]
fn nothing_is_ever_changed() {
    let checked = Checked::new(&Cluster::healthy());
    let before = crate::support::tree::picture(&checked.root.at("/"), &[]);
    checked.run(&[]).expect(0);
    checked.stage.run(&["check-expiry", "--pki-dir", &checked.pki(), "--at", AT]).expect(0);
    assert_eq!(crate::support::tree::picture(&checked.root.at("/"), &[]), before);
}

#[test]
fn a_bare_folder_lists_what_kubeadm_lists_and_misses_nothing_it_need_not_have() {
    let checked = Checked::new(&Cluster::healthy());
    let words = ["check-expiry", "--pki-dir", &checked.pki(), "--at", AT, "-o", "json"];
    let document = checked.stage.run(&words).expect(0).json();
    let admin = row(&document, "admin.conf");
    assert_eq!((&admin["missing"], &admin["status"]), (&true.into(), &"ok".into()));
    assert_eq!(admin["findings"][0]["id"], "file-not-expected");
    assert_eq!(rows(&document, "certificates").len(), 11);
    assert_eq!(rows(&document, "certificateAuthorities").len(), 3);
    let now = time::OffsetDateTime::parse(document["generatedAt"].as_str().unwrap(), &Rfc3339);
    assert!(now.is_ok());
}

#[test]
fn what_create_certs_makes_is_fine_in_every_profile() {
    for profile in ["kubeadm", "aks-arc", "aks"] {
        let stage = Stage::new();
        let words =
            ["--profile", profile, "--key-algorithm", "ecdsa-p256", "--node-name", "cp1", "--yes", "-o", "none"];
        std::fs::create_dir(stage.at("root")).unwrap();
        for target in [["--pki-dir", "pki"], ["--root", "root"]] {
            stage
                .run(&[&["create-certs"][..], &target, &words, &["--advertise-address", "10.0.0.1"]].concat())
                .expect(0);
            let run = stage.run(&[&["check-expiry"][..], &target, &["-o", "json"]].concat()).expect(0);
            let document = run.json();
            let findings = |list: &str| -> Vec<String> {
                let all = rows(&document, list).iter().flat_map(|row| row["findings"].as_array().unwrap());
                all.map(|finding| finding["id"].as_str().unwrap().to_owned()).collect()
            };
            let all = [findings("certificates"), findings("certificateAuthorities")].concat();
            assert!(all.iter().all(|id| id == "file-not-expected"), "{profile} {target:?}: {all:?}");
        }
    }
}

#[test]
fn service_account_keys_have_a_row_when_they_are_asked_for_or_broken() {
    let mut cluster = Cluster::healthy();
    let checked = Checked::new(&cluster);
    let document = checked.run(&["--only", "sa", "-o", "json"]).expect(0).json();
    assert_eq!(row(&document, "sa")["status"], "ok");
    cluster.put("/etc/kubernetes/pki/sa.pub", Pair::authority("x").key.public_key_pem(), 0o600);
    let document = Checked::new(&cluster).run(&["-o", "json"]).expect(5).json();
    assert_eq!(row(&document, "sa")["status"], "key-mismatch");
}

//! Every kind of file cut off at every length and with every byte bent: always rows, never a panic, and nothing that was
//! altered is ever called fine.

use std::path::{Path, PathBuf};

use kubepki::diagnose::{self, Policy, Status};
use kubepki::node::{Effect, Found, FoundState, LockGuard, LockOwner, Metadata, Node, NodeFacts, Query};
use kubepki::observe::{self, Keys, Scope, Wanted};
use kubepki::pki::csr;
use kubepki::pki::issue::Template;
use kubepki::pki::name::Name;
use kubepki::report::expiry::ExpiryReport;
use kubepki::report::{Report, monitoring, prometheus, table};
use kubepki::snapshot::Snapshot;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::support::cluster::{CLIENT, Cluster, ISSUED, NOW, Pair, embedded, kubeconfig};
use crate::support::openssl;

const FOLDER: &str = "/pki";

/// A node whose files are in memory.
struct Memory(Vec<(PathBuf, Vec<u8>)>);

impl Node for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn facts(&self) -> anyhow::Result<NodeFacts> {
        anyhow::bail!("nothing but files")
    }

    fn read(&self, queries: &[Query]) -> anyhow::Result<Vec<Found>> {
        let metadata = Metadata { mode: 0o600, uid: 0, gid: 0, modified: OffsetDateTime::UNIX_EPOCH, size: 0 };
        let found = |(path, content): &(PathBuf, Vec<u8>)| Found {
            path: path.clone(),
            link: None,
            metadata: Some(metadata.clone()),
            state: FoundState::File(Zeroizing::new(content.clone())),
        };
        let is_wanted = |path: &Path| {
            queries.iter().any(|query| match query {
                Query::Tree(folder) => path.starts_with(folder),
                Query::File(file) => path == file,
                _ => false,
            })
        };
        Ok(self.0.iter().filter(|(path, _)| is_wanted(path)).map(found).collect())
    }

    fn apply(&self, effect: &Effect<'_>) -> anyhow::Result<()> {
        anyhow::bail!("no {effect:?} here")
    }

    fn lock(&self, path: &Path, _: &LockOwner) -> anyhow::Result<Box<dyn LockGuard>> {
        anyhow::bail!("no lock {} here", path.display())
    }
}

/// The worst status of what `files` hold, after everything was judged and printed in every format.
fn judge(files: Vec<(PathBuf, Vec<u8>)>) -> Option<Status> {
    let node = Memory(files);
    let wanted = Wanted { scopes: vec![Scope::PkiDir(FOLDER.into())], keys: Keys::PublicHalf };
    let snapshot: Snapshot = observe::observe(&[&node as &dyn Node], &wanted, NOW);
    let diagnosis = diagnose::diagnose(&snapshot, &Policy::at(NOW));
    let rows = diagnosis.rows.iter().collect();
    let report = ExpiryReport { rows, snapshot: &snapshot, at: NOW, made_at: NOW, renew_all: String::new() };
    assert!(report.to_value().unwrap().is_object());
    let look = table::Look { width: Some(100), coloured: false };
    assert!(report.view(NOW).render(look).ends_with('\n'));
    assert!(prometheus::text(&report).ends_with('\n') && monitoring::line(&report).0.ends_with('\n'));
    diagnosis.rows.iter().map(diagnose::Row::status).max()
}

/// `content` cut off at every length, and with every `step`th byte changed in two ways.
fn damaged(content: &[u8], step: usize) -> impl Iterator<Item = (String, Vec<u8>)> + '_ {
    let cut = (0..content.len()).map(|length| (format!("cut at {length}"), content[..length].to_vec()));
    let bent = (0..content.len()).step_by(step).flat_map(|at| {
        [0x01_u8, 0x80].map(|bit| {
            let mut bent = content.to_vec();
            bent[at] ^= bit;
            (format!("bit {bit:#x} of byte {at}"), bent)
        })
    });
    cut.chain(bent)
}

fn file(name: &str, content: impl Into<Vec<u8>>) -> (PathBuf, Vec<u8>) {
    (Path::new(FOLDER).join(name), content.into())
}

/// The DER of everything a PEM file holds.
fn held(content: &[u8]) -> Vec<Vec<u8>> {
    kubepki::pki::pem_file::PemFile::parse(content).blocks.iter().map(|block| block.der.to_vec()).collect()
}

/// Damages `name` among `others` and checks that no change of what it holds goes unnoticed.
fn is_noticed(name: &str, content: &[u8], others: &[(PathBuf, Vec<u8>)], step: usize) {
    let sound = judge([&[file(name, content)], others].concat());
    assert_eq!(sound, Some(Status::Ok), "{name} as it was");
    for (what, bent) in damaged(content, step) {
        let unchanged = held(&bent) == held(content);
        let status = judge([&[file(name, bent)], others].concat());
        assert!(status.is_some(), "{name}, {what}: no row at all");
        assert!(unchanged || status > Some(Status::Ok), "{name}, {what}: called fine");
    }
}

/// Damages `name` among `others`; that there are rows and no panic is all that is asked.
fn is_survived(name: &str, content: &[u8], others: &[(PathBuf, Vec<u8>)], step: usize) {
    for (what, bent) in damaged(content, step) {
        assert!(judge([&[file(name, bent)], others].concat()).is_some(), "{name}, {what}");
    }
}

#[test]
fn a_certificate_of_a_known_ca_cannot_be_altered_unnoticed() {
    let ca = Pair::authority("etcd-ca");
    let leaf = ca.issue("kube-etcd-healthcheck-client", &["a", "b"], CLIENT, &[]);
    let others = [file("etcd/ca.crt", ca.crt()), file("etcd/healthcheck-client.key", leaf.pem_key())];
    is_noticed("etcd/healthcheck-client.crt", leaf.crt().as_bytes(), &others, 1);
}

#[test]
fn a_root_survives_any_damage() {
    let ca = Pair::authority("etcd-ca");
    // Another issuer name would make it an intermediate authority, of whose root nothing is known.
    is_survived("etcd/ca.crt", ca.crt().as_bytes(), &[file("etcd/ca.key", ca.pem_key())], 1);
}

#[test]
fn der_and_bundles_and_combined_files_survive_any_damage() {
    let (ca, other) = (Pair::authority("kubernetes"), Pair::authority("kubernetes"));
    let leaf = ca.issue("kube-apiserver-kubelet-client", &[], CLIENT, &[]);
    is_survived("one.cer", leaf.certificate.der(), &[file("ca.crt", ca.crt())], 1);
    is_survived("ca.crt", (ca.crt() + "words\n" + &other.crt()).as_bytes(), &[file("ca.key", ca.pem_key())], 3);
    is_survived("kubelet-client-current.pem", (leaf.crt() + &leaf.pem_key()).as_bytes(), &[], 3);
}

#[test]
fn keys_in_every_form_survive_any_damage_and_a_cut_is_noticed() {
    let ca = Pair::authority("kubernetes");
    let leaf = ca.issue("kube-apiserver-kubelet-client", &[], CLIENT, &[]);
    let others = [file("ca.crt", ca.crt()), file("apiserver-kubelet-client.crt", leaf.crt())];
    let name = "apiserver-kubelet-client.key";
    let key = leaf.pem_key();
    is_survived(name, key.as_bytes(), &others, 3);
    let end = key.find("-----END").unwrap() + "-----END EC PRIVATE KEY-----".len();
    for length in 0..end {
        let status = judge([&[file(name, &key.as_bytes()[..length])], &others[..]].concat());
        assert!(status > Some(Status::Ok), "cut at {length} and called fine");
    }
    is_survived("sa.pub", leaf.key.public_key_pem().as_bytes(), &[file("sa.key", key.clone())], 3);
    is_survived("sa.key", key.as_bytes(), &[file("sa.pub", leaf.key.public_key_pem())], 3);
    if !openssl::is_there("keys_in_every_form_survive_any_damage") {
        return;
    }
    for words in [
        &["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"][..],
        &["genpkey", "-algorithm", "ED25519"],
        &["ecparam", "-name", "secp384r1", "-genkey"],
        &["genrsa", "-traditional", "2048"],
        &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"],
    ] {
        is_survived(name, openssl::openssl(words).as_bytes(), &others, 7);
    }
}

#[test]
fn kubeconfigs_and_requests_survive_any_damage() {
    let ca = Pair::authority("kubernetes");
    let admin = ca.issue("kubernetes-admin", &["kubeadm:cluster-admins"], CLIENT, &[]);
    let text = kubeconfig("kubernetes-admin", &ca.crt(), &embedded(&admin));
    is_survived("admin.conf", text.as_bytes(), &[file("ca.crt", ca.crt())], 5);
    let template = Template::leaf(Name::new("x", &[]), CLIENT, &[], admin.key.public_key(), (ISSUED, NOW));
    let request = csr::request(&template, &admin.key).unwrap();
    is_survived("x.csr", request.as_bytes(), &[file("ca.crt", ca.crt())], 1);
}

#[test]
fn a_whole_node_of_damaged_files_has_a_row_for_each() {
    let cluster = Cluster::healthy();
    let files = |keep: fn(&[u8]) -> Vec<u8>| -> Vec<(PathBuf, Vec<u8>)> {
        let of_pki = cluster.files.iter().filter_map(|(path, (content, _))| {
            let name = path.strip_prefix("/etc/kubernetes/pki/")?;
            Some(file(name, keep(content.as_bytes())))
        });
        of_pki.collect()
    };
    for keep in [
        (|_| Vec::new()) as fn(&[u8]) -> Vec<u8>,
        |content| content[..content.len() / 2].to_vec(),
        |content| content.iter().map(|byte| byte ^ 0x20).collect(),
        |_| vec![0; 4096],
        |content| content.repeat(3),
        |_| b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n".to_vec(),
        |_| b"-----BEGIN ".repeat(500),
    ] {
        assert!(judge(files(keep)).is_some());
    }
}

//! A control-plane node to get credentials from, and the binary that does it.

use std::path::{Path, PathBuf};

use kubepki::pki::algorithm::KeyAlgorithm;
use kubepki::pki::certificate::Certificate;
use kubepki::pki::issue::{Issuer, Template};
use kubepki::pki::kubeconfig::{Kubeconfig, Source};
use kubepki::pki::name::Name;
use kubepki::pki::pem_file::PemFile;
use kubepki::pki::private_key::PrivateKey;
use kubepki::pki::san::San;
use kubepki::pki::usage::ExtendedKeyUsage;
use time::{Duration, OffsetDateTime};

use crate::support::binary::{Run, Stage};
use crate::support::cluster::{Pair, embedded, kubeconfig};

/// A stage with a node in the folder `node` and nothing in the user's home.
pub(crate) struct Machine {
    pub(crate) stage: Stage,
    pub(crate) ca: Pair,
}

/// A CA for the machine's real clock, which the binary goes by.
pub(crate) fn authority(from: Duration, to: Duration) -> Pair {
    let now = OffsetDateTime::now_utc();
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let sans = [San::Dns("kubernetes".into())];
    let validity = (now + from, now + to);
    let template = Template::authority(Name::new("kubernetes", &[]), &sans, key.public_key(), validity);
    Pair { certificate: template.self_sign(&key).unwrap(), key }
}

/// A leaf of `ca` for the machine's real clock.
pub(crate) fn leaf(ca: &Pair, name: &str, groups: &[&str], sans: &[San]) -> Pair {
    let now = OffsetDateTime::now_utc();
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let groups: Vec<String> = groups.iter().map(ToString::to_string).collect();
    let usage = if sans.is_empty() { ExtendedKeyUsage::ClientAuth } else { ExtendedKeyUsage::ServerAuth };
    let validity = (now - Duration::days(1), now + Duration::days(365));
    let template = Template::leaf(Name::new(name, &groups), &[usage], sans, key.public_key(), validity);
    Pair { certificate: template.sign(Issuer { certificate: &ca.certificate, key: &ca.key }).unwrap(), key }
}

impl Machine {
    /// A healthy kubeadm node.
    pub(crate) fn new() -> Self {
        Self::with_ca(authority(Duration::days(-1), Duration::days(3650)))
    }

    pub(crate) fn with_ca(ca: Pair) -> Self {
        let machine = Self { stage: Stage::new(), ca };
        machine.put("pki/ca.crt", machine.ca.crt());
        machine.put("pki/ca.key", machine.ca.pem_key());
        machine.put_admin(&["kubeadm:cluster-admins"]);
        machine
    }

    /// Puts a file below the node's /etc/kubernetes.
    pub(crate) fn put(&self, path: &str, content: impl AsRef<[u8]>) -> PathBuf {
        self.stage.put(&format!("node/etc/kubernetes/{path}"), content)
    }

    pub(crate) fn remove(&self, path: &str) {
        std::fs::remove_file(self.stage.at(&format!("node/etc/kubernetes/{path}"))).unwrap();
    }

    /// An admin.conf whose certificate has these groups.
    pub(crate) fn put_admin(&self, groups: &[&str]) {
        let admin = leaf(&self.ca, "kubernetes-admin", groups, &[]);
        self.put("admin.conf", kubeconfig("kubernetes-admin", &self.ca.crt(), &embedded(&admin)));
    }

    /// `get-credentials --root node` with these words, without a terminal.
    pub(crate) fn get(&self, words: &[&str]) -> Run {
        self.stage.run(&Self::line(words))
    }

    pub(crate) fn line<'a>(words: &[&'a str]) -> Vec<&'a str> {
        [&["get-credentials", "--root", "node"], words].concat()
    }

    /// `~/.kube/config`.
    pub(crate) fn default_file(&self) -> PathBuf {
        self.stage.home().join(".kube/config")
    }

    pub(crate) fn config(&self) -> Kubeconfig {
        read(&self.default_file())
    }
}

/// A kubeconfig on the disk.
pub(crate) fn read(file: &Path) -> Kubeconfig {
    let config = Kubeconfig::parse(&std::fs::read(file).unwrap(), Path::new("/")).unwrap();
    assert!(config.problems.is_empty(), "{:?}", config.problems);
    config
}

/// Certificate and key in a user entry; they must belong together.
pub(crate) fn client(config: &Kubeconfig, user: &str) -> Certificate {
    let user = config.user(user).unwrap_or_else(|| panic!("no user {user} in {config:?}"));
    let (Source::Embedded(certificate), Source::Embedded(key)) =
        (user.client_certificate.source(), user.client_key.source())
    else {
        panic!("{user:?}");
    };
    let file = PemFile::parse(certificate);
    let certificate = Certificate::from_der(&file.certificates().next().unwrap().der).unwrap();
    assert!(certificate.certifies(PrivateKey::from_pem(key).unwrap().public_key()));
    certificate
}

//! Whoever holds the keys of authorities that the nodes do not have: requests go there, signed certificates come back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kubepki::apply::change::sha256;
use kubepki::apply::{existing, mint, render};
use kubepki::node::Node;
use kubepki::node::local::LocalNode;
use kubepki::observe::{self, Keys, Scope, Wanted};
use kubepki::pki::certificate::Certificate;
use kubepki::pki::csr;
use kubepki::pki::issue::{Issuer, Template};
use kubepki::pki::pem_file::PemFile;
use kubepki::pki::private_key::PrivateKey;
use kubepki::plan::blueprint::{Basis, FileContent};
use kubepki::plan::rotate::{self, External, Offered, Request};
use kubepki::snapshot::NodeSnapshot;
use time::{Duration, OffsetDateTime};

use super::cluster::{Files, NOW, Pair};
use super::members::Members;

/// kubeadm's authorities, by the places of their files.
pub const AUTHORITIES: [&str; 3] = ["ca", "etcd/ca", "front-proxy-ca"];

/// The keys, and a folder for what goes out and comes back.
pub struct Elsewhere {
    /// By the authority's common name.
    pub keys: BTreeMap<String, Pair>,
    folder: tempfile::TempDir,
}

/// A request that has gone out.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Where its certificate is to come back.
    pub path: PathBuf,
    /// Common name of the authority of the certificate in use.
    pub issuer: String,
    /// What it asks for.
    pub request: csr::Request,
}

impl Asked {
    /// What it is called in the folder of its node.
    pub fn name(&self) -> String {
        self.path.file_stem().unwrap().to_str().unwrap().to_owned()
    }

    /// A template of what it asks for, valid for a year.
    pub fn template(&self) -> Template {
        let csr::Request { subject, public_key, sans, usages } = &self.request;
        Template::leaf(subject.clone(), usages, sans, public_key, year())
    }
}

fn year() -> (OffsetDateTime, OffsetDateTime) {
    (NOW - Duration::minutes(5), NOW + Duration::days(365))
}

impl Elsewhere {
    /// Nobody's keys yet.
    pub fn new() -> Self {
        Self { keys: BTreeMap::new(), folder: tempfile::tempdir().unwrap() }
    }

    /// Takes the keys of these authorities away from a node.
    pub fn take(&mut self, files: &mut Files, names: &[&str]) {
        for name in names {
            let at = |ending: &str| format!("/etc/kubernetes/pki/{name}.{ending}");
            let Some((key, _)) = files.remove(&at("key")) else { continue };
            let certificate = certificate(&files[&at("crt")].0);
            let key = PrivateKey::from_pem(key.as_bytes()).unwrap();
            self.keys.insert(certificate.subject().common_name().unwrap().to_owned(), Pair { certificate, key });
        }
    }

    /// Takes the keys of these authorities away from all nodes. Controller managers sign nothing any more where the cluster CA
    /// is among them, as kubeadm has it then.
    pub fn take_all(members: &mut Members, names: &[&str]) -> Self {
        let mut elsewhere = Self::new();
        for member in &mut members.members {
            elsewhere.take(&mut member.files, names);
        }
        let managers = members.manifests.iter_mut().filter(|manifest| manifest.component == "kube-controller-manager");
        for manifest in managers.filter(|_| names.contains(&"ca")) {
            for (flag, file) in [("cert", "crt"), ("key", "key")] {
                let flag = format!("--cluster-signing-{flag}-file=");
                manifest.text = manifest.text.replace(&format!("{flag}/etc/kubernetes/pki/ca.{file}"), &flag);
            }
            manifest.sha256 = sha256(manifest.text.as_bytes());
        }
        elsewhere
    }

    /// A path in the folder.
    pub fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// The requests for everything that `request` selects.
    pub fn ask(&self, nodes: &[&dyn Node], request: &Request) -> Vec<Asked> {
        let snapshot = observe::observe(nodes, &Wanted::machine(Keys::PublicHalf), NOW);
        let into = Offered { folder: self.folder.path().to_owned(), found: NodeSnapshot::empty("local") };
        let request = Request { external: External::Asked, ..request.clone() };
        let blueprint = rotate::ask(&snapshot, &request, &into, NOW).unwrap();
        let minted = mint::mint(&blueprint, &|source| existing::key(nodes, source), &|_| ()).unwrap();
        let asked = blueprint.changes().map(|(_, file)| {
            let content = file.content.as_ref().unwrap();
            let FileContent::Request(id) = content else { panic!("{content:?}") };
            let plan = blueprint.certificates.iter().find(|plan| plan.id == *id).unwrap();
            let Basis::Renewal { old, .. } = &plan.basis else { panic!("{plan:?}") };
            let pem = render::file(nodes[0], &file.path, content, &minted).unwrap();
            Asked {
                path: file.path.with_extension("crt"),
                issuer: old.issuer().common_name().unwrap().to_owned(),
                request: csr::Request::from_pem(&pem).unwrap(),
            }
        });
        asked.collect()
    }

    /// Puts certificates where the one for a request is expected.
    pub fn put(&self, path: &Path, certificates: &[&Certificate]) {
        let path = self.folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, certificates.iter().map(|one| one.to_pem()).collect::<String>()).unwrap();
    }

    /// Signs a request as it is, and puts the certificate where it is expected.
    pub fn sign(&self, asked: &Asked, by: &Pair) {
        let certificate = asked.template().sign(Issuer { certificate: &by.certificate, key: &by.key }).unwrap();
        self.put(&asked.path, &[&certificate]);
    }

    /// Signs requests with the keys of old.
    pub fn sign_all(&self, asked: &[Asked]) {
        asked.iter().for_each(|one| self.sign(one, &self.keys[&one.issuer]));
    }

    /// Makes an authority with a key of its own in the place of one of these, and puts its certificate into the folder.
    pub fn succeed(&self, name: &str, common_name: &str) -> Pair {
        let new = Pair::authority(common_name);
        self.put(&self.at(&format!("{name}.crt")), &[&new.certificate]);
        new
    }

    /// The key of a new authority certified by the one of old, put into the folder.
    pub fn cross(&self, name: &str, new: &Pair) {
        let old = &self.keys[new.certificate.subject().common_name().unwrap()];
        let template = Template::renewing(&new.certificate, new.key.public_key(), year());
        let cross = template.sign(Issuer { certificate: &old.certificate, key: &old.key }).unwrap();
        self.put(&self.at(&format!("{name}-cross.crt")), &[&cross]);
    }

    /// What lies in the folder.
    pub fn offer(&self) -> External {
        let here = LocalNode::open("local", "/").unwrap();
        let wanted = Wanted { scopes: vec![Scope::Path(self.folder.path().to_owned())], keys: Keys::PublicHalf };
        let folder = self.folder.path().to_owned();
        External::Offered(Box::new(Offered { found: observe::node(&here, &wanted), folder }))
    }
}

/// The first certificate of a PEM text.
pub fn certificate(pem: &str) -> Certificate {
    Certificate::from_der(&PemFile::parse(pem.as_bytes()).certificates().next().unwrap().der).unwrap()
}

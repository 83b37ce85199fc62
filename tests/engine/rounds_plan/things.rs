//! Contents of files in the model, read once each: two files of the same content are the same thing.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::rc::Rc;

use kubepki::pki::certificate::Certificate;
use kubepki::pki::kubeconfig::{Kubeconfig, Source};
use kubepki::pki::pem_file::PemFile;
use kubepki::pki::private_key::public_half;

/// What is in a file.
pub(super) struct Content {
    /// The same for the same bytes, and only for them.
    pub(super) id: usize,
    pub(super) text: String,
    /// Certificates as roots: all of a bundle, a kubeconfig's CA data.
    pub(super) roots: Vec<Certificate>,
    /// Certificates as they are shown: all of a file, a kubeconfig's client certificate.
    pub(super) chain: Vec<Certificate>,
    /// The public half of the private key.
    pub(super) key: Option<Vec<u8>>,
    /// `SubjectPublicKeyInfo` DER of the public keys.
    pub(super) public_keys: Vec<Vec<u8>>,
    /// `--name=value` of a manifest's program.
    flags: BTreeMap<String, String>,
}

impl Content {
    /// The value of a flag, with its two dashes.
    pub(super) fn flag(&self, name: &str) -> Option<&str> {
        self.flags.get(name).map(String::as_str)
    }

    /// Whether `key` belongs to the certificate that is shown.
    pub(super) fn fits(&self, key: &Content) -> bool {
        self.chain.first().zip(key.key.as_ref()).is_some_and(|(certificate, key)| certificate.certifies(key))
    }

    /// What must not outlive a rotation: fingerprints of certificates, halves of keys.
    pub(super) fn marks(&self) -> impl Iterator<Item = Vec<u8>> {
        let certificates = self.roots.iter().chain(&self.chain).map(|it| it.fingerprint().to_vec());
        certificates.chain(self.key.iter().cloned()).chain(self.public_keys.iter().cloned())
    }
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Content {}

impl Hash for Content {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

/// All contents of a model.
#[derive(Default)]
pub(super) struct Library(HashMap<Vec<u8>, Rc<Content>>);

impl Library {
    /// The content that is these bytes.
    pub(super) fn content(&mut self, bytes: &[u8]) -> Rc<Content> {
        let id = self.0.len();
        self.0.entry(bytes.to_vec()).or_insert_with(|| Rc::new(read(id, bytes))).clone()
    }
}

fn read(id: usize, bytes: &[u8]) -> Content {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    if !text.contains("kind: Config") {
        let file = PemFile::parse(bytes);
        assert_eq!(file.damaged, 0, "{text}");
        let public_keys = file.public_keys().map(|block| block.der.to_vec()).collect();
        let chain = certificates(bytes);
        let words = text.lines().filter_map(|line| line.trim().trim_start_matches("- ").split_once('='));
        let flags = words.filter(|(name, _)| name.starts_with("--")).map(|(name, value)| (name.into(), value.into()));
        let (flags, roots, key) = (flags.collect(), chain.clone(), public_half(bytes).ok());
        return Content { id, text, roots, chain, key, public_keys, flags };
    }
    let kubeconfig = Kubeconfig::parse(bytes, Path::new("/etc/kubernetes")).unwrap();
    let embedded = |source| if let Source::Embedded(bytes) = source { bytes } else { &[][..] };
    let (cluster, user) = (&kubeconfig.clusters[0], &kubeconfig.users[0]);
    Content {
        id,
        text,
        roots: certificates(embedded(cluster.certificate_authority.source())),
        chain: certificates(embedded(user.client_certificate.source())),
        key: public_half(embedded(user.client_key.source())).ok(),
        public_keys: Vec::new(),
        flags: BTreeMap::new(),
    }
}

fn certificates(bytes: &[u8]) -> Vec<Certificate> {
    PemFile::parse(bytes).certificates().map(|block| Certificate::from_der(&block.der).unwrap()).collect()
}

/// What is at a path.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum File {
    Content(Rc<Content>),
    Link(String),
}

/// The files of one node.
#[derive(Clone, Default)]
pub(super) struct Disk {
    pub(super) files: BTreeMap<Rc<str>, File>,
    /// Of all paths and contents, kept up with every change: scenes are compared far more often than files change.
    fingerprint: u64,
}

impl Hash for Disk {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.fingerprint.hash(state);
    }
}

impl Disk {
    /// The content at a path, links followed.
    pub(super) fn at(&self, path: &str) -> Option<&Rc<Content>> {
        match self.files.get(path)? {
            File::Content(content) => Some(content),
            File::Link(target) => self.at(target),
        }
    }

    /// Puts something there, or takes it away.
    pub(super) fn put(&mut self, path: &Rc<str>, file: Option<File>) {
        let mark = |file: &File| {
            let mut hasher = DefaultHasher::new();
            (path, file).hash(&mut hasher);
            hasher.finish()
        };
        self.fingerprint ^= file.as_ref().map_or(0, mark);
        let old = match file {
            Some(file) => self.files.insert(path.clone(), file),
            None => self.files.remove(path),
        };
        self.fingerprint ^= old.as_ref().map_or(0, mark);
    }

    /// Certificates whose key lies beside them and does not fit.
    pub(super) fn unfit(&self) -> Vec<Rc<str>> {
        let pairs =
            self.files.keys().filter_map(|path| Some((path, self.at(&format!("{}.key", path.strip_suffix(".crt")?))?)));
        pairs.filter(|(path, key)| !self.at(path).unwrap().fits(key)).map(|(path, _)| path.clone()).collect()
    }
}

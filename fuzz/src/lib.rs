//! What the fuzz targets share: a node that consists of one file, PEM around raw bytes, and keys to sign with.
//!
//! Coverage grows slowly through base64, so inputs are DER wherever a parser takes PEM: [`pem`] wraps them.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use kubepki::node::probe::Endpoint;
use kubepki::node::wire::{NoWire, Wire};
use kubepki::node::{Effect, Found, FoundState, LockGuard, LockOwner, Metadata, Node, NodeFacts, Query};
use kubepki::pki::algorithm::KeyAlgorithm;
use kubepki::pki::pem_file;
use kubepki::pki::private_key::PrivateKey;
use time::OffsetDateTime;
use time::macros::datetime;
use zeroize::Zeroizing;

/// The moment all targets run at.
pub const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);

/// A key that signs quickly; another one in each process.
pub fn key() -> &'static PrivateKey {
    static KEY: OnceLock<PrivateKey> = OnceLock::new();
    KEY.get_or_init(|| PrivateKey::generate(KeyAlgorithm::EcdsaP256).expect("random numbers"))
}

/// The first byte chooses among `tags`, the rest is the DER of one block with that tag; with no tag left over it is the
/// text itself.
pub fn pem(data: &[u8], tags: &[&str]) -> Zeroizing<Vec<u8>> {
    let Some((first, rest)) = data.split_first() else { return Zeroizing::default() };
    match tags.get(usize::from(*first) % (tags.len() + 1)) {
        Some(tag) => Zeroizing::new(pem_file::encode(tag, rest).as_bytes().to_vec()),
        None => Zeroizing::new(rest.to_vec()),
    }
}

/// Demands that nothing in `text` can move a terminal's cursor.
pub fn assert_harmless(text: &str) {
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "control characters in {text:?}");
}

/// `data` as a list of files: a byte for the place among `paths`, one for the form, two for the length, then the content.
pub fn files(mut data: &[u8], paths: &[&str]) -> Files {
    let mut files: Vec<(PathBuf, Vec<u8>)> = Vec::new();
    while let [path, form, high, low, rest @ ..] = data {
        let length = (usize::from(*high) << 8 | usize::from(*low)).min(rest.len());
        let (content, rest) = rest.split_at(length);
        data = rest;
        let tag = match form % 6 {
            0 => None,
            1 => Some("CERTIFICATE"),
            2 => Some("PRIVATE KEY"),
            3 => Some("RSA PRIVATE KEY"),
            4 => Some("CERTIFICATE REQUEST"),
            _ => Some("PUBLIC KEY"),
        };
        let content = tag.map_or(content.to_vec(), |tag| pem_file::encode(tag, content).as_bytes().to_vec());
        let path = Path::new(paths[usize::from(*path) % paths.len()]);
        match files.iter_mut().find(|(known, _)| *known == path) {
            Some((_, known)) => known.extend(content),
            None => files.push((path.to_owned(), content)),
        }
    }
    files.sort();
    Files(files)
}

/// A machine on which every file is missing, except those given.
#[derive(Debug)]
pub struct Files(pub Vec<(PathBuf, Vec<u8>)>);

impl Files {
    fn found(path: &Path, content: Option<&[u8]>) -> Found {
        let metadata =
            |content: &[u8]| Metadata { mode: 0o600, uid: 0, gid: 0, modified: NOW, size: content.len() as u64 };
        Found {
            path: path.to_owned(),
            link: None,
            metadata: content.map(metadata),
            state: content.map_or(FoundState::Missing, |content| FoundState::File(Zeroizing::new(content.to_vec()))),
        }
    }

    fn answer(&self, query: &Query, found: &mut Vec<Found>) {
        let before = found.len();
        let path = match query {
            Query::File(path) | Query::Metadata(path) | Query::Tree(path) | Query::Folder(path) => path,
        };
        for (name, content) in &self.0 {
            let fits = match query {
                Query::File(_) | Query::Metadata(_) => name == path,
                Query::Tree(_) => name.starts_with(path),
                Query::Folder(_) => name.parent() == Some(path),
            };
            if fits && !found.iter().any(|known| known.path == *name) {
                found.push(Self::found(name, Some(content)));
            }
        }
        if found.len() == before && !found.iter().any(|known| known.path == *path) {
            found.push(Self::found(path, None));
        }
    }
}

impl Node for Files {
    fn name(&self) -> &str {
        "local"
    }

    fn facts(&self) -> anyhow::Result<NodeFacts> {
        Ok(NodeFacts {
            host_name: "node".to_owned(),
            clock_skew: time::Duration::ZERO,
            addresses: vec![std::net::IpAddr::from([10, 0, 0, 1])],
            uid: 0,
        })
    }

    fn read(&self, queries: &[Query]) -> anyhow::Result<Vec<Found>> {
        let mut found = Vec::new();
        queries.iter().for_each(|query| self.answer(query, &mut found));
        Ok(found)
    }

    fn apply(&self, _: &Effect<'_>) -> anyhow::Result<()> {
        anyhow::bail!("nothing is changed here")
    }

    fn lock(&self, _: &Path, _: &LockOwner) -> anyhow::Result<Box<dyn LockGuard>> {
        anyhow::bail!("nothing is locked here")
    }
}

/// A machine from which every server answers the same, whatever it is asked.
#[derive(Debug)]
pub struct Talker<'a>(pub &'a [u8]);

/// Any server as a [`Talker`] reaches it.
pub fn anywhere() -> Endpoint {
    Endpoint { host: "kubernetes".to_owned(), port: 6443 }
}

struct Said(io::Cursor<Vec<u8>>);

impl Read for Said {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Said {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Wire for Said {
    fn set_patience(&self, _: Option<Duration>) -> io::Result<()> {
        Ok(())
    }
}

impl Node for Talker<'_> {
    fn name(&self) -> &str {
        "local"
    }

    fn facts(&self) -> anyhow::Result<NodeFacts> {
        anyhow::bail!("nothing is known")
    }

    fn read(&self, _: &[Query]) -> anyhow::Result<Vec<Found>> {
        Ok(Vec::new())
    }

    fn apply(&self, _: &Effect<'_>) -> anyhow::Result<()> {
        anyhow::bail!("nothing is changed here")
    }

    fn lock(&self, _: &Path, _: &LockOwner) -> anyhow::Result<Box<dyn LockGuard>> {
        anyhow::bail!("nothing is locked here")
    }

    fn dial(&self, _: &str, _: u16, _: Duration) -> Result<Box<dyn Wire>, NoWire> {
        Ok(Box::new(Said(io::Cursor::new(self.0.to_vec()))))
    }
}

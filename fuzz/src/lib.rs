//! What the fuzz targets share: a node that consists of one file, PEM around raw bytes, and keys to sign with.
//!
//! Coverage grows slowly through base64, so inputs are DER wherever a parser takes PEM: [`pem`] wraps them.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

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
            clock: NOW,
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

//! Old and new authorities and service-account keys of an operation, as the journals of its nodes have them.
//!
//! A journal concerns a domain of trust when it changes that domain's bundle. What the bundle holds at the start, when both
//! are trusted and at the end says which certificates are old and which are new; others in it are neither.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::apply::journal::Journal;
use crate::cli::target::TargetNode;
use crate::live::authority_set::AuthoritySet;
use crate::live::credential::certificates;
use crate::live::tokens::key_id;
use crate::node::{FoundState, Query};
use crate::pki::certificate::Certificate;
use crate::pki::layout::Role;
use crate::pki::pem_file::PemFile;
use crate::pki::private_key::rsa_public_key_info;
use crate::plan::phase::Phase;

pub use crate::apply::copies::At;

/// What a file of an operation's node holds at a point of it; `None` when there is none then.
pub type ContentAt<'a> =
    dyn Fn(&TargetNode, &Journal, &Path, At) -> anyhow::Result<Option<Zeroizing<Vec<u8>>>> + Sync + 'a;

/// One node and its journal.
pub(super) type Leg<'a> = (&'a TargetNode, Journal);

/// The authorities of one domain of trust through an operation (DER, in file order).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exchange {
    pub(super) start: Vec<Vec<u8>>,
    pub(super) both: Vec<Vec<u8>>,
    pub(super) end: Vec<Vec<u8>>,
}

impl Exchange {
    /// Those that go.
    pub(super) fn going(&self) -> AuthoritySet {
        set(&self.start).without(&set(&self.end))
    }

    /// Those that come.
    pub(super) fn coming(&self) -> AuthoritySet {
        set(&self.end).without(&set(&self.start))
    }

    /// Everything that is trusted at some point.
    pub(super) fn all(&self) -> AuthoritySet {
        set(&self.start).with(&set(&self.end))
    }

    /// Those that are trusted before and after.
    pub(super) fn staying(&self) -> AuthoritySet {
        set(&self.end).without(&self.coming())
    }

    /// Those that go, readable ones.
    pub(super) fn going_certificates(&self) -> Vec<Certificate> {
        self.going().certificates()
    }

    /// Those that come, readable ones.
    pub(super) fn coming_certificates(&self) -> Vec<Certificate> {
        self.coming().certificates()
    }
}

pub(super) fn set(ders: &[Vec<u8>]) -> AuthoritySet {
    ders.iter().cloned().collect()
}

/// The service-account keys through an operation, by their names in tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Keys {
    pub(super) start: BTreeSet<String>,
    pub(super) end: BTreeSet<String>,
}

impl Keys {
    /// Those that go.
    pub(super) fn going(&self) -> BTreeSet<String> {
        self.start.difference(&self.end).cloned().collect()
    }

    /// Those that come.
    pub(super) fn coming(&self) -> BTreeSet<String> {
        self.end.difference(&self.start).cloned().collect()
    }

    /// Those that are checked with while both are trusted.
    pub(super) fn both(&self) -> BTreeSet<String> {
        self.start.union(&self.end).cloned().collect()
    }
}

/// What an operation exchanges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Material {
    /// The cluster CA.
    pub(super) cluster: Option<Exchange>,
    /// etcd's CA.
    pub(super) etcd: Option<Exchange>,
    /// The CA of front proxies.
    pub(super) front_proxy: Option<Exchange>,
    /// Service-account keys.
    pub(super) keys: Option<Keys>,
}

impl Material {
    /// Reads it from the journals, those of the control plane first.
    pub(super) fn of(legs: &[Leg<'_>], content: &ContentAt<'_>) -> anyhow::Result<Self> {
        Ok(Self {
            cluster: exchange(legs, "ca.crt", content)?,
            etcd: exchange(legs, "etcd/ca.crt", content)?,
            front_proxy: exchange(legs, "front-proxy-ca.crt", content)?,
            keys: keys(legs, content)?,
        })
    }

    /// The domains of certificates.
    pub(super) fn exchanges(&self) -> impl Iterator<Item = &Exchange> {
        [&self.cluster, &self.etcd, &self.front_proxy].into_iter().flatten()
    }
}

/// The first leg, those of the control plane before others, whose journal changes that file of its PKI folder.
fn concerned<'l>(legs: &'l [Leg<'_>], name: &str) -> Option<(&'l TargetNode, &'l Journal, PathBuf)> {
    let ruling = legs.iter().filter(|(node, _)| node.role == Role::ControlPlane);
    let others = legs.iter().filter(|(node, _)| node.role != Role::ControlPlane);
    ruling.chain(others).find_map(|(node, journal)| {
        let path = node.layout.pki_dir.join(name);
        changes(journal, &path).then_some((*node, journal, path))
    })
}

/// Whether the journal changes that file.
pub(super) fn changes(journal: &Journal, path: &Path) -> bool {
    journal.changes.iter().any(|entry| Path::new(&entry.path) == path)
}

/// Whether the journal changes that file in that phase.
pub(super) fn changes_in(journal: &Journal, path: &Path, phase: Phase) -> bool {
    let is_then = |step: usize| journal.steps.get(step).is_some_and(|step| step.phase == phase);
    journal.changes.iter().any(|entry| Path::new(&entry.path) == path && is_then(entry.step))
}

fn exchange(legs: &[Leg<'_>], name: &str, content: &ContentAt<'_>) -> anyhow::Result<Option<Exchange>> {
    let Some((node, journal, path)) = concerned(legs, name) else { return Ok(None) };
    let at = |at: At| -> anyhow::Result<Vec<Vec<u8>>> {
        Ok(content(node, journal, &path, at)?.map(|pem| certificates(&pem)).unwrap_or_default())
    };
    let start = at(At::Start)?;
    let both = at(At::After(Phase::TrustBoth))?;
    let end = at(At::After(Phase::DropOld))?;
    // A bundle that ends as it began exchanges nothing.
    Ok((set(&start) != set(&end)).then_some(Exchange { start, both, end }))
}

fn keys(legs: &[Leg<'_>], content: &ContentAt<'_>) -> anyhow::Result<Option<Keys>> {
    let Some((node, journal, path)) = concerned(legs, "sa.pub") else { return Ok(None) };
    let at = |at: At| -> anyhow::Result<BTreeSet<String>> {
        Ok(content(node, journal, &path, at)?.map(|pem| key_ids(&pem)).unwrap_or_default())
    };
    let (start, end) = (at(At::Start)?, at(At::After(Phase::DropOld))?);
    Ok((start != end).then_some(Keys { start, end }))
}

/// The names of the public keys in a PEM text.
fn key_ids(pem: &[u8]) -> BTreeSet<String> {
    let file = PemFile::parse(pem);
    let info = |block: &crate::pki::pem_file::Block| match block.tag.as_str() {
        "RSA PUBLIC KEY" => rsa_public_key_info(&block.der).ok(),
        _ => Some(block.der.to_vec()),
    };
    file.public_keys().filter_map(info).map(|info| key_id(&info)).collect()
}

/// What a file of a leg's node holds at a point of the operation. A file that the journal does not change holds at every
/// point what it holds now.
pub(super) fn content_of(
    (node, journal): &Leg<'_>,
    content: &ContentAt<'_>,
    path: &Path,
    at: At,
) -> anyhow::Result<Option<Zeroizing<Vec<u8>>>> {
    if changes(journal, path) {
        return content(node, journal, path, at);
    }
    let found = node.node.read(&[Query::File(path.to_owned())])?.into_iter().next();
    Ok(match found.map(|found| found.state) {
        Some(FoundState::File(content)) => Some(content),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_in_a_bundle_is_neither_old_nor_new() {
        let ders = |names: &[&str]| names.iter().map(|name| name.as_bytes().to_vec()).collect::<Vec<_>>();
        let exchange = Exchange { start: ders(&["o", "x"]), both: ders(&["o", "x", "n"]), end: ders(&["n", "x"]) };
        assert_eq!(exchange.going(), set(&ders(&["o"])));
        assert_eq!(exchange.coming(), set(&ders(&["n"])));
        assert_eq!(exchange.staying(), set(&ders(&["x"])));
        assert_eq!(exchange.all(), set(&ders(&["n", "o", "x"])));
    }

    #[test]
    fn keys_are_named_in_either_form() {
        use crate::pki::pem_file::encode;
        let info = encode("PUBLIC KEY", b"one");
        assert_eq!(key_ids(info.as_bytes()), BTreeSet::from([key_id(b"one")]));
        let both = format!("{}{}", &*info, &*encode("PUBLIC KEY", b"two"));
        let keys = Keys { start: key_ids(info.as_bytes()), end: key_ids(both.as_bytes()) };
        assert_eq!((keys.going().len(), keys.coming(), keys.both().len()), (0, BTreeSet::from([key_id(b"two")]), 2));
    }
}

//! The pair that signs service-account tokens: `sa.pub` follows from `sa.key`, and what most control-plane nodes sign with is
//! what all of them shall sign with.

use std::collections::BTreeMap;
use std::path::Path;

use super::builder::{Builder, SECRET, Stage};
use super::cases::{Case, Unit};
use crate::pki::algorithm::KeyAlgorithm;
use crate::pki::layout::Role;
use crate::plan::blueprint::{FileContent, KeySource, PublicKeyRef};
use crate::snapshot::FoundKey;

/// Its id.
const SA: &str = "sa";

impl<'a> Builder<'a> {
    /// Mends the pairs of all nodes: they are one.
    pub(super) fn tokens(&mut self, cases: &mut [Case<'_>]) {
        let mut own: Vec<&mut Case<'_>> = cases.iter_mut().filter(|case| case.unit == Unit::Tokens).collect();
        if own.is_empty() {
            return;
        }
        let mut camps: BTreeMap<&[u8], Vec<usize>> = BTreeMap::new();
        for node in 0..self.snapshot.nodes.len() {
            if let Some(key) = self.token_key(node) {
                camps.entry(&key.public_key).or_default().push(node);
            }
        }
        // Tokens that nodes accept speak for the key that signed them.
        let accepted = |key: &[u8]| {
            let nodes = self.snapshot.nodes.iter().filter_map(|node| node.entry(SA)?.content());
            nodes.filter(|content| content.public_keys.iter().flatten().any(|one| one == key)).count()
        };
        let mut camps: Vec<(&[u8], Vec<usize>, usize)> =
            camps.into_iter().map(|(key, nodes)| (key, nodes, accepted(key))).collect();
        camps.sort_by_key(|(_, nodes, accepted)| std::cmp::Reverse((nodes.len(), *accepted)));
        let outcome = match camps.as_slice() {
            [] => self.new_tokens(&own.iter().map(|case| case.node).collect::<Vec<_>>()),
            [(_, nodes, accepted), (_, others, other), ..]
                if (nodes.len(), accepted) <= (others.len(), other) && !self.request.force =>
            {
                let name = |nodes: &[usize]| self.snapshot.nodes[nodes[0]].name.clone();
                Err(format!(
                    "nothing proves which node signs tokens rightly: --force takes the key of {}, and what {} signed is refused",
                    name(nodes),
                    name(others)
                ))
            }
            [(key, nodes, _), ..] => {
                let (key, source) = (key.to_vec(), nodes[0]);
                let mended: Vec<usize> = own.iter().map(|case| case.node).collect();
                mended
                    .into_iter()
                    .try_for_each(|node| self.follow(node, &key, source))
                    .map(|()| "sa.key and sa.pub follow from what most control-plane nodes sign with".to_owned())
            }
        };
        own.iter_mut().for_each(|case| case.settle(&outcome));
    }

    fn token_key(&self, node: usize) -> Option<&'a FoundKey> {
        self.node(node).key_of(SA)?.content()?.private_key.as_ref()?.as_ref().ok()
    }

    /// One node's pair becomes that of `source`.
    fn follow(&mut self, node: usize, key: &[u8], source: usize) -> Result<(), String> {
        let (path, public) = self.token_files(node)?;
        let is_right = self.token_key(node).is_some_and(|own| own.public_key == key);
        let (_, design) = (node, self.design(node));
        if !is_right && design.is_none_or(|design| design.role == Role::ControlPlane) {
            let from = self.node(source).key_of(SA).map(|one| one.path.clone()).ok_or("the key is gone")?;
            self.key(SA, KeySource::File { node: self.node(source).name.clone(), path: from });
            self.write(node, Stage::Tokens, (&path, SA), (FileContent::PrivateKey(SA.to_owned()), SECRET), None)?;
        }
        let known = self.accepted_at(node);
        let damaged = self
            .node(node)
            .entry(SA)
            .and_then(|one| one.content())
            .is_none_or(|content| content.damaged_blocks > 0 || content.public_keys.iter().any(Result::is_err));
        let first_is_right = known.first().is_some_and(|first| first == key);
        if !damaged && known.iter().any(|one| one == key) && (is_right || first_is_right) {
            return Ok(());
        }
        let mut keys = vec![key.to_vec()];
        keys.extend(known.into_iter().filter(|one| one != key));
        // Tokens that other nodes' keys signed stay good.
        for other in self.accepted_at(source) {
            if !keys.contains(&other) {
                keys.push(other);
            }
        }
        let content = FileContent::PublicKeys(keys.into_iter().map(PublicKeyRef::Existing).collect());
        self.write(node, Stage::Tokens, (&public, SA), (content, SECRET), None)
    }

    /// Nobody has a key that can be read: with `--force` there is a new one, and tokens signed before are refused.
    fn new_tokens(&mut self, nodes: &[usize]) -> Result<String, String> {
        if !self.request.force {
            return Err(
                "no node has the key any more: bring sa.key back from a backup; --force makes a new pair, and every \
                        token signed before is refused then"
                    .to_owned(),
            );
        }
        self.new_key(SA, KeyAlgorithm::Rsa2048);
        for node in nodes.iter().copied() {
            let (path, public) = self.token_files(node)?;
            self.write(node, Stage::Tokens, (&path, SA), (FileContent::PrivateKey(SA.to_owned()), SECRET), None)?;
            let known = self.accepted_at(node).into_iter().map(PublicKeyRef::Existing);
            let keys = std::iter::once(PublicKeyRef::Planned(SA.to_owned())).chain(known).collect();
            self.write(node, Stage::Tokens, (&public, SA), (FileContent::PublicKeys(keys), SECRET), None)?;
        }
        Ok("a new pair is made; tokens signed before stay good where sa.pub is whole".to_owned())
    }

    fn token_files(&self, node: usize) -> Result<(std::path::PathBuf, std::path::PathBuf), String> {
        let known = |artifact: Option<&crate::snapshot::Artifact>| {
            artifact.and_then(|one| one.path.parent().map(Path::to_owned))
        };
        let found = known(self.node(node).key_of(SA)).or_else(|| known(self.node(node).entry(SA)));
        let folder =
            found.or_else(|| Some(self.design(node)?.pki_dir.clone())).ok_or("nobody knows where it belongs")?;
        Ok((folder.join("sa.key"), folder.join("sa.pub")))
    }

    /// The keys in a node's `sa.pub`.
    fn accepted_at(&self, node: usize) -> Vec<Vec<u8>> {
        let content = self.node(node).entry(SA).and_then(|one| one.content());
        content.map_or_else(Vec::new, |content| content.public_keys.iter().flatten().cloned().collect())
    }
}

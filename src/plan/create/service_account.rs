//! The key pair that signs service account tokens: a key without a certificate, shared by all nodes.

use super::{Builder, Place, Remedy, SECRET, below};
use crate::pki::spec::KeyPair;
use crate::plan::blueprint::{FileContent, KeySource, PublicKeyRef};
use crate::snapshot::{Artifact, FoundKey};

impl<'a> Builder<'a> {
    /// Plans a key pair: made when nothing is there, the public half derived from a key that is.
    pub(super) fn service_account(&mut self, entry: &'a KeyPair) {
        let name = entry.name.to_string();
        let nodes = self.request.nodes;
        let before = self.problems.len();
        let mut found: Option<(&'a Place, &'a FoundKey)> = None;
        for place in nodes {
            match self.token_key(place, entry) {
                Ok(Some(key)) => match found {
                    Some((first, known)) if known.public_key != key.public_key => {
                        let words = vec![format!("it is another key than on node {}", first.node)];
                        let remedy = Remedy::ByHand("all nodes share this key".to_owned());
                        self.problem(place, &below(place, &entry.path, "key"), &name, words, remedy);
                        return;
                    }
                    Some(_) => {}
                    None => found = Some((place, key)),
                },
                Ok(None) => {}
                Err((path, words)) => {
                    let instead = "restore it from a backup, or every token that is out becomes invalid".to_owned();
                    self.problem(place, &path, &name, vec![words], Remedy::ForceByName { instead });
                }
            }
        }
        if self.problems.len() > before {
            if !(self.request.force && self.is_named(&name)) {
                return;
            }
            self.problems.truncate(before);
            found = None;
        }
        match found {
            Some((place, key)) => self.keep_tokens(entry, place, key),
            None => self.make_tokens(entry),
        }
    }

    fn token_key(
        &self,
        place: &'a Place,
        entry: &KeyPair,
    ) -> Result<Option<&'a FoundKey>, (std::path::PathBuf, String)> {
        let (path, public) = (below(place, &entry.path, "key"), below(place, &entry.path, "pub"));
        if !self.is_there(place, &path) {
            return if self.is_there(place, &public) {
                Err((public, "there is a public key, but its private key is missing".to_owned()))
            } else {
                Ok(None)
            };
        }
        match self.find(place, &path).and_then(|artifact| artifact.content()?.private_key.as_ref()) {
            Some(Ok(key)) => Ok(Some(key)),
            Some(Err(error)) => Err((path, error.to_string())),
            None => Err((path, "there is no private key in it".to_owned())),
        }
    }

    fn keep_tokens(&mut self, entry: &'a KeyPair, first: &Place, key: &FoundKey) {
        let name = entry.name.to_string();
        for place in self.request.nodes {
            let (path, public) = (below(place, &entry.path, "key"), below(place, &entry.path, "pub"));
            if self.is_there(place, &path) {
                self.keep(place, path, &name);
            } else {
                let source = below(first, &entry.path, "key");
                self.key(&name, KeySource::File { node: first.node.clone(), path: source });
                self.write(place, path, &name, (FileContent::PrivateKey(name.clone()), SECRET), None);
            }
            let known = self.public_keys(place, &public);
            if known.contains(&key.public_key) {
                self.keep(place, public, &name);
                continue;
            }
            if self.is_there(place, &public) {
                let words = vec!["the public half of the private key is not in it".to_owned()];
                if !self.may_replace(place, &[&public], &name, &words) {
                    continue;
                }
            }
            let keys = std::iter::once(key.public_key.clone()).chain(known).map(PublicKeyRef::Existing).collect();
            self.write(place, public, &name, (FileContent::PublicKeys(keys), SECRET), None);
        }
    }

    fn make_tokens(&mut self, entry: &'a KeyPair) {
        let name = entry.name.to_string();
        for place in self.request.nodes {
            let (path, public) = (below(place, &entry.path, "key"), below(place, &entry.path, "pub"));
            if !self.can_replace(place, &[&path, &public], &name) {
                return;
            }
        }
        let algorithm = entry.key_algorithm.unwrap_or_else(|| self.request.spec.defaults.key_algorithm());
        self.new_key(&name, algorithm);
        for place in self.request.nodes {
            let (path, public) = (below(place, &entry.path, "key"), below(place, &entry.path, "pub"));
            self.write(place, path, &name, (FileContent::PrivateKey(name.clone()), SECRET), None);
            // Tokens signed with former keys stay valid for as long as their public halves are in the file.
            let known = self.public_keys(place, &public).into_iter().map(PublicKeyRef::Existing);
            let keys = std::iter::once(PublicKeyRef::Planned(name.clone())).chain(known).collect();
            self.write(place, public, &name, (FileContent::PublicKeys(keys), SECRET), None);
        }
    }

    fn public_keys(&self, place: &Place, path: &std::path::Path) -> Vec<Vec<u8>> {
        let content = self.find(place, path).and_then(Artifact::content);
        content.map_or_else(Vec::new, |content| content.public_keys.iter().flatten().cloned().collect())
    }
}

//! Certificates in files of their own: kept, issued, or asked for with a signing request.

use std::path::{Path, PathBuf};

use super::authority::Standing;
use super::{Builder, PUBLIC, Place, Refusal, SECRET, Signer, below};
use crate::pki::spec::{Leaf, ResolvedLeaf};
use crate::plan::blueprint::{Basis, CertificatePlan, CertificateRef, FileContent, IssuerPlan, KeySource};
use crate::plan::compare;
use crate::plan::signed::readable;
use crate::snapshot::{Artifact, FoundKey};

/// The files of one certificate.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    request: PathBuf,
}

impl<'a> Builder<'a> {
    /// Plans the certificates of one node: those that are wanted, and those whose CA is replaced.
    pub(super) fn leaves(&mut self, place: &'a Place) -> Result<(), Refusal> {
        for entry in &self.request.spec.certificates {
            let files = Files {
                certificate: below(place, &entry.path, "crt"),
                key: below(place, &entry.path, "key"),
                request: below(place, &entry.path, "csr"),
            };
            let follows = self.replaced.contains(&*entry.issuer) && self.is_there(place, &files.certificate);
            if self.is_wanted(&entry.name, false) || follows {
                self.leaf(place, entry, &files)?;
            }
        }
        Ok(())
    }

    fn leaf(&mut self, place: &'a Place, entry: &'a Leaf, files: &Files) -> Result<(), Refusal> {
        let wanted = self.request.spec.resolve_leaf(entry, &place.values)?;
        let standing = self.authority(&entry.issuer)?;
        if matches!(standing, Standing::Unusable) {
            return Ok(());
        }
        let is_external = matches!(standing, Standing::External { .. });
        let key = self.usable_key(place, &files.key, &wanted);
        let keeps_key = if self.is_there(place, &files.certificate) {
            let words = self.leaf_words(place, files, &wanted, &entry.issuer, &standing);
            if words.is_empty() && !self.is_request_wanted(&entry.name) {
                self.keep(place, files.key.clone(), &entry.name);
                self.keep(place, files.certificate.clone(), &entry.name);
                return Ok(());
            }
            if !words.is_empty() && !self.may_replace(place, &[&files.certificate, &files.key], &entry.name, &words) {
                return Ok(());
            }
            // Until the signed certificate comes back the old one stays in use, and with it its key.
            is_external && key.is_ok()
        } else if self.is_there(place, &files.key) {
            if let Err(words) = &key
                && !self.may_replace(place, &[&files.key], &entry.name, std::slice::from_ref(words))
            {
                return Ok(());
            }
            key.is_ok()
        } else {
            false
        };
        let id = format!("{}/{}", place.node, entry.name);
        if keeps_key {
            self.key(&id, KeySource::File { node: place.node.clone(), path: files.key.clone() });
            self.keep(place, files.key.clone(), &entry.name);
        } else {
            self.new_key(&id, wanted.algorithm);
        }
        let key = key.ok().filter(|_| keeps_key);
        match standing {
            Standing::Signs { plan, period, above, .. } => {
                if !keeps_key {
                    let content = (FileContent::PrivateKey(id.clone()), SECRET);
                    self.write(place, files.key.clone(), &entry.name, content, None);
                }
                let validity = wanted.validity;
                let signer = Signer { plan: *plan, period: Some(period) };
                let not_after = self.certificate(&id, basis(wanted), validity, signer);
                let mut chain = vec![CertificateRef::Planned(id)];
                chain.extend(above);
                let content = (FileContent::Certificates(chain), PUBLIC);
                self.write(place, files.certificate.clone(), &entry.name, content, Some(not_after));
                if self.is_there(place, &files.request) {
                    self.remove(place, files.request.clone(), &entry.name);
                }
            }
            _ => {
                let content = (FileContent::PrivateKey(id.clone()), SECRET);
                let key_file = (!keeps_key).then(|| (files.key.clone(), content));
                self.request_for(place, &entry.name, &id, wanted, key, &files.request, key_file);
            }
        }
        Ok(())
    }

    /// Plans a signing request, and with it the file of a new key; an equal request that is there stays.
    #[allow(clippy::too_many_arguments, reason = "the parts of one request, from two callers")]
    pub(super) fn request_for(
        &mut self,
        place: &'a Place,
        name: &str,
        id: &str,
        wanted: ResolvedLeaf,
        key: Option<&FoundKey>,
        path: &Path,
        key_file: Option<(PathBuf, (FileContent, u32))>,
    ) {
        if self.is_there(place, path) {
            let words = request_words(self.find(place, path), &wanted, key);
            if words.is_empty() {
                self.keep(place, path.to_owned(), name);
                self.requests.push(path.to_owned());
                return;
            }
            if !self.may_replace(place, &[path], name, &words) {
                return;
            }
        }
        if let Some((path, content)) = key_file {
            self.write(place, path, name, content, None);
        }
        let now = self.request.now;
        let not_after = now + wanted.validity.duration();
        self.blueprint.certificates.push(CertificatePlan {
            id: id.to_owned(),
            key: id.to_owned(),
            basis: basis(wanted),
            issuer: IssuerPlan::External,
            not_before: now,
            not_after,
        });
        self.write(place, path.to_owned(), name, (FileContent::Request(id.to_owned()), PUBLIC), None);
        self.requests.push(path.to_owned());
    }

    /// What differs about a certificate that is there, its key included.
    fn leaf_words(
        &self,
        place: &'a Place,
        files: &Files,
        wanted: &ResolvedLeaf,
        issuer: &str,
        standing: &Standing,
    ) -> Vec<String> {
        let certificates = match readable(self.find(place, &files.certificate)) {
            Ok(certificates) => certificates,
            Err(words) => return vec![words],
        };
        let (certificate, rest) = (&certificates[0], &certificates[1..]);
        let mut words = compare::differences(certificate, wanted, self.request.now);
        if standing.is_new() {
            words.push(format!("the CA that issued it is not there; `{issuer}` is made anew"));
        } else if !standing.known().is_empty()
            && !compare::leads_to(certificate, rest, standing.known(), self.request.now)
        {
            words.push(format!("it is not issued by `{issuer}`, but by {}", certificate.issuer().text()));
        }
        match self.key_in(place, &files.key) {
            Err(reason) => words.push(reason),
            Ok(key) if !certificate.certifies(&key.public_key) => {
                words.push(format!("{} is the key of another certificate", files.key.display()));
            }
            Ok(key) => words.extend(self.algorithm_words(key, wanted)),
        }
        words
    }

    /// The key at `path`, if it can be used for what is wanted.
    fn usable_key(&self, place: &'a Place, path: &Path, wanted: &ResolvedLeaf) -> Result<&'a FoundKey, String> {
        let key = self.key_in(place, path)?;
        self.algorithm_words(key, wanted).map_or(Ok(key), Err)
    }

    fn key_in(&self, place: &'a Place, path: &Path) -> Result<&'a FoundKey, String> {
        let Some(artifact) = self.find(place, path) else {
            return Err(if self.is_there(place, path) {
                format!("{} holds no private key", path.display())
            } else {
                "its private key is missing".to_owned()
            });
        };
        match artifact.content().and_then(|content| content.private_key.as_ref()) {
            Some(Ok(key)) => Ok(key),
            Some(Err(error)) => Err(format!("{}: {error}", path.display())),
            None => Err(format!("{} holds no private key", path.display())),
        }
    }

    /// What differs about the kind of a key, where somebody asked for one.
    pub(super) fn algorithm_words(&self, key: &FoundKey, wanted: &ResolvedLeaf) -> Option<String> {
        let differs = self.request.spec.algorithm_is_wanted && key.kind != wanted.algorithm.into();
        differs.then(|| format!("its key is {}, not {}", key.kind, wanted.algorithm))
    }
}

pub(super) fn basis(wanted: ResolvedLeaf) -> Basis {
    Basis::Leaf { subject: wanted.subject, sans: wanted.sans, usages: wanted.usages }
}

fn request_words(artifact: Option<&Artifact>, wanted: &ResolvedLeaf, key: Option<&FoundKey>) -> Vec<String> {
    let Some(content) = artifact.and_then(Artifact::content) else { return vec!["it cannot be read".to_owned()] };
    let request = match content.requests.first() {
        Some(Ok(request)) => request,
        Some(Err(error)) => return vec![error.clone()],
        None => return vec!["there is no signing request in it".to_owned()],
    };
    let mut words = compare::request_differences(request, wanted);
    match key {
        Some(key) if key.public_key == request.public_key => {}
        Some(_) => words.push("it is for another key".to_owned()),
        None => words.push("its private key is missing".to_owned()),
    }
    words
}

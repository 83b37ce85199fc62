//! Signed certificates that come back from an external CA: each checked as if a stranger had sent it, the good ones taken.
//!
//! A certificate is taken when it is for the key that waits here, says what the spec wants, is issued by the CA in place
//! and is valid now. One that is not is reported and keeps nobody else out.

use std::path::{Path, PathBuf};

use super::{Builder, PUBLIC, Place, Problem, Refusal, Remedy, Request, SECRET, below, existing};
use crate::pki::certificate::Certificate;
use crate::pki::spec::{Authority, Kubeconfig, Leaf, ResolvedLeaf};
use crate::plan::blueprint::{Blueprint, CertificateRef, FileContent, KeySource, KubeconfigPlan};
use crate::plan::signed::{self, Issuer, Signed, authority_words, readable};
use crate::snapshot::{Artifact, NodeSnapshot};

/// What can be imported, and what cannot.
#[derive(Debug)]
pub struct Import {
    /// Everything that is good.
    pub blueprint: Blueprint,
    /// Everything that is bad or missing.
    pub problems: Vec<Problem>,
}

/// Plans the import of what lies below `folder`, as found in `offered`.
///
/// # Errors
/// When the spec does not fit a node, or a name is unknown. Bad certificates are no error.
pub fn import(request: &Request<'_>, folder: &Path, offered: &NodeSnapshot) -> Result<Import, Refusal> {
    let mut importer = Importer { builder: Builder::new(request)?, folder, offered, authorities: Vec::new() };
    for entry in &request.spec.authorities {
        importer.authority(entry);
    }
    for place in request.nodes {
        for entry in &request.spec.certificates {
            importer.leaf(place, entry)?;
        }
        for entry in &request.spec.kubeconfigs {
            importer.kubeconfig(place, entry)?;
        }
    }
    let (blueprint, problems) = importer.builder.finish_partly();
    Ok(Import { blueprint, problems })
}

struct Importer<'a, 'b> {
    builder: Builder<'a>,
    folder: &'b Path,
    offered: &'b NodeSnapshot,
    /// Certificates of authorities, by name: those in place, or those that are taken now.
    authorities: Vec<(String, Vec<Certificate>)>,
}

impl<'a, 'b> Importer<'a, 'b> {
    fn authority(&mut self, entry: &'a Authority) {
        let nodes = self.builder.request.nodes;
        let there =
            nodes.iter().find_map(|place| readable(self.builder.find(place, &below(place, &entry.path, "crt"))).ok());
        if let Some(certificates) = there {
            self.authorities.push((entry.name.to_string(), certificates));
            return;
        }
        let Some(first) = nodes.first() else { return };
        let Some(artifact) = self.find_offered(first, &[&entry.path, &entry.name]) else { return };
        let words = match readable(Some(artifact)) {
            Ok(certificates) => {
                let words = authority_words(&certificates[0], self.builder.request.now);
                if words.is_empty() {
                    let not_after = Some(certificates[0].not_after());
                    for place in nodes {
                        let content = (FileContent::Certificates(existing(&certificates)), PUBLIC);
                        self.builder.write(place, below(place, &entry.path, "crt"), &entry.name, content, not_after);
                    }
                    self.authorities.push((entry.name.to_string(), certificates));
                    return;
                }
                words
            }
            Err(words) => vec![words],
        };
        self.reject(first, &artifact.path, &entry.name, words);
    }

    fn leaf(&mut self, place: &'a Place, entry: &'a Leaf) -> Result<(), Refusal> {
        if !self.builder.is_wanted(&entry.name, false) {
            return Ok(());
        }
        let wanted = self.builder.request.spec.resolve_leaf(entry, &place.values)?;
        let (path, key_path) = (below(place, &entry.path, "crt"), below(place, &entry.path, "key"));
        let request = below(place, &entry.path, "csr");
        let key = self.builder.find(place, &key_path).and_then(|artifact| artifact.content()?.private_key.as_ref());
        let Some(artifact) = self.find_offered(place, &[&entry.path, &entry.name]) else {
            let is_waiting =
                self.builder.is_there(place, &request) || key.is_some() && !self.builder.is_there(place, &path);
            if is_waiting {
                self.missing(place, &request, &entry.name, &[&entry.path, &entry.name]);
            }
            return Ok(());
        };
        let public_key = match key {
            Some(Ok(key)) => Ok(key.public_key.as_slice()),
            Some(Err(error)) => Err(format!("{}: {error}", key_path.display())),
            None => Err(format!("its private key {} is missing", key_path.display())),
        };
        let Some(signed) = self.judge(place, artifact, &entry.name, &entry.issuer, &wanted, public_key) else {
            return Ok(());
        };
        let is_same = super::leading_of(self.builder.find(place, &path)) == Some(&signed.certificate);
        if is_same {
            self.builder.keep(place, path, &entry.name);
        } else {
            let not_after = Some(signed.certificate.not_after());
            let content = FileContent::Certificates(chain(&signed));
            self.builder.write(place, path, &entry.name, (content, PUBLIC), not_after);
        }
        self.forget_request(place, request, &entry.name);
        Ok(())
    }

    fn kubeconfig(&mut self, place: &'a Place, entry: &'a Kubeconfig) -> Result<(), Refusal> {
        let Some(kubernetes) = &place.kubernetes_dir else { return Ok(()) };
        let path = kubernetes.join(&*entry.path);
        let request = PathBuf::from(format!("{}.csr", path.display()));
        if !self.builder.is_wanted(&entry.name, !self.builder.is_there(place, &path)) {
            return Ok(());
        }
        let wanted = self.builder.request.spec.resolve_kubeconfig(entry, &place.values)?;
        let found =
            self.builder.find(place, &path).and_then(|artifact| artifact.content()?.kubeconfig.as_ref()?.as_ref().ok());
        let user = found.and_then(|kubeconfig| kubeconfig.current_user());
        let Some(artifact) = self.find_offered(place, &[&entry.name, &entry.path]) else {
            let is_waiting = user.is_some_and(|user| user.certificate.content.is_none() && user.key.content.is_some());
            if is_waiting || self.builder.is_there(place, &request) {
                self.missing(place, &request, &entry.name, &[&entry.name]);
            }
            return Ok(());
        };
        let key = user.and_then(|user| user.key.key());
        let public_key =
            key.map(|key| key.public_key.as_slice()).ok_or_else(|| format!("no private key is in {}", path.display()));
        let Some(signed) = self.judge(place, artifact, &entry.name, &entry.issuer, &wanted.client, public_key) else {
            return Ok(());
        };
        let Some(user) = user else { return Ok(()) };
        if user.certificate.certificates().next() == Some(&signed.certificate) {
            self.builder.keep(place, path, &entry.name);
            self.forget_request(place, request, &entry.name);
            return Ok(());
        }
        let plan = if user.certificate.content.is_some() {
            let clients = vec![(user.name.clone(), chain(&signed), None)];
            KubeconfigPlan::Existing { authorities: Vec::new(), clients }
        } else {
            // Only a key waits in there: the file was begun by `--csr-only`, and is finished now.
            let id = format!("{}/{}", place.node, entry.name);
            let (node, name) = (place.node.clone(), user.name.clone());
            self.builder.key(&id, KeySource::Kubeconfig { node, path: path.clone(), user: name });
            KubeconfigPlan::New {
                cluster: wanted.cluster,
                server: wanted.server,
                user: wanted.user,
                context: wanted.context,
                authorities: existing(self.known(&entry.issuer)),
                client: (chain(&signed), id),
            }
        };
        let not_after = Some(signed.certificate.not_after());
        self.builder.write(place, path, &entry.name, (FileContent::Kubeconfig(plan), SECRET), not_after);
        self.forget_request(place, request, &entry.name);
        Ok(())
    }

    /// Takes the certificate for `public_key` out of an offered file, or reports what is wrong with it.
    fn judge(
        &mut self,
        place: &Place,
        artifact: &Artifact,
        name: &str,
        issuer: &str,
        wanted: &ResolvedLeaf,
        public_key: Result<&[u8], String>,
    ) -> Option<Signed> {
        let issuer = Issuer { name: issuer, known: self.known(issuer) };
        match signed::judge(artifact, wanted, public_key, issuer, self.builder.request.now) {
            Ok(signed) => Some(signed),
            Err(words) => {
                self.reject(place, &artifact.path, name, words);
                None
            }
        }
    }

    fn known(&self, issuer: &str) -> &[Certificate] {
        self.authorities.iter().find(|(name, _)| name == issuer).map_or(&[], |(_, certificates)| certificates)
    }

    fn find_offered(&self, place: &Place, names: &[&str]) -> Option<&'b Artifact> {
        signed::find(self.offered, &[self.folder.join(&place.node), self.folder.to_owned()], names)
    }

    fn forget_request(&mut self, place: &Place, path: PathBuf, name: &str) {
        if self.builder.is_there(place, &path) {
            self.builder.remove(place, path, name);
        }
    }

    fn missing(&mut self, place: &Place, request: &Path, name: &str, names: &[&str]) {
        let mut files: Vec<String> = names.iter().map(|name| format!("{name}.crt")).collect();
        files.dedup();
        let words =
            vec![format!("no signed certificate: there is no {} in {}", files.join(" or "), self.folder.display())];
        let remedy =
            Remedy::ByHand("have it signed, put the certificate there and run the same command again".to_owned());
        self.builder.problem(place, request, name, words, remedy);
    }

    fn reject(&mut self, place: &Place, path: &Path, name: &str, words: Vec<String>) {
        let remedy = Remedy::ByHand("have the request signed again and run the same command again".to_owned());
        self.builder.problem(place, path, name, words, remedy);
    }
}

/// The certificate and the intermediates that came with it.
fn chain(signed: &Signed) -> Vec<CertificateRef> {
    let all = std::iter::once(&signed.certificate).chain(signed.intermediates());
    all.flat_map(|one| existing(std::slice::from_ref(one))).collect()
}

//! Certificates in files of their own: a new key and a new certificate in the place of a pair of which one is broken.

use std::path::Path;

use super::authorities::Authorities;
use super::basis;
use super::builder::{Builder, PUBLIC, SECRET, Stage, USUAL};
use crate::pki::algorithm::KeyAlgorithm;
use crate::pki::chain::{self, Signature};
use crate::plan::blueprint::{Basis, CertificateRef, FileContent};
use crate::snapshot::{Part, key_paths};

impl Builder<'_> {
    /// Makes the pair `id` of a node again.
    pub(super) fn leaf(&mut self, authorities: &Authorities, node: usize, id: &str) -> Result<String, String> {
        let artifact = self.node(node).entry(id).ok_or("nobody knows where it belongs on this node")?;
        let part = artifact.part.ok_or("nobody knows what it is")?;
        let design = self.design(node);
        let designed = design.and_then(|design| design.leaves.iter().find(|(name, ..)| name == id));
        let on_disk = artifact.content().and_then(|content| content.certificates().next());
        let wanted = basis::wanted(self, node, part, on_disk, designed.map(|(_, _, leaf)| leaf));
        let wanted = wanted.ok_or_else(|| {
            let why = design.and_then(|design| design.trouble.clone()).unwrap_or_default();
            format!(
                "nothing tells what it said: bring it back from a backup, or make it with `kubepki create-certs --only \
                 {id} --force{}`{}",
                self.request.target,
                if why.is_empty() { String::new() } else { format!(" ({why})") }
            )
        })?;
        let ids = issuers(part, designed.map(|(_, issuer, _)| issuer.as_str()));
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let signer = authorities.signer(self, &ids, wanted.old)?;
        let path = artifact.path.clone();
        let Some(key_path) = key_paths(artifact).into_iter().next() else {
            return Err("nobody knows where its key belongs".to_owned());
        };
        let name = format!("{}/{id}", self.node(node).name);
        self.new_key(&name, wanted.algorithm);
        self.write(node, Stage::Leaves, (&key_path, id), (FileContent::PrivateKey(name.clone()), SECRET), None)?;
        let above = signer.above.clone();
        let end = self.certificate(&name, wanted.basis, (wanted.old, wanted.usual), signer);
        let chain = std::iter::once(CertificateRef::Planned(name)).chain(above).collect();
        self.write(node, Stage::Leaves, (&path, id), (FileContent::Certificates(chain), PUBLIC), Some(end))?;
        Ok(format!("a new pair is made, {}", wanted.source))
    }

    /// Makes a pair again that no catalog knows: what it says and who issued it stands in it.
    pub(super) fn other(&mut self, authorities: &Authorities, node: usize, path: &Path) -> Result<String, String> {
        let artifact = self.found(node, path).ok_or("it is not there any more")?;
        let content = artifact.content().ok_or("it cannot be read")?;
        let old = content.certificates().next().filter(|one| !one.is_ca());
        let old = old.ok_or("nobody knows this file: ask whoever made it")?;
        let place = self.node(node).key_for(artifact).map(|(file, _)| file.path.clone());
        let key_path = place.filter(|place| *place != *path).ok_or("nobody knows where its key belongs")?;
        if content.damaged_blocks > 0 || content.certificates().count() > 1 {
            return Err("it is a bundle that nobody knows: ask whoever made it".to_owned());
        }
        let authority = self.snapshot.artifacts().find_map(|(_, one)| {
            let part = one.part.filter(|part| part.entry.kind == crate::pki::catalog::Kind::Authority)?;
            let signed = |ca| chain::issued(old, ca) == Signature::Good;
            one.content()?.certificates().any(signed).then_some(part.entry.id)
        });
        let authority = authority.ok_or("none of the authorities here issued it: ask whoever did for a new one")?;
        let signer = authorities.signer(self, &[authority], Some(old))?;
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = format!("{}/{}", self.node(node).name, path.display());
        self.new_key(&name, old.key_kind().algorithm().unwrap_or(KeyAlgorithm::Rsa2048));
        self.write(node, Stage::Leaves, (&key_path, &file), (FileContent::PrivateKey(name.clone()), SECRET), None)?;
        let basis = Basis::Renewal { old: Box::new(old.clone()), subject: None, sans: None, usages: None };
        let end = self.certificate(&name, basis, (Some(old), USUAL), signer);
        let content = FileContent::Certificates(vec![CertificateRef::Planned(name)]);
        self.write(node, Stage::Leaves, (path, &file), (content, PUBLIC), Some(end))?;
        Ok("a new pair is made, from what it said".to_owned())
    }
}

/// Who may issue it, the likeliest first.
pub(super) fn issuers(part: Part, designed: Option<&str>) -> Vec<String> {
    let mut ids: Vec<String> = designed.into_iter().chain(part.entry.issuer).map(str::to_owned).collect();
    ids.extend(part.entry.also_issued_by.iter().map(|id| (*id).to_owned()));
    ids.dedup();
    ids
}

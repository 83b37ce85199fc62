//! The controller manager's signer, apart from what everybody trusts.
//!
//! kubeadm gives kube-controller-manager `ca.crt` for three things: trust in clients, the CA that it publishes, and the
//! certificate that it signs with. The last may hold one certificate only (Kubernetes
//! pkg/controller/certificates/signer/ca_provider.go), so before `ca.crt` becomes a bundle the signer moves to files of its
//! own, and so does the published CA, which is read once. At the end both move back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::contents::Shared;
use super::pods::Pods;
use super::slots::{Slot, Slots};
use super::{Authority, needs_static_pods};
use crate::error::Failure;
use crate::pki::component::flag;
use crate::plan::blueprint::{CertificateRef, FileContent, Id, PlannedFile};
use crate::plan::operation::FileAction;

/// The component's name.
pub(super) const CONTROLLER_MANAGER: &str = "kube-controller-manager";

const CERTIFICATE: &str = "--cluster-signing-cert-file";
const KEY: &str = "--cluster-signing-key-file";
const ROOT: &str = "--root-ca-file";

/// Flags that take the place of the pair above for one signer each; kubeadm sets none of them.
const OF_ONE_SIGNER: [&str; 4] = [
    "--cluster-signing-kubelet-serving-cert-file",
    "--cluster-signing-kubelet-client-cert-file",
    "--cluster-signing-kube-apiserver-client-cert-file",
    "--cluster-signing-legacy-unknown-cert-file",
];

/// Moves signer and published CA to files of their own, where the authority they are is replaced.
pub(super) fn split(
    slots: &mut Slots,
    pods: &mut Pods<'_>,
    files: &[PlannedFile],
    shared: &Shared<'_>,
    old_keys: &BTreeMap<Id, Id>,
) -> Result<(), Failure> {
    if !pods.are_static() {
        let trusts = |file: &&PlannedFile| {
            file.name == "ca" && matches!(&file.content, Some(FileContent::Certificates(all)) if shared.are_trust(all))
        };
        return if files.iter().any(|file| trusts(&file)) {
            needs_static_pods(pods.means(), pods.node())
        } else {
            Ok(())
        };
    }
    let Some(manifest) = pods.found(CONTROLLER_MANAGER) else { return Ok(()) };
    refuse_odd_flags(pods, manifest, files, shared)?;
    let replaced = |name: &str| {
        let path = Path::new(flag(manifest, name).filter(|path| !path.is_empty())?);
        let file = files.iter().find(|file| file.path == path)?;
        let Some(FileContent::Certificates(references)) = &file.content else { return None };
        Some((path, shared.first_authority(references)?))
    };
    let mut flags: Vec<(&str, String)> = Vec::new();
    if let Some((path, authority)) = replaced(CERTIFICATE) {
        if let Some(odd) = OF_ONE_SIGNER.iter().find(|name| flag(manifest, name).is_some_and(|path| !path.is_empty())) {
            return Err(Failure::failed(format!(
                "node {}: kube-controller-manager has the flag {odd}, with which kubepki does not know which CA signs what",
                pods.node()
            ))
            .hint("take it out of the manifest, or leave the cluster's CA out: `--only etcd-ca`, `--only sa`, `--only leaf`"));
        }
        let folder = own_folder(path).join("signing");
        let (certificate, key) = (folder.join("ca.crt"), folder.join("ca.key"));
        if authority.is_taken {
            return Err(Failure::failed(format!(
                "node {}: kube-controller-manager signs with {}, which is replaced by a CA whose key is not here",
                pods.node(),
                path.display()
            ))
            .hint(format!(
                "take {CERTIFICATE} and {KEY} out of its manifest, as kubeadm does where the CA's key is elsewhere, or give it a \
                 signer of its own"
            )));
        }
        let Some(old_key) = old_keys.get(&authority.id) else {
            return Err(Failure::failed(format!(
                "node {}: the key of {} is not where kube-controller-manager finds it",
                pods.node(),
                path.display()
            ))
            .hint(format!("let {KEY} in its manifest name the file of the key that belongs to that certificate")));
        };
        signer(slots, &certificate, &key, authority, old_key);
        flags.push((CERTIFICATE, certificate.display().to_string()));
        flags.push((KEY, key.display().to_string()));
    }
    if let Some((path, authority)) = replaced(ROOT) {
        let bundle = own_folder(path).join("root-ca.crt");
        let both = vec![
            CertificateRef::Existing(Box::new(authority.old.clone())),
            CertificateRef::Planned(authority.id.clone()),
        ];
        slots.put(Slot::TrustSigner, made(&bundle, 0o644, FileContent::Certificates(both)));
        slots.put(Slot::DropRemains, gone(&bundle));
        flags.push((ROOT, bundle.display().to_string()));
    }
    if flags.is_empty() {
        return Ok(());
    }
    let flags: Vec<(&str, &str)> = flags.iter().map(|(name, path)| (*name, path.as_str())).collect();
    pods.set_flags(CONTROLLER_MANAGER, &flags)?;
    slots.restart(Slot::TrustSigner, CONTROLLER_MANAGER, pods.restarted(CONTROLLER_MANAGER)?);
    Ok(())
}

/// Refuses flags that are there and cannot be read: in a list on one line, with their value as a word of its own, within a
/// script. Overlooked, they would name a bundle where the controller manager looks for one certificate.
fn refuse_odd_flags(
    pods: &Pods<'_>,
    manifest: &str,
    files: &[PlannedFile],
    shared: &Shared<'_>,
) -> Result<(), Failure> {
    let trusts =
        |file: &PlannedFile| matches!(&file.content, Some(FileContent::Certificates(all)) if shared.are_trust(all));
    let is_odd = |name: &&str| manifest.contains(name) && flag(manifest, name).is_none();
    match [CERTIFICATE, KEY, ROOT].iter().find(|name| is_odd(name)).filter(|_| files.iter().any(trusts)) {
        None => Ok(()),
        Some(odd) => Err(Failure::failed(format!(
            "node {}: {}: the flag {odd} is not laid out as kubeadm does it",
            pods.node(),
            pods.path(CONTROLLER_MANAGER).unwrap_or(Path::new(CONTROLLER_MANAGER)).display()
        ))
        .hint("give it a line of its own, `- --flag=value`; kubepki has to change it for a while")),
    }
}

/// The signer's pair: the old one, then the new one, then none.
fn signer(slots: &mut Slots, certificate: &Path, key: &Path, authority: &Authority, old_key: &Id) {
    let old = FileContent::Certificates(vec![CertificateRef::Existing(Box::new(authority.old.clone()))]);
    let new = FileContent::Certificates(vec![CertificateRef::Planned(authority.id.clone())]);
    slots.put(Slot::TrustSigner, made(key, 0o600, FileContent::PrivateKey(old_key.clone())));
    slots.put(Slot::TrustSigner, made(certificate, 0o644, old));
    slots.put(Slot::IssueAll, changed(key, FileContent::PrivateKey(authority.key.clone())));
    slots.put(Slot::IssueAll, changed(certificate, new));
    slots.put(Slot::DropRemains, gone(certificate));
    slots.put(Slot::DropRemains, gone(key));
}

/// kubepki's folder beside a CA: inside the folder that the static pod sees.
fn own_folder(authority: &Path) -> PathBuf {
    authority.with_file_name("kubepki")
}

fn made(path: &Path, mode: u32, content: FileContent) -> PlannedFile {
    planned(path, FileAction::Created, mode, Some(content))
}

fn changed(path: &Path, content: FileContent) -> PlannedFile {
    planned(path, FileAction::Replaced, 0o600, Some(content))
}

fn gone(path: &Path) -> PlannedFile {
    planned(path, FileAction::Removed, 0o600, None)
}

fn planned(path: &Path, action: FileAction, mode: u32, content: Option<FileContent>) -> PlannedFile {
    let name = path.file_name().map(|name| format!("kubepki/{}", name.to_string_lossy())).unwrap_or_default();
    PlannedFile {
        path: path.to_path_buf(),
        name,
        step: 0,
        action,
        content,
        mode,
        seen: None,
        old_serial_number: None,
        not_after: None,
    }
}

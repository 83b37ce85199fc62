//! The one change that lets revocations take effect without restarts from then on: kube-apiserver reads its authorizers and
//! its client trust from kubepki's files, and etcd its revocation lists.
//!
//! Files come before the manifests that name them, and stay until those are back when the change is taken back. Whatever
//! would keep a component from starting is refused here.

use std::path::{Path, PathBuf};

use super::{
    API_SERVER, AUTHORIZATION, AUTHORIZATION_CONFIG, AUTHORIZATION_MODE, CLIENT_CA, CLIENT_CRL, CLIENT_TRUST, COMMAND,
    CONTROLLER_MANAGER, DENY, ETCD, PEER_CRL, Seat,
};
use crate::error::Failure;
use crate::pki::authorization::{self, DENY_KUBECONFIG, Denied};
use crate::pki::client_trust::ClientTrust;
use crate::pki::manifest_flags::{Edit, edited};
use crate::plan::blueprint::{Blueprint, FileContent, NodeBlueprint, PlannedFile};
use crate::plan::restart::Manifest;

/// The first minor version of Kubernetes 1 whose kube-apiserver knows a certificate by its hash in authorizers.
const FIRST_MINOR: u32 = 32;

/// What is to be done.
#[derive(Debug, Default)]
pub struct Preparation {
    /// Files of kubepki's, and who has to start anew; its manifests are not in it yet.
    pub blueprint: Blueprint,
    /// The manifests of those, with other flags.
    pub manifests: Vec<Manifest>,
}

/// Plans it for these control-plane nodes. `lists` gives empty revocation lists (clients, members) for a node's etcd, named as
/// a file of etcd's; `None` where there is no etcd to prepare.
///
/// # Errors
/// When a component cannot be prepared, with node and reason; then none is.
pub fn plan(
    seats: &[Seat],
    denied: &Denied,
    lists: &dyn Fn(&Seat) -> Option<[FileContent; 2]>,
) -> Result<Preparation, Failure> {
    let mut preparation = Preparation::default();
    COMMAND.clone_into(&mut preparation.blueprint.command);
    for seat in seats {
        let (mut files, mut restarts) = (Vec::new(), Vec::new());
        let lists = if seat.manifest(ETCD).is_some() { lists(seat) } else { None };
        for (component, edits) in
            [(ETCD, etcd(seat, lists, &mut files)), (API_SERVER, api_server(seat, denied, &mut files)?), manager(seat)]
        {
            let Some(manifest) = seat.manifest(component) else { continue };
            let edits: Vec<(Kind, PathBuf)> = edits;
            if edits.is_empty() {
                continue;
            }
            let values: Vec<(Kind, String)> =
                edits.iter().map(|(kind, path)| (*kind, path.display().to_string())).collect();
            for (_, path) in &edits {
                seen_by_pod(seat, manifest, path)?;
            }
            let edits: Vec<Edit<'_>> = values.iter().map(|(kind, value)| kind.edit(value)).collect();
            let text = edited(&manifest.text, &edits).map_err(|reason| {
                Failure::failed(format!("node {}: {}: {reason}", seat.node, manifest.path.display()))
                    .hint("kubepki changes flags that are laid out as kubeadm does, each on a line of its own")
            })?;
            if text != manifest.text {
                restarts.push(component.to_owned());
                preparation.manifests.push(Manifest { text, ..manifest.clone() });
            }
        }
        if !files.is_empty() || !restarts.is_empty() {
            let node = NodeBlueprint { node: seat.node.clone(), files, restarts, steps: Vec::new() };
            preparation.blueprint.nodes.push(node);
        }
    }
    Ok(preparation)
}

/// What a flag is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Authorization,
    ClientTrust,
    ClientList,
    PeerList,
}

impl Kind {
    fn flag(self) -> &'static str {
        match self {
            Self::Authorization => AUTHORIZATION_CONFIG,
            Self::ClientTrust => CLIENT_CA,
            Self::ClientList => CLIENT_CRL,
            Self::PeerList => PEER_CRL,
        }
    }

    fn edit(self, value: &str) -> Edit<'_> {
        match self {
            Self::Authorization => Edit::Replace(AUTHORIZATION_MODE, AUTHORIZATION_CONFIG, value),
            _ => Edit::Set(self.flag(), value),
        }
    }
}

fn api_server(seat: &Seat, denied: &Denied, files: &mut Vec<PlannedFile>) -> Result<Vec<(Kind, PathBuf)>, Failure> {
    let Some(manifest) = seat.manifest(API_SERVER) else { return Ok(Vec::new()) };
    refuse_old(seat, manifest)?;
    let wrong = |path: &Path, reason: String| {
        Failure::failed(format!("node {}: {}: {reason}", seat.node, path.display()))
            .hint("correct it by hand; nothing was changed")
    };
    let own = seat.authorization();
    let configured = seat.flag(API_SERVER, AUTHORIZATION_CONFIG).map(PathBuf::from);
    let base = match (configured, seat.flag(API_SERVER, AUTHORIZATION_MODE)) {
        (Some(path), _) => match seat.text(&path) {
            Some(text) => text.to_owned(),
            None => {
                return Err(wrong(&path, "it cannot be read, and kube-apiserver's authorizers are in it".to_owned()));
            }
        },
        (None, Some(modes)) => authorization::of_modes(modes).map_err(|reason| wrong(&manifest.path, reason))?,
        (None, None) => {
            return Err(wrong(
                &manifest.path,
                format!("it has neither {AUTHORIZATION_MODE} nor {AUTHORIZATION_CONFIG}"),
            ));
        }
    };
    let deny = seat.deny();
    let text =
        authorization::with_denied(&base, denied, &deny.display().to_string()).map_err(|reason| wrong(&own, reason))?;
    files.extend(seat.planned(deny, DENY, DENY_KUBECONFIG.as_bytes().to_vec()));
    files.extend(seat.planned(own.clone(), AUTHORIZATION, text.into_bytes()));
    let trust = seat.client_trust();
    let now = seat.flag(API_SERVER, CLIENT_CA).map(PathBuf::from);
    let now = now.ok_or_else(|| wrong(&manifest.path, format!("it has no {CLIENT_CA}")))?;
    if now != trust || !seat.files.contains_key(&trust) {
        // Without the bundle that its flag names it is as if it named the cluster's CA.
        let from = if now == trust { seat.pki_dir.join("ca.crt") } else { now };
        let read = seat.files.get(&from).ok_or_else(|| wrong(&from, "it cannot be read".to_owned()))?;
        let bundle = ClientTrust::read(read).and_then(|bundle| bundle.to_text());
        let bundle = bundle.map_err(|reason| wrong(&from, reason))?;
        files.extend(seat.planned(trust.clone(), CLIENT_TRUST, bundle.into_bytes()));
    }
    Ok(vec![(Kind::Authorization, own), (Kind::ClientTrust, trust)])
}

/// The controller manager believes the same clients: otherwise who is left out there would still be believed here.
fn manager(seat: &Seat) -> (&'static str, Vec<(Kind, PathBuf)>) {
    let asks = seat.flag(CONTROLLER_MANAGER, CLIENT_CA).is_some() && seat.manifest(API_SERVER).is_some();
    (CONTROLLER_MANAGER, if asks { vec![(Kind::ClientTrust, seat.client_trust())] } else { Vec::new() })
}

fn etcd(seat: &Seat, lists: Option<[FileContent; 2]>, files: &mut Vec<PlannedFile>) -> Vec<(Kind, PathBuf)> {
    let Some(lists) = lists else {
        // Lists that are there already have only to be read.
        let are_there = seat.manifest(ETCD).is_some() && seat.crls().iter().all(|path| seat.files.contains_key(path));
        let flags = [Kind::ClientList, Kind::PeerList].into_iter().zip(seat.crls());
        return if are_there { flags.collect() } else { Vec::new() };
    };
    let mut flags = Vec::new();
    for ((kind, name), (path, list)) in [(Kind::ClientList, "kubepki/client.crl"), (Kind::PeerList, "kubepki/peer.crl")]
        .into_iter()
        .zip(seat.crls().into_iter().zip(lists))
    {
        // One that is there already may name somebody.
        if !seat.files.contains_key(&path) {
            let file = seat.planned(path.clone(), name, Vec::new());
            files.extend(file.map(|file| PlannedFile { content: Some(list), ..file }));
        }
        flags.push((kind, path));
    }
    flags
}

/// Refuses a file that the process in the pod would not find.
fn seen_by_pod(seat: &Seat, manifest: &Manifest, path: &Path) -> Result<(), Failure> {
    let mounts = |key: &str| -> Vec<&str> {
        let lines = manifest.text.lines().map(|line| line.trim().trim_start_matches("- "));
        lines.filter_map(|line| line.strip_prefix(key)).map(|rest| rest.trim().trim_matches(['"', '\''])).collect()
    };
    let (inside, outside) = (mounts("mountPath:"), mounts("path:"));
    let covers = |place: &&str| place.starts_with('/') && path.starts_with(place);
    if inside.is_empty() || inside.iter().any(|place| covers(place) && outside.contains(place)) {
        return Ok(());
    }
    let message = format!(
        "node {}: {} would not see {}: none of its volumes holds that folder under the same path",
        seat.node,
        manifest.component,
        path.display()
    );
    Err(Failure::failed(message)
        .hint(format!("mount {} into the pod as a folder, as kubeadm does", seat.pki_dir.display())))
}

/// Refuses an API server for which certificates have no hash in authorizers.
fn refuse_old(seat: &Seat, manifest: &Manifest) -> Result<(), Failure> {
    let image = manifest.text.lines().find_map(|line| line.trim().trim_start_matches("- ").strip_prefix("image:"));
    let tag = image.and_then(|image| image.trim().trim_matches(['"', '\'']).rsplit_once(':')).map(|(_, tag)| tag);
    let minor =
        tag.and_then(|tag| tag.trim_start_matches('v').strip_prefix("1.")?.split('.').next()?.parse::<u32>().ok());
    match minor.filter(|minor| *minor < FIRST_MINOR) {
        None => Ok(()),
        Some(_) => Err(Failure::failed(format!(
            "node {}: kube-apiserver is {}, and authorizers know certificates from v1.{FIRST_MINOR} on",
            seat.node,
            tag.unwrap_or_default()
        ))
        .hint("`kubepki rotate-certs --only cluster-ca` ends every certificate of the cluster's CA, in any version")),
    }
}

//! Which spec `create-certs` works with: a file, a profile, the cluster file's, with the options on top.

use std::path::Path;

use super::CreateCertsArgs;
use crate::cli::cluster_file::{ClusterFile, ProfileChoice};
use crate::error::Failure;
use crate::node::local::LocalNode;
use crate::node::{FoundState, Node, Query};
use crate::pki::profile::Profile;
use crate::pki::spec::{API_VERSION, KIND, Overrides, Spec, SpecError};

/// The effective spec.
///
/// # Errors
/// Exit code 2 when a file, an option or the whole makes no sense.
pub(super) fn load(args: &CreateCertsArgs, cluster: Option<&ClusterFile>) -> anyhow::Result<Spec> {
    let spec = base(args.spec.as_deref(), args.profile, cluster)?;
    let named = cluster.and_then(|cluster| cluster.spec.control_plane_endpoint.clone());
    let endpoint = named.filter(|_| spec.cluster.control_plane_endpoint.is_none());
    let overrides = Overrides {
        key_algorithm: args.key_algorithm,
        ca_validity: args.ca_validity,
        validity: args.validity,
        sans: args.sans.clone(),
        control_plane_endpoint: args.control_plane_endpoint.clone().or(endpoint),
        advertise_address: args.advertise_address.map(|address| address.to_string()),
        node_name: args.node_name.clone(),
        service_subnet: args.service_subnet.clone(),
        dns_domain: args.service_dns_domain.clone(),
    };
    spec.with(overrides).map_err(|error| failure(&error, args.spec.as_deref()))
}

/// The spec before any option: that of a file, a profile, or the cluster file, else kubeadm's.
///
/// # Errors
/// Exit code 2 when the file cannot be read or makes no sense.
pub(in crate::cli) fn base(
    file: Option<&Path>,
    profile: Option<Profile>,
    cluster: Option<&ClusterFile>,
) -> anyhow::Result<Spec> {
    if let Some(path) = file {
        let document = document(path)?;
        return Spec::read(&document, profile).map_err(|error| failure(&error, Some(path)));
    }
    match (profile, cluster.and_then(|cluster| cluster.spec.profile.as_ref())) {
        (Some(profile), _) => Ok(profile.spec()),
        (None, Some(ProfileChoice::Named(profile))) => Ok(profile.spec()),
        (None, Some(ProfileChoice::Inline(fields))) => inline(fields),
        (None, None) => Ok(Profile::Kubeadm.spec()),
    }
}

/// A spec's fault as a failure: file, line, column, then what.
pub(in crate::cli) fn failure(error: &SpecError, file: Option<&Path>) -> anyhow::Error {
    let message = match (file, error.place) {
        (Some(file), Some(place)) => format!("{}:{}:{}: {}", file.display(), place.line, place.column, error.message),
        (Some(file), None) => format!("{}: {}", file.display(), error.message),
        (None, _) => error.message.clone(),
    };
    let failure = Failure::usage(message);
    match &error.hint {
        Some(hint) => failure.hint(hint.clone()).into(),
        None => failure.into(),
    }
}

fn document(path: &Path) -> anyhow::Result<zeroize::Zeroizing<Vec<u8>>> {
    let shown = path.display();
    let wrong = |reason: String| Failure::usage(format!("{shown}: {reason}"));
    let absolute = std::path::absolute(path).map_err(|error| wrong(error.to_string()))?;
    match LocalNode::open("local", "/")?.read(&[Query::File(absolute)])?.into_iter().next().map(|found| found.state) {
        Some(FoundState::File(content)) => Ok(content),
        Some(FoundState::Unreadable(reason)) => Err(wrong(format!("cannot read the spec: {reason}")).into()),
        Some(FoundState::Directory) => Err(wrong("is a folder, not a spec".to_owned()).into()),
        _ => Err(wrong("there is no such spec".to_owned())
            .hint("`kubepki create-certs --print-spec` prints one to start from")
            .into()),
    }
}

/// The profile written out in a cluster file. Places in it are lost, so only what is wrong is said.
fn inline(fields: &serde_json::Map<String, serde_json::Value>) -> anyhow::Result<Spec> {
    let mut fields = fields.clone();
    fields.entry("apiVersion").or_insert_with(|| API_VERSION.into());
    fields.entry("kind").or_insert_with(|| KIND.into());
    Spec::read(&serde_json::to_vec(&fields)?, None).map_err(|error| {
        let failure = Failure::usage(format!("cluster file: spec.profile: {}", error.message));
        failure.hint(error.hint.unwrap_or_else(|| "see docs/certificates.md for what a spec may say".to_owned())).into()
    })
}

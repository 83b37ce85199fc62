//! What a shell may offer for the name of a cluster, a group or a node: what is on this machine at that moment.
//!
//! Completion never fails and never asks: what cannot be read is simply not offered.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap_complete::CompletionCandidate;
use time::OffsetDateTime;

use super::session::home;
use super::target::{KnownCluster, known_clusters, read_cluster_file};
use crate::node::local::LocalNode;
use crate::observe::{Keys, Wanted, observe};
use crate::pki::profile::Profile;
use crate::snapshot::Artifact;

/// Names for `--name`; with `--resource-group` on the line only those of that group.
pub fn clusters(word: &OsStr) -> Vec<CompletionCandidate> {
    let group = typed(&["-g", "--resource-group"]);
    let wanted = known().into_iter().filter(|known| match &group {
        Some(group) => known.name.group.as_deref() == group.to_str(),
        None => known.name.group.is_none(),
    });
    starting_with(word, wanted.map(|known| known.name.name))
}

/// Names for `--resource-group`.
pub fn groups(word: &OsStr) -> Vec<CompletionCandidate> {
    starting_with(word, known().into_iter().filter_map(|known| known.name.group))
}

/// Names for `--node`: those of the cluster on the line, else those of every known cluster.
pub fn nodes(word: &OsStr) -> Vec<CompletionCandidate> {
    let files = match (typed(&["--cluster-file"]), typed(&["-n", "--name"])) {
        (Some(path), _) => vec![path.into()],
        (None, name) => {
            let is_wanted = |known: &KnownCluster| name.as_ref().is_none_or(|name| *name == *known.name.name);
            known().into_iter().filter(is_wanted).map(|known| known.path).collect()
        }
    };
    let clusters = files.iter().filter_map(|path| read_cluster_file(path).ok());
    starting_with(word, clusters.flat_map(|cluster| cluster.spec.nodes).map(|node| node.name))
}

/// Names for `--only`: the certificates in the folder, root or machine on the line.
pub fn certificates(word: &OsStr) -> Vec<CompletionCandidate> {
    starting_with(word, certificate_names().unwrap_or_default().into_iter())
}

/// Names for `rotate-certs --only`: its scopes, and the certificates that are there.
pub fn rotation_scopes(word: &OsStr) -> Vec<CompletionCandidate> {
    let scopes = ["ca", "cluster-ca", "leaf", "sa"].map(str::to_owned);
    starting_with(word, scopes.into_iter().chain(certificate_names().unwrap_or_default()))
}

fn certificate_names() -> anyhow::Result<Vec<String>> {
    let root = typed(&["--root"]).map_or_else(|| PathBuf::from("/"), PathBuf::from);
    let (root, wanted) = match typed(&["--pki-dir"]) {
        Some(folder) => ("/".into(), Wanted::pki_dir(std::path::absolute(folder)?, Keys::PublicHalf)),
        None => (std::path::absolute(root)?, Wanted::machine(Keys::PublicHalf)),
    };
    let node = LocalNode::open("local", root)?;
    // Names do not depend on the time.
    let snapshot = observe(&[&node], &wanted, OffsetDateTime::UNIX_EPOCH);
    let named = |artifact: &Artifact| {
        let file = artifact.path.file_stem().map(|name| name.to_string_lossy().into_owned());
        artifact.id().map(str::to_owned).or(file)
    };
    let held = snapshot.artifacts().filter(|(_, artifact)| {
        artifact
            .content()
            .is_some_and(|content| content.kubeconfig.is_some() || content.certificates().next().is_some())
    });
    Ok(held.filter_map(|(_, artifact)| named(artifact)).collect())
}

/// Names for `create-certs --only`: the entries of the profile on the line.
pub fn entries(word: &OsStr) -> Vec<CompletionCandidate> {
    let profile = typed(&["--profile"]).and_then(|name| name.to_str()?.parse::<Profile>().ok()).unwrap_or_default();
    starting_with(word, profile.spec().names().map(ToString::to_string))
}

fn known() -> Vec<KnownCluster> {
    home().and_then(|home| known_clusters(&home).ok()).unwrap_or_default()
}

/// The value of an option among the words typed so far.
fn typed(names: &[&str]) -> Option<OsString> {
    let words: Vec<OsString> = std::env::args_os().collect();
    value_after(&words, names)
}

fn value_after(words: &[OsString], names: &[&str]) -> Option<OsString> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if names.iter().any(|name| word == name) {
            return words.next().cloned();
        }
        let joined = word.to_str().and_then(|word| word.split_once('='));
        if let Some((_, value)) = joined.filter(|(name, _)| names.contains(name)) {
            return Some(value.into());
        }
    }
    None
}

fn starting_with(word: &OsStr, names: impl Iterator<Item = String>) -> Vec<CompletionCandidate> {
    let word = word.to_string_lossy();
    let mut names: Vec<String> = names.filter(|name| name.starts_with(&*word)).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(CompletionCandidate::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_of_an_option_is_found_in_both_spellings() {
        let words = ["kubepki", "show", "-n", "lab", "--resource-group=prod", "--node"].map(OsString::from);
        assert_eq!(value_after(&words, &["-n", "--name"]).as_deref(), Some(OsStr::new("lab")));
        assert_eq!(value_after(&words, &["-g", "--resource-group"]).as_deref(), Some(OsStr::new("prod")));
        assert_eq!(value_after(&words, &["--node"]), None);
    }
}

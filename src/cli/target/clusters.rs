//! The clusters this user knows: the files below `~/.kubepki/clusters`.

use std::path::{Path, PathBuf};

use super::super::cluster_file::ClusterFile;
use super::read_cluster_file;
use crate::error::{ExitCode, Failure, exit_code};
use crate::node::local::LocalNode;
use crate::node::{Node, Query};

/// `[GROUP/]NAME`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusterName {
    /// `--resource-group`.
    pub group: Option<String>,
    /// `--name`.
    pub name: String,
}

/// One cluster file found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownCluster {
    /// What `-n` and `-g` call it.
    pub name: ClusterName,
    /// Where its file is.
    pub path: PathBuf,
}

impl ClusterName {
    /// A name of two parts that are each one component of a path.
    ///
    /// # Errors
    /// A sentence on what is wrong with the name.
    pub fn new(name: String, group: Option<String>) -> Result<Self, String> {
        let group = group.filter(|group| !group.is_empty());
        for part in std::iter::once(&name).chain(&group) {
            if part.is_empty() || part.starts_with('.') || part.contains(['/', '\\', '\0']) {
                return Err(format!("{part:?} cannot be the name of a cluster or a group"));
            }
        }
        Ok(Self { group, name })
    }

    /// The file of this cluster below `home`.
    pub fn path(&self, home: &Path) -> PathBuf {
        let mut path = folder(home);
        path.extend(&self.group);
        path.join(format!("{}.yaml", self.name))
    }
}

impl std::fmt::Display for ClusterName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.group {
            Some(group) => write!(f, "{group}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Every cluster file below `home`, by group and name.
///
/// # Errors
/// When this machine's files cannot be read at all.
pub fn known_clusters(home: &Path) -> anyhow::Result<Vec<KnownCluster>> {
    let folder = folder(home);
    let found = LocalNode::open("local", "/")?.read(&[Query::Tree(folder.clone())])?;
    let mut clusters: Vec<KnownCluster> = found.into_iter().filter_map(|found| known(&folder, found.path)).collect();
    clusters.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(clusters)
}

fn known(folder: &Path, path: PathBuf) -> Option<KnownCluster> {
    let inside = path.strip_prefix(folder).ok()?;
    let parts: Vec<&str> = inside.iter().map(|part| part.to_str()).collect::<Option<_>>()?;
    let (group, file) = match parts.as_slice() {
        [file] => (None, *file),
        [group, file] => (Some((*group).to_owned()), *file),
        _ => return None,
    };
    let name = ClusterName::new(file.strip_suffix(".yaml")?.to_owned(), group).ok()?;
    Some(KnownCluster { name, path })
}

/// Reads the file of `name`; when there is none, the failure lists what there is.
pub(super) fn read(name: &ClusterName, path: &Path, home: &Path) -> anyhow::Result<ClusterFile> {
    read_cluster_file(path).map_err(|error| {
        if exit_code(&error) != ExitCode::NotFound {
            return error;
        }
        let known = known_clusters(home).unwrap_or_default();
        let hint = if let Some(twin) = known.iter().find(|known| known.name.name == name.name) {
            match &twin.name.group {
                Some(group) => format!("there is one in another group: -n {} -g {group}", name.name),
                None => format!("there is one without a group: -n {}", name.name),
            }
        } else if known.is_empty() {
            format!("write its cluster file to {}", path.display())
        } else {
            let names: Vec<String> = known.iter().map(|known| known.name.to_string()).collect();
            format!("known clusters: {}", names.join(", "))
        };
        Failure::not_found(format!("there is no cluster {name}: {} is missing", path.display())).hint(hint).into()
    })
}

fn folder(home: &Path) -> PathBuf {
    home.join(".kubepki/clusters")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_never_leaves_the_folder_of_clusters() {
        for bad in ["", ".", "..", "../x", "a/b", "/etc/passwd", ".hidden", "a\0b"] {
            assert!(ClusterName::new(bad.into(), None).is_err(), "{bad:?}");
            assert!(ClusterName::new("lab".into(), Some(bad.into())).is_err() || bad.is_empty(), "{bad:?}");
        }
        let name = ClusterName::new("lab".into(), Some("prod".into())).expect("good");
        assert_eq!(name.path(Path::new("/home/ops")), Path::new("/home/ops/.kubepki/clusters/prod/lab.yaml"));
    }

    #[test]
    fn files_are_known_by_group_and_name() {
        let folder = Path::new("/c");
        let name = |path: &str| known(folder, path.into()).map(|known| known.name.to_string());
        assert_eq!(name("/c/lab.yaml").as_deref(), Some("lab"));
        assert_eq!(name("/c/prod/lab.yaml").as_deref(), Some("prod/lab"));
        assert_eq!((name("/c/a/b/lab.yaml"), name("/c/notes.txt")), (None, None));
    }
}

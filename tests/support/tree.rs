//! A picture of a folder: every name with kind, mode, owner and content, so that two can be compared to the byte.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Everything below a folder, by relative path.
pub type Tree = BTreeMap<PathBuf, Entry>;

/// One name in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    File { mode: u32, owner: (u32, u32), content: String },
    Folder { mode: u32, owner: (u32, u32) },
    Link { target: PathBuf, owner: (u32, u32) },
    Other { mode: u32 },
}

/// Takes a picture of everything below `folder`, except what lies at or below one of `without` and kubepki's own records.
pub fn picture(folder: &Path, without: &[&str]) -> Tree {
    let mut tree = Tree::new();
    let without: Vec<PathBuf> = without.iter().map(|path| PathBuf::from(path.trim_start_matches('/'))).collect();
    add(folder, Path::new(""), &without, &mut tree);
    tree
}

fn add(top: &Path, inside: &Path, without: &[PathBuf], tree: &mut Tree) {
    for entry in std::fs::read_dir(top.join(inside)).unwrap() {
        let path = inside.join(entry.unwrap().file_name());
        if without.contains(&path) || path.ends_with(".kubepki") {
            continue;
        }
        let metadata = std::fs::symlink_metadata(top.join(&path)).unwrap();
        let (mode, owner) = (metadata.mode() & 0o7777, (metadata.uid(), metadata.gid()));
        let entry = if metadata.is_symlink() {
            Entry::Link { target: std::fs::read_link(top.join(&path)).unwrap(), owner }
        } else if metadata.is_dir() {
            add(top, &path, without, tree);
            Entry::Folder { mode, owner }
        } else if metadata.is_file() {
            let content = std::fs::read(top.join(&path)).unwrap().escape_ascii().to_string();
            Entry::File { mode, owner, content }
        } else {
            Entry::Other { mode }
        };
        tree.insert(path, entry);
    }
}

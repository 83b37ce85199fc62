//! What a transaction tells about itself while it runs.

/// One thing that has happened. Counts start at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// So many files are going to change; nothing has yet.
    Started {
        /// Number of changes.
        files: usize,
    },
    /// New and old content of one file are safe in kubepki's own folder.
    Staged {
        /// Place of the file.
        number: usize,
    },
    /// Everything needed to finish or to go back is on disk; from now on files change.
    Committed,
    /// One file has changed, or was found to have changed already.
    Changed {
        /// Place of the file.
        number: usize,
        /// Absolute path on the node.
        path: &'a str,
    },
    /// One file is as it was before the operation.
    Restored {
        /// Place of the file.
        number: usize,
        /// Absolute path on the node.
        path: &'a str,
    },
    /// Something that does not keep the operation from ending well, in words.
    Warning(&'a str),
}

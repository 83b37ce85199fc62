//! What lies beside the copies in a backup, for the day on which kubepki itself is not at hand.
//!
//! `SHA256SUMS` is for `sha256sum -c`; `restore.sh` puts every file back with its mode and owner.

use std::fmt::Write as _;

use super::journal::{Entry, FileState, Journal};
use super::state::copy_name;

/// File with the checksums of all copies.
pub(super) const CHECKSUMS: &str = "SHA256SUMS";

/// Script that puts all copies back.
pub(super) const RESTORE: &str = "restore.sh";

/// The changes whose old content is kept, with their places: the first one of every file that was there.
pub(super) fn copied(journal: &Journal) -> impl Iterator<Item = (usize, &Entry)> {
    journal.originals().filter(|(_, entry)| matches!(entry.before, FileState::File { .. }))
}

/// The text of [`CHECKSUMS`].
pub(super) fn checksums(journal: &Journal) -> String {
    let mut text = String::new();
    for (index, entry) in copied(journal) {
        let _ = writeln!(text, "{}  {}", entry.before.sha256().unwrap_or_default(), copy_name(index));
    }
    text
}

/// The text of [`RESTORE`]: POSIX shell, an optional first argument is the folder that stands for `/`. Links and files
/// that were not there before are left to the reader, as comments.
pub(super) fn restore_script(journal: &Journal) -> String {
    let operation = &journal.operation;
    let mut text = format!(
        "#!/bin/sh\n\
         # Puts back the files of node {} as they were before kubepki {} (operation {}).\n\
         # Usage: sh restore.sh [FOLDER THAT STANDS FOR /]\n\
         set -eu\n\
         root=${{1:-}}\n\
         cd \"$(dirname \"$0\")\"\n\
         sha256sum -c {CHECKSUMS}\n\
         umask 077\n\
         put() {{ # COPY MODE OWNER PATH\n\
         \x20 if [ -L \"$root$4\" ]; then echo \"$root$4 is a link: restore $PWD/$1 by hand\" >&2; return; fi\n\
         \x20 new=$(mktemp \"$root$(dirname \"$4\")/.kubepki-restore.XXXXXX\")\n\
         \x20 chown \"$3\" \"$new\"\n\
         \x20 chmod \"$2\" \"$new\"\n\
         \x20 cat \"$1\" > \"$new\"\n\
         \x20 sync\n\
         \x20 mv -f \"$new\" \"$root$4\"\n\
         }}\n",
        comment(&journal.node),
        comment(&operation.command),
        operation.id,
    );
    for (index, entry) in journal.originals() {
        match &entry.before {
            FileState::File { mode, uid, gid, .. } => {
                let (uid, gid) = (uid.unwrap_or_default(), gid.unwrap_or_default());
                let _ = writeln!(text, "put {} {mode:04o} {uid}:{gid} {}", copy_name(index), quoted(&entry.path));
            }
            FileState::Absent => {
                let _ = writeln!(text, "# was not there before: {}", comment(&entry.path));
            }
            FileState::Link { target } => {
                let _ = writeln!(text, "# was a link to {}: {}", comment(target), comment(&entry.path));
            }
        }
    }
    text
}

/// A word for the shell, whatever is in it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Text that cannot end a comment.
fn comment(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

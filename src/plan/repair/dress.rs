//! Modes and owners as kubeadm leaves them: keys are root's alone, everything else is root's to write.

use std::path::Path;

use super::builder::{Builder, PUBLIC, SECRET, Stage};
use crate::diagnose::{holds_key, usual_owner};
use crate::plan::blueprint::{FileContent, PlannedFile};
use crate::plan::operation::FileAction;

impl Builder<'_> {
    /// Corrects mode and owner of a file, together with its content where that changes anyway.
    pub(super) fn dress(&mut self, node: usize, path: &Path) -> Result<String, String> {
        let artifact = self.found(node, path).ok_or("it is not there any more")?;
        let metadata = artifact.metadata.ok_or("its mode could not be read")?;
        let is_secret = holds_key(artifact) || metadata.mode.trailing_zeros() >= 6;
        let mode = if is_secret { SECRET } else { metadata.mode & PUBLIC | 0o600 };
        let usual = usual_owner(self.node(node)).unwrap_or((0, 0));
        let owner = (metadata.uid >= 1000 && usual.0 < 1000).then_some(usual);
        let words = match owner {
            Some((uid, gid)) => format!("its mode becomes {mode:04o}, its owner {uid}:{gid}"),
            None => format!("its mode becomes {mode:04o}"),
        };
        if let Some(planned) = self.planned(node, path) {
            if matches!(planned.content, None | Some(FileContent::Link { .. })) {
                return Ok("it goes, or is replaced by a link".to_owned());
            }
            let content = planned.content.take().map(Box::new);
            planned.content = Some(FileContent::Dressed { content, owner });
            planned.mode = mode;
            return Ok(words);
        }
        if let Some(link) = &artifact.link {
            // What the link leads to is listed, or is no file of ours.
            let target = path.parent().unwrap_or(Path::new("/")).join(link);
            if self.planned(node, &target).is_some() || self.found(node, &target).is_some() {
                return Ok("the file that the link leads to is corrected".to_owned());
            }
        }
        let name = artifact
            .id()
            .map_or_else(|| path.file_name().unwrap_or_default().to_string_lossy().into_owned(), str::to_owned);
        let seen = self.seen(node, path)?;
        let file = PlannedFile {
            path: path.to_owned(),
            step: 0,
            name,
            action: FileAction::Replaced,
            content: Some(FileContent::Dressed { content: None, owner }),
            mode,
            seen,
            old_serial_number: None,
            not_after: None,
        };
        self.put(node, Stage::Dress, file);
        Ok(words)
    }
}

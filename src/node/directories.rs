//! Makes folders that survive a power cut.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::writing::{Writer, flush, kind, open_folder, stat_in};

impl Writer<'_> {
    /// Carries out [`super::Effect::MakeDirectory`]. When one of several folders cannot be created, those made before
    /// are removed again.
    pub(super) fn make_directory(&self, path: &Path, mode: u32) -> anyhow::Result<()> {
        let mut missing: Vec<&Path> = Vec::new();
        for folder in path.ancestors().filter(|folder| folder.parent().is_some()) {
            if self.is_directory(folder)? {
                break;
            }
            missing.push(folder);
        }
        let mut created: Vec<(OwnedFd, OsString)> = Vec::new();
        for folder in missing.into_iter().rev() {
            match self.make_one(folder, mode) {
                Ok(new) => created.extend(new),
                Err(error) => {
                    for (parent, name) in created.iter().rev() {
                        // Not empty any more: somebody else is at work there, so it is no longer ours to remove.
                        let _ = rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR);
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn is_directory(&self, path: &Path) -> anyhow::Result<bool> {
        let Some(place) = self.place(path, true)? else { return Ok(false) };
        match stat_in(place.folder.as_fd(), &place.name) {
            Ok(None) => Ok(false),
            Ok(Some(stat)) if kind(&stat) == FileType::Directory => Ok(true),
            Ok(Some(_)) => Err(self.refusal(path).in_the_way()),
            Err(errno) => Err(self.error(errno, "cannot inspect", path)),
        }
    }

    /// Makes one folder in one that is there; `None` when somebody else was faster.
    fn make_one(&self, path: &Path, mode: u32) -> anyhow::Result<Option<(OwnedFd, OsString)>> {
        let failed = |errno: Errno| self.error(errno, "cannot make the folder", path);
        let place = self.existing_place(path, true)?;
        let parent = open_folder(&place).map_err(failed)?;
        match rustix::fs::mkdirat(&parent, &place.name, Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(None),
            Err(errno) => return Err(failed(errno)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let finished = rustix::fs::openat(&parent, &place.name, flags, Mode::empty()).and_then(|folder| {
            // `mkdirat` leaves out what the umask forbids.
            rustix::fs::fchmod(&folder, Mode::from_raw_mode(mode))?;
            flush(&folder)?;
            flush(&parent)
        });
        if let Err(errno) = finished {
            let _ = rustix::fs::unlinkat(&parent, &place.name, AtFlags::REMOVEDIR);
            return Err(failed(errno));
        }
        Ok(Some((parent, place.name)))
    }
}

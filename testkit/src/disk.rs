//! A small disk of its own for a test: a tmpfs that can be filled to the last page and emptied again.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// One page of a tmpfs: smaller writes would leave no less room.
const PAGE: [u8; 4096] = [0; 4096];

/// A mounted tmpfs. Dropping it unmounts it.
pub struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// Mounts a disk of this many megabytes, which needs root.
    ///
    /// # Errors
    /// Why it cannot be mounted: a test is then skipped by [`skip`](crate::skip()).
    pub fn mount(megabytes: u32) -> Result<SmallDisk, String> {
        let folder = TempDir::new().unwrap();
        let size = format!("size={megabytes}m,mode=700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "relaypost-test"])
            .arg(folder.path())
            .output()
            .map_err(|error| format!("no mount: {error}"))?;
        if !mounted.status.success() {
            let said = String::from_utf8_lossy(&mounted.stderr);
            return Err(format!(
                "a tmpfs cannot be mounted, which needs root: {}",
                said.trim()
            ));
        }
        Ok(SmallDisk { folder })
    }

    /// The folder that it is mounted on.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Takes all the room that is left, and returns how many bytes that was.
    pub fn fill(&self) -> usize {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(self.filling())
            .unwrap();
        let mut taken = 0;
        loop {
            match file.write(&PAGE) {
                Ok(0) => return taken,
                Ok(written) => taken += written,
                Err(error) if error.kind() == ErrorKind::StorageFull => return taken,
                Err(error) => panic!("{}: {error}", self.path().display()),
            }
        }
    }

    /// Gives the room back that [`SmallDisk::fill`] has taken.
    pub fn free(&self) {
        fs::remove_file(self.filling()).unwrap();
    }

    fn filling(&self) -> PathBuf {
        self.path().join("filling")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, for a process that a failing test has not ended yet still has files open there.
        let unmounted = Command::new("umount")
            .arg("--lazy")
            .arg(self.path())
            .status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.path().display());
        }
    }
}

//! Files that a process writes.

use rustix::{fs::Mode, process::umask};

/// Makes every file and folder that this process creates from now on its owner's alone: databases, mails with tokens in
/// them, keys.
pub fn keep_private() {
    umask(Mode::RWXG | Mode::RWXO);
}

//! The lock of a process that serves from an SQLite file. A second process would send what the first one is sending, and
//! `relaypost-migrate down` would delete what it uses.

use std::{
    ffi::OsString,
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
};

/// Held until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct Hold(#[expect(dead_code, reason = "the lock is on the open file")] File);

/// The file cannot be held.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// Somebody else holds it.
    #[error("another process of Relaypost serves from {}; stop it first", .0.display())]
    Taken(PathBuf),
    /// The file of the lock cannot be made.
    #[error("{} cannot be locked: {error}", .path.display())]
    Unusable {
        /// That file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

impl Hold {
    /// Takes the lock of an SQLite database: of the file `NAME.lock` beside it, which is made when it is missing.
    ///
    /// # Errors
    /// When another process has it, or the file cannot be made.
    pub fn take(database: &Path) -> Result<Self, HoldError> {
        let mut name = OsString::from(database);
        name.push(".lock");
        let path = PathBuf::from(name);
        let opened = path
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| File::options().create(true).append(true).open(&path));
        let file = opened.map_err(|error| HoldError::Unusable {
            path: path.clone(),
            error,
        })?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(HoldError::Taken(database.to_owned())),
            Err(TryLockError::Error(error)) => Err(HoldError::Unusable { path, error }),
        }
    }
}

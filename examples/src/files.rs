//! Files to work on.

use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Files, and the folder that they are in where they were made. It goes with this value.
pub struct Files {
    pub paths: Vec<PathBuf>,
    _folder: Option<TempDir>,
}

impl Files {
    /// These, or without any those that `make` makes in a folder.
    pub(crate) fn given_or_made(
        paths: Vec<PathBuf>,
        make: impl FnOnce(&Path) -> io::Result<Vec<PathBuf>>,
    ) -> io::Result<Self> {
        if !paths.is_empty() {
            let _folder = None;
            return Ok(Self { paths, _folder });
        }
        let folder = TempDir::new()?;
        let paths = make(folder.path())?;
        let _folder = Some(folder);
        Ok(Self { paths, _folder })
    }
}

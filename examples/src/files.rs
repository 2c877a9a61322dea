//! Files to work on.

use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Files, and the folder of files that the program made. Dropping this value deletes the folder.
pub struct Files {
    pub paths: Vec<PathBuf>,
    _folder: Option<TempDir>,
}

impl Files {
    /// These files; or, if there are none, the files that `make` makes in a folder.
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

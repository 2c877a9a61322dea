//! The file, and its progress: how much of it is certain to be complete.
//!
//! A page counts when the progress says so, and the progress is replaced in one step. A kill between the
//! write of a page and that of the progress leaves a page, or a part of one, at the end of the file. The
//! next run cuts it off and fetches the page again. So no record is lost, and none is there twice.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A file of records that grows page by page.
pub(crate) struct Output {
    file: File,
    path: PathBuf,
    progress: Progress,
    /// Where the progress is kept.
    progress_path: PathBuf,
}

/// How much of the file is complete.
#[derive(Serialize, Deserialize)]
struct Progress {
    /// Where the records come from.
    from: String,
    pages: usize,
    bytes: u64,
}

impl Output {
    /// Opens a file for records from `from`: a new one, or one that an earlier run has begun.
    pub(crate) fn open(path: &Path, from: &str) -> io::Result<Self> {
        let progress_path = with_suffix(path, ".progress");
        let progress = match fs::read(&progress_path) {
            Ok(text) => parse(&text, from).map_err(|says| about(&progress_path, &says))?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if path.exists() {
                    let says = "exists, and no download of it has begun; choose another name, or \
                                delete the file";
                    return Err(about(path, says));
                }
                let progress = Progress::new(from);
                // Before there is a file, so that a kill never leaves a file without its progress.
                progress.save(&progress_path)?;
                progress
            }
            Err(error) => return Err(about(&progress_path, &error.to_string())),
        };
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path);
        let mut file = file.map_err(|error| about(path, &error.to_string()))?;
        if file.metadata()?.len() < progress.bytes {
            let says = format!(
                "is shorter than {}, so it was changed since; delete both files to start anew",
                progress_path.display()
            );
            return Err(about(path, &says));
        }
        // Cuts off a page whose write was not completed.
        file.set_len(progress.bytes)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self {
            file,
            path: path.to_owned(),
            progress,
            progress_path,
        })
    }

    /// The number of pages in the file.
    pub(crate) fn pages(&self) -> usize {
        self.progress.pages
    }

    /// Appends the next page.
    pub(crate) fn append(&mut self, page: usize, records: &[u8]) -> io::Result<()> {
        assert_eq!(page, self.progress.pages + 1, "pages come in order");
        // The progress must not reach the disk before the page.
        let written = self.file.write_all(records);
        let written = written.and_then(|()| self.file.sync_data());
        written.map_err(|error| about(&self.path, &error.to_string()))?;
        self.progress.pages = page;
        self.progress.bytes += records.len() as u64;
        self.progress.save(&self.progress_path)
    }

    /// Removes the progress of a file that is complete.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        fs::remove_file(&self.progress_path)
            .map_err(|error| about(&self.progress_path, &error.to_string()))
    }
}

impl Progress {
    fn new(from: &str) -> Self {
        Self {
            from: from.to_owned(),
            pages: 0,
            bytes: 0,
        }
    }

    /// Replaces the file at `path`.
    fn save(&self, path: &Path) -> io::Result<()> {
        let replace = || {
            let new_path = with_suffix(path, ".new");
            let mut new = File::create(&new_path)?;
            serde_json::to_writer(&mut new, self)?;
            new.sync_data()?;
            fs::rename(new_path, path)
        };
        replace().map_err(|error| about(path, &error.to_string()))
    }
}

fn parse(text: &[u8], from: &str) -> Result<Progress, String> {
    let progress: Progress = serde_json::from_slice(text).map_err(|error| {
        format!("not the progress of a download ({error}); delete it and its file to start anew")
    })?;
    if progress.pages == 0 {
        // No page has come from there.
        return Ok(Progress::new(from));
    }
    if progress.from == from {
        return Ok(progress);
    }
    let begun = &progress.from;
    Err(format!(
        "this download has begun from {begun}, not from {from}; choose another name, or go on from there"
    ))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// An error that names the file.
fn about(path: &Path, says: &str) -> io::Error {
    io::Error::other(format!("{}: {says}", path.display()))
}

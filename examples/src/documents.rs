//! Markdown documents to search.

use std::fs;
use std::io;
use std::path::PathBuf;

use tempfile::TempDir;

/// Documents, and the folder that they are in where they were made. It goes with this value.
pub struct Documents {
    pub paths: Vec<PathBuf>,
    _folder: Option<TempDir>,
}

/// These, or without any some that it makes: sound ones, one with dead links, one that is no text
/// and one that does not exist.
pub fn given_or_made(paths: Vec<PathBuf>) -> io::Result<Documents> {
    if !paths.is_empty() {
        let _folder = None;
        return Ok(Documents { paths, _folder });
    }
    let folder = TempDir::new()?;
    let texts: [(&str, &[u8]); 4] = [
        (
            "index.md",
            b"[guide](guide.md#start), [top](#), [web](https://example.com/none)",
        ),
        (
            "guide.md",
            b"[back](index.md), [history](old%20news.md), ![picture](picture.svg)",
        ),
        ("old news.md", b"[picture](picture.svg), [guide](guide.md)"),
        ("latin-1.md", b"caf\xe9"),
    ];
    let mut paths = vec![folder.path().join("missing.md")];
    for (name, text) in texts {
        let path = folder.path().join(name);
        fs::write(&path, text)?;
        paths.push(path);
    }
    let _folder = Some(folder);
    Ok(Documents { paths, _folder })
}

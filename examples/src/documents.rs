//! Markdown documents to search.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::Files;

/// These documents; or, if there are none, documents that it makes: good ones, one with dead links, one
/// that is not text, and one that does not exist.
pub fn given_or_made(paths: Vec<PathBuf>) -> io::Result<Files> {
    Files::given_or_made(paths, make)
}

fn make(folder: &Path) -> io::Result<Vec<PathBuf>> {
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
    let mut paths = vec![folder.join("missing.md")];
    for (name, text) in texts {
        let path = folder.join(name);
        fs::write(&path, text)?;
        paths.push(path);
    }
    Ok(paths)
}

//! A copy of the library that faults can be put into.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use diffy::patch_set::{FileOperation, ParseOptions, PatchSet};

use crate::fault::Fault;

/// What is copied.
const PARTS: [&str; 5] = ["Cargo.toml", "Cargo.lock", "README.md", "src", "tests"];

pub(crate) struct Copy {
    root: PathBuf,
    original: PathBuf,
}

impl Copy {
    /// Makes a copy, under the target directory.
    pub(crate) fn make(name: &str) -> anyhow::Result<Self> {
        let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let original = original.canonicalize()?;
        let root = original.join("target/faults").join(name);
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        fs::create_dir_all(&root)?;
        let copy = Self { root, original };
        for part in PARTS {
            copy_all(&copy.original.join(part), &copy.root.join(part))?;
        }
        // The packages beside the library stay behind.
        let manifest = copy.root.join("Cargo.toml");
        let whole = fs::read_to_string(&manifest)?;
        let is_kept = |line: &&str| !line.starts_with("members = ");
        let alone: Vec<_> = whole.lines().filter(is_kept).collect();
        fs::write(manifest, alone.join("\n"))?;
        Ok(copy)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Takes every fault out.
    pub(crate) fn restore(&self) -> anyhow::Result<()> {
        copy_all(&self.original.join("src"), &self.root.join("src"))
    }

    /// Puts a fault in.
    pub(crate) fn apply(&self, fault: &Fault) -> anyhow::Result<()> {
        for file in PatchSet::parse(&fault.patch, ParseOptions::gitdiff()) {
            let file = file?;
            let FileOperation::Modify { modified, .. } = file.operation().strip_prefix(1) else {
                anyhow::bail!("a fault changes files, and neither makes nor removes any");
            };
            let patch = file.patch().as_text().context("a fault is text")?;
            let path = self.root.join(modified.as_ref());
            let before = fs::read_to_string(&path)?;
            let after = diffy::apply(&before, patch)
                .with_context(|| format!("the patch does not fit {modified} any more"))?;
            fs::write(path, after)?;
        }
        Ok(())
    }
}

/// Copies files that are not the same already, so that only what has changed is compiled again.
fn copy_all(from: &Path, to: &Path) -> anyhow::Result<()> {
    if !from.is_dir() {
        let bytes = fs::read(from).with_context(|| format!("{} is not there", from.display()))?;
        if fs::read(to).ok().as_ref() != Some(&bytes) {
            fs::write(to, bytes)?;
        }
        return Ok(());
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        copy_all(&from.join(&name), &to.join(&name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Copy;
    use crate::fault;

    #[test]
    fn every_fault_can_be_put_in() {
        let copy = Copy::make("patched").unwrap();
        for fault in fault::all().unwrap() {
            copy.restore().unwrap();
            let applied = copy.apply(&fault);
            assert!(applied.is_ok(), "{}: {applied:?}", fault.what);
        }
    }
}

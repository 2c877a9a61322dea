//! A copy of the library, for faults.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use diffy::patch_set::{FileOperation, ParseOptions, PatchSet};

use crate::fault::Fault;

/// What is copied.
const PARTS: [&str; 5] = ["Cargo.toml", "Cargo.lock", "README.md", "src", "tests"];

pub(crate) struct Copy {
    root: PathBuf,
    /// The sources at the time of the copy. The library may change while the checks run.
    sources: Vec<(PathBuf, Vec<u8>)>,
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
        for part in PARTS {
            copy_all(&original.join(part), &root.join(part))?;
        }
        // The copy has no other packages of the workspace.
        let manifest = root.join("Cargo.toml");
        let whole = fs::read_to_string(&manifest)?;
        let is_kept = |line: &&str| !line.starts_with("members = ");
        let alone: Vec<_> = whole.lines().filter(is_kept).collect();
        fs::write(manifest, alone.join("\n"))?;

        let mut sources = Vec::new();
        read_all(&root.join("src"), &mut sources)?;
        Ok(Self { root, sources })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Takes every fault out. Writes only files that changed, so that nothing else is compiled again.
    pub(crate) fn restore(&self) -> anyhow::Result<()> {
        for (file, bytes) in &self.sources {
            if fs::read(file)? != *bytes {
                fs::write(file, bytes)?;
            }
        }
        Ok(())
    }

    /// Puts a fault into the copy.
    pub(crate) fn apply(&self, fault: &Fault) -> anyhow::Result<()> {
        for file in PatchSet::parse(&fault.patch, ParseOptions::gitdiff()) {
            let file = file?;
            let FileOperation::Modify { modified, .. } = file.operation().strip_prefix(1) else {
                anyhow::bail!("the patch of a fault may change files, but not add or remove any");
            };
            let patch = file
                .patch()
                .as_text()
                .context("the patch of a fault has to be text")?;
            let path = self.root.join(modified.as_ref());
            let before = fs::read_to_string(&path)?;
            let after = diffy::apply(&before, patch)
                .with_context(|| format!("the patch does not apply to {modified}"))?;
            fs::write(path, after)?;
        }
        Ok(())
    }
}

fn copy_all(from: &Path, to: &Path) -> anyhow::Result<()> {
    if !from.is_dir() {
        let copied = fs::copy(from, to);
        copied.with_context(|| format!("{} cannot be copied", from.display()))?;
        return Ok(());
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        copy_all(&from.join(&name), &to.join(&name))?;
    }
    Ok(())
}

fn read_all(path: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) -> anyhow::Result<()> {
    if !path.is_dir() {
        files.push((path.to_owned(), fs::read(path)?));
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        read_all(&entry?.path(), files)?;
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

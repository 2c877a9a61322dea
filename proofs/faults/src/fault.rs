//! Faults: each is a patch, in the folder of the check that has to find it.

use std::fs;
use std::path::Path;

use anyhow::Context;

use crate::check::Check;

/// A mistake that a change of the library could make.
pub(crate) struct Fault {
    /// The name of its file, without the extension.
    pub(crate) name: String,
    /// A description, which is the first line of the file.
    pub(crate) what: String,
    pub(crate) check: Check,
    /// A part of the names of the tests that have to find it, if the file names them. It may be empty.
    pub(crate) test: String,
    /// The patch, as `git diff` prints it.
    pub(crate) patch: String,
}

/// All faults, check by check.
pub(crate) fn all() -> anyhow::Result<Vec<Fault>> {
    let mut faults = Vec::new();
    for check in Check::ALL {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(check.to_string());
        let entries =
            fs::read_dir(&folder).with_context(|| format!("{} is missing", folder.display()))?;
        let mut files = entries
            .map(|entry| Ok(entry?.path()))
            .collect::<anyhow::Result<Vec<_>>>()?;
        files.sort();
        for file in files {
            let fault = read(check, &file);
            faults.push(fault.with_context(|| format!("{} is not a fault", file.display()))?);
        }
    }
    Ok(faults)
}

fn read(check: Check, file: &Path) -> anyhow::Result<Fault> {
    let text = fs::read_to_string(file)?;
    let begins = text.find("diff --git").context("the file has no patch")?;
    let (head, patch) = text.split_at(begins);
    let what = head.lines().next().context("the file has no description")?;
    let test = head
        .lines()
        .find_map(|line| line.strip_prefix("Found by: "));
    let name = file.file_stem().context("the file has no name")?;
    Ok(Fault {
        name: name.to_string_lossy().into_owned(),
        what: what.to_owned(),
        check,
        test: test.unwrap_or_default().to_owned(),
        patch: patch.to_owned(),
    })
}

//! A fault: a patch, in the folder of the check that has to find it.

use std::fs;
use std::path::Path;

use anyhow::Context;

use crate::check::Check;

/// A mistake that somebody could make.
pub(crate) struct Fault {
    /// That of the file, without its extension.
    pub(crate) name: String,
    /// What is wrong, which is the first line of the file.
    pub(crate) what: String,
    pub(crate) check: Check,
    /// The tests of the check that have to find it, by a part of their names, where the file says
    /// so.
    pub(crate) test: String,
    /// What `git diff` said when it was put in.
    pub(crate) patch: String,
}

/// All faults that are there, check by check.
pub(crate) fn all() -> anyhow::Result<Vec<Fault>> {
    let mut faults = Vec::new();
    for check in Check::ALL {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(check.to_string());
        let entries =
            fs::read_dir(&folder).with_context(|| format!("{} is not there", folder.display()))?;
        let mut files = entries
            .map(|entry| Ok(entry?.path()))
            .collect::<anyhow::Result<Vec<_>>>()?;
        files.sort();
        for file in files {
            let fault = read(check, &file);
            faults.push(fault.with_context(|| format!("{} is no fault", file.display()))?);
        }
    }
    Ok(faults)
}

fn read(check: Check, file: &Path) -> anyhow::Result<Fault> {
    let text = fs::read_to_string(file)?;
    let begins = text.find("diff --git").context("it has no patch")?;
    let (head, patch) = text.split_at(begins);
    let what = head
        .lines()
        .next()
        .context("it does not say what is wrong")?;
    let test = head
        .lines()
        .find_map(|line| line.strip_prefix("Found by: "));
    let name = file.file_stem().context("it has no name")?;
    Ok(Fault {
        name: name.to_string_lossy().into_owned(),
        what: what.to_owned(),
        check,
        test: test.unwrap_or_default().to_owned(),
        patch: patch.to_owned(),
    })
}

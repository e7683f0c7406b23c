//! Builds everything twice, from two folders, and compares.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::dist::everything::{make, names};
use crate::harness::{digest_of, printed};
use crate::workspace;

/// The commit that is checked out is built, without what is not committed.
pub(super) fn run() -> Result<()> {
    let root = workspace::root()?;
    let work = workspace::target()?.join("dist-check");
    if work.exists() {
        std::fs::remove_dir_all(&work)?;
    }
    // The folders are cloned half an hour apart.
    let commit = printed(Command::new("git").args(["rev-parse", "HEAD"]).current_dir(&root))?;
    let mut built = Vec::new();
    for name in ["one", "another-folder/of/a/longer/name"] {
        let folder = work.join(name);
        std::fs::create_dir_all(&folder)?;
        workspace::run(
            Command::new("git").args(["clone", "--quiet", "--shared"]).arg(&root).arg(folder.join("sources")),
        )?;
        workspace::run(
            Command::new("git")
                .args(["checkout", "--quiet", commit.trim()])
                .current_dir(folder.join("sources")),
        )?;
        let out = folder.join("dist");
        make(&folder.join("sources"), &out)?;
        built.push(out);
    }
    let [one, other] = &built[..] else { bail!("two builds") };
    let differ = compare(one, other)?;
    ensure!(differ.is_empty(), "not the same in both: {}", differ.join(", "));
    println!("two builds are equal byte for byte: {}", names(one)?.join(", "));
    Ok(())
}

fn compare(one: &Path, other: &Path) -> Result<Vec<String>> {
    let mut differ = Vec::new();
    ensure!(names(one)? == names(other)?, "{:?} and {:?}", names(one)?, names(other)?);
    for name in names(one)? {
        let [one, other] = [one.join(&name), other.join(&name)];
        if one.is_dir() {
            differ.extend(compare(&one, &other)?.into_iter().map(|below| format!("{name}/{below}")));
        } else {
            let digest =
                |path: &Path| digest_of(File::open(path).with_context(|| path.display().to_string())?);
            if digest(&one)? != digest(&other)? {
                differ.push(name);
            }
        }
    }
    Ok(differ)
}

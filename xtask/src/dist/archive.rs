//! Tar archives that depend on nothing but the files in them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::dist::stamp::Stamp;
use crate::dist::tree::Tree;
use crate::workspace;

/// Packs `tree` as `sockseal-VERSION-x86_64-linux.tar.gz` in `out`.
pub(super) fn tarball(tree: &Tree, stamp: &Stamp, out: &Path) -> Result<PathBuf> {
    let name = format!("sockseal-{}", stamp.version);
    let archive = out.join(format!("{name}-x86_64-linux.tar.gz"));
    let mut tar = Command::new("tar");
    tar.args(["--create", "--format=gnu", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"]);
    tar.args(["--mode=u=rwX,go=rX", "--use-compress-program=gzip -9 --no-name"]);
    tar.arg(format!("--mtime=@{}", stamp.epoch)).arg(format!("--transform=s,^\\./*,{name}/,"));
    tar.arg("--file").arg(&archive).arg("--directory").arg(&tree.folder).arg(".").env("LC_ALL", "C");
    workspace::run(&mut tar)?;
    Ok(archive)
}

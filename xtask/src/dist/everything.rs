//! All that is made of one folder of sources.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::dist::build::{self, Linking, pages};
use crate::dist::deb::{Compression, package};
use crate::dist::stamp::Stamp;
use crate::dist::tree::Tree;
use crate::dist::{archive, container, sbom};

/// Makes all from the sources in `root`.
pub(super) fn make(root: &Path, out: &Path) -> Result<()> {
    let stamp = Stamp::of(root)?;
    if out.exists() {
        fs::remove_dir_all(out).with_context(|| out.display().to_string())?;
    }
    fs::create_dir_all(out)?;
    let work = out.with_extension("work");
    let pages = pages(root, &work, &stamp)?;
    let dynamic = build::programs(root, &work, &stamp, Linking::Dynamic)?;
    let tree = Tree::of_package(root, &dynamic, &pages, &work.join("deb-root"))?;
    package(&tree, &stamp, &work.join("deb"), out, Compression::Small)?;
    let fixed = build::programs(root, &work, &stamp, Linking::Static)?;
    archive::tarball(&Tree::of_tarball(root, &fixed, &pages, &work.join("tar-root"))?, &stamp, out)?;
    container::write(root, &fixed, out)?;
    sbom::write(root, &stamp, out)
}

/// The files in `out`, in order.
pub(super) fn names(out: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(out).with_context(|| out.display().to_string())?;
    let mut names: Vec<String> =
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect::<Result<_>>()?;
    names.sort();
    Ok(names)
}

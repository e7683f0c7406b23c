//! What an image of a container is made of: a root with the static programs and nothing else, and the Containerfile.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::dist::build::Programs;
use crate::dist::tree::sources;

/// Writes `container/Containerfile`, `container/root` and the empty `container/home` in `out`.
pub(super) fn write(root: &Path, programs: &Programs, out: &Path) -> Result<()> {
    let folder = out.join("container");
    let bin = folder.join("root/usr/bin");
    for path in [&bin, &folder.join("home"), &folder.join("root/tmp")] {
        fs::create_dir_all(path)?;
    }
    fs::set_permissions(folder.join("root/tmp"), Permissions::from_mode(0o1777))?;
    for (name, path) in programs.named() {
        fs::copy(path, bin.join(name)).with_context(|| path.display().to_string())?;
    }
    fs::copy(sources(root).join("Containerfile"), folder.join("Containerfile"))?;
    Ok(())
}

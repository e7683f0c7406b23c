//! The files of a package, in a folder that stands for the root of a system.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::dist::build::Programs;

/// A folder, and the files in it with their paths from the root.
pub(crate) struct Tree {
    pub(crate) folder: PathBuf,
    pub(crate) files: Vec<PathBuf>,
}

impl Tree {
    /// All of the Debian package.
    pub(crate) fn of_package(root: &Path, programs: &Programs, pages: &Path, folder: &Path) -> Result<Self> {
        let mut tree = Self::new(folder)?;
        tree.add_programs(programs, "usr/bin")?;
        tree.add_pages(
            pages,
            [
                "usr/share/bash-completion/completions",
                "usr/share/zsh/vendor-completions",
                "usr/share/fish/vendor_completions.d",
            ],
        )?;
        let dist = sources(root);
        for unit in ["sockseal-server.service", "sockseal-server.socket", "sockseal-client.service"] {
            tree.copy(&dist.join("systemd").join(unit), &format!("usr/lib/systemd/system/{unit}"), 0o644)?;
        }
        tree.copy(&dist.join("sysusers.conf"), "usr/lib/sysusers.d/sockseal.conf", 0o644)?;
        tree.copy(&dist.join("tmpfiles.conf"), "usr/lib/tmpfiles.d/sockseal.conf", 0o644)?;
        for name in ["server.toml", "client.toml"] {
            tree.copy(&dist.join("etc").join(name), &format!("etc/sockseal/{name}"), 0o644)?;
        }
        tree.copy(&dist.join("logrotate"), "etc/logrotate.d/sockseal", 0o644)?;
        tree.add_documents(root, "usr/share/doc/sockseal", &["README.md", ".github/SECURITY.md"])?;
        tree.add_extras(root, "usr/share/doc/sockseal/examples")?;
        Ok(tree.sorted())
    }

    /// What a person unpacks anywhere: `sockseal-VERSION/bin` and what goes with it.
    pub(super) fn of_tarball(root: &Path, programs: &Programs, pages: &Path, folder: &Path) -> Result<Self> {
        let mut tree = Self::new(folder)?;
        tree.add_programs(programs, "bin")?;
        tree.add_pages(
            pages,
            [
                "share/bash-completion/completions",
                "share/zsh/site-functions",
                "share/fish/vendor_completions.d",
            ],
        )?;
        tree.add_documents(root, "", &["README.md", ".github/SECURITY.md", "LICENSE-MIT", "LICENSE-APACHE"])?;
        tree.add_extras(root, "share/doc/sockseal/examples")?;
        Ok(tree.sorted())
    }

    fn new(folder: &Path) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_owned(), files: Vec::new() })
    }

    fn add_programs(&mut self, programs: &Programs, place: &str) -> Result<()> {
        programs
            .named()
            .into_iter()
            .try_for_each(|(name, path)| self.copy(path, &format!("{place}/{name}"), 0o755))
    }

    fn add_pages(&mut self, pages: &Path, shells: [&str; 3]) -> Result<()> {
        let share = if shells[0].starts_with("usr/") { "usr/share/man/man1" } else { "share/man/man1" };
        for (from, place) in [("man", share), ("bash", shells[0]), ("zsh", shells[1]), ("fish", shells[2])] {
            for file in sorted(&pages.join(from))? {
                let name = file.file_name().unwrap_or_default().to_string_lossy();
                self.copy(&file, &format!("{place}/{name}"), 0o644)?;
            }
        }
        Ok(())
    }

    fn add_documents(&mut self, root: &Path, place: &str, names: &[&str]) -> Result<()> {
        names.iter().try_for_each(|name| {
            let file = root.join(name);
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let path = if place.is_empty() { name } else { format!("{place}/{name}") };
            self.copy(&file, &path, 0o644)
        })
    }

    /// Files for other programs, as they stand in `xtask/dist`: for fail2ban, and for Grafana.
    fn add_extras(&mut self, root: &Path, place: &str) -> Result<()> {
        let dist = sources(root);
        for extra in EXTRAS {
            let folder = dist.join(extra);
            if folder.is_dir() {
                self.add_folder(&folder, &format!("{place}/{extra}"))?;
            }
        }
        Ok(())
    }

    fn add_folder(&mut self, folder: &Path, place: &str) -> Result<()> {
        for path in sorted(folder)? {
            let below = format!("{place}/{}", path.file_name().unwrap_or_default().to_string_lossy());
            if path.is_dir() { self.add_folder(&path, &below)? } else { self.copy(&path, &below, 0o644)? }
        }
        Ok(())
    }

    fn copy(&mut self, from: &Path, path: &str, mode: u32) -> Result<()> {
        let bytes = fs::read(from).with_context(|| from.display().to_string())?;
        self.write(path, &bytes, mode)
    }

    fn write(&mut self, path: &str, bytes: &[u8], mode: u32) -> Result<()> {
        let file = self.folder.join(path);
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&file, bytes).with_context(|| file.display().to_string())?;
        fs::set_permissions(&file, Permissions::from_mode(mode))?;
        self.files.push(path.into());
        Ok(())
    }

    fn sorted(mut self) -> Self {
        self.files.sort();
        self
    }
}

/// The sources of packages, below those of the programs.
pub(super) fn sources(root: &Path) -> PathBuf {
    root.join("xtask/dist")
}

/// The entries of a folder in order.
fn sorted(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut entries: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    entries.sort();
    Ok(entries)
}

/// Folders of files for other programs.
const EXTRAS: [&str; 2] = ["fail2ban", "grafana"];

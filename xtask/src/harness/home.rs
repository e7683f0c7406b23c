//! Homes, the folders in which the programs keep their keys, filled with keys that all scenarios share.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::harness::environment::Harness;
use crate::harness::key::Key;
use crate::harness::process::{Exit, Process};

/// A program's home, which is removed when it goes out of scope.
pub(crate) struct Home {
    folder: TempDir,
}

impl Home {
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Writes a file that only its owner can read.
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.file(name);
        fs::write(&path, bytes).with_context(|| path.display().to_string())?;
        set_mode(&path, 0o600)?;
        Ok(path)
    }

    pub(crate) fn read(&self, name: &str) -> Result<String> {
        let path = self.file(name);
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    }
}

impl AsRef<OsStr> for Home {
    fn as_ref(&self) -> &OsStr {
        self.path().as_os_str()
    }
}

impl Harness {
    /// Creates an empty home.
    pub(crate) fn home(&self) -> Result<Home> {
        let folder = tempfile::Builder::new().prefix("home-").tempdir_in(self.scratch.path())?;
        Ok(Home { folder })
    }

    /// Creates a home with `key` in it.
    pub(crate) fn home_with(&self, key: Key) -> Result<Home> {
        let home = self.home()?;
        home.write(key.file(), self.key(key)?)?;
        Ok(home)
    }

    /// The fingerprint of the key in `home`.
    pub(crate) fn fingerprint(&self, program: &str, home: &Home) -> Result<String> {
        let mut command = self.program(program);
        command.arg("--home").arg(home).arg("fingerprint");
        Ok(Process::start(command)?.finish()?.expect(Exit::Done)?.text())
    }

    fn key(&self, key: Key) -> Result<Vec<u8>> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = keys.get(&key) {
            return Ok(made.clone());
        }
        let home = self.home()?;
        let mut command = self.program(key.program());
        command.arg("--home").arg(&home).args(["keygen", "--bits", "2048"]);
        Process::start(command)?.finish()?.expect(Exit::Done)?;
        let made =
            fs::read(home.file(key.file())).with_context(|| format!("keygen made no {}", key.file()))?;
        keys.insert(key, made.clone());
        Ok(made)
    }
}

pub(crate) fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).with_context(|| path.display().to_string())
}

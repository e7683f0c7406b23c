//! The permissions of a file that an earlier attempt has left, which may have been one with other options.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use rustix::fs::{Mode, fchmod};

use crate::partial::place::{PRIVATE, PartialPlace};
use crate::path::part_name;

impl PartialPlace {
    /// Gives a file, which `has` these permissions, those that one gets which is made with `mode` now.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn give_mode(&self, file: &File, has: u32, mode: u16) -> io::Result<()> {
        let mode = if mode == PRIVATE { u32::from(mode) } else { self.mode_of_new(mode)? };
        if has & 0o777 == mode || (mode == PRIVATE.into() && has & 0o077 == 0) {
            return Ok(());
        }
        Ok(fchmod(file, Mode::from_bits_truncate(mode))?)
    }

    /// What is left of `mode` for a new file. The system alone knows: there are umasks, and directories that have rules of their own.
    fn mode_of_new(&self, mode: u16) -> io::Result<u32> {
        let name = part_name(&self.hash, MODEL);
        // One may be left by a program that was killed here.
        let _ = self.directory.remove(&name);
        let has = self.directory.create_new(&name, mode)?.metadata()?.mode();
        self.directory.remove(&name)?;
        Ok(has & 0o777)
    }
}

/// Stands in place of a name for the file that is made for its permissions alone.
const MODEL: &[u8] = b"mode";

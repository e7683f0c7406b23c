//! Gives directories their permissions and times, once all that belongs in them is there.

use wire_protocol::message::{FileTime, FilesCode};

use crate::directory::{code_of, set_attributes};
use crate::error::Error;
use crate::framing::Output;
use crate::receiver::exchange::Exchange;

impl<W: Output> Exchange<'_, W> {
    /// Takes the attributes of a directory. What cannot be done is left: nothing answers these.
    ///
    /// # Errors
    /// What ends the exchange.
    pub(super) fn attributes(&mut self, path: &[u8], mode: u16, modified: FileTime) -> Result<(), Error> {
        if !self.has_all || !self.wanted.is_empty() {
            return Err(Error::Protocol("attributes come before all else has"));
        }
        if modified.nanoseconds > 999_999_999 {
            return Err(Error::Protocol("a time is none"));
        }
        // What gets a name later would change the time again.
        self.commit()?;
        if self.options.preserve && !self.options.dry_run && self.is_asked_for(path) {
            let _: Result<(), FilesCode> = self.set_attributes(path, mode, modified);
        }
        Ok(())
    }

    fn set_attributes(&mut self, path: &[u8], mode: u16, modified: FileTime) -> Result<(), FilesCode> {
        let path = self.goals.path(path)?;
        let directory = self.goals.walk_to(&path).map_err(|error| code_of(&error))?;
        let identity = directory.identity().map_err(|error| code_of(&error))?;
        if self.only_made && !self.goals.has_made(identity) {
            return Err(FilesCode::Denied);
        }
        set_attributes(&directory, mode, modified).map_err(|error| code_of(&error))?;
        self.goals.has_attributes(identity);
        Ok(())
    }
}

//! The file of invites, which only its owner may read. It is written as a whole, under the lock of the file of clients.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cli_support::home::Home;
use cli_support::private_file;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::access::invites::Invites;
use crate::access::stamp::Stamp;
use crate::error::Error;

/// `invites.toml` of a home.
#[derive(Debug)]
pub struct InviteFile {
    path: PathBuf,
    cached: Mutex<Cached>,
}

/// The result of the last reading.
#[derive(Debug, Default)]
struct Cached {
    /// The state of the file, and its content.
    read: Option<(Stamp, Arc<Invites>)>,
    /// The time at which the file was last checked.
    checked_at: Option<Instant>,
    /// The reason why the file cannot be used, which has been logged.
    unusable: Option<String>,
}

impl InviteFile {
    pub(super) fn new(home: &Home) -> Self {
        Self { path: home.file(NAME), cached: Mutex::default() }
    }

    /// Returns the file's current content, which is empty where there is no file: without it no invite can be used.
    ///
    /// # Errors
    /// [`Error::InviteFile`] when the file is not valid, [`Error::Program`] when it cannot be read, or another user
    /// could read it or could have written it.
    pub fn read(&self) -> Result<Arc<Invites>, Error> {
        let mut cached = self.cached();
        if let Cached { read, checked_at: Some(moment), .. } = &*cached
            && moment.elapsed() < VALID_FOR
        {
            return Ok(read.as_ref().map(|(_, invites)| Arc::clone(invites)).unwrap_or_default());
        }
        cached.checked_at = None;
        let stamp = Stamp::of(&self.path)?;
        cached.read = match (stamp, cached.read.take()) {
            (None, _) => None,
            (Some(stamp), Some((known, invites))) if known == stamp => Some((stamp, invites)),
            (Some(stamp), _) => Some((stamp, Arc::new(self.load()?))),
        };
        cached.checked_at = Some(Instant::now());
        Ok(cached.read.as_ref().map(|(_, invites)| Arc::clone(invites)).unwrap_or_default())
    }

    /// Reads the file as [`InviteFile::read`] does, for a running server: it logs once that the file cannot be used. No
    /// invite can be used then, and there is `None`.
    pub(super) fn consult(&self) -> Option<Arc<Invites>> {
        match self.read() {
            Ok(invites) => {
                if self.cached().unusable.take().is_some() {
                    tracing::info!(path = %self.path.display(), "the file of invites can be read again");
                }
                Some(invites)
            }
            Err(error) => {
                let said = error.to_string();
                let mut cached = self.cached();
                if cached.unusable.as_ref() != Some(&said) {
                    tracing::error!(%error, "no invite can be used until this is mended");
                    cached.unusable = Some(said);
                }
                None
            }
        }
    }

    /// Reads the file, whatever was read before.
    pub(super) fn load(&self) -> Result<Invites, Error> {
        if private_file::is_absent(&self.path)? {
            return Ok(Invites::default());
        }
        let text = private_file::read_long_text(&self.path)?;
        toml::from_str(&text).map_err(|mut source: toml::de::Error| {
            // The error quotes its line, which goes to the terminal and to the log.
            source.set_input(Some(&without_secrets(&text)));
            Error::InviteFile { path: self.path.clone(), source: Box::new(source) }
        })
    }

    /// Writes the file: it is on the disk when this returns.
    pub(super) fn store(&self, invites: &Invites) -> Result<(), Error> {
        let text = toml::to_string(invites).map_err(|error| Error::Print(std::io::Error::other(error)))?;
        let text = Zeroizing::new(format!("{HEADER}{}", *Zeroizing::new(text)));
        private_file::replace_long(&self.path, text.as_bytes())?;
        self.invalidate();
        Ok(())
    }

    /// Has the next reading check the file again, however recent the last check was.
    pub(super) fn invalidate(&self) {
        self.cached().checked_at = None;
    }

    fn cached(&self) -> MutexGuard<'_, Cached> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The text with as many stars in place of all that may be a half of what proves an invite: what stands behind such a key,
/// and whatever is as long as half of one, wherever it stands in a file that is damaged.
fn without_secrets(text: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "+/_-".contains(c);
    let mut shown = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (open, secret) = match line.find("verifier").or_else(|| line.find("bind")) {
            Some(start) => line.split_at(line[start..].find('=').map_or(line.len(), |len| start + len + 1)),
            None => (line, ""),
        };
        for run in open.split_inclusive(|c| !is_part(c)) {
            let is_long = run.len() > MAX_OPEN_LEN;
            shown.extend(run.chars().map(|c| if is_long && is_part(c) { '*' } else { c }));
        }
        // A character of several bytes becomes several stars, so that places stay what they are.
        for c in secret.chars() {
            let (star, len) = if c == '\n' { (c, 1) } else { ('*', c.len_utf8()) };
            shown.extend(std::iter::repeat_n(star, len));
        }
    }
    shown
}

/// Most characters in a row that are no secret: an id has 26, with a quote behind it.
const MAX_OPEN_LEN: usize = 27;
/// Time for which a check of the file stays valid. The server's own commands have it checked at once.
const VALID_FOR: Duration = Duration::from_millis(100);
const NAME: &str = "invites.toml";
const HEADER: &str = "# Written by `server invite` and by running servers, which do not keep comments.\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_quotes_no_secret() {
        let half = "NAu6/DttMRfXKc+J3nSEh5KipGTbsdgdMO4IwhYqH1U=";
        for line in [
            format!("bind = \"{half}\"x"),
            format!("bind = \"{half}"),
            format!("bind2 = \"{half}\""),
            format!("verifier = \"?{}\"", &half[1..]),
            format!("bind\" = {half}"),
            half.to_owned(),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let home = Home::resolve(Some(folder.path().into())).unwrap();
            let text = format!("# first\n[[invite]]\n{line}\n");
            private_file::replace(&home.file(NAME), text.as_bytes()).unwrap();
            let said = InviteFile::new(&home).load().unwrap_err().to_string();
            assert!(said.contains("line 3"), "{said}");
            assert!(!(0..half.len() - 8).any(|at| said.contains(&half[at..at + 8])), "{said}");
        }
    }
}

//! How files are moved.

use std::num::NonZeroU16;

use ::files::filter::{Filter, Rule};
use cli_support::rate::Rate;
use wire_protocol::message::{Existing, FilesAccess, Part, TransferOptions};

use super::error::FilesError;

/// How files are moved. The default keeps what stands there already, and permissions and times.
#[derive(Debug, Clone)]
pub struct Options {
    /// What happens where something else has the name already.
    pub existing: Existing,
    /// Whether permissions and times are kept.
    pub preserve: bool,
    /// Whether files are compared by SHA-256 in place of size and time, and hashes told with the events.
    pub checksum: bool,
    /// Whether each file is read back from the disk before it gets its name.
    pub verify_disk: bool,
    /// Whether nothing is changed, and only told what would be.
    pub dry_run: bool,
    /// How many streams are used, at most [`Part::MAX_COUNT`]; `None` for one, and several where there is much to move.
    pub streams: Option<NonZeroU16>,
    /// Most bytes that are moved in a second.
    pub rate: Option<Rate>,
    /// Decides which entries are moved.
    pub filter: Filter,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            existing: Existing::Refuse,
            preserve: true,
            checksum: false,
            verify_disk: false,
            dry_run: false,
            streams: None,
            rate: None,
            filter: Filter::all(),
        }
    }
}

impl Options {
    /// Moves only what matches one of `include`, where there is one, and nothing that matches one of `exclude`. The patterns are
    /// those of a .gitignore.
    ///
    /// # Errors
    /// [`FilesError::Pattern`] for the first one that is no pattern.
    pub fn filtered(self, include: &[String], exclude: &[String]) -> Result<Self, FilesError> {
        let include = include.iter().cloned().map(Rule::Include);
        let rules: Vec<Rule> = include.chain(exclude.iter().cloned().map(Rule::Exclude)).collect();
        Ok(Self { filter: Filter::new(&rules)?, ..self })
    }

    pub(super) fn to_wire(&self) -> TransferOptions {
        TransferOptions {
            existing: self.existing,
            preserve: self.preserve,
            checksum: self.checksum,
            verify_disk: self.verify_disk,
            dry_run: self.dry_run,
        }
    }

    /// What a put needs to be permitted.
    pub(super) fn put_access(&self) -> FilesAccess {
        if self.existing == Existing::Replace { FilesAccess::Replace } else { FilesAccess::Add }
    }

    /// How many streams are used; `is_large` says that there is much to move.
    pub(super) fn streams(&self, is_large: impl FnOnce() -> bool) -> u16 {
        let chosen = match self.streams {
            Some(streams) => streams.get(),
            None if is_large() => {
                let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
                u16::try_from(cores).unwrap_or(MOST_CHOSEN).min(MOST_CHOSEN)
            }
            None => 1,
        };
        chosen.min(Part::MAX_COUNT)
    }
}

/// Most streams that are used without being asked for.
const MOST_CHOSEN: u16 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_streams_are_used_for_much_or_on_demand() {
        let options = Options::default();
        assert_eq!(options.streams(|| false), 1);
        assert!((1..=4).contains(&options.streams(|| true)));
        let streams = |count| Options { streams: NonZeroU16::new(count), ..Options::default() };
        assert_eq!(streams(3).streams(|| unreachable!()), 3);
        assert_eq!(streams(99).streams(|| false), 16);
    }

    #[test]
    fn patterns_that_are_none_are_named() {
        let error = Options::default().filtered(&[], &["a[".into()]).unwrap_err();
        assert!(matches!(error, FilesError::Pattern(_)), "{error}");
    }
}

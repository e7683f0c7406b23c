//! Paths as they stand in messages: relative, in bytes, and without anything that leads out of a directory. Also the names of
//! unfinished files, which no path may have.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use wire_protocol::message::{FilesCode, MAX_DEPTH, MAX_NAME_LEN, MAX_PATH_LEN};

/// A path below a directory: names with `/` between them, none of them empty, `.` or `..`, without NUL, and within the limits of
/// the protocol. The root is the path without a name. Clones are cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelativePath(Arc<[u8]>);

impl RelativePath {
    /// The directory itself.
    #[must_use]
    pub fn root() -> Self {
        Self(Arc::from([]))
    }

    /// Checks a path that has one name at least.
    ///
    /// # Errors
    /// [`FilesCode::BadPath`].
    pub fn parse(bytes: &[u8]) -> Result<Self, FilesCode> {
        if bytes.len() > MAX_PATH_LEN {
            return Err(FilesCode::BadPath);
        }
        let mut depth = 0;
        for name in bytes.split(|byte| *byte == b'/') {
            check_name(name)?;
            depth += 1;
        }
        if depth > MAX_DEPTH { Err(FilesCode::BadPath) } else { Ok(Self(bytes.into())) }
    }

    /// Checks a path that may be empty, which is the root.
    ///
    /// # Errors
    /// [`FilesCode::BadPath`].
    pub fn parse_or_root(bytes: &[u8]) -> Result<Self, FilesCode> {
        if bytes.is_empty() { Ok(Self::root()) } else { Self::parse(bytes) }
    }

    /// Whether it is the directory itself.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Its names, from the top down.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
    }

    /// All but the last name; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        Some(Self(self.0[..end].into()))
    }

    /// The last name; `None` for the root.
    #[must_use]
    pub fn name(&self) -> Option<&[u8]> {
        self.0.rsplit(|byte| *byte == b'/').next().filter(|name| !name.is_empty())
    }

    /// The path of `name` in the directory that this path leads to.
    ///
    /// # Errors
    /// [`FilesCode::BadPath`], also where the whole is too long or too deep.
    pub fn join(&self, name: &[u8]) -> Result<Self, FilesCode> {
        check_name(name)?;
        if self.is_root() {
            return Ok(Self(name.into()));
        }
        let length = self.0.len() + 1 + name.len();
        if length > MAX_PATH_LEN || self.names().count() >= MAX_DEPTH {
            return Err(FilesCode::BadPath);
        }
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(&self.0);
        bytes.push(b'/');
        bytes.extend_from_slice(name);
        Ok(Self(bytes.into()))
    }

    /// Whether one of its names is reserved for unfinished files.
    #[must_use]
    pub fn has_reserved_name(&self) -> bool {
        self.names().any(is_reserved)
    }

    /// As it stands in messages.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// For display and for events. Nothing on disk is reached by it.
    #[must_use]
    pub fn to_path_buf(&self) -> PathBuf {
        OsStr::from_bytes(&self.0).into()
    }
}

impl fmt::Debug for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// Checks that `name` is one name, and none with which a path leads elsewhere.
///
/// # Errors
/// [`FilesCode::BadPath`].
pub fn check_name(name: &[u8]) -> Result<(), FilesCode> {
    let is_good = !matches!(name, b"" | b"." | b"..")
        && name.len() <= MAX_NAME_LEN
        && !name.iter().any(|byte| matches!(byte, 0 | b'/'));
    if is_good { Ok(()) } else { Err(FilesCode::BadPath) }
}

/// Whether `name` has the form of the names that unfinished files and their journals have, or is one that some file systems take for such
/// a name: those that do not tell upper case from lower case, nor characters that are not seen.
#[must_use]
pub fn is_reserved(name: &[u8]) -> bool {
    // Few names begin so.
    matches!(name.first(), Some(b'.' | 0x80..))
        && (has_reserved_form(name) || has_reserved_form(&folded(name)))
}

/// A name as those file systems may see it, which leave out what is at its end, too. What remains of what is not ASCII is a letter, so
/// that there is a name in front.
fn folded(name: &[u8]) -> Vec<u8> {
    let mut folded = Vec::with_capacity(name.len() + 1);
    let mut rest = name;
    while let Some((byte, behind)) = rest.split_first() {
        if let Some(behind) = rest.strip_prefix(LIGATURE) {
            folded.extend_from_slice(b"ff");
            rest = behind;
            continue;
        }
        folded.extend(byte.is_ascii().then_some(byte.to_ascii_lowercase()));
        rest = behind;
    }
    let end = folded.iter().rposition(|byte| !matches!(byte, b'.' | b' ')).map_or(0, |last| last + 1);
    folded.truncate(end);
    if !name.is_ascii() && !folded.is_empty() {
        folded.insert(1, b'x');
    }
    folded
}

/// The only character of UTF-8 that is two hexadecimal digits where case does not count: U+FB00, two letters `f` in one.
const LIGATURE: &[u8] = "\u{fb00}".as_bytes();

fn has_reserved_form(name: &[u8]) -> bool {
    let Some(stem) = name.strip_suffix(PART).or_else(|| name.strip_suffix(JOURNAL)) else { return false };
    let Some((front, digits)) = stem.len().checked_sub(DIGITS).and_then(|at| stem.split_at_checked(at))
    else {
        return false;
    };
    digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
        && front
            .strip_prefix(b".")
            .and_then(|front| front.strip_suffix(b"."))
            .is_some_and(|name| !name.is_empty())
}

/// The name that the file `name` has while `owner` writes it.
#[must_use]
pub fn part_name(owner: &[u8], name: &[u8]) -> Vec<u8> {
    unfinished(&owned_name(owner, name), name, PART)
}

/// The name of the journal beside [`part_name`].
#[must_use]
pub fn journal_name(owner: &[u8], name: &[u8]) -> Vec<u8> {
    unfinished(&owned_name(owner, name), name, JOURNAL)
}

/// Both names, and what stands for the owner and the name in them.
pub(crate) fn unfinished_names(owner: &[u8], name: &[u8]) -> (Vec<u8>, Vec<u8>, [u8; 32]) {
    let hash = owned_name(owner, name);
    (unfinished(&hash, name, PART), unfinished(&hash, name, JOURNAL), *hash.as_bytes())
}

fn owned_name(owner: &[u8], name: &[u8]) -> blake3::Hash {
    blake3::Hasher::new().update(owner).update(&[0]).update(name).finalize()
}

fn unfinished(hash: &blake3::Hash, name: &[u8], ending: &[u8]) -> Vec<u8> {
    let room = MAX_NAME_LEN - (2 + DIGITS + ending.len());
    let mut bytes = Vec::with_capacity(MAX_NAME_LEN);
    bytes.push(b'.');
    bytes.extend_from_slice(&name[..name.len().min(room)]);
    bytes.push(b'.');
    bytes.extend_from_slice(&hash.to_hex().as_bytes()[..DIGITS]);
    bytes.extend_from_slice(ending);
    bytes
}

/// Digits in a reserved name.
const DIGITS: usize = 16;
const PART: &[u8] = b".part";
const JOURNAL: &[u8] = b".journal";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_names_are_reserved_within_the_limit_and_differ_by_owner() {
        for name in [&b"a"[..], b"a.tar", b".hidden", &[b'x'; 232], &[0xff; 255]] {
            let (part, journal) = (part_name(b"me", name), journal_name(b"me", name));
            assert!(is_reserved(&part) && is_reserved(&journal));
            assert!(part.len() <= 255 && journal.len() <= 255);
            assert_ne!(part, part_name(b"you", name));
            assert_eq!(part, part_name(b"me", name));
        }
        // Names that are the same where they are cut are not the same.
        assert_ne!(part_name(b"", &[b'x'; 254]), part_name(b"", &[b'x'; 255]));
    }

    #[test]
    fn names_that_only_look_like_unfinished_ones_are_free() {
        for name in [
            &b".part"[..],
            b"a.part",
            b".a.part",
            b"..0123456789abcdef.part",
            b"a.0123456789abcdef.part",
            b".a.0123456789abcde.part",
            ".ä.0123456789abcde.part".as_bytes(),
            ".ä.part".as_bytes(),
            b".a0123456789abcdef.part",
            b".a.0123456789abcdef.parts",
            b"0123456789abcdef.part",
        ] {
            assert!(!is_reserved(name), "{}", name.escape_ascii());
        }
        assert!(is_reserved(b".a.0123456789abcdef.part"));
        assert!(is_reserved(b".a.0123456789abcdef.journal"));
    }

    #[test]
    fn what_some_file_systems_take_for_an_unfinished_name_is_reserved() {
        for name in [
            ".a.0123456789abcdeF.part",
            ".A.0123456789ABCDEF.PART",
            ".a.0123456789abcdef.Journal",
            ".a.0123456789abcdef.part.",
            ".a.0123456789abcdef.part . .",
            // A soft hyphen, and a joiner of no width.
            ".a.0123456789abcdef.pa\u{ad}rt",
            ".a\u{200d}.01234567\u{ad}89abcdef.part",
            ".0\u{ad}.0123456789abcdef.part",
            ".\u{ad}.0123456789abcdef.part",
            // Two digits in one character.
            ".a.0123456789abcd\u{fb00}.part",
            ".a.\u{fb00}\u{fb00}0123456789ab.part",
        ] {
            assert!(is_reserved(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn the_root_has_no_name_and_no_parent() {
        let root = RelativePath::root();
        assert!(root.name().is_none() && root.parent().is_none() && root.names().next().is_none());
        let file = root.join(b"a").unwrap();
        assert_eq!(file.parent(), Some(root));
        assert_eq!(file.name(), Some(&b"a"[..]));
        assert_eq!(RelativePath::parse(b""), Err(FilesCode::BadPath));
    }
}

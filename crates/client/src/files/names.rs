//! Paths of a transfer as they were named, and as they are offered.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// How the paths of offers are named by the user of the transfer: the first name of an offer is the last one of a path that
/// was named.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// What stands before all names: the share with its colon, where that is at the server.
    share: Vec<u8>,
    /// By the first name of offers, what stands before it.
    roots: HashMap<Vec<u8>, Vec<u8>>,
    /// What stands before all other offers, where a directory was named for what is in it.
    contents: Option<Vec<u8>>,
    /// The name of all that is offered, where it has one alone.
    stream: Option<Vec<u8>>,
}

impl Names {
    /// For a source that is no path, such as `-`.
    pub(super) fn of_stream(name: &[u8]) -> Self {
        Self { stream: Some(name.to_owned()), ..Self::default() }
    }

    /// For sources in a share.
    pub(super) fn in_share(name: &str) -> Self {
        Self { share: format!("{name}:").into_bytes(), ..Self::default() }
    }

    /// Adds what was named as `prefix` and `name` behind it. `false` where another one has the same last name.
    pub(super) fn add(&mut self, prefix: &[u8], name: &[u8]) -> bool {
        let is_new = self.contents.is_none() && !self.roots.contains_key(name);
        if is_new {
            self.roots.insert(name.to_owned(), prefix.to_owned());
        }
        is_new
    }

    /// Adds a directory for what is in it, as `prefix`. `false` where something else was added.
    pub(super) fn add_contents(&mut self, prefix: &[u8]) -> bool {
        let is_first = self.roots.is_empty() && self.contents.is_none();
        self.contents.get_or_insert_with(|| prefix.to_owned());
        is_first
    }

    /// How the user names the entry with this path in its offer.
    #[must_use]
    pub fn of_offer(&self, path: &Path) -> Vec<u8> {
        if let Some(stream) = &self.stream {
            return stream.clone();
        }
        let path = path.as_os_str().as_bytes();
        let first = path.split(|&byte| byte == b'/').next().unwrap_or_default();
        let prefix = self.roots.get(first).or(self.contents.as_ref());
        [self.share.as_slice(), prefix.map_or(&b""[..], Vec::as_slice), path].concat()
    }

    /// The path in offers of what the user names so; `None` where it is in nothing that was named. Empty for all that is offered.
    #[must_use]
    pub fn to_offer(&self, named: &[u8]) -> Option<Vec<u8>> {
        let named = normal(named.strip_prefix(self.share.as_slice())?);
        if let Some(contents) = &self.contents {
            return below(&named, &normal(contents)).map(<[u8]>::to_vec);
        }
        self.roots.iter().find_map(|(name, prefix)| {
            let root = normal(&[prefix, name.as_slice()].concat());
            let rest = below(&named, &root)?;
            Some(if rest.is_empty() { name.clone() } else { [name, &b"/"[..], rest].concat() })
        })
    }
}

/// A path without what changes nothing: `.` and empty names.
fn normal(path: &[u8]) -> Vec<u8> {
    let names: Vec<&[u8]> =
        path.split(|&byte| byte == b'/').filter(|name| !matches!(*name, b"" | b".")).collect();
    let start = if path.starts_with(b"/") { &b"/"[..] } else { b"" };
    [start, &names.join(&b'/')].concat()
}

/// What of `path` is below `directory`, both in their normal form.
fn below<'a>(path: &'a [u8], directory: &[u8]) -> Option<&'a [u8]> {
    if directory.is_empty() {
        return (!path.starts_with(b"/")).then_some(path);
    }
    let rest = path.strip_prefix(directory)?;
    if rest.is_empty() || directory == b"/" { Some(rest) } else { rest.strip_prefix(b"/") }
}

/// The parent and the last name of a path as it is written; `None` for one that has no name of its own, such as `.` and `a/..`.
pub(super) fn split(path: &OsStr) -> Option<(&[u8], &[u8])> {
    let mut bytes = path.as_bytes();
    while let Some(shorter) = bytes.strip_suffix(b"/") {
        bytes = shorter;
    }
    let start = bytes.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    let (parent, name) = bytes.split_at(start);
    (!matches!(name, b"" | b"." | b"..")).then_some((parent, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split_of(path: &str) -> Option<(&str, &str)> {
        let text = |bytes| std::str::from_utf8(bytes).unwrap();
        split(OsStr::new(path)).map(|(parent, name)| (text(parent), text(name)))
    }

    #[test]
    fn a_path_has_a_last_name_or_stands_for_what_is_in_it() {
        for (path, expected) in [
            ("a", Some(("", "a"))),
            ("a/", Some(("", "a"))),
            ("./a/b//", Some(("./a/", "b"))),
            ("/a", Some(("/", "a"))),
            ("../a", Some(("../", "a"))),
            ("a/..b", Some(("a/", "..b"))),
            (".", None),
            ("a/.", None),
            ("..", None),
            ("a/../", None),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(split_of(path), expected, "{path:?}");
        }
    }

    #[test]
    fn paths_of_offers_are_named_as_the_user_did_and_found_again() {
        let mut names = Names::default();
        assert!(names.add(b"../x/", b"photos") && names.add(b"", b"b.txt"));
        assert!(!names.add(b"elsewhere/", b"photos"), "two of one name");
        for (offer, named) in
            [("photos", "../x/photos"), ("photos/a/b", "../x/photos/a/b"), ("b.txt", "b.txt")]
        {
            assert_eq!(names.of_offer(Path::new(offer)), named.as_bytes());
            assert_eq!(names.to_offer(named.as_bytes()).unwrap(), offer.as_bytes());
        }
        assert_eq!(names.to_offer(b".././x//photos/a/").unwrap(), b"photos/a");
        assert_eq!(names.to_offer(b"./b.txt").unwrap(), b"b.txt");
        for other in [&b"photos"[..], b"../x/photosets", b"../x", b"/b.txt", b"b.tx", b""] {
            assert_eq!(names.to_offer(other), None, "{other:?}");
        }
    }

    #[test]
    fn what_is_in_a_directory_is_named_behind_it() {
        for (prefix, named, offer) in
            [("", "a/b", "a/b"), ("./", "a", "a"), ("x/./", "x/a", "a"), ("/", "/etc", "etc")]
        {
            let mut names = Names::default();
            assert!(names.add_contents(prefix.as_bytes()));
            assert!(!names.add(b"", b"other"));
            assert_eq!(names.to_offer(named.as_bytes()).unwrap(), offer.as_bytes(), "{prefix:?}");
            assert_eq!(names.to_offer(&names.of_offer(Path::new(offer))).unwrap(), offer.as_bytes());
        }
        let mut names = Names::in_share("s");
        assert!(names.add(b"x/", b"a"));
        assert_eq!(names.of_offer(Path::new("a/b")), b"s:x/a/b");
        assert_eq!(names.to_offer(b"s:x/a/b").unwrap(), b"a/b");
        assert_eq!((names.to_offer(b"x/a/b"), names.to_offer(b"t:x/a")), (None, None));
        assert_eq!(Names::of_stream(b"-").of_offer(Path::new("x.tar")), b"-");
    }
}

//! A program's configuration file: its location, its reading, and the conversion of its texts to values.
//!
//! Values are checked while the file is parsed, so that every error names the line. The functions for
//! `#[serde(deserialize_with = "...")]` serve that purpose.

use std::fmt::{self, Display};
use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use etcetera::BaseStrategy as _;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Deserializer, Error as _, MapAccess, Visitor};
use tunnel::address::Address;

use crate::{Error, duration, private_file};

/// The configuration file of `program`: `given` (`--config`), else `sockseal/PROGRAM.toml` in the XDG configuration
/// folder, else `/etc/sockseal/PROGRAM.toml`; `None` where none of these exists.
///
/// # Errors
/// [`Error::File`] when the existence of a file cannot be determined, since the file would be ignored silently.
pub fn find(given: Option<&Path>, program: &str) -> Result<Option<PathBuf>, Error> {
    if let Some(path) = given {
        return Ok(Some(path.into()));
    }
    let own = etcetera::choose_base_strategy().ok().map(|base| base.config_dir().join("sockseal"));
    find_in(own.into_iter().chain([SYSTEM_FOLDER.into()]), program)
}

/// Reads a configuration file.
///
/// # Errors
/// [`Error::File`], also when the file does not exist; [`Error::Exposed`] when other users can change it;
/// [`Error::Config`], with the line, when it is not valid.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = private_file::read_public_text(path)?;
    toml::from_str(&text).map_err(|source| Error::Config { path: path.into(), source: Box::new(source) })
}

/// The folder of the file `config`, which relative paths in it start from.
///
/// # Errors
/// [`Error::File`] when the working folder no longer exists.
pub fn folder(config: &Path) -> Result<PathBuf, Error> {
    let absolute = std::path::absolute(config).map_err(Error::file("read", config))?;
    Ok(absolute.parent().unwrap_or(Path::new("/")).into())
}

/// Resolves the relative path of a unix socket against `folder`.
pub fn resolve_address(address: &mut Address, folder: &Path) {
    if let Address::Unix(path) = address {
        *path = folder.join(&path);
    }
}

/// Parses a value from its text.
///
/// # Errors
/// The error of the value's parser.
pub fn text<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    Text::deserialize(deserializer).map(|Text(value)| value)
}

/// Parses a value as [`text`] does, for a key that may be missing. The field needs `#[serde(default)]`, too.
///
/// # Errors
/// Those of [`text`].
pub fn optional_text<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    text(deserializer).map(Some)
}

/// Parses each value of a list as [`text`] does.
///
/// # Errors
/// Those of [`text`], with the line of the element.
pub fn texts<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    let texts = Vec::<Text<T>>::deserialize(deserializer)?;
    Ok(texts.into_iter().map(|Text(value)| value).collect())
}

/// Parses an address to listen on, for a key that may be missing. The field needs `#[serde(default)]`, too.
///
/// # Errors
/// Those of [`Address::listening`].
pub fn optional_listening<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Address>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Address::listening(&text).map(Some).map_err(D::Error::custom)
}

/// Parses a duration of `MIN` to `MAX` seconds.
///
/// # Errors
/// The error of [`duration::parse`], or one that states the limits.
pub fn duration<'de, D, const MIN: u64, const MAX: u64>(deserializer: D) -> Result<Duration, D::Error>
where
    D: Deserializer<'de>,
{
    text::<D, Bounded<MIN, MAX>>(deserializer).map(|Bounded(value)| value)
}

/// Parses a table as `R` and converts it with `check`, whose error gets the line that the table begins in.
///
/// # Errors
/// The error of the table, or that of `check`.
pub fn table<'de, D, R, T>(deserializer: D, check: impl FnOnce(R) -> Result<T, String>) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    R: Deserialize<'de>,
{
    deserializer.deserialize_map(TableVisitor { check, table: PhantomData })
}

/// A duration of `MIN` to `MAX` seconds.
struct Bounded<const MIN: u64, const MAX: u64>(Duration);

impl<const MIN: u64, const MAX: u64> FromStr for Bounded<MIN, MAX> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let value = duration::parse(text).map_err(|error| error.to_string())?;
        let (min, max) = (Duration::from_secs(MIN), Duration::from_secs(MAX));
        if (min..=max).contains(&value) {
            Ok(Self(value))
        } else {
            Err(format!("{MIN}s to {MAX}s are possible"))
        }
    }
}

/// Parses its value inside the visitor, since only errors there get the line of the text itself.
struct Text<T>(T);

impl<'de, T: FromStr<Err: Display>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor(PhantomData))
    }
}

struct TextVisitor<T>(PhantomData<T>);

impl<T: FromStr<Err: Display>> Visitor<'_> for TextVisitor<T> {
    type Value = Text<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Text<T>, E> {
        text.parse().map(Text).map_err(E::custom)
    }
}

struct TableVisitor<R, C> {
    check: C,
    table: PhantomData<R>,
}

impl<'de, R, T, C> Visitor<'de> for TableVisitor<R, C>
where
    R: Deserialize<'de>,
    C: FnOnce(R) -> Result<T, String>,
{
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        let table = R::deserialize(MapAccessDeserializer::new(map))?;
        (self.check)(table).map_err(A::Error::custom)
    }
}

fn find_in(folders: impl IntoIterator<Item = PathBuf>, program: &str) -> Result<Option<PathBuf>, Error> {
    for folder in folders {
        let path = folder.join(format!("{program}.toml"));
        // A dangling link counts as a file, so that reading it reports the error.
        match std::fs::symlink_metadata(&path) {
            Ok(_) => return Ok(Some(path)),
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(Error::file("read", path)(error)),
        }
    }
    Ok(None)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

const SYSTEM_FOLDER: &str = "/etc/sockseal";

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[serde(default, deserialize_with = "optional_text")]
        address: Option<Address>,
        #[serde(default, deserialize_with = "texts")]
        addresses: Vec<Address>,
        #[serde(default, deserialize_with = "duration::<_, 1, 60>")]
        patience: Duration,
        #[serde(default)]
        entry: Vec<Entry>,
    }

    #[derive(Debug, PartialEq)]
    struct Entry(u8);

    impl<'de> Deserialize<'de> for Entry {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            #[derive(Deserialize)]
            #[serde(deny_unknown_fields)]
            struct Table {
                number: u8,
            }
            table(deserializer, |Table { number }| match number {
                0 => Err("nothing to do".into()),
                number => Ok(Self(number)),
            })
        }
    }

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sample.toml");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[test]
    fn values_are_read_from_their_texts() {
        let text = "address = 'a:1'\naddresses = ['b:2', 'unix:c']\npatience = '1m'\n[[entry]]\nnumber = 7\n";
        let (_folder, path) = file(text, 0o644);
        let sample: Sample = read(&path).unwrap();
        assert_eq!(sample.address, Some("a:1".parse().unwrap()));
        assert_eq!(sample.addresses, ["b:2", "unix:c"].map(|text| text.parse().unwrap()));
        assert_eq!(sample.patience, Duration::from_secs(60));
        assert_eq!(sample.entry, [Entry(7)]);
    }

    #[track_caller]
    fn check(text: &str, line: usize, what: &str) {
        let (_folder, path) = file(text, 0o644);
        let error = read::<Sample>(&path).unwrap_err().to_string();
        let start = format!("cannot understand {}: TOML parse error at line {line},", path.display());
        assert!(error.starts_with(&start), "{error}");
        assert!(error.contains(what), "{error}");
    }

    #[test]
    fn what_makes_no_sense_is_named_with_its_line() {
        check("\naddres = 'a:1'", 2, "unknown field `addres`");
        check("\n\naddress = 'a'", 3, "\"a\" is not an address");
        check("address = 1", 1, "expected a string");
        check("addresses = [\n'a:1',\n'a:x',\n]", 3, "\"a:x\" is not an address");
        check("addresses = 'a:1'", 1, "expected a sequence");
        check("\npatience = 'soon'", 2, "\"soon\" is not a duration");
        check("\npatience = 5", 2, "expected a string");
        check("\npatience = '999ms'", 2, "1s to 60s are possible");
        check("\npatience = '61s'", 2, "1s to 60s are possible");
        check("[[entry]]\nnumber = 1\n[[entry]]\nnumber = 0", 3, "nothing to do");
        check("[[entry]]\nnumber = 1\n\n[[entry]]", 4, "missing field `number`");
        check("[[entry]]\nnumber = 1\n[[entry]]\nnumber = 2\nletter = 'a'", 5, "unknown field `letter`");
        check("[entry]\nnumber = 1", 1, "expected a sequence");
        check("address = 'a:1'\naddress = 'a:1'", 2, "duplicate key");
        check("address = ", 1, "");
    }

    #[test]
    fn a_file_that_others_can_change_is_refused() {
        for mode in [0o664, 0o646, 0o666, 0o622] {
            let (_folder, path) = file("", mode);
            assert!(matches!(read::<Sample>(&path), Err(Error::Exposed { .. })), "{mode:o}");
        }
        let (_folder, path) = file("", 0o444);
        read::<Sample>(&path).unwrap();
    }

    #[test]
    fn the_first_file_there_is_counts_and_a_given_one_has_to_exist() {
        let folder = tempfile::tempdir().unwrap();
        let [own, system] = ["own", "system"].map(|name| folder.path().join(name));
        let find = || find_in([own.clone(), system.clone()], "sample").unwrap();
        assert_eq!(find(), None);
        for folder in [&system, &own] {
            std::fs::create_dir(folder).unwrap();
            std::fs::write(folder.join("other.toml"), "").unwrap();
            std::fs::write(folder.join("sample.toml"), "").unwrap();
            assert_eq!(find(), Some(folder.join("sample.toml")));
        }
        let missing = folder.path().join("missing.toml");
        let found = super::find(Some(&missing), "sample").unwrap().unwrap();
        let error = read::<Sample>(&found).unwrap_err();
        assert!(matches!(error, Error::File { action: "read", path, .. } if path == missing));
    }

    #[test]
    fn a_file_that_cannot_be_seen_is_not_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let [looped, file] = ["looped", "file"].map(|name| folder.path().join(name));
        std::os::unix::fs::symlink(&looped, &looped).unwrap();
        assert!(matches!(find_in([looped], "sample"), Err(Error::File { action: "read", .. })));
        std::fs::write(&file, "").unwrap();
        assert_eq!(find_in([file], "sample").unwrap(), None);
        let link = folder.path().join("sample.toml");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        assert_eq!(find_in([folder.path().into()], "sample").unwrap(), Some(link));
    }

    #[test]
    fn relative_paths_start_from_the_folder_of_the_file() {
        let folder = folder(Path::new("/etc/sockseal/server.toml")).unwrap();
        for (text, resolved) in
            [("unix:run/a", "unix:/etc/sockseal/run/a"), ("unix:/run/a", "unix:/run/a"), ("a:1", "a:1")]
        {
            let mut address: Address = text.parse().unwrap();
            resolve_address(&mut address, &folder);
            assert_eq!(address.to_string(), resolved);
        }
        assert!(super::folder(Path::new("server.toml")).unwrap().is_absolute());
    }
}

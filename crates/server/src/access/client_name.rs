//! Names of clients with a key: short, in any script, and safe to print anywhere.

use std::fmt;
use std::str::FromStr;

use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory, GeneralCategoryGroup};
use icu_properties::{CodePointMapData, CodePointSetData};

use crate::error::Error;

/// A name of 1 to 64 letters, with their marks, and digits of any script, `.`, `_` and `-`, in normal form C, so
/// that two spellings of the same characters are the same name. No character is invisible or changes the direction
/// of writing.
///
/// Names of pre-shared keys and of services are [`Name`](super::Name)s, since they are part of the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientName(String);

impl ClientName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The suggested name of a client that has not been allowed yet, made from its fingerprint.
    pub(crate) fn suggested(fingerprint: &str) -> String {
        let letters = fingerprint.trim_start_matches("SHA256:").chars().filter(char::is_ascii_alphanumeric);
        format!("client-{}", letters.take(SUGGESTED_LETTERS).collect::<String>())
    }
}

impl FromStr for ClientName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let name = ComposingNormalizerBorrowed::new_nfc().normalize(text);
        let is_whole = name.chars().next().is_some_and(|first| !is_mark(first));
        if is_whole && name.chars().count() <= MAX_LEN && name.chars().all(is_part) {
            Ok(Self(name.into_owned()))
        } else {
            Err(Error::BadClientName { name: text.into() })
        }
    }
}

impl fmt::Display for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_part(c: char) -> bool {
    let category = CodePointMapData::<GeneralCategory>::new().get(c);
    let is_visible = !CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c);
    let is_letter_or_digit = GeneralCategoryGroup::Letter.contains(category)
        || GeneralCategoryGroup::Mark.contains(category)
        || category == GeneralCategory::DecimalNumber;
    "._-".contains(c) || (is_letter_or_digit && is_visible)
}

fn is_mark(c: char) -> bool {
    GeneralCategoryGroup::Mark.contains(CodePointMapData::<GeneralCategory>::new().get(c))
}

/// Most characters in a name.
const MAX_LEN: usize = 64;
/// Number of letters of a fingerprint in the suggested name of its client.
const SUGGESTED_LETTERS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_any_script() {
        for name in [
            "alice",
            "Jürgen",
            "Łukasz.2",
            "Αλίκη",
            "Алиса",
            "アリス",
            "爱丽丝",
            "앨리스",
            "أليس",
            "אליס",
            "एलिस",
            "ลลิล",
            "٣-laptop_x",
        ] {
            assert_eq!(name.parse::<ClientName>().unwrap().as_str(), name);
        }
        // This is the same name, typed in two ways.
        assert_eq!("Ju\u{308}rgen".parse::<ClientName>().unwrap().as_str(), "Jürgen");
        assert!("ä".repeat(64).parse::<ClientName>().is_ok());
    }

    #[test]
    fn what_is_invisible_or_turns_a_line_around_is_no_part_of_a_name() {
        for name in [
            "",
            " ",
            "a b",
            "a\tb",
            "a\nb",
            "a\u{a0}b",
            "a\u{ad}b",
            "a\u{200b}b",
            "a\u{200d}b",
            "a\u{202e}b",
            "a\u{2066}b",
            "a\u{feff}b",
            "a\u{3164}",
            "a\u{115f}",
            "a\u{ffa0}",
            "a\u{34f}b",
            "a\u{fe0f}",
            "a\u{e0041}",
            "\u{301}a",
            "a\x1b[2J",
            "a\u{fffd}",
            "a/b",
            "a:b",
            "a\"b",
            "😀",
            "a\u{e000}",
            "Ⅳ",
        ] {
            assert!(matches!(name.parse::<ClientName>(), Err(Error::BadClientName { .. })), "{name:?}");
        }
        assert!("ä".repeat(65).parse::<ClientName>().is_err());
    }

    #[test]
    fn a_suggested_name_is_one() {
        let name = ClientName::suggested("SHA256:a+b/CdEfGhIjKl");
        assert_eq!(name, "client-abCdEfGh");
        assert!(name.parse::<ClientName>().is_ok());
    }
}

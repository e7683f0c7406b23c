//! Names that people give to clients and servers: short, in any script, and safe to print anywhere.

use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory, GeneralCategoryGroup};
use icu_properties::{CodePointMapData, CodePointSetData};

/// The text as a name: 1 to [`MAX_LEN`] letters, with their marks, and digits of any script, `.`, `_` and `-`, in normal form
/// C, so that two spellings of the same characters are the same name. No character is invisible or changes the direction
/// of writing. `None` for any other text.
#[must_use]
pub fn normalized(text: &str) -> Option<String> {
    let name = ComposingNormalizerBorrowed::new_nfc().normalize(text);
    let is_whole = name.chars().next().is_some_and(|first| !is_mark(first));
    let is_name = is_whole && name.chars().count() <= MAX_LEN && name.chars().all(is_part);
    is_name.then(|| name.into_owned())
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
pub const MAX_LEN: usize = 64;

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
            assert_eq!(normalized(name).as_deref(), Some(name));
        }
        // This is the same name, typed in two ways.
        assert_eq!(normalized("Ju\u{308}rgen").as_deref(), Some("Jürgen"));
        assert!(normalized(&"ä".repeat(64)).is_some());
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
            assert_eq!(normalized(name), None, "{name:?}");
        }
        assert_eq!(normalized(&"ä".repeat(65)), None);
    }
}

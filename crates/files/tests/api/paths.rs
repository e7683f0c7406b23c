//! Properties of paths, for any bytes.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Component;

use files::path::{RelativePath, check_name, is_reserved, journal_name, part_name};
use proptest::collection::vec;
use proptest::prelude::*;
use wire_protocol::message::{MAX_DEPTH, MAX_NAME_LEN, MAX_PATH_LEN};

/// What paths are made of: mostly good names, with what makes them bad in between.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => vec(1_u8..=255, 1..12).prop_map(|mut name| { name.retain(|byte| *byte != b'/'); name }),
        1 => vec(any::<u8>(), 0..4),
        1 => Just(b"..".to_vec()),
        1 => Just(b".".to_vec()),
        1 => (250_usize..260).prop_map(|length| vec![b'x'; length]),
    ]
}

/// The same judgement in other words.
fn is_good(path: &[u8]) -> bool {
    let text = path.iter().map(|byte| char::from(*byte)).collect::<String>();
    let names: Vec<_> = text.split('/').collect();
    path.len() <= MAX_PATH_LEN
        && names.len() <= MAX_DEPTH
        && names.iter().all(|name| {
            !name.is_empty()
                && *name != "."
                && *name != ".."
                && !name.contains('\0')
                && name.chars().count() <= MAX_NAME_LEN
        })
}

proptest! {
    #[test]
    fn a_path_is_taken_where_each_name_is_good(pieces in vec(piece(), 0..300)) {
        let bytes = pieces.join(&b'/');
        prop_assert_eq!(RelativePath::parse(&bytes).is_ok(), is_good(&bytes));
    }

    #[test]
    fn what_is_taken_stays_beneath(bytes in vec(prop_oneof![Just(b'/'), Just(b'.'), Just(0), any::<u8>()], 0..40)) {
        let Ok(path) = RelativePath::parse(&bytes) else { return Ok(()) };
        prop_assert_eq!(path.as_bytes(), &bytes[..]);
        let buf = path.to_path_buf();
        prop_assert!(buf.components().all(|part| matches!(part, Component::Normal(_))));
        let names: Vec<_> = buf.components().map(|part| part.as_os_str().as_bytes().to_vec()).collect();
        prop_assert_eq!(&names, &path.names().map(<[u8]>::to_vec).collect::<Vec<_>>());
        prop_assert_eq!(names.join(&b'/'), bytes);
    }

    #[test]
    fn a_path_is_its_parent_and_its_name(pieces in vec(piece(), 1..6)) {
        let Ok(path) = RelativePath::parse(&pieces.join(&b'/')) else { return Ok(()) };
        let parent = path.parent().unwrap();
        prop_assert_eq!(parent.join(path.name().unwrap()), Ok(path.clone()));
        let mut built = RelativePath::root();
        for name in path.names() {
            built = built.join(name).unwrap();
        }
        prop_assert_eq!(built, path);
    }

    #[test]
    fn to_join_is_to_parse_the_whole(pieces in vec(piece(), 1..6), name in piece()) {
        let Ok(path) = RelativePath::parse(&pieces.join(&b'/')) else { return Ok(()) };
        let whole = [path.as_bytes(), &name].join(&b'/');
        if !name.contains(&b'/') {
            prop_assert_eq!(path.join(&name), RelativePath::parse(&whole));
        } else {
            prop_assert!(path.join(&name).is_err());
        }
    }

    #[test]
    fn unfinished_files_have_names_of_their_own(
        owner in vec(any::<u8>(), 0..40),
        name in vec(any::<u8>().prop_filter("no separator", |byte| !matches!(byte, 0 | b'/')), 1..=255),
    ) {
        for unfinished in [part_name(&owner, &name), journal_name(&owner, &name)] {
            prop_assert!(is_reserved(&unfinished));
            prop_assert_eq!(check_name(&unfinished), Ok(()));
        }
        let mut other = owner.clone();
        other.push(b'x');
        prop_assert_ne!(part_name(&owner, &name), part_name(&other, &name));
    }
}

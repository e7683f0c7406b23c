//! Names and paths that lead elsewhere, or are too much, against each operation.

use std::fs;

use files::directory::{Directories, code_of};
use files::path::{RelativePath, is_reserved};
use wire_protocol::message::{FilesCode, MAX_DEPTH, MAX_NAME_LEN, MAX_PATH_LEN};

use super::operations::OPERATIONS;
use super::world::World;

/// No path in a message, and no name in a directory.
const HOSTILE: [&[u8]; 78] = [
    // Nothing, and what stands for a directory itself.
    b"",
    b".",
    b"..",
    b"./",
    b"../",
    b"./.",
    b"./..",
    b"../.",
    b"../..",
    b"../../",
    b"../../..",
    b"../../../../../../../../../../etc/passwd",
    // Absolute.
    b"/",
    b"//",
    b"///",
    b"/.",
    b"/..",
    b"/../",
    b"/a",
    b"/a/",
    b"//a",
    b"/etc/passwd",
    b"//etc/passwd",
    b"/proc/self/root",
    b"/dev/null",
    b"/tmp",
    // Up and out, from within, and past what exists.
    b"../outside",
    b"../outside/",
    b"../outside/secret",
    b"../inside",
    b"../inside/a",
    b"./a",
    b"./../outside",
    b"a/..",
    b"a/../",
    b"a/../..",
    b"a/../../outside",
    b"a/../../outside/secret",
    b"a/./victim",
    b"a/.",
    b"a/./",
    b"a/victim/../../../outside",
    b"a/victim/../../../outside/secret",
    b"missing/..",
    b"missing/../..",
    b"missing/../../outside",
    b"a/victim/file/..",
    b"a/victim/file/../../../../outside",
    b"a/victim/sub/deep/../../../../..",
    // Empty names.
    b"a/",
    b"a//",
    b"a//victim",
    b"a///victim",
    b"a/victim/",
    b"a/victim//",
    b"a/victim//file",
    b"a/victim/file/",
    b"a/ /../b",
    b"a/\n/..",
    // NUL, before which the system would end the name.
    b"\0",
    b"\0\0",
    b"a\0",
    b"\0a",
    b"a\0b",
    b".\0",
    b"..\0",
    b"..\0/a",
    b"a/\0",
    b"a/b\0",
    b"a/..\0",
    b"a/\0/b",
    b"a\0/../../outside",
    b"../outside\0.txt",
    b"secret\0.part",
    b"a/victim\0/file",
    // What other systems and shells would do with it is still what it is here.
    b"/\\",
    b"..//..",
    b"a/..//outside",
];

/// Good for no system call as one name, and good as a path where it has a `/`: as a name it is refused.
const PATHS: [&[u8]; 4] = [b"a/victim", b"a/victim/file", b"outside/secret", b"a/b/c/d"];

fn too_much() -> Vec<Vec<u8>> {
    let name = |length| vec![b'n'; length];
    let deep = |depth| vec![&b"d"[..]; depth].join(&b"/"[..]);
    vec![
        name(MAX_NAME_LEN + 1),
        name(4096),
        name(65_536),
        name(1 << 20),
        deep(MAX_DEPTH + 1),
        deep(1000),
        deep(10_000),
        [&deep(10)[..], &name(MAX_NAME_LEN + 1)].join(&b'/'),
        vec![&name(250)[..]; 16].join(&b'/'),
        vec![&name(200)[..]; 300].join(&b'/'),
        "ü".repeat(128).into_bytes(),
        b"../".repeat(2000),
        b"/".repeat(5000),
    ]
}

#[test]
fn no_path_leads_out_or_is_too_much() {
    for path in HOSTILE.iter().map(|path| path.to_vec()).chain(too_much()) {
        assert_eq!(RelativePath::parse(&path), Err(FilesCode::BadPath), "{}", path.escape_ascii());
        let is_root = path.is_empty();
        assert_eq!(RelativePath::parse_or_root(&path).is_ok(), is_root, "{}", path.escape_ascii());
    }
}

#[test]
fn no_operation_takes_more_than_one_name() {
    let world = World::new();
    let inside = world.inside();
    fs::write(world.path("inside/source"), "source").unwrap();
    let before = world.everything();
    let names = HOSTILE.iter().chain(&PATHS).map(|name| name.to_vec()).chain(too_much());
    let mut refused = 0;
    for name in names {
        let shown = name[..name.len().min(80)].escape_ascii();
        for (operation, run) in OPERATIONS {
            let error = run(&inside, &name).expect_err(operation);
            assert_eq!(code_of(&error), FilesCode::BadPath, "{operation} {shown}: {error}");
            refused += 1;
        }
    }
    assert_eq!(refused, (78 + 4 + 13) * 15);
    assert_eq!(world.everything(), before);
}

#[test]
fn what_is_just_within_the_limits_is_taken() {
    let name = vec![b'n'; MAX_NAME_LEN];
    let deep = vec![&b"d"[..]; MAX_DEPTH].join(&b"/"[..]);
    let mut long = vec![&[b'l'; 249][..]; 16].join(&b'/');
    long.push(b'l');
    assert_eq!(long.len(), MAX_PATH_LEN);
    let world = World::new();
    for base in [world.inside(), world.inside().without_openat2()] {
        for path in [&name, &deep, &long] {
            let path = RelativePath::parse(path).unwrap();
            let made = base.make_all(&path).unwrap();
            assert_eq!(made.identity().unwrap(), base.walk_to(&path).unwrap().identity().unwrap());
        }
    }
    // The limits hold for what is put together as well.
    assert!(RelativePath::parse(&deep).unwrap().join(b"d").is_err());
    assert!(RelativePath::parse(&long).unwrap().join(b"l").is_err());
}

#[test]
fn odd_names_are_names() {
    let world = World::new();
    let inside = world.inside();
    let names: [&[u8]; 16] = [
        b"...",
        b"....",
        b" ",
        b"-rf",
        b"~",
        b"*",
        b"$(id)",
        b"a\\..\\b",
        b"C:",
        b"NUL",
        b"\n",
        b"\x1b[2J",
        b"\xff\xfe",
        b"..a",
        b"a..",
        "\u{202e}gnp".as_bytes(),
    ];
    for name in names {
        inside.create_new(name, 0o600).unwrap();
        assert!(inside.stat(name).unwrap().is_some());
        let listed: Vec<_> = inside.entries().unwrap().map(|entry| entry.unwrap().0).collect();
        assert!(listed.iter().any(|listed| **listed == *name), "{}", name.escape_ascii());
        inside.remove(name).unwrap();
    }
}

#[test]
fn reserved_names_are_found_anywhere_in_a_path() {
    for path in [
        &b".a.0123456789abcdef.part"[..],
        b".a.0123456789abcdef.journal",
        b"a/.b.0123456789abcdef.part",
        b".a.0123456789abcdef.part/b",
        b"a/.b.c.0123456789abcdef.journal/d",
    ] {
        assert!(RelativePath::parse(path).unwrap().has_reserved_name(), "{}", path.escape_ascii());
    }
    assert!(!RelativePath::parse(b"a/.b.part/c.0123456789abcdef.part").unwrap().has_reserved_name());
    assert!(!is_reserved(b"") && !is_reserved(b".part") && !is_reserved(b".journal"));
}

#[test]
fn directories_are_kept_and_made_as_they_are_needed() {
    let world = World::new();
    for base in [world.inside(), world.inside().without_openat2()] {
        let mut directories = Directories::new(base.clone());
        let path = RelativePath::parse(b"new/of/these").unwrap();
        assert_eq!(code_of(&directories.get(&path).unwrap_err()), FilesCode::NotFound);
        let mut made = Vec::new();
        let one = directories.make(&path, &mut |_, name| made.push(name.to_vec())).unwrap();
        assert_eq!(made, [&b"new"[..], b"of", b"these"]);
        let two = directories.make(&path, &mut |_, _| panic!("it is there")).unwrap();
        assert_eq!(one.identity().unwrap(), two.identity().unwrap());
        assert_eq!(directories.get(&path).unwrap().identity().unwrap(), one.identity().unwrap());
        directories.forget();
        fs::remove_dir_all(world.path("inside/new")).unwrap();
        assert!(directories.get(&path).is_err());
        let root = directories.get(&RelativePath::root()).unwrap();
        assert_eq!(root.identity().unwrap(), base.identity().unwrap());
    }
}

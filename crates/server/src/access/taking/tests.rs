//! Tests of making, ending and taking invites.

use std::cell::Cell;
use std::time::Duration;

use cli_support::home::Home;
use cli_support::private_file;
use crypto_core::secret::Secret;
use wire_protocol::handshake::server::InviteVerdict;

use super::*;
use crate::access::credential::Credential;
use crate::access::rights::Rights;

const ALICE: KeyId = KeyId([1; 32]);
const BOB: KeyId = KeyId([2; 32]);
const DAY: Duration = Duration::from_hours(24);

fn file() -> (tempfile::TempDir, AccessFile) {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::resolve(Some(folder.path().into())).unwrap();
    (folder, AccessFile::new(home))
}

fn new(id: u8, name: &str, expires: Timestamp) -> NewInvite {
    NewInvite {
        id: InviteId([id; 16]),
        verifier: InviteVerifier::new([id; 32], Secret::new([id; 32])),
        name: name.parse().unwrap(),
        grant: Grant::unlimited(Rights::usual()),
        expires,
    }
}

fn invite(file: &AccessFile, id: u8, name: &str) -> Result<(), Error> {
    let now = Timestamp::now();
    file.invite(new(id, name, now + DAY), now)
}

/// The attempt of a key whose line, or lack of it, gives `verdict`.
fn attempt<T>(id: u8, key: KeyId, verdict: InviteVerdict, judge: impl FnOnce(&Attempt<'_>) -> T) -> T {
    let check = |kept: Option<&InviteVerifier>| if kept.is_some() { verdict } else { InviteVerdict::Unknown };
    let source = Some("192.0.2.7".parse().unwrap());
    judge(&Attempt { id: InviteId([id; 16]), key, source, peer: "192.0.2.7:4711", check: &check })
}

/// Whether the key was enrolled now: otherwise it is known.
fn take(file: &AccessFile, id: u8, key: KeyId) -> Result<bool, Refusal> {
    match attempt(id, key, InviteVerdict::Right, |attempt| file.take_invite(attempt)).unwrap()? {
        Taken::Enrolled(unfinished) => {
            unfinished.finish();
            Ok(true)
        }
        Taken::Known => Ok(false),
    }
}

/// As a server judges before it touches the disk.
fn judge(file: &AccessFile, id: u8, key: KeyId, verdict: InviteVerdict) -> Result<ClientName, Refusal> {
    file.invalidate();
    let snapshot = file.consult();
    attempt(id, key, verdict, |attempt| file.judge(attempt, &snapshot)).map(|(name, _)| name)
}

fn words(file: &AccessFile) -> Vec<&'static str> {
    let now = Timestamp::now();
    let invites = file.invites().load().unwrap();
    (1..=9).filter_map(|id| invites.find(InviteId([id; 16]))).map(|invite| invite.word(now)).collect()
}

fn clients(file: &AccessFile) -> Vec<String> {
    file.invalidate();
    let access = file.read().unwrap().unwrap_or_default();
    access.grants().map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn an_invite_enrols_one_key_with_its_name_and_grant() {
    let (_folder, file) = file();
    invite(&file, 1, "alice").unwrap();
    assert!(file.read().unwrap().is_none(), "an invite allows nobody yet");
    assert_eq!(judge(&file, 1, ALICE, InviteVerdict::Right).unwrap().as_str(), "alice");
    assert_eq!(take(&file, 1, ALICE), Ok(true));
    assert_eq!(take(&file, 1, ALICE), Ok(false));
    let Err(Refusal::Taken { key, .. }) = take(&file, 1, BOB) else { panic!("two keys by one invite") };
    assert_eq!(key, ALICE);
    assert_eq!((clients(&file), words(&file)), (vec!["alice".to_owned()], vec!["used"]));
    assert_eq!(file.consult().enrolled_by(ALICE), Some(Some(InviteId([1; 16]))));
    // Nothing that proves the invite is left.
    let text = std::fs::read_to_string(file.home().file("invites.toml")).unwrap();
    assert!(!text.contains("verifier") && !text.contains("bind"), "{text}");
}

/// As when the two processes of a server get the same client at once.
#[test]
fn a_client_that_another_process_has_let_in_is_known_at_once() {
    let (_folder, file) = file();
    let other = AccessFile::new(file.home().clone());
    file.edit(|access| access.note_psk("laptop")).unwrap();
    invite(&file, 1, "alice").unwrap();
    assert_eq!(other.consult().enrolled_by(ALICE), None);
    assert_eq!(take(&file, 1, ALICE), Ok(true));
    assert_eq!(take(&other, 1, ALICE), Ok(false));
    assert_eq!(other.consult().enrolled_by(ALICE), Some(Some(InviteId([1; 16]))));
}

/// An invite, what the client has shown of it, and what it is to be refused for.
type Case<'a> = (u8, InviteVerdict, &'a dyn Fn(Refusal) -> bool);

#[test]
fn every_reason_to_refuse_is_found_in_memory_and_under_the_lock() {
    let (_folder, file) = file();
    let now = Timestamp::now();
    for (id, name) in [(1, "pending"), (2, "revoked"), (3, "used"), (4, "name"), (5, "far"), (6, "late")] {
        invite(&file, id, name).unwrap();
    }
    file.revoke_invite("revoked", now).unwrap();
    take(&file, 3, BOB).unwrap();
    // What no command makes, a person may have written.
    let text = std::fs::read_to_string(file.home().file("invites.toml")).unwrap();
    let late = text.rfind("expires = ").unwrap();
    let text = format!(
        "{}expires = \"2020-01-01T00:00:00Z\"\n{}",
        &text[..late],
        text[late..].split_once('\n').unwrap().1
    );
    let far = text.find("\"far\"").unwrap();
    let grant = far + text[far..].find("[invite.grant]\n").unwrap() + "[invite.grant]\n".len();
    let text = format!("{}from = [\"10.0.0.0/8\"]\n{}", &text[..grant], &text[grant..]);
    private_file::replace(&file.home().file("invites.toml"), text.as_bytes()).unwrap();
    let known = format!("[[client]]\nname = \"name\"\nkey = \"{BOB}\"\nexpires = \"2020-01-01T00:00:00Z\"\n");
    private_file::replace(file.path(), known.as_bytes()).unwrap();
    let taken = |refusal| matches!(refusal, Refusal::Taken { key: BOB, .. });
    let cases: [Case<'_>; 8] = [
        (9, InviteVerdict::Right, &|refusal| refusal == Refusal::Unknown),
        (1, InviteVerdict::Wrong, &|refusal| refusal == Refusal::Wrong),
        (1, InviteVerdict::WrongProof, &|refusal| refusal == Refusal::WrongProof),
        (2, InviteVerdict::Right, &|refusal| refusal == Refusal::Revoked),
        (3, InviteVerdict::Right, &taken),
        (4, InviteVerdict::Right, &|refusal| refusal == Refusal::NameTaken),
        (5, InviteVerdict::Right, &|refusal| refusal == Refusal::Network),
        (6, InviteVerdict::Right, &|refusal| refusal == Refusal::Expired),
    ];
    for (id, verdict, is_expected) in cases {
        let before = std::fs::read(file.home().file("invites.toml")).unwrap();
        let refusal = judge(&file, id, ALICE, verdict).unwrap_err();
        assert!(is_expected(refusal), "{id}: {refusal:?}");
        let refusal =
            attempt(id, ALICE, verdict, |attempt| file.take_invite(attempt)).unwrap().err().unwrap();
        assert!(is_expected(refusal), "{id}: {refusal:?}");
        assert_eq!(std::fs::read(file.home().file("invites.toml")).unwrap(), before);
    }
    // The name of an entry that has expired is free for its own key.
    assert_eq!(take(&file, 4, BOB), Ok(true));
}

#[test]
fn the_proof_is_checked_whatever_the_invite_is() {
    let (_folder, file) = file();
    for (id, name) in [(1, "pending"), (2, "revoked"), (3, "used")] {
        invite(&file, id, name).unwrap();
    }
    file.revoke_invite("revoked", Timestamp::now()).unwrap();
    take(&file, 3, BOB).unwrap();
    file.invalidate();
    let snapshot = file.consult();
    for (id, keeps) in [(1, true), (2, false), (3, false), (9, false)] {
        let checked = Cell::new(0);
        let check = |kept: Option<&InviteVerifier>| {
            assert_eq!(kept.is_some(), keeps, "{id}");
            checked.set(checked.get() + 1);
            InviteVerdict::Wrong
        };
        let attempt =
            Attempt { id: InviteId([id; 16]), key: ALICE, source: None, peer: "unix", check: &check };
        file.judge(&attempt, &snapshot).unwrap_err();
        assert_eq!(checked.get(), 1, "{id}");
    }
}

/// Takes the last steps of a join back, as far as a server may not have come.
fn undo(file: &AccessFile, clients: &str) {
    let path = file.home().file("invites.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    private_file::replace(&path, text.replace("state = \"used\"", "state = \"taken\"").as_bytes()).unwrap();
    private_file::replace(file.path(), clients.as_bytes()).unwrap();
    file.invalidate();
}

#[test]
fn what_a_server_has_left_undone_is_done_before_anything_else() {
    let (_folder, file) = file();
    invite(&file, 1, "alice").unwrap();
    take(&file, 1, ALICE).unwrap();
    let whole = std::fs::read_to_string(file.path()).unwrap();
    type Change = fn(&AccessFile);
    let changes: [Change; 5] = [
        |file| file.complete_invites().unwrap(),
        |file| file.edit(|access| access.note_psk("laptop")).unwrap(),
        |file| invite(file, 2, "carol").unwrap(),
        |file| assert!(take(file, 1, BOB).is_err()),
        |file| assert_eq!(take(file, 1, ALICE), Ok(false)),
    ];
    for change in changes {
        for clients_file in ["", &whole] {
            undo(&file, clients_file);
            assert_eq!(words(&file)[0], "taken");
            assert!(file.is_taken_by(InviteId([1; 16]), ALICE));
            assert!(!file.is_taken_by(InviteId([1; 16]), BOB));
            change(&file);
            assert_eq!((clients(&file)[0].as_str(), words(&file)[0]), ("alice", "used"));
            file.revoke_invite("carol", Timestamp::now()).ok();
            // The next round invites carol under the same id.
            let path = file.home().file("invites.toml");
            let text = std::fs::read_to_string(&path).unwrap();
            let first = text.match_indices("[[invite]]").nth(1).map_or(text.len(), |(at, _)| at);
            private_file::replace(&path, &text.as_bytes()[..first]).unwrap();
        }
    }
    // A key that is revoked stays so.
    undo(&file, "");
    file.edit(|access| access.revoke(&ALICE.to_string())).unwrap();
    assert_eq!((clients(&file).len(), words(&file)[0]), (0, "used"));
    file.complete_invites().unwrap();
    assert!(clients(&file).is_empty());
}

#[test]
fn a_key_that_expired_or_was_revoked_comes_back_by_another_invite() {
    let (_folder, file) = file();
    let now = Timestamp::now();
    let expired = Grant { expires: Some(now - DAY), ..Grant::unlimited(Rights::messages_alone()) };
    let alice = Credential::Key(ALICE);
    file.edit(|access| access.allow(&alice, Some(&"alice".parse()?), expired)).unwrap();
    // Its name is free for it, and an invite may be for that name.
    invite(&file, 1, "alice").unwrap();
    assert_eq!(take(&file, 1, BOB), Err(Refusal::NameTaken));
    assert_eq!(take(&file, 1, ALICE), Ok(true));
    assert_eq!(clients(&file), ["alice"]);
    assert_eq!(
        file.read().unwrap().unwrap().lines(now).next().unwrap().rsplit('\t').next(),
        Some("--messages --pipe")
    );
    file.edit(|access| access.revoke("alice")).unwrap();
    assert!(matches!(take(&file, 1, ALICE), Err(Refusal::Taken { .. })));
    invite(&file, 2, "alice").unwrap();
    assert_eq!(take(&file, 2, ALICE), Ok(true));
}

#[test]
fn names_of_pending_invites_are_taken() {
    let (_folder, file) = file();
    invite(&file, 1, "alice").unwrap();
    assert!(matches!(invite(&file, 2, "alice"), Err(Error::NameInvited { .. })));
    let alice = Credential::Key(BOB);
    let allow = |name: &str| {
        file.edit(|access| access.allow(&alice, Some(&name.parse()?), Grant::unlimited(Rights::usual())))
            .map(drop)
    };
    assert!(matches!(allow("alice"), Err(Error::NameInvited { .. })));
    assert!(matches!(file.edit(|access| access.note_psk("alice")), Err(Error::NameInvited { .. })));
    assert!(clients(&file).is_empty(), "a change that is refused is not written");
    allow("bob").unwrap();
    assert!(matches!(invite(&file, 3, "bob"), Err(Error::NameTaken { .. })));
    file.revoke_invite("alice", Timestamp::now()).unwrap();
    allow("alice").unwrap();
}

#[test]
fn a_thousand_invites_are_pending_and_old_ones_are_forgotten() {
    let (_folder, file) = file();
    let now = Timestamp::now();
    let long_ago = now - Duration::from_hours(91 * 24);
    invite(&file, 250, "bob").unwrap();
    take(&file, 250, BOB).unwrap();
    let mut locked = file.lock().unwrap();
    for number in 0..1000_u32 {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        let state = InviteState::Pending(new(1, "x", now).verifier.into());
        let (name, grant) = (format!("client{number}").parse().unwrap(), Grant::unlimited(Rights::usual()));
        let invite = Invite { id: InviteId(id), name, grant, created: now, expires: now + DAY, state };
        locked.invites.add(invite, &locked.access, now).unwrap();
    }
    locked.store_invites().unwrap();
    drop(locked);
    assert!(matches!(invite(&file, 251, "one-more"), Err(Error::TooManyInvites { most: 1000 })));
    file.revoke_invite("client7", now).unwrap();
    invite(&file, 251, "one-more").unwrap();
    assert_eq!(file.revoke_all_invites(long_ago).unwrap(), 1000);
    // All that was over long ago is gone with the next invite, and what was used lately is listed.
    invite(&file, 252, "late").unwrap();
    let left: Vec<String> = file.invites().load().unwrap().lines(now).collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

#[test]
fn a_damaged_file_is_named_with_its_line_and_nothing_is_overwritten() {
    let (_folder, file) = file();
    invite(&file, 1, "alice").unwrap();
    let path = file.home().file("invites.toml");
    let good = std::fs::read_to_string(&path).unwrap();
    for (from, to, said) in [
        ("state = \"pending\"", "state = \"lost\"", "lost"),
        ("state = \"pending\"", "state = \"used\"", "does not say all"),
        ("verifier = \"", "verifier = \"?", "base64"),
        ("name = ", "nickname = ", "nickname"),
        ("expires = ", "expires = 5 # ", "moment"),
        ("[[invite]]", "[[invites]]", "invites"),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good);
        private_file::replace(&path, bad.as_bytes()).unwrap();
        file.invalidate();
        let error = file.invites().read().unwrap_err().to_string();
        assert!(error.contains("line ") && error.contains(said), "{error}");
        assert!(matches!(invite(&file, 2, "bob"), Err(Error::InviteFile { .. })));
        assert_eq!(judge(&file, 1, ALICE, InviteVerdict::Right), Err(Refusal::NoFile));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), bad);
    }
    private_file::replace(
        &path,
        [good.as_str(), &good[good.find("[[invite]]").unwrap()..]].concat().as_bytes(),
    )
    .unwrap();
    file.invalidate();
    assert!(file.invites().read().unwrap_err().to_string().contains("twice"));
    private_file::replace(&path, good.as_bytes()).unwrap();
    assert_eq!(take(&file, 1, ALICE), Ok(true));
}

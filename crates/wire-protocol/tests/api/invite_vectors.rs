//! The vectors of invites, which the second implementation has made: keys, proofs, and lines that are read or refused.

use std::time::Duration;

use crypto_core::identity::KeyId;
use crypto_core::invite::{
    InviteCheck, InviteId, InviteOccasion, InviteSecret, InviteVerifier, PresentedInvite,
};
use crypto_core::secret::Secret;
use data_encoding::HEXLOWER;
use serde_json::Value;
use wire_protocol::invite::{InviteLine, InviteLineError};

const VECTORS: &str = include_str!("../vectors/invites.json");

/// The entries of a list of the file that must not be empty.
#[track_caller]
fn entries(name: &str) -> Vec<Value> {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let entries = vectors[name].as_array().expect("a list").clone();
    assert!(!entries.is_empty(), "an empty list tests nothing");
    entries
}

#[track_caller]
fn array<const N: usize>(value: &Value) -> [u8; N] {
    let bytes = HEXLOWER.decode(text(value).as_bytes()).expect("hexadecimal");
    bytes.try_into().expect("as many bytes as the field has")
}

#[track_caller]
fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

#[test]
fn what_comes_of_a_secret_is_what_is_recorded() {
    for entry in entries("derivations") {
        let secret = InviteSecret::new(Secret::new(array(&entry["secret"])));
        let server = KeyId(array(&entry["server_id"]));
        assert_eq!(secret.id(server), InviteId(array(&entry["id"])));
        assert_eq!(secret.reveal(server).expose(), &array(&entry["reveal"]));
        assert_eq!(secret.bind(server).expose(), &array(&entry["bind"]));
        let kept = secret.verifier(server);
        assert_eq!(kept.verifier(), &array(&entry["verifier"]));
        assert_eq!(kept.bind().expose(), &array(&entry["bind"]));
    }
}

#[test]
fn each_proof_is_judged_as_recorded() {
    let first = &entries("derivations")[0];
    let kept = InviteVerifier::new(array(&first["verifier"]), Secret::new(array(&first["bind"])));
    let server = KeyId(array(&first["server_id"]));
    for entry in entries("proofs") {
        let occasion = InviteOccasion {
            transcript: array(&entry["t2"]),
            server,
            client: KeyId(array(&entry["client_id"])),
        };
        let presented = PresentedInvite {
            id: InviteId(array(&entry["id"])),
            reveal: Secret::new(array(&entry["reveal"])),
            proof: array(&entry["proof"]),
        };
        let expected = match text(&entry["verdict"]) {
            "right" => InviteCheck::Right,
            "wrong-proof" => InviteCheck::WrongProof,
            "wrong" => InviteCheck::Wrong,
            other => panic!("no such verdict: {other}"),
        };
        assert_eq!(kept.check(&presented, &occasion), expected, "{}", entry["name"]);
        if expected == InviteCheck::Right {
            let secret = InviteSecret::new(Secret::new(array(&first["secret"])));
            assert_eq!(secret.present(&occasion).proof, presented.proof);
        }
    }
}

#[test]
fn each_line_is_read_in_every_form() {
    for entry in entries("lines") {
        let line = InviteLine::parse(text(&entry["text"])).unwrap_or_else(|error| panic!("{entry}: {error}"));
        let expires_at = Duration::from_secs(entry["expires_at"].as_u64().unwrap());
        assert_eq!((line.server(), line.expires_at()), (KeyId(array(&entry["server_id"])), expires_at));
        assert_eq!(line.secret().expose(), &array(&entry["secret"]));
        let addresses: Vec<&str> = entry["addresses"].as_array().unwrap().iter().map(text).collect();
        assert_eq!(line.addresses(), addresses);
        if entry["name"] == "plain" {
            assert_eq!(line.to_text().unwrap().as_str(), text(&entry["text"]));
        }
    }
}

#[test]
fn each_other_text_is_refused_for_the_reason_given() {
    for entry in entries("refused") {
        let error = match InviteLine::parse(text(&entry["text"])) {
            Ok(line) => panic!("{} was read as {line}", entry["name"]),
            Err(error) => error,
        };
        let class = match error {
            InviteLineError::NotAnInvite => "not-an-invite",
            InviteLineError::TooLong => "too-long",
            InviteLineError::Newer => "newer",
            InviteLineError::Damaged => "damaged",
            InviteLineError::Malformed => "malformed",
            InviteLineError::AddressCount(_) => "address-count",
            InviteLineError::Address => "address",
            other => panic!("{other} has no class"),
        };
        assert_eq!(class, text(&entry["error"]), "{}", entry["name"]);
    }
}

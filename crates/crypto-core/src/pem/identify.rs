//! Identifies files that hold no key in a supported form: by their first bytes, their PEM label or their DER.

use rsa::pkcs8::der::asn1::{AnyRef, ObjectIdentifier};
use rsa::pkcs8::der::{Decode as _, Reader as _, SliceReader, Tag, Tagged as _};

use crate::pem::block;
use crate::pem::form::Form;

/// Identifies `content` where it is of a known format other than PEM.
#[must_use]
pub fn identify(content: &[u8]) -> Option<Form> {
    if content.starts_with(b"\xFF\xFE") || content.starts_with(b"\xFE\xFF") {
        return Some(Form::Utf16);
    }
    if content.first() == Some(&0x30)
        && let Some((form, _)) = der(content)
    {
        return Some(form);
    }
    let text = core::str::from_utf8(content).ok()?.trim_start_matches('\u{FEFF}').trim();
    if text.is_empty() {
        return Some(Form::Empty);
    }
    if let Some(rest) = text.strip_prefix("PuTTY-User-Key-File-") {
        let is_rsa = rest.lines().next().is_some_and(|line| line.contains("ssh-rsa"));
        let is_encrypted = !rest.lines().any(|line| line.trim() == "Encryption: none");
        return Some(if is_rsa {
            Form::Putty { is_encrypted }
        } else {
            Form::Algorithm("another algorithm")
        });
    }
    let beginning = BEGINNINGS.iter().find(|(beginning, _)| text.starts_with(beginning));
    if let Some((_, form)) = beginning {
        return Some(*form);
    }
    if text.starts_with('{') && text.contains("\"kty\"") {
        return Some(Form::Jwk);
    }
    if text.contains("AGE-SECRET-KEY-") || text.contains("AGE-PLUGIN-") {
        return Some(Form::Age);
    }
    if text.lines().any(|line| line.starts_with("sockseal-psk-v1")) {
        return Some(Form::Psk);
    }
    let (_, label) = der(&block::decode(text)?)?;
    Some(Form::Unframed { label })
}

/// Identifies a PEM block by a label that is not read as a private key.
pub(super) fn of_label(label: &str) -> Form {
    match label {
        "PUBLIC KEY" | "RSA PUBLIC KEY" => Form::Public,
        "EC PRIVATE KEY" => Form::Algorithm("elliptic curves"),
        "DSA PRIVATE KEY" => Form::Algorithm("DSA"),
        "RSA-PSS PRIVATE KEY" => Form::RsaPss { is_pkcs1: true },
        label if label.starts_with("PGP ") => Form::Pgp,
        label if label.contains("CERTIFICATE") => Form::Certificate,
        label if label.ends_with("PRIVATE KEY") => Form::Private,
        _ => Form::OtherPem,
    }
}

/// Identifies a key for another algorithm than `rsaEncryption` by the algorithm's name.
pub(crate) fn of_algorithm(oid: ObjectIdentifier) -> Option<Form> {
    if oid == RSA_PSS {
        return Some(Form::RsaPss { is_pkcs1: false });
    }
    ALGORITHMS.iter().find(|(known, _)| *known == oid).map(|(_, name)| Form::Algorithm(name))
}

/// Identifies a key in OpenSSH's format for another algorithm than RSA. The public half tells the algorithm even
/// where the private one is encrypted; `ssh-key` reads RSA keys only.
pub(super) fn of_openssh(bytes: &[u8]) -> Option<Form> {
    let mut rest = bytes.strip_prefix(b"openssh-key-v1\0")?;
    // Skips cipher, key derivation and its parameters. The number of keys follows.
    for _ in 0..3 {
        (_, rest) = string(rest)?;
    }
    let (public, _) = string(rest.split_at_checked(4)?.1)?;
    let (algorithm, _) = string(public)?;
    match algorithm {
        b"ssh-rsa" => None,
        b"ssh-dss" => Some(Form::Algorithm("DSA")),
        b"ssh-ed25519" => Some(Form::Algorithm("Ed25519")),
        name if name.starts_with(b"ecdsa-") => Some(Form::Algorithm("elliptic curves")),
        _ => Some(Form::Algorithm("another algorithm")),
    }
}

/// Splits a string of RFC 4251 off the bytes, and returns it and the rest.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*len)).ok()?)
}

/// Identifies a file in DER, with the label that it would have in PEM.
fn der(bytes: &[u8]) -> Option<(Form, &'static str)> {
    let outer = AnyRef::from_der(bytes).ok().filter(|outer| outer.tag() == Tag::Sequence)?;
    let mut reader = SliceReader::new(outer.value()).ok()?;
    let mut parts = [(Tag::Null, [].as_slice()); 3];
    for part in &mut parts {
        if !reader.is_finished() {
            let read = AnyRef::decode(&mut reader).ok()?;
            *part = (read.tag(), read.value());
        }
    }
    match parts {
        [(Tag::Integer, [3]), (Tag::Sequence, _), _] => Some((Form::Pkcs12, "PKCS12")),
        [(Tag::Integer, _), (Tag::Sequence, _), (Tag::OctetString, _)] => {
            Some((Form::DerPrivate, "PRIVATE KEY"))
        }
        [(Tag::Integer, _), (Tag::Integer, _), (Tag::Integer, _)] => {
            Some((Form::DerPrivate, "RSA PRIVATE KEY"))
        }
        [(Tag::Integer, _), (Tag::Integer, _), _] => Some((Form::DerPublic, "RSA PUBLIC KEY")),
        [(Tag::Integer, _), (Tag::OctetString, _), _] => {
            Some((Form::Algorithm("elliptic curves"), "EC PRIVATE KEY"))
        }
        [(Tag::Sequence, _), (Tag::OctetString, _), _] => Some((Form::DerEncrypted, "ENCRYPTED PRIVATE KEY")),
        [(Tag::Sequence, _), (Tag::BitString, _), _] => Some((Form::DerPublic, "PUBLIC KEY")),
        [(Tag::Sequence, _), (Tag::Sequence, _), (Tag::BitString, _)] => {
            Some((Form::Certificate, "CERTIFICATE"))
        }
        _ => None,
    }
}

const BEGINNINGS: [(&str, Form); 10] = [
    ("---- BEGIN SSH2 PUBLIC KEY", Form::SshPublic),
    ("---- BEGIN SSH2 ENCRYPTED PRIVATE KEY", Form::SshCom),
    ("ssh-rsa ", Form::SshPublic),
    ("ssh-dss ", Form::SshPublic),
    ("ssh-ed25519 ", Form::SshPublic),
    ("ecdsa-sha2-", Form::SshPublic),
    ("sk-ssh-", Form::SshPublic),
    ("sk-ecdsa-", Form::SshPublic),
    ("<RSAKeyValue", Form::Xml),
    ("SHA256:", Form::Fingerprint),
];

const RSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");

const ALGORITHMS: [(ObjectIdentifier, &str); 8] = [
    (ObjectIdentifier::new_unwrap("1.2.840.10045.2.1"), "elliptic curves"),
    (ObjectIdentifier::new_unwrap("1.3.101.110"), "X25519"),
    (ObjectIdentifier::new_unwrap("1.3.101.111"), "X448"),
    (ObjectIdentifier::new_unwrap("1.3.101.112"), "Ed25519"),
    (ObjectIdentifier::new_unwrap("1.3.101.113"), "Ed448"),
    (ObjectIdentifier::new_unwrap("1.2.840.10040.4.1"), "DSA"),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.3.1"), "Diffie-Hellman"),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.7"), "RSAES-OAEP alone"),
];

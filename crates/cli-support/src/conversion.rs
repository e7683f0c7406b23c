//! Hints for key files that cannot be read: the command that converts the key, where there is one.

use std::fmt::Write as _;
use std::path::Path;

use crypto_core::KeyProblem;
use crypto_core::pem::{Form, Support};

/// The hint for a key in `path` that cannot be used. It never starts with a step that destroys the existing key.
pub(crate) fn hint(problem: &KeyProblem, path: &Path) -> Option<String> {
    let key = quoted(&path.display().to_string());
    let new = quoted(&format!("{}.new", path.display()));
    let encrypt = format!("openssl pkcs8 -topk8 -v2 aes-256-cbc -in {key} -out {new}");
    let legacy = encrypt.replace("-topk8", "-topk8 -provider legacy -provider default");
    let command = match problem {
        KeyProblem::EncryptedOpenSsh => {
            return Some(format!("ssh-keygen -p -m PKCS8 -f {key} turns it into one that is read"));
        }
        KeyProblem::UnknownEncryption(encryption) => match encryption.support() {
            Support::OpenSsl => encrypt,
            Support::OpenSslLegacy => legacy,
            _ => with_pycryptodome(&key, &new),
        },
        KeyProblem::Form(form) => match form {
            Form::EncryptedPkcs1 { is_legacy: false } => encrypt,
            Form::EncryptedPkcs1 { is_legacy: true } => legacy,
            Form::Putty { is_encrypted: false } => format!("puttygen {key} -O private-openssh -o {new}"),
            // Puttygen keeps the passphrase, in the old encryption.
            Form::Putty { is_encrypted: true } | Form::SshCom => {
                let between = quoted(&format!("{}.pem", path.display()));
                let second = encrypt.replace(&format!("-in {key}"), &format!("-in {between}"));
                format!("puttygen {key} -O private-openssh -o {between} && {second}")
            }
            // OpenSSL does not read the file that it wrote, only because of the label.
            Form::RsaPss { is_pkcs1: true } => {
                format!("(umask 077; sed 's/ RSA-PSS PRIVATE/ RSA PRIVATE/' {key} > {new})")
            }
            Form::RsaPss { is_pkcs1: false } => format!(
                "openssl rsa -traditional -in {key} -outform DER | openssl pkey -inform DER -out {new}"
            ),
            Form::DerPrivate => format!("openssl pkey -inform DER -in {key} -out {new}"),
            Form::DerEncrypted => encrypt.replace("-topk8", "-topk8 -inform DER"),
            Form::Pkcs12 => format!("openssl pkcs12 -nocerts -in {key} -out {new}"),
            Form::Jwk => format!(
                "(umask 077; node -e 'const [file] = process.argv.slice(1); const key = JSON.parse(\
                 require(\"fs\").readFileSync(file)); process.stdout.write(require(\"crypto\")\
                 .createPrivateKey({{key, format: \"jwk\"}}).export({{type: \"pkcs8\", format: \"pem\"}}))' \
                 {key} > {new})"
            ),
            Form::Utf16 => format!("(umask 077; iconv -f UTF-16 -t UTF-8 {key} > {new})"),
            Form::EscapedLines => format!("(umask 077; printf '%b\\n' \"$(cat {key})\" > {new})"),
            Form::Unframed { label } => format!(
                "(umask 077; (echo '-----BEGIN {label}-----'; cat {key}; echo; echo '-----END {label}-----') \
                 > {new})"
            ),
            form => return Some(advice(form)),
        },
        KeyProblem::NotRsa
        | KeyProblem::TooSmall { .. }
        | KeyProblem::TooLarge { .. }
        | KeyProblem::Exponent => {
            return Some(ANOTHER.into());
        }
        KeyProblem::WrongPassphrase => return Some("try again".into()),
        KeyProblem::PreSharedKey(_) => {
            return Some(
                "copy the file again from where it was made, or make another key with `server keygen --psk NAME`"
                    .into(),
            );
        }
        // The only file that holds just a fingerprint is a server's id for its pre-shared keys.
        KeyProblem::Fingerprint(_) => {
            return Some(
                "restore it from a copy: it is the third word of each pre-shared key that was made here"
                    .into(),
            );
        }
        KeyProblem::TicketKey => {
            return Some(
                "restore it from a copy, or move it away: a new one is made at the next start".into(),
            );
        }
        KeyProblem::AesKeyLength { .. } => {
            return Some("the file holds the key's bytes and nothing else, or these in hexadecimal".into());
        }
        KeyProblem::AesKeyLineEnd { len } => {
            return Some(format!("head -c {len} {key} > {new} leaves the line end out"));
        }
        KeyProblem::NeedsPassphrase => return None,
        _ => return Some(RESTORE.into()),
    };
    let mut hint = command;
    // Writing to a string cannot fail.
    write!(hint, " makes {new}, which is read: use that in its place").ok();
    Some(hint)
}

/// The hint for a file that no command converts to a key.
fn advice(form: &Form) -> String {
    match form {
        Form::Public | Form::SshPublic | Form::DerPublic | Form::Certificate | Form::Fingerprint => {
            "give the private key that belongs to it".into()
        }
        Form::Psk => "give it as --psk FILE".into(),
        Form::Xml => "export it as PKCS#8 in PEM where it was made".into(),
        Form::Age | Form::Pgp | Form::OtherPem | Form::Algorithm(_) | Form::MultiPrime => ANOTHER.into(),
        _ => RESTORE.into(),
    }
}

/// The command that converts a key with PyCryptodome, for algorithms that OpenSSL does not support in PKCS#8.
fn with_pycryptodome(key: &str, new: &str) -> String {
    format!(
        "(umask 077; python3 -c 'import sys, getpass; from Crypto.PublicKey import RSA; \
         word = getpass.getpass(); key = RSA.import_key(open(sys.argv[1]).read(), word); \
         sys.stdout.buffer.write(key.export_key(passphrase=word, pkcs=8, protection=\"scryptAndAES256-CBC\"))' \
         {key} > {new})"
    )
}

/// Quotes `text` as one word of a shell command.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.into()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

const RESTORE: &str = "restore it from a copy; where there is none, move it away and make a new one with keygen, which \
                       all who trust this one have to be told of";
const ANOTHER: &str = "it takes an RSA key of two primes, 2048 to 8192 bits and exponent 65537: move this file away and \
                       make one with keygen";

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(problem: impl Into<KeyProblem>, path: &str, expected: &str) {
        assert_eq!(hint(&problem.into(), Path::new(path)).unwrap(), expected);
    }

    #[test]
    fn commands_name_the_file_and_another_one() {
        check(
            Form::EncryptedPkcs1 { is_legacy: false },
            "/a/k.pem",
            "openssl pkcs8 -topk8 -v2 aes-256-cbc -in /a/k.pem -out /a/k.pem.new makes /a/k.pem.new, which is read: use \
             that in its place",
        );
        check(
            Form::EncryptedPkcs1 { is_legacy: true },
            "k",
            "openssl pkcs8 -topk8 -provider legacy -provider default -v2 aes-256-cbc -in k -out k.new makes k.new, which \
             is read: use that in its place",
        );
        check(
            Form::Putty { is_encrypted: true },
            "my key",
            "puttygen 'my key' -O private-openssh -o 'my key.pem' && openssl pkcs8 -topk8 -v2 aes-256-cbc -in \
             'my key.pem' -out 'my key.new' makes 'my key.new', which is read: use that in its place",
        );
        check(
            KeyProblem::AesKeyLineEnd { len: 16 },
            "it's",
            r"head -c 16 'it'\''s' > 'it'\''s.new' leaves the line end out",
        );
    }

    #[test]
    fn no_key_is_given_up_as_the_first_thing_to_do() {
        for problem in [
            KeyProblem::Malformed,
            KeyProblem::Inconsistent,
            KeyProblem::NotRsa,
            KeyProblem::TooSmall { bits: 1024 },
            Form::Damaged.into(),
            Form::CutOff.into(),
            Form::MultiPrime.into(),
            Form::Algorithm("elliptic curves").into(),
            Form::Certificate.into(),
            Form::Empty.into(),
        ] {
            let hint = hint(&problem, Path::new("server.key")).unwrap();
            assert!(!hint.contains("--force"), "{hint}");
        }
    }
}

//! What can go wrong with files, keys, addresses and the classic exchanges.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crypto_core::KeyProblem;
use tunnel::address::{AddressError, AddressProblem};
use tunnel::dial::{MAX_PATH_LEN, connect_hint, listen_hint};

use crate::conversion;
use crate::report::{self, Exit, Report};

/// Why something that both programs do has failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No place for the program's files is known.
    #[error("there is no home folder to keep keys in")]
    NoHome,
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file with a secret can be read by others, or one that decides whom to trust can be changed by them.
    #[error("{} is open to other users (mode {mode:04o})", path.display())]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file that has to be the user's own, or the administrator's, is another's; or the folder is that it stands in.
    #[error("{} belongs to another user (uid {owner})", path.display())]
    ForeignFile {
        /// Which.
        path: PathBuf,
        /// Whose.
        owner: u32,
    },
    /// A file stands where other users can put another one in its place.
    #[error("{} stands in a folder that other users can change: {} (mode {mode:04o})", path.display(), folder.display())]
    OpenFolder {
        /// Which file.
        path: PathBuf,
        /// Which folder, or one that it stands in.
        folder: PathBuf,
        /// The folder's permission bits.
        mode: u32,
    },
    /// A link leads nowhere: what it led to may be missing for a moment only.
    #[error("{} is a link that leads nowhere", path.display())]
    DanglingLink {
        /// Which.
        path: PathBuf,
    },
    /// A folder that only its owner may look into is open to others.
    #[error("{} is open to other users (mode {mode:04o})", path.display())]
    ExposedFolder {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A folder that has to be the user's own is another's.
    #[error("{} belongs to another user", path.display())]
    ForeignFolder {
        /// Which.
        path: PathBuf,
    },
    /// A file is longer than any of its kind.
    #[error("{} is longer than {limit} bytes, which no file of its kind is", path.display())]
    FileTooLong {
        /// Which.
        path: PathBuf,
        /// The most bytes that are read.
        limit: u64,
    },
    /// A key file does not hold a key that can be used.
    #[error("cannot use the key in {}: {source}", path.display())]
    Key {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: crypto_core::Error,
    },
    /// A file would be overwritten.
    #[error("{} exists already", path.display())]
    Exists {
        /// Which.
        path: PathBuf,
    },
    /// An address that cannot be read.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// A configuration file does not make sense.
    #[error("cannot understand {}: {source}", path.display())]
    Config {
        /// Which.
        path: PathBuf,
        /// Why not, with the line.
        source: Box<toml::de::Error>,
    },
    /// A duration that cannot be read.
    #[error("{text:?} is not a duration")]
    Duration {
        /// As it was given.
        text: String,
    },
    /// A passphrase cannot be asked for.
    #[error("{} is protected by a passphrase, and there is no terminal to ask for it", path.display())]
    NoTerminal {
        /// Which.
        path: PathBuf,
    },
    /// A new passphrase protects nothing.
    #[error("an empty passphrase protects nothing")]
    EmptyPassphrase,
    /// The two passphrases typed differ.
    #[error("the two passphrases differ")]
    PassphraseMismatch,
    /// A connection of a classic exchange failed.
    #[error("cannot {action} {address}: {source}")]
    Network {
        /// What was tried, as a verb.
        action: &'static str,
        /// With whom.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// A command is for running programs, and none runs.
    #[error("no {program} of this home is running")]
    NotRunning {
        /// `server` or `client`.
        program: &'static str,
    },
    /// The reactor could not be started.
    #[error("cannot start: {0}")]
    Runtime(#[source] io::Error),
    /// A classic message does not fit.
    #[error("the message has {len} bytes, more than the {limit} that fit one RSA ciphertext of this key")]
    ClassicTooLong {
        /// Bytes there are.
        len: usize,
        /// Bytes that fit.
        limit: usize,
    },
    /// A classic message does not open.
    #[error("the message does not open with this key: it was changed, cut off, or made for another key")]
    ClassicRefused,
    /// Nobody came to a classic exchange.
    #[error("nobody connected within {limit:?}")]
    ClassicNobody {
        /// For how long that was waited for.
        limit: Duration,
    },
    /// A classic peer keeps this side waiting.
    #[error("the other side {missing} for {limit:?}")]
    ClassicSilence {
        /// What it did not do.
        missing: &'static str,
        /// For how long that was waited for.
        limit: Duration,
    },
    /// A classic peer sent something else.
    #[error("the other side did not send what this exchange needs: {0}")]
    ClassicPeer(&'static str),
    /// A classic peer's key cannot be used.
    #[error("the other side's key cannot be used: {0}")]
    ClassicPeerKey(crypto_core::Error),
    /// A classic peer's key is not that of the private key given.
    #[error("the other side sent the key {offered}, which is not that of {}: {expected}", path.display())]
    ClassicKeyMismatch {
        /// The private key's file.
        path: PathBuf,
        /// The id of its public half.
        expected: crypto_core::identity::KeyId,
        /// The id of the key that came.
        offered: crypto_core::identity::KeyId,
    },
    /// The operating system gave no randomness.
    #[error("cryptography failed: {0}")]
    Crypto(#[from] crypto_core::Error),
    /// Standard input or output failed.
    #[error("cannot use {stream}: {source}")]
    Stdio {
        /// Which.
        stream: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl Error {
    /// Whether the system had run out of something, descriptors above all: trying again later may do.
    #[must_use]
    pub fn is_exhaustion(&self) -> bool {
        use rustix::io::Errno;

        let (Self::File { source, .. } | Self::Network { source, .. } | Self::Stdio { source, .. }) = self
        else {
            return false;
        };
        matches!(
            Errno::from_io_error(source),
            Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS | Errno::NOSPC)
        )
    }

    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}

impl Report for Error {
    fn exit(&self) -> Exit {
        match self {
            Self::NoHome
            | Self::File { .. }
            | Self::Exists { .. }
            | Self::Address(_)
            | Self::Config { .. }
            | Self::Duration { .. }
            | Self::ClassicTooLong { .. }
            | Self::EmptyPassphrase
            | Self::PassphraseMismatch
            | Self::Crypto(_)
            // A key file of our own that cannot be used is configuration: 3 is kept for the alarm that somebody
            // else is not who they should be.
            | Self::Exposed { .. }
            | Self::ExposedFolder { .. }
            | Self::ForeignFolder { .. }
            | Self::ForeignFile { .. }
            | Self::OpenFolder { .. }
            | Self::DanglingLink { .. }
            | Self::FileTooLong { .. }
            | Self::Key { .. }
            | Self::NoTerminal { .. } => Exit::Usage,
            Self::ClassicKeyMismatch { .. } | Self::ClassicPeerKey(_) => Exit::Identity,
            Self::Network { source, .. } if source.kind() == io::ErrorKind::TimedOut => Exit::TimedOut,
            Self::ClassicNobody { .. } | Self::ClassicSilence { .. } => Exit::TimedOut,
            Self::Network { .. } | Self::Stdio { .. } | Self::NotRunning { .. } | Self::Runtime(_) => {
                Exit::Network
            }
            Self::ClassicRefused | Self::ClassicPeer(_) => Exit::Integrity,
        }
    }

    fn lines(&self) -> Vec<String> {
        match self {
            // It shows the place in the file.
            Self::Config { .. } => self.to_string().lines().map(str::to_owned).collect(),
            _ => vec![self.to_string()],
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoHome => Some("give one with --home DIR or SOCKSEAL_HOME".into()),
            Self::File { action: "read", source, path } if source.kind() == io::ErrorKind::NotFound => {
                match path.file_name().and_then(|name| name.to_str()) {
                    Some("client.key") => Some("client keygen makes one".into()),
                    Some("server.key") => {
                        Some("server keygen makes one, and so does the server's first start".into())
                    }
                    _ if path.extension().is_some_and(|kind| kind == "psk") => {
                        Some("the server's owner makes one with server keygen --psk NAME --out FILE".into())
                    }
                    _ => None,
                }
            }
            Self::File { action: "read", source, path }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Some(format!("run this as the owner of {}", path.display()))
            }
            Self::File { action: "create" | "write", .. } => {
                Some("give a folder that can be written to with --home DIR or SOCKSEAL_HOME".into())
            }
            Self::File { action: "listen on", path, .. } if path.as_os_str().len() > MAX_PATH_LEN => Some(
                format!("a path of more than {MAX_PATH_LEN} bytes needs /proc: give a shorter --home DIR"),
            ),
            Self::ExposedFolder { path, .. } => Some(format!("chmod 700 {}", path.display())),
            Self::ForeignFolder { path } => {
                Some(format!("run this as the owner of {}, or give another --home DIR", path.display()))
            }
            Self::ForeignFile { path, .. } => Some(format!(
                "if it is what you think it is, make it your own: chown $(id -u) {}",
                path.display()
            )),
            Self::OpenFolder { path, folder, mode } if mode & 0o1000 != 0 => Some(format!(
                "move {} to a folder of your own: everybody makes files in {}",
                path.display(),
                folder.display()
            )),
            Self::OpenFolder { folder, .. } => Some(format!("chmod go-w {}", folder.display())),
            Self::DanglingLink { .. } => {
                Some("mend it, such as by mounting what it leads to, or remove it to begin anew".into())
            }
            Self::Exposed { path, .. } => Some(format!("chmod 600 {}", path.display())),
            Self::Exists { .. } => {
                Some(
                    "move it away to keep it, or replace it for good with --force: whoever trusts the old key has \
                     to be told the new one"
                        .into(),
                )
            }
            Self::NotRunning { .. } => Some("start one, or name its home with --home DIR".into()),
            Self::Address(error) => error.hint(),
            Self::EmptyPassphrase => {
                Some("a key without a passphrase is made without --passphrase-prompt".into())
            }
            Self::Duration { .. } => Some("write 30s, 2m, 12h or 90d".into()),
            Self::Key { source: crypto_core::Error::Key(problem), path } => conversion::hint(problem, path),
            Self::NoTerminal { .. } => {
                Some("run this once in a terminal, or use a key without a passphrase".into())
            }
            Self::Network { action: "listen on", address, source } => {
                Some(listen_hint(address, source).into())
            }
            Self::Network { action: "connect to", address, source } => {
                Some(connect_hint(address, source).into())
            }
            Self::ClassicPeerKey(crypto_core::Error::Key(KeyProblem::TooSmall { .. })) => {
                Some("nothing is sent to so short a key: let the other side make one of 2048 bits or more".into())
            }
            Self::ClassicPeerKey(crypto_core::Error::Key(KeyProblem::Form(_))) => Some(
                "the other side has to send its public key as PEM: BEGIN PUBLIC KEY or BEGIN RSA PUBLIC KEY".into(),
            ),
            Self::ClassicRefused => Some(
                "look whether both sides have the same key, --oaep-hash, --nonce-length and --tag-length".into(),
            ),
            Self::ClassicNobody { .. } => {
                Some("start the other side, or wait longer with --timeout 10m".into())
            }
            Self::ClassicSilence { .. } => Some(
                "perhaps both sides wait for each other: one has to send and the other to receive; \
                 --timeout 10m waits longer"
                    .into(),
            ),
            Self::ClassicTooLong { .. } => Some("use the secure channel: client send".into()),
            _ => None,
        }
    }
}

impl Report for AddressError {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn hint(&self) -> Option<String> {
        Some(match self.problem {
            AddressProblem::NoHost => "127.0.0.1 is this machine, as in 127.0.0.1:5000".into(),
            AddressProblem::NoPort => "write the port behind it, as in example.org:5000".into(),
            AddressProblem::PortName => "write the number of the port, such as 80 for http".into(),
            AddressProblem::NoBrackets => "write [::1]:PORT; of a URL, write HOST:PORT alone".into(),
            AddressProblem::Interface => "write [fe80::1%eth0]:PORT".into(),
            AddressProblem::Everywhere => {
                "127.0.0.1 is this machine; write another one's name or address".into()
            }
            _ => "write HOST:PORT, [::1]:PORT or unix:/PATH".into(),
        })
    }
}

/// What to do next about a command line that an error of this crate, or an address, has kept from being read.
#[must_use]
pub fn hint_of_usage(error: &clap::Error) -> Option<String> {
    report::hint_of_usage::<Error>(error).or_else(|| report::hint_of_usage::<AddressError>(error))
}

#[cfg(test)]
mod tests {
    use crypto_core::identity::{ClientKey, ServerKey};

    use super::*;
    use crate::home::Home;
    use crate::identity;

    #[test]
    fn a_key_that_is_not_there_has_a_next_step() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(folder.path().into())).unwrap();
        let hint = |error: Error| error.hint().unwrap();
        assert!(hint(identity::read::<ClientKey>(&home).err().unwrap()).contains("client keygen"));
        assert!(hint(identity::read::<ServerKey>(&home).err().unwrap()).contains("server keygen"));
        assert!(hint(identity::read_psk(&home.file("a.psk")).err().unwrap()).contains("keygen --psk"));
    }
}

//! Errors about files, keys, addresses and the classic exchanges.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crypto_core::KeyProblem;
use tunnel::address::{AddressError, AddressProblem};
use tunnel::dial::{MAX_PATH_LEN, connect_hint, listen_hint};

use crate::conversion;
use crate::report::{self, Exit, Report};

/// The reason why an operation that both programs share has failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No folder for the program's files is known.
    #[error("there is no home folder to keep keys in")]
    NoHome,
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// The attempted action, as a verb.
        action: &'static str,
        /// The path of the file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Other users can read a file with a secret, or change a file that decides whom to trust.
    #[error("{} is open to other users (mode {mode:04o})", path.display())]
    Exposed {
        /// The path of the file.
        path: PathBuf,
        /// The permission bits of the file.
        mode: u32,
    },
    /// A file that must belong to the user or the administrator, or its folder, belongs to another user.
    #[error("{} belongs to another user (uid {owner})", path.display())]
    ForeignFile {
        /// The path of the file or folder.
        path: PathBuf,
        /// The user id of the owner.
        owner: u32,
    },
    /// A file is in a folder in which other users can replace it.
    #[error("{} stands in a folder that other users can change: {} (mode {mode:04o})", path.display(), folder.display())]
    OpenFolder {
        /// The path of the file.
        path: PathBuf,
        /// The folder, or one that it is in.
        folder: PathBuf,
        /// The permission bits of the folder.
        mode: u32,
    },
    /// A link is dangling, perhaps only for a moment.
    #[error("{} is a link that leads nowhere", path.display())]
    DanglingLink {
        /// The path of the link.
        path: PathBuf,
    },
    /// Other users can look into a folder that is only for its owner.
    #[error("{} is open to other users (mode {mode:04o})", path.display())]
    ExposedFolder {
        /// The path of the folder.
        path: PathBuf,
        /// The permission bits of the folder.
        mode: u32,
    },
    /// A folder that must belong to the user belongs to another user.
    #[error("{} belongs to another user", path.display())]
    ForeignFolder {
        /// The path of the folder.
        path: PathBuf,
    },
    /// A file is longer than any valid file of its kind.
    #[error("{} is longer than {limit} bytes, which no file of its kind is", path.display())]
    FileTooLong {
        /// The path of the file.
        path: PathBuf,
        /// Most bytes that are read.
        limit: u64,
    },
    /// A key file does not hold a key that can be used.
    #[error("cannot use the key in {}: {source}", path.display())]
    Key {
        /// The path of the file.
        path: PathBuf,
        /// The reason why the key cannot be used.
        source: crypto_core::Error,
    },
    /// A new file would overwrite an existing one.
    #[error("{} exists already", path.display())]
    Exists {
        /// The path of the existing file.
        path: PathBuf,
    },
    /// An address cannot be parsed.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// A configuration file is not valid.
    #[error("cannot understand {}: {source}", path.display())]
    Config {
        /// The path of the file.
        path: PathBuf,
        /// The reason, with the line.
        source: Box<toml::de::Error>,
    },
    /// A duration cannot be parsed.
    #[error("{text:?} is not a duration")]
    Duration {
        /// The text as the user gave it.
        text: String,
    },
    /// A rate cannot be parsed.
    #[error("{text:?} is not a size such as 10MiB")]
    Rate {
        /// The text as the user gave it.
        text: String,
    },
    /// A passphrase is needed, and there is no terminal to ask for it.
    #[error("{} is protected by a passphrase, and there is no terminal to ask for it", path.display())]
    NoTerminal {
        /// The path of the key file.
        path: PathBuf,
    },
    /// The new passphrase is empty, and so protects nothing.
    #[error("an empty passphrase protects nothing")]
    EmptyPassphrase,
    /// The two passphrases typed differ.
    #[error("the two passphrases differ")]
    PassphraseMismatch,
    /// A connection of a classic exchange failed.
    #[error("cannot {action} {address}: {source}")]
    Network {
        /// The attempted action, as a verb.
        action: &'static str,
        /// The peer's address.
        address: String,
        /// The system's error.
        source: io::Error,
    },
    /// The log is to go to a journal that is not there.
    #[error("cannot log to the journal at {}: {source}", path.display())]
    Journal {
        /// The path of its socket.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A command is for running programs, and no process of the program runs.
    #[error("no {program} of this home is running")]
    NotRunning {
        /// `server` or `client`.
        program: &'static str,
    },
    /// The status page cannot listen on an address.
    #[error("cannot listen on {address} for the status: {source}")]
    StatusListen {
        /// The address.
        address: String,
        /// The system's error.
        source: io::Error,
    },
    /// Other machines would reach the status page.
    #[error(
        "other machines reach {address}, and who reads the status there reads who is connected, and to what"
    )]
    StatusExposed {
        /// The address.
        address: String,
    },
    /// The async runtime could not be started.
    #[error("cannot start: {0}")]
    Runtime(#[source] io::Error),
    /// A classic message is too long for one ciphertext.
    #[error("the message has {len} bytes, more than the {limit} that fit one RSA ciphertext of this key")]
    ClassicTooLong {
        /// Length of the message in bytes.
        len: usize,
        /// Most bytes that fit.
        limit: usize,
    },
    /// A classic message cannot be decrypted.
    #[error("the message does not open with this key: it was changed, cut off, or made for another key")]
    ClassicRefused,
    /// No peer connected for a classic exchange.
    #[error("nobody connected within {limit:?}")]
    ClassicNobody {
        /// The time limit that has passed.
        limit: Duration,
    },
    /// A classic peer has done nothing within the time limit.
    #[error("the other side {missing} for {limit:?}")]
    ClassicSilence {
        /// The missing action of the peer.
        missing: &'static str,
        /// The time limit that has passed.
        limit: Duration,
    },
    /// A classic peer has sent other data than the exchange needs, which the field names.
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
        /// The id of the key that the peer has sent.
        offered: crypto_core::identity::KeyId,
    },
    /// The operating system gave no randomness.
    #[error("cryptography failed: {0}")]
    Crypto(#[from] crypto_core::Error),
    /// Standard input or output failed.
    #[error("cannot use {stream}: {source}")]
    Stdio {
        /// The name of the stream.
        stream: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

impl Error {
    /// Returns whether the system has run out of a resource, descriptors above all, so that a later attempt may
    /// succeed.
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
            | Self::Rate { .. }
            | Self::ClassicTooLong { .. }
            | Self::EmptyPassphrase
            | Self::PassphraseMismatch
            | Self::Journal { .. }
            | Self::Crypto(_)
            // A key file of this user that cannot be used is a fault of the configuration. Code 3 is kept for the
            // alarm that a peer is not the one that it should be.
            | Self::Exposed { .. }
            | Self::ExposedFolder { .. }
            | Self::ForeignFolder { .. }
            | Self::ForeignFile { .. }
            | Self::OpenFolder { .. }
            | Self::DanglingLink { .. }
            | Self::FileTooLong { .. }
            | Self::Key { .. }
            | Self::StatusExposed { .. }
            | Self::NoTerminal { .. } => Exit::Usage,
            Self::ClassicKeyMismatch { .. } | Self::ClassicPeerKey(_) => Exit::Identity,
            Self::Network { source, .. } if source.kind() == io::ErrorKind::TimedOut => Exit::TimedOut,
            Self::ClassicNobody { .. } | Self::ClassicSilence { .. } => Exit::TimedOut,
            Self::Network { .. }
            | Self::Stdio { .. }
            | Self::NotRunning { .. }
            | Self::StatusListen { .. }
            | Self::Runtime(_) => Exit::Network,
            Self::ClassicRefused | Self::ClassicPeer(_) => Exit::Integrity,
        }
    }

    fn lines(&self) -> Vec<String> {
        match self {
            // The error quotes the place in the file.
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
            Self::Journal { .. } => {
                Some("systemd-journald has to run here; --log-format json writes to standard error".into())
            }
            Self::NotRunning { .. } => Some("start one, or name its home with --home DIR".into()),
            Self::Address(error) => error.hint(),
            Self::StatusListen { address, source } => Some(listen_hint(address, source).into()),
            Self::StatusExposed { .. } => Some(
                "give 127.0.0.1:PORT or unix:/PATH, and reach it through a tunnel; or --status-anywhere, with a proxy in \
                 front that asks for a password"
                    .into(),
            ),
            Self::EmptyPassphrase => {
                Some("a key without a passphrase is made without --passphrase-prompt".into())
            }
            Self::Duration { .. } => Some("write 30s, 2m, 12h or 90d".into()),
            Self::Key { source: crypto_core::Error::Key(problem), path } => conversion::hint(problem, path),
            Self::NoTerminal { .. } => {
                Some("set SOCKSEAL_ASKPASS to a program that asks, or use a key without a passphrase".into())
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

/// The hint for a command line that an error of this crate, or of an address, has made invalid.
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

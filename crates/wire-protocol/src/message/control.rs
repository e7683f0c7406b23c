//! The messages about a channel, and the reasons that they give (section 7).

use core::fmt;

use serde::{Deserialize, Serialize};

use super::resume::{Resume, Resumed, Retention};
use super::target::{LEASE_LEN, Target};

/// A message about the channel (section 7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlMessage {
    /// Client: starts a stream. Data may follow at once.
    Open {
        /// What is at the other end of it.
        target: Target,
    },
    /// Server: the stream stands.
    Opened,
    /// Server: there will be no stream; the channel is idle again.
    Refused {
        /// The reason.
        code: RefusedCode,
    },
    /// Both: no more data from this side. Both having said so, the channel is idle again.
    EndOfStream,
    /// Both: the stream has failed, data may be lost, and with it the channel ends.
    Reset {
        /// The reason.
        code: ResetCode,
    },
    /// Both: asks for a Pong.
    Ping {
        /// Comes back as it was.
        nonce: u64,
    },
    /// Both: answers a Ping.
    Pong {
        /// That of the Ping.
        nonce: u64,
    },
    /// Both: the sender's next record is under its next key.
    KeyUpdate,
    /// Both: the channel has ended well, and all that was received has reached its place.
    Close,
    /// Server: answers an Open of [`Target::Listen`]. The stream stands as long as the listening does.
    Listening {
        /// The port that is listened on; 0 for a unix socket.
        port: u16,
    },
    /// Client, idle: from now on it is the server that opens streams on this channel, for what comes in where it
    /// listens for this client.
    Park {
        /// The lease of the listening.
        lease: [u8; LEASE_LEN],
    },
    /// As Open, for a stream that can be taken over on another channel (section 7.7).
    OpenResumable {
        /// What is at the other end of it: tcp, unix, service or forwarded.
        target: Target,
        /// What the opener asks for.
        retention: Retention,
    },
    /// As Opened: the stream can be taken over.
    OpenedResumable {
        /// What holds for the stream: no more than was asked for.
        retention: Retention,
    },
    /// Both, in a resumable stream: this side has taken so many bytes.
    Acknowledge {
        /// All bytes of the other side before this offset; its EndOfStream counts as one.
        received: u64,
    },
    /// Client, idle: takes a stream over.
    Resume {
        /// The stream, and how far the client has come.
        resume: Resume,
        /// That the client may.
        proof: [u8; PROOF_LEN],
    },
    /// Server: the stream goes on here.
    Resumed {
        /// How far the server has come.
        resumed: Resumed,
        /// That it is the server of the stream.
        proof: [u8; PROOF_LEN],
    },
    /// Server, in place of Resumed: there is no such stream; the channel is idle again.
    Gone {
        /// For how long the server has forgotten no stream that it was asked for; 0 where it had this one, and has lost it.
        remembers_seconds: u32,
    },
}

/// Length of the proofs of Resume and Resumed in bytes.
pub const PROOF_LEN: usize = 32;

/// The reason why a request to open a stream is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefusedCode {
    /// There is nothing of the kind here.
    NotOffered,
    /// There is, but not for this client.
    NotAllowed,
    /// There is, but there is no room for another stream now.
    Busy,
    /// The target refuses connections.
    TargetRefused,
    /// There is no way to the target.
    TargetUnreachable,
    /// The name of the target, or of what is to be listened on, has no address.
    UnknownHost,
    /// The target does not answer.
    TargetTimedOut,
    /// The server is about to end: another one, or the same one later, may do.
    Stopping,
    /// Another client, or another program, listens on the address.
    AddressInUse,
    /// The address to listen on is none of the server's machine.
    AddressNotAvailable,
    /// The system does not let the server listen on the address, such as on a port below 1024.
    ListenDenied,
    /// There is no socket under the target's path.
    NoSuchSocket,
    /// The system does not let the side that connects reach the target.
    TargetDenied,
    /// The client has moved as many bytes as it may in a period.
    QuotaUsedUp {
        /// The seconds until the period ends.
        seconds: u32,
    },
}

impl fmt::Display for RefusedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::QuotaUsedUp { seconds } => {
                let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
                return write!(
                    f,
                    "this client's quota is used up for another {hours}h {minutes}m {}s",
                    seconds % 60
                );
            }
            Self::NotOffered => "it does not offer that",
            Self::NotAllowed => "this client is not allowed to use that",
            Self::Busy => "it has no room for that now",
            Self::TargetRefused => "the target refused the connection",
            Self::TargetUnreachable => "the target cannot be reached",
            Self::UnknownHost => "it finds no address for the name",
            Self::TargetTimedOut => "the target did not answer in time",
            Self::Stopping => "it is stopping",
            Self::AddressInUse => "another client or program listens on that address",
            Self::AddressNotAvailable => "its machine has no such address",
            Self::ListenDenied => "its system does not let it listen there",
            Self::NoSuchSocket => "there is no socket at the target's path",
            Self::TargetDenied => "its system does not let it connect to the target",
        })
    }
}

/// The reason why a stream is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResetCode {
    /// What the data goes to has failed, or is gone.
    Output,
    /// What the data comes from has failed.
    Input,
    /// The message is longer than the server takes.
    TooLong,
    /// The client has lost the right to what it had open.
    NotAllowed,
    /// Another connection of the same client has taken over the address that was listened on, or a file that was written.
    Replaced,
    /// The client has as much under way as the server keeps for it.
    Busy,
    /// The client has moved as many bytes as it may in a period.
    QuotaUsedUp,
    /// The program ends, and waits no longer for what is open.
    Stopping,
}

impl fmt::Display for ResetCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Output => "it could not hand the data on",
            Self::Input => "its source of data failed",
            Self::TooLong => "the message is longer than it takes",
            Self::NotAllowed => "the client has lost the right to this",
            Self::Replaced => "another connection of this client has taken this over",
            Self::Busy => "too much of this client is under way",
            Self::QuotaUsedUp => "this client's quota is used up",
            Self::Stopping => "it is stopping",
        })
    }
}

//! What is in a vector file: bytes are hexadecimal, and the order of the fields is that of the protocol.

use data_encoding::HEXLOWER;
use serde::Serialize;

/// A handshake and the records behind it.
#[derive(Serialize)]
pub(crate) struct Vector {
    pub(crate) description: &'static str,
    pub(crate) mode: &'static str,
    pub(crate) setup: Setup,
    pub(crate) randomness: Vec<Draw>,
    pub(crate) messages: Vec<Message>,
    /// Other last messages of the server, each in place of the one above.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) answers: Vec<Answer>,
    pub(crate) transcripts: Vec<Named>,
    pub(crate) secrets: Vec<Named>,
    pub(crate) keys: Vec<Keys>,
    pub(crate) records: Vec<Record>,
}

/// What the two sides bring along.
#[derive(Default, Serialize)]
pub(crate) struct Setup {
    /// The server's clock, in seconds since the Unix epoch.
    pub(crate) now: u64,
    pub(crate) idle_timeout_seconds: u32,
    pub(crate) client_auth: &'static str,
    pub(crate) server_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server_key: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_key: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) psk: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ticket_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ticket: Option<TicketInHand>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) invite: Option<InviteInHand>,
}

/// The invite that a client joins with, and what it is told.
#[derive(Serialize)]
pub(crate) struct InviteInHand {
    pub(crate) secret: String,
    pub(crate) name: &'static str,
    pub(crate) grant: &'static str,
}

/// A last message of the server.
#[derive(Serialize)]
pub(crate) struct Answer {
    pub(crate) name: &'static str,
    pub(crate) payload: String,
    pub(crate) bytes: String,
}

/// What a client resumes with.
#[derive(Serialize)]
pub(crate) struct TicketInHand {
    pub(crate) ticket: String,
    pub(crate) secret: String,
    pub(crate) lifetime_seconds: u32,
    /// The ticket's content, as the server's ticket key opens it.
    pub(crate) content: String,
}

/// Random bytes, in the order in which a side draws them.
#[derive(Clone, Serialize)]
pub(crate) struct Draw {
    pub(crate) side: &'static str,
    pub(crate) name: &'static str,
    pub(crate) bytes: String,
}

/// A message of the handshake, in the order in which they are said.
#[derive(Serialize)]
pub(crate) struct Message {
    pub(crate) from: &'static str,
    pub(crate) name: &'static str,
    pub(crate) bytes: String,
    /// What is in it, where it is a record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) payload: Option<String>,
}

/// A secret or a hash.
#[derive(Serialize)]
pub(crate) struct Named {
    pub(crate) name: &'static str,
    pub(crate) bytes: String,
}

/// What comes of a traffic secret.
#[derive(Serialize)]
pub(crate) struct Keys {
    pub(crate) name: &'static str,
    pub(crate) secret: String,
    pub(crate) enc: String,
    pub(crate) mac: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) finished: Option<String>,
}

/// A record behind the handshake, in an order in which they can be said.
#[derive(Serialize)]
pub(crate) struct Record {
    pub(crate) from: &'static str,
    pub(crate) name: &'static str,
    /// The name of the entry of `keys` that seals it.
    pub(crate) keys: &'static str,
    pub(crate) sequence: u64,
    pub(crate) content_type: &'static str,
    pub(crate) payload: String,
    pub(crate) padding: usize,
    pub(crate) bytes: String,
}

/// Inputs that have to be refused.
#[derive(Serialize)]
pub(crate) struct Hostile {
    pub(crate) description: &'static str,
    pub(crate) cases: Vec<Case>,
}

/// One input that has to be refused.
#[derive(Serialize)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// The file whose setup, randomness, messages and records it starts from.
    pub(crate) handshake: &'static str,
    /// The side that is fed.
    pub(crate) to: &'static str,
    /// What is genuine up to there, and what is in its place.
    pub(crate) input: Vec<Input>,
    /// What kind of message the last input is answered with, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) answer: Option<&'static str>,
    /// The class of the error that the last input leads to, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<&'static str>,
    /// The Abort that a server says to that, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) abort: Option<&'static str>,
}

/// One thing that a side is fed.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Input {
    /// The message of this index in the handshake's file.
    Message(usize),
    /// The record of this index in the handshake's file.
    Record(usize),
    /// These bytes.
    Bytes(String),
    /// The end of the connection.
    End,
}

pub(crate) fn hex(bytes: impl AsRef<[u8]>) -> String {
    HEXLOWER.encode(bytes.as_ref())
}

pub(crate) fn to_json(file: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(file).expect("strings and numbers are JSON");
    text.push('\n');
    text
}

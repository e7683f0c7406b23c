//! The answer of a running program to a command, as one line of JSON, and the text form of its status.

use std::fmt;
use std::time::{Duration, Instant};

use jiff::fmt::friendly::SpanPrinter;
use serde::{Deserialize, Serialize};
use tunnel::escape::{Escaped, escape_json};

use crate::report::Report;

/// The answer of a running program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Line", into = "Line")]
pub enum Answer {
    /// The program has carried out the command.
    Done,
    /// The status of the program.
    Status(Status),
    /// The program has not carried out the command.
    Failed {
        /// The error, as text.
        error: String,
        /// Advice on how to go on.
        hint: Option<String>,
    },
}

impl Answer {
    /// Builds the answer to a command that failed.
    pub fn failed(error: &impl Report) -> Self {
        Self::Failed { error: error.to_string(), hint: error.hint() }
    }

    pub(super) fn refusal(error: impl Into<String>) -> Self {
        Self::Failed { error: error.into(), hint: None }
    }
}

/// The status of a running program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// `server` or `client`.
    pub program: String,
    /// The version of the program.
    pub version: String,
    /// The process id.
    pub pid: u32,
    /// Seconds since the program started.
    pub uptime_seconds: u64,
    /// Number of tasks of the async runtime.
    pub tasks: usize,
    /// Numbers of open channels, streams and the like.
    #[serde(flatten)]
    pub counts: Counts,
    /// The open streams by client and target.
    #[serde(default)]
    pub open: Vec<Open>,
    /// Number of pairs of client and target that `open` leaves out.
    #[serde(default)]
    pub open_left_out: usize,
    /// Attempts to use an invite that another key has used: somebody else has its line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub invites_tried: Vec<InviteTried>,
}

/// Attempts of one key to use an invite that another key has used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteTried {
    /// The id of the invite, as a whole.
    pub id: String,
    /// The fingerprint of the key.
    pub key: String,
    /// The address that it came from last.
    pub from: String,
    /// The time of the last attempt, as in RFC 3339.
    pub at: String,
    /// Number of attempts.
    pub count: u64,
}

/// The open streams of one client to one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The client's name.
    pub client: String,
    /// The target, as the client names it.
    pub target: String,
    /// Number of open streams, and of channels that wait for one.
    pub streams: usize,
    /// Bytes that have passed, both directions together.
    pub bytes: u64,
    /// The start of the oldest of the streams, as in RFC 3339.
    pub since: String,
}

/// Numbers of things that a running program has open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Number of established channels.
    pub channels: usize,
    /// Number of streams that are open on them.
    pub streams: usize,
    /// Number of addresses that the server listens on for clients.
    pub leases: usize,
    /// Number of channels without a stream.
    pub idle_channels: usize,
    /// Number of datagrams that the program has dropped since it started.
    #[serde(default)]
    pub dropped_datagrams: u64,
}

impl Status {
    /// Builds the status of the calling process, which has run since `started`.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn of_this_process(program: &str, started: Instant, counts: Counts) -> Self {
        Self {
            program: program.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            uptime_seconds: started.elapsed().as_secs(),
            tasks: tokio::runtime::Handle::current().metrics().num_alive_tasks(),
            counts,
            open: Vec::new(),
            open_left_out: 0,
            invites_tried: Vec::new(),
        }
    }

    /// Adds attempts to use an invite that another key has used.
    #[must_use]
    pub fn with_invites_tried(self, invites_tried: Vec<InviteTried>) -> Self {
        Self { invites_tried, ..self }
    }

    /// Adds the open streams by client and target, and the number of pairs of the two that are left out.
    #[must_use]
    pub fn with_open(self, (open, open_left_out): (Vec<Open>, usize)) -> Self {
        Self { open, open_left_out, ..self }
    }

    /// Encodes the status as one line of JSON, without its end.
    ///
    /// # Panics
    /// Never: names and numbers can always be encoded.
    #[must_use]
    pub fn to_json(&self) -> String {
        escape_json(&serde_json::to_string(self).expect("names and numbers can be written as JSON"))
    }
}

/// One line for each figure, with the figures aligned, and no line end after the last.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uptime = Duration::from_secs(self.uptime_seconds);
        writeln!(f, "program   {} {}", Escaped(&self.program), Escaped(&self.version))?;
        writeln!(f, "process   {}", self.pid)?;
        writeln!(f, "up        {}", SpanPrinter::new().unsigned_duration_to_string(&uptime))?;
        writeln!(f, "tasks     {}", self.tasks)?;
        let Counts { channels, streams, leases, idle_channels, dropped_datagrams } = self.counts;
        writeln!(f, "channels  {channels}, {idle_channels} idle")?;
        writeln!(f, "streams   {streams}")?;
        writeln!(f, "leases    {leases}")?;
        write!(f, "dropped   {dropped_datagrams} datagrams")?;
        for Open { client, target, streams, bytes, since } in &self.open {
            let [client, target, since] = [client, target, since].map(Escaped);
            write!(f, "\nopen      {client}: {target}, {streams}x, {bytes} bytes, since {since}")?;
        }
        if self.open_left_out > 0 {
            write!(f, "\nopen      and {} more", self.open_left_out)?;
        }
        for InviteTried { id, key, from, at, count } in &self.invites_tried {
            let [id, key, from, at] = [id, key, from, at].map(Escaped);
            write!(
                f,
                "\ninvite    {id}: used, and tried by {key} as well, {count}x, last from {from} at {at}"
            )?;
        }
        Ok(())
    }
}

/// The JSON form of an answer: `{"ok":true}`, with `status` where that was asked for, or
/// `{"ok":false,"error":"...","hint":"..."}`.
#[derive(Serialize, Deserialize)]
struct Line {
    ok: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl From<Answer> for Line {
    fn from(answer: Answer) -> Self {
        let (ok, status, error, hint) = match answer {
            Answer::Done => (true, None, None, None),
            Answer::Status(status) => (true, Some(status), None, None),
            Answer::Failed { error, hint } => (false, None, Some(error), hint),
        };
        Self { ok, status, error, hint }
    }
}

impl TryFrom<Line> for Answer {
    type Error = &'static str;

    fn try_from(line: Line) -> Result<Self, Self::Error> {
        match line {
            Line { ok: true, status: None, error: None, .. } => Ok(Self::Done),
            Line { ok: true, status: Some(status), error: None, .. } => Ok(Self::Status(status)),
            Line { ok: false, status: None, error: Some(error), hint } => Ok(Self::Failed { error, hint }),
            _ => Err("neither done nor failed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        Status {
            program: "server".into(),
            version: "0.1.0".into(),
            pid: 4711,
            uptime_seconds: 7384,
            tasks: 14,
            counts: Counts { channels: 12, streams: 9, leases: 1, idle_channels: 3, dropped_datagrams: 5 },
            open: Vec::new(),
            open_left_out: 0,
            invites_tried: Vec::new(),
        }
    }

    #[test]
    fn a_status_reads_in_aligned_lines() {
        let expected = "\
            program   server 0.1.0\n\
            process   4711\n\
            up        2h 3m 4s\n\
            tasks     14\n\
            channels  12, 3 idle\n\
            streams   9\n\
            leases    1\n\
            dropped   5 datagrams";
        assert_eq!(status().to_string(), expected);
        let hostile = Status { version: "\x1b[2J\n".into(), uptime_seconds: u64::MAX, ..status() };
        assert!(
            hostile.to_string().starts_with("program   server \\u{1b}[2J\\n\nprocess   4711\nup        ")
        );
    }

    #[test]
    fn what_is_open_stands_below_and_moves_no_terminal() {
        let open = Open {
            client: "\u{202e}alice".into(),
            target: "unix:/run/\x1b[2J\n".into(),
            streams: 2,
            bytes: 1234,
            since: "2026-11-24T10:00:00Z".into(),
        };
        let status = status().with_open((vec![open], 7));
        let text = status.to_string();
        let (_, behind) = text.split_once("datagrams\n").unwrap();
        assert!(
            behind
                .starts_with("open      \\u{202e}alice: unix:/run/\\u{1b}[2J\\n, 2x, 1234 bytes, since 2026")
        );
        assert_eq!(behind.lines().nth(1), Some("open      and 7 more"));
        let tried = InviteTried {
            id: "fqbh3l5myxqlsebhkgoywv267e".into(),
            key: "SHA256:x".into(),
            from: "\x1b[2J".into(),
            at: "2026-11-24T10:00:00Z".into(),
            count: 2,
        };
        let status = status.with_invites_tried(vec![tried]);
        assert!(status.to_string().ends_with(
            "\ninvite    fqbh3l5myxqlsebhkgoywv267e: used, and tried by SHA256:x as well, 2x, last from \\u{1b}[2J at \
             2026-11-24T10:00:00Z"
        ));
        assert_eq!(serde_json::from_str::<Status>(&status.to_json()).unwrap(), status);
    }

    #[test]
    fn answers_come_back_as_they_were_written() {
        let status_json = status().to_json();
        for (answer, line) in [
            (Answer::Done, r#"{"ok":true}"#),
            (Answer::Status(status()), &format!(r#"{{"ok":true,"status":{status_json}}}"#)),
            (Answer::refusal("a\nb"), r#"{"ok":false,"error":"a\nb"}"#),
            (
                Answer::Failed { error: "no".into(), hint: Some("do".into()) },
                r#"{"ok":false,"error":"no","hint":"do"}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&answer).unwrap(), line);
            assert_eq!(serde_json::from_str::<Answer>(line).unwrap(), answer);
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for line in [
            "",
            "ok",
            "{}",
            r#"{"ok":1}"#,
            r#"{"ok":false}"#,
            r#"{"ok":true,"error":"no"}"#,
            r#"{"ok":true,"status":{}}"#,
            r#"{"ok":true}{"ok":true}"#,
        ] {
            assert!(serde_json::from_str::<Answer>(line).is_err(), "{line}");
        }
    }
}

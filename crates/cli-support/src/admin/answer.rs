//! The answer of a running program to a command, as one line of JSON.

use serde::{Deserialize, Serialize};

use super::status::Status;
use crate::report::Report;

/// The answer of a running program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Line", into = "Line")]
pub enum Answer {
    /// The program has carried out the command.
    Done,
    /// The status of the program.
    Status(Box<Status>),
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
            Answer::Status(status) => (true, Some(*status), None, None),
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
            Line { ok: true, status: Some(status), error: None, .. } => Ok(Self::Status(Box::new(status))),
            Line { ok: false, status: None, error: Some(error), hint } => Ok(Self::Failed { error, hint }),
            _ => Err("neither done nor failed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        Status { program: "server".into(), pid: 4711, ..Status::default() }
    }

    #[test]
    fn answers_come_back_as_they_were_written() {
        let status_json = status().to_json();
        for (answer, line) in [
            (Answer::Done, r#"{"ok":true}"#),
            (Answer::Status(Box::new(status())), &format!(r#"{{"ok":true,"status":{status_json}}}"#)),
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

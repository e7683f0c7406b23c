//! The report: checks in their order, each with its outcome in words and what to do next.

use cli_support::invocation::Naming;
use cli_support::output;
use cli_support::report::Exit;
use serde::Serialize;

use crate::error::Error;

/// The checks so far. A line is printed with each.
#[derive(Debug)]
pub(super) struct Report {
    address: String,
    is_json: bool,
    checks: Vec<Check>,
    failed: Option<Exit>,
}

/// A check.
#[derive(Debug, Serialize)]
struct Check {
    check: String,
    status: Status,
    text: String,
    #[serde(rename = "try")]
    hint: Option<String>,
}

/// The outcome of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Ok,
    Failed,
    Skipped,
}

/// The report as one object.
#[derive(Serialize)]
struct Object<'a> {
    address: &'a str,
    ok: bool,
    checks: &'a [Check],
}

impl Report {
    pub(super) fn new(address: String, is_json: bool) -> Self {
        Self { address, is_json, checks: Vec::new(), failed: None }
    }

    /// All is well.
    pub(super) fn ok(&mut self, check: &str, text: impl Into<String>) -> Result<(), Error> {
        self.add(check, Status::Ok, text.into(), None)
    }

    /// All is well, and there is something to know.
    pub(super) fn ok_but(&mut self, check: &str, text: String, hint: impl Into<String>) -> Result<(), Error> {
        self.add(check, Status::Ok, text, Some(hint.into()))
    }

    /// Something is wrong.
    pub(super) fn failed(
        &mut self,
        check: &str,
        text: impl Into<String>,
        hint: Option<String>,
        exit: Exit,
    ) -> Result<(), Error> {
        self.failed.get_or_insert(exit);
        self.add(check, Status::Failed, text.into(), hint)
    }

    /// These cannot be looked at.
    pub(super) fn skip(&mut self, checks: &[&str], why: &str) -> Result<(), Error> {
        checks.iter().try_for_each(|check| self.add(check, Status::Skipped, why.into(), None))
    }

    fn add(&mut self, check: &str, status: Status, text: String, hint: Option<String>) -> Result<(), Error> {
        let hint = hint.map(|hint| Naming::of_process().show(&hint).into_owned());
        if !self.is_json {
            let word = match status {
                Status::Ok => "ok",
                Status::Failed => "failed",
                Status::Skipped => "skipped",
            };
            output::print(format_args!("{word:<8} {check}: {text}"))?;
            if let Some(hint) = &hint {
                output::print(format_args!("{:<8} try: {hint}", ""))?;
            }
        }
        self.checks.push(Check { check: check.into(), status, text, hint });
        Ok(())
    }

    /// Ends the report.
    ///
    /// # Errors
    /// [`Error::Unwell`] where a check has failed.
    pub(super) fn finish(self) -> Result<(), Error> {
        let Self { address, is_json, checks, failed } = self;
        if is_json {
            output::print_json(&Object { address: &address, ok: failed.is_none(), checks: &checks })?;
        }
        let Some(exit) = failed else { return Ok(()) };
        let failed = checks.iter().filter(|check| check.status == Status::Failed).count();
        Err(Error::Unwell { failed, checks: checks.len(), exit })
    }
}

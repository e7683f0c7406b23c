//! The JSON Schema files of the programs' output, and a validator of another project for them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::venv::{SCHEMAS, peer_program};
use crate::workspace;

/// A schema, and the document that has examples of what it describes.
pub(crate) struct Schema {
    path: PathBuf,
}

impl Schema {
    /// The schema with this path in the repository.
    pub(crate) fn of(path: &str) -> Result<Self> {
        Ok(Self { path: workspace::root()?.join(path) })
    }

    /// Checks that each of `lines` is valid.
    pub(crate) fn check(&self, lines: &str) -> Result<()> {
        ensure!(!lines.trim().is_empty(), "there is nothing to validate");
        let mut command = Command::new(SCHEMAS.programs()?.join("python"));
        command.arg(peer_program("validate.py")).arg(&self.path);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut input = child.stdin.take().context("no input")?;
        let lines = lines.to_owned();
        let writer = std::thread::spawn(move || std::io::Write::write_all(&mut input, lines.as_bytes()));
        let output = child.wait_with_output()?;
        // A validator that has seen enough wrong lines reads no more.
        writer.join().ok();
        let said = [output.stdout, output.stderr].concat();
        ensure!(
            output.status.success(),
            "not by {}:\n{}",
            self.path.display(),
            String::from_utf8_lossy(&said)
        );
        Ok(())
    }

    /// The examples of a document: its indented lines that are objects.
    pub(crate) fn examples(&self, document: &str) -> Result<String> {
        let text = std::fs::read_to_string(workspace::root()?.join(document))?;
        let examples = text.lines().filter(|line| line.starts_with("    {\""));
        Ok(examples.map(|line| format!("{}\n", line.trim())).collect())
    }

    /// The titles of the alternatives at the top of the schema.
    pub(crate) fn titles(&self) -> Result<BTreeSet<String>> {
        let schema: Value = serde_json::from_str(&std::fs::read_to_string(&self.path)?)?;
        let alternatives = schema["oneOf"].as_array().or(schema["anyOf"].as_array());
        let alternatives = alternatives.context("no alternatives")?;
        let title = |schema: &Value| schema["title"].as_str().map(str::to_owned);
        alternatives.iter().map(title).collect::<Option<_>>().context("an alternative without a title")
    }
}

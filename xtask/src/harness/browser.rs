//! A real browser without a window, which a Python program drives by the DevTools protocol.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::harness::deadline::{DEADLINE, until};
use crate::harness::environment::Harness;
use crate::harness::tool::Tool;

/// A headless Chromium with one page. It ends when it goes out of scope.
pub(crate) struct Browser {
    driver: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Browser {
    pub(crate) fn start(harness: &Harness) -> Result<Self> {
        let chromium = Tool::CHROMIUM.find()?;
        let mut command = harness.peer("browser.py")?;
        command.arg(chromium).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut driver = command.spawn().context("the browser's driver")?;
        let orders = driver.stdin.take();
        let answers = BufReader::new(driver.stdout.take().context("the driver has an output")?);
        Ok(Self { driver, orders, answers })
    }

    /// Loads the page at `url`, in a window of this size.
    pub(crate) fn open(&mut self, url: &str, (width, height): (u32, u32)) -> Result<()> {
        self.order(&json!({"do": "size", "width": width, "height": height}))?;
        self.order(&json!({"do": "open", "url": url})).map(drop)
    }

    pub(crate) fn size(&mut self, (width, height): (u32, u32)) -> Result<()> {
        self.order(&json!({"do": "size", "width": width, "height": height})).map(drop)
    }

    /// Says whether the reader likes it `dark` or `light`.
    pub(crate) fn scheme(&mut self, scheme: &str) -> Result<()> {
        self.order(&json!({"do": "scheme", "value": scheme})).map(drop)
    }

    pub(crate) fn press(&mut self, key: &str) -> Result<()> {
        self.order(&json!({"do": "key", "key": key})).map(drop)
    }

    /// The value of an expression in JavaScript, awaited if it is a promise.
    pub(crate) fn eval(&mut self, script: &str) -> Result<Value> {
        self.order(&json!({"do": "eval", "script": script}))
    }

    /// Waits until an expression is true.
    pub(crate) fn wait(&mut self, script: &str) -> Result<()> {
        until(DEADLINE, "the page", || {
            ensure!(self.eval(script)? == true, "not yet so: {script}");
            Ok(())
        })
    }

    /// Takes a picture of the whole page.
    pub(crate) fn screenshot(&mut self, path: &Path) -> Result<()> {
        self.order(&json!({"do": "screenshot", "path": path})).map(drop)
    }

    /// Checks that the browser has complained of nothing.
    pub(crate) fn expect_no_problems(&mut self) -> Result<()> {
        let problems = self.order(&json!({"do": "problems"}))?;
        ensure!(problems == json!([]), "the browser complains: {problems:#}");
        Ok(())
    }

    fn order(&mut self, order: &Value) -> Result<Value> {
        let orders = self.orders.as_mut().context("the driver takes orders")?;
        writeln!(orders, "{order}")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let answer: Value = serde_json::from_str(&line).with_context(|| format!("{order}: {line:?}"))?;
        ensure!(answer.get("error").is_none(), "{order}: {}", answer["error"]);
        Ok(answer["value"].clone())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // At the end of its orders the driver ends the browser, and then itself.
        drop(self.orders.take());
        self.driver.wait().ok();
    }
}

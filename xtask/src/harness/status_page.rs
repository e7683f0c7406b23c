//! The status page of a running program, asked by HTTP as bytes.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::harness::deadline::DEADLINE;
use crate::harness::process::Process;

/// The status page of a program that runs.
pub(crate) struct StatusPage {
    url: String,
}

impl StatusPage {
    /// Waits until the program has said where it is.
    pub(crate) fn of(process: &Process) -> Result<Self> {
        let line = process.stderr.wait_line(DEADLINE, |line| line.trim_start().starts_with("status "))?;
        let url = line.split_whitespace().nth(1).context("a line with a URL")?.to_owned();
        Ok(Self { url })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// `HOST:PORT`.
    pub(crate) fn address(&self) -> &str {
        self.url.trim_start_matches("http://").trim_end_matches('/')
    }

    /// The whole answer to a request of these bytes.
    pub(crate) fn ask(&self, request: &str) -> Result<String> {
        let stream = TcpStream::connect(self.address())?;
        stream.set_read_timeout(Some(DEADLINE))?;
        exchange(stream, request)
    }

    /// The whole answer to a GET.
    pub(crate) fn get(&self, path: &str) -> Result<String> {
        self.ask(&request(path))
    }

    /// `status.json`.
    pub(crate) fn status(&self) -> Result<Value> {
        let answer = self.get("/status.json")?;
        let (head, body) = answer.split_once("\r\n\r\n").context("a head and a body")?;
        ensure!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        Ok(serde_json::from_str(body)?)
    }
}

/// A GET after which the connection ends.
pub(crate) fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

/// Sends a request, and reads to the end.
pub(crate) fn exchange(mut stream: impl Read + Write, request: &str) -> Result<String> {
    // The server may have closed the connection already.
    stream.write_all(request.as_bytes()).ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    Ok(String::from_utf8(answer)?)
}

//! An nginx that serves files from one folder.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::harness::services::running::{listens, word};
use crate::harness::{Harness, Home, Lines, Port, Process, Tool, digest_of, printed};

/// An nginx that serves `/small`, one line, and `/large`, 16 MiB of lines.
pub(crate) struct Nginx {
    _process: Process,
    _place: Home,
    port: Port,
}

impl Nginx {
    pub(crate) const LARGE: u64 = 16 * 1024 * 1024;

    pub(crate) fn start(harness: &Harness) -> Result<Self> {
        let mut command = Tool::NGINX.command()?;
        let place = harness.home()?;
        let port = Port::hold()?;
        fs::create_dir(place.file("www"))?;
        fs::create_dir(place.file("temporary"))?;
        fs::write(place.file("www/small"), "a small page\n")?;
        fs::write(place.file("www/large"), Lines::of_length(Self::LARGE).bytes()?)?;
        // nginx runs as one process in the foreground, so that it ends with the harness, and writes only into
        // its folder.
        let folder = word(place.path());
        let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary: String =
            kinds.iter().map(|kind| format!("  {kind}_temp_path {folder}/temporary/{kind};\n")).collect();
        let configuration = format!(
            "daemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nerror_log stderr;\n\
             events {{ worker_connections 1024; }}\n\
             http {{\n  access_log off;\n{temporary}  server {{\n    listen {};\n    root {folder}/www;\n  }}\n}}\n",
            port.address(),
        );
        let file = place.write("nginx.conf", configuration)?;
        command.arg("-p").arg(place.path()).arg("-c").arg(file).args(["-e", "stderr"]);
        let mut process = Process::start(command)?;
        listens(&mut process, &port.address())?;
        Ok(Self { _process: process, _place: place, port })
    }

    pub(crate) fn address(&self) -> String {
        self.port.address()
    }
    /// Downloads `/large` of an nginx with this `curl` from `url`, and checks its content.
    pub(crate) fn download(curl: &mut Command, url: &str) -> Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("large");
        printed(curl.args(["-sS", "--fail", "--max-time", "60", url, "-o"]).arg(&file))?;
        let got = digest_of(fs::File::open(&file)?)?;
        ensure!(got == digest_of(Lines::of_length(Self::LARGE))?, "{} bytes, and others", got.0);
        Ok(())
    }
}

//! A `client forward` behind a tap, whose connections can outlive those through the tap.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};

use crate::harness::deadline::{DEADLINE, until};
use crate::harness::environment::Harness;
use crate::harness::exposition::Exposition;
use crate::harness::fixture::Fixture;
use crate::harness::forward::Forward;
use crate::harness::port::Port;
use crate::harness::status_page::StatusPage;
use crate::harness::tap::Tap;
use crate::harness::tap::fault::Fault;

/// A server with a status page, a tap before it, and a client with one `-L`, or `-R`, for each target.
pub(crate) struct Resumable<'a> {
    pub(crate) fixture: Fixture<'a>,
    pub(crate) tap: Arc<Tap>,
    pub(crate) forward: Forward<'a>,
    /// Nobody listens at this port.
    nowhere: Port,
}

impl<'a> Resumable<'a> {
    /// Starts all of it with `options` of `client forward`, such as `--no-resume`.
    pub(crate) fn start(harness: &'a Harness, targets: &[String], options: &[&str]) -> Result<Self> {
        Self::with_config(harness, targets, options, "")
    }

    /// Does what [`Self::start`] does, with more lines of `server.toml`.
    pub(crate) fn with_config(
        harness: &'a Harness,
        targets: &[String],
        options: &[&str],
        config: &str,
    ) -> Result<Self> {
        let rights: Vec<&str> = targets.iter().flat_map(|target| ["--tcp", target]).collect();
        let forwards = targets.iter().map(|target| ("-L", format!("0:{target}"))).collect();
        Self::with_forwards(harness, &rights, forwards, options, config)
    }

    /// Does what [`Self::with_config`] does with `-R`, for each of `specs` of it.
    pub(crate) fn reverse(
        harness: &'a Harness,
        specs: &[String],
        options: &[&str],
        config: &str,
    ) -> Result<Self> {
        let forwards = specs.iter().map(|spec| ("-R", spec.clone())).collect();
        Self::with_forwards(harness, &["--listen", "*"], forwards, options, config)
    }

    fn with_forwards(
        harness: &'a Harness,
        rights: &[&str],
        forwards: Vec<(&str, String)>,
        options: &[&str],
        config: &str,
    ) -> Result<Self> {
        let fixture = Fixture::with_config(harness, rights, &format!("status = '127.0.0.1:0'\n{config}"))?;
        let tap = Arc::new(Tap::unrecorded(&fixture.address())?);
        let forwards: Vec<&str> = forwards.iter().flat_map(|(option, spec)| [*option, spec]).collect();
        let forward = fixture.forward_through(&tap.address(), &[&forwards, options].concat())?;
        Ok(Self { fixture, tap, forward, nowhere: Port::hold()? })
    }

    /// The port of the `index`th `-L`.
    pub(crate) fn port(&self, index: usize) -> Result<String> {
        let address = self.forward.local(index)?;
        Ok(address.rsplit(':').next().context("no port")?.to_owned())
    }

    /// Sets the fault of all connections to the server, with new ones in place of those that are open.
    pub(crate) fn set_fault(&self, fault: Fault) {
        self.tap.set_fault(Some(fault));
        self.tap.reset();
    }

    /// How often a stream to `target` was taken over, as the server's log says it.
    pub(crate) fn resumed(&self, target: &str) -> Result<usize> {
        let log = self.fixture.server()?.process.stderr.text();
        let says = |line: &&str| line.contains("stream resumed") && line.contains(target);
        Ok(log.lines().filter(says).count())
    }

    /// Waits until streams to `target` were taken over so many times in all.
    pub(crate) fn resumes(&self, target: &str, times: usize) -> Result<()> {
        until(DEADLINE, "streams are taken over", || {
            let resumed = self.resumed(target)?;
            ensure!(resumed >= times, "{resumed} times, and not {times}");
            Ok(())
        })
    }

    /// Cuts the client off, which finds no way back.
    pub(crate) fn cut_off(&self) -> Result<()> {
        self.tap.redirect(&self.nowhere.address());
        ensure!(self.tap.reset() > 0, "there was nothing to cut");
        Ok(())
    }

    /// Lets the client reach the server again after [`Self::cut_off`].
    pub(crate) fn reconnect(&self) {
        self.tap.redirect(&self.fixture.address());
    }

    /// Waits until so many streams wait for their clients at the server.
    pub(crate) fn holds(&self, streams: f64) -> Result<()> {
        until(DEADLINE, "streams held by the server", || {
            let status = StatusPage::of(&self.fixture.server()?.process)?;
            Exposition::of(status.address())?.expect(&[("sockseal_streams_held", streams)])
        })
    }
}

//! The two programs of one build as a tunnel to a target, and what they use up.

use std::path::PathBuf;

use anyhow::Result;

use crate::bench::tunnel::load::{Target, echoing};
use crate::harness::{Fixture, Forward, Harness, Process};

/// A server and a client, each in a home of its own, at ports that the system has picked.
pub(crate) struct Programs<'a> {
    fixture: Fixture<'a>,
    forward: Forward<'a>,
    /// The near end of the tunnel.
    address: String,
}

impl<'a> Programs<'a> {
    pub(crate) fn start(harness: &'a Harness, target: &Target) -> Result<Self> {
        let fixture = Fixture::open(harness, &["--tcp", &target.address()])?;
        let forward = fixture.forward(&["-L", &format!("0:{}", target.address())])?;
        forward.connected()?;
        let address = forward.local(0)?;
        Ok(Self { fixture, forward, address })
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// What a load gives, and the seconds of processor time that both programs spend meanwhile.
    pub(crate) fn measure<T>(&self, load: impl FnOnce(&str) -> Result<T>) -> Result<(T, f64)> {
        let before = self.cpu()?;
        let done = load(&self.address)?;
        Ok((done, self.cpu()? - before))
    }

    /// How much memory so many idle tunnelled connections take in both programs, in MB of 2^20 bytes.
    pub(crate) fn idle(&self, connections: usize) -> Result<f64> {
        let before = self.memory()?;
        let idle = (0..connections).map(|_| echoing(&self.address)).collect::<Result<Vec<_>>>()?;
        let grown = self.memory()? - before;
        drop(idle);
        Ok(grown)
    }

    fn cpu(&self) -> Result<f64> {
        Ok(self.server()?.cpu_seconds()? + self.forward.process.cpu_seconds()?)
    }

    fn memory(&self) -> Result<f64> {
        let kibibytes = self.server()?.memory()? + self.forward.process.memory()?;
        Ok(f64::from(u32::try_from(kibibytes)?) / 1024.0)
    }

    fn server(&self) -> Result<&Process> {
        Ok(&self.fixture.server()?.process)
    }
}

/// The programs of a build in this folder, with keys and homes of their own.
pub(crate) fn harness(folder: PathBuf) -> Result<Harness> {
    for program in ["server", "client"] {
        let path = folder.join(program);
        anyhow::ensure!(path.is_file(), "{} has no program {program}", folder.display());
    }
    Harness::new(folder)
}

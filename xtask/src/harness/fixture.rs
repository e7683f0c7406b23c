//! The fixture of most scenarios: a server with rights for the client `alice`, whose tunnels end there.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use crate::harness::environment::Harness;
use crate::harness::forward::Forward;
use crate::harness::home::Home;
use crate::harness::key::Key;
use crate::harness::port::Port;
use crate::harness::process::{Exit, Outcome, Process, wrapped};
use crate::harness::resources::{Program, Resources};
use crate::harness::server::Server;

/// A server at an address that it keeps across restarts, and the home of the client `alice`.
pub(crate) struct Fixture<'a> {
    harness: &'a Harness,
    home: Arc<Home>,
    alice: Arc<Home>,
    port: Port,
    arguments: Vec<String>,
    wrapper: Vec<String>,
    server: Option<Server>,
    key: String,
}

impl<'a> Fixture<'a> {
    /// Starts a server at which `alice` has these rights, given as options of `server allow`.
    pub(crate) fn open(harness: &'a Harness, rights: &[&str]) -> Result<Self> {
        Self::with_arguments(harness, rights, &[])
    }

    pub(crate) fn with_arguments(harness: &'a Harness, rights: &[&str], arguments: &[&str]) -> Result<Self> {
        Self::wrapped(harness, rights, arguments, &[])
    }

    /// Does what [`Self::open`] does, with a configuration file.
    pub(crate) fn with_config(harness: &'a Harness, rights: &[&str], config: &str) -> Result<Self> {
        let mut fixture = Self::closed(harness, rights, &[], &[])?;
        let path = fixture.home.write("server.toml", config)?;
        fixture.arguments = vec!["--config".to_owned(), path.to_str().context("a path in UTF-8")?.to_owned()];
        fixture.start()?;
        Ok(fixture)
    }

    /// Starts the server through another program, such as prlimit, which has to become the server by `exec`.
    pub(crate) fn wrapped(
        harness: &'a Harness,
        rights: &[&str],
        arguments: &[&str],
        wrapper: &[&str],
    ) -> Result<Self> {
        let mut fixture = Self::closed(harness, rights, arguments, wrapper)?;
        fixture.start()?;
        Ok(fixture)
    }

    /// Prepares all but the server, which is not started.
    pub(crate) fn closed(
        harness: &'a Harness,
        rights: &[&str],
        arguments: &[&str],
        wrapper: &[&str],
    ) -> Result<Self> {
        let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let home = Arc::new(harness.home_with(Key::Server)?);
        let fixture = Self {
            harness,
            key: harness.fingerprint("server", &home)?,
            home,
            alice: Arc::new(harness.home_with(Key::Alice)?),
            port: Port::hold()?,
            arguments: owned(arguments),
            wrapper: owned(wrapper),
            server: None,
        };
        fixture.allow(rights)?;
        Ok(fixture)
    }

    /// Replaces the rights of `alice` by these.
    pub(crate) fn allow(&self, rights: &[&str]) -> Result<()> {
        let key = self.harness.fingerprint("client", &self.alice)?;
        self.allow_key(&key, "alice", rights)
    }

    pub(crate) fn allow_key(&self, key: &str, name: &str, rights: &[&str]) -> Result<()> {
        let arguments = [&["allow", key, "--name", name], rights].concat();
        self.command(&arguments)?.expect(Exit::Done)?;
        Ok(())
    }

    /// Adds a second client, `mallory`, with these rights.
    pub(crate) fn mallory(&self, rights: &[&str]) -> Result<Arc<Home>> {
        let home = self.harness.home_with(Key::Mallory)?;
        let key = self.harness.fingerprint("client", &home)?;
        self.allow_key(&key, "mallory", rights)?;
        Ok(Arc::new(home))
    }

    /// Runs `server --home HOME ARGUMENTS` to its end.
    pub(crate) fn command(&self, arguments: &[&str]) -> Result<Outcome> {
        self.harness.server(&self.home, arguments).run()
    }

    pub(crate) fn start(&mut self) -> Result<()> {
        let mut command = self.harness.program("server");
        command.arg("--home").arg(&*self.home).args(&self.arguments);
        command.args(["--listen", &self.port.address()]);
        self.server = Some(Server::from_process(Process::start(wrapped(&self.wrapper, command))?)?);
        Ok(())
    }

    /// Kills the server with SIGKILL.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let server = self.server.take().context("no server runs")?;
        server.process.signal(Signal::KILL)?;
        server.finish()?;
        Ok(())
    }

    /// Hands the server over to the caller, who has to end it.
    pub(crate) fn take_server(&mut self) -> Result<Server> {
        self.server.take().context("no server runs")
    }

    pub(crate) fn server(&self) -> Result<&Server> {
        self.server.as_ref().context("no server runs")
    }

    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    /// The home of the client `alice`.
    pub(crate) fn alice(&self) -> &Arc<Home> {
        &self.alice
    }

    pub(crate) fn address(&self) -> String {
        self.port.address()
    }

    /// The fingerprint of the server's key.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Starts `client forward` as alice.
    pub(crate) fn forward(&self, arguments: &[&str]) -> Result<Forward<'a>> {
        self.forward_through(&self.address(), arguments)
    }

    /// Starts `client forward` as alice, through another address such as a tap's.
    pub(crate) fn forward_through(&self, address: &str, arguments: &[&str]) -> Result<Forward<'a>> {
        Forward::start(self.harness, &self.alice, address, &self.key, arguments)
    }

    /// Formats a shell command that runs `client forward`, through `address`, as ssh's ProxyCommand.
    pub(crate) fn proxy_command(&self, address: &str) -> Result<String> {
        let arguments = ["forward", address, "--server-key", self.key()];
        let command = self.harness.client(self.alice(), &arguments).into_command();
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let quoted = words.map(|word| word.to_str().map(|word| format!("'{word}'")));
        quoted.collect::<Option<Vec<_>>>().map(|words| words.join(" ")).context("a path that is not UTF-8")
    }

    /// Runs a `client forward` that is expected to end by itself.
    pub(crate) fn forward_to_the_end(&self, home: &Home, arguments: &[&str]) -> Result<Outcome> {
        let address = self.address();
        let arguments = [&["forward", &address, "--server-key", &self.key], arguments].concat();
        self.harness.client(home, &arguments).run()
    }

    /// The resources of the server, once it has no open stream.
    pub(crate) fn at_rest(&self) -> Result<Resources> {
        Resources::at_rest(self.harness, Program::Server, &self.home, &self.server()?.process)
    }

    pub(crate) fn resources(&self) -> Result<Resources> {
        Resources::of(self.harness, Program::Server, &self.home, &self.server()?.process)
    }

    /// Checks that the server holds no more resources than `before`.
    pub(crate) fn expect_again(&self, before: &Resources) -> Result<()> {
        before.expect_again(self.harness, Program::Server, &self.home, &self.server()?.process)
    }
}

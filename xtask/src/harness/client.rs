//! One run of the client, or of another command of the two programs that ends by itself.

use std::io::Cursor;
use std::process::Command;

use anyhow::Result;

use crate::harness::environment::Harness;
use crate::harness::home::Home;
use crate::harness::process::{Outcome, Process, wrapped};
use crate::harness::server::Server;

/// A command that has not started yet.
pub(crate) struct Run {
    command: Command,
    input: Vec<u8>,
}

impl Run {
    /// Sets the bytes of standard input, which is empty by default.
    pub(crate) fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs the command in a session of its own, without a terminal for questions.
    pub(crate) fn detached(mut self) -> Self {
        self.command = wrapped(&["setsid".to_owned()], self.command);
        self
    }

    /// Gives SIGHUP its default effect, also where whoever runs the tests has it ignored, as by `nohup`.
    pub(crate) fn with_hangup(mut self) -> Self {
        self.command = wrapped(&["env", "--default-signal=HUP"].map(str::to_owned), self.command);
        self
    }

    pub(crate) fn run(self) -> Result<Outcome> {
        let mut process = Process::start(self.command)?;
        process.feed(Cursor::new(self.input))?;
        process.finish()
    }

    /// Starts the command with its standard input left open.
    pub(crate) fn start(self) -> Result<Process> {
        Process::start(self.command)
    }

    pub(crate) fn into_command(self) -> Command {
        self.command
    }
}

impl Harness {
    /// Prepares `client --home HOME ARGUMENTS`.
    pub(crate) fn client(&self, home: &Home, arguments: &[&str]) -> Run {
        self.at_home("client", home, arguments)
    }

    /// Prepares `server --home HOME ARGUMENTS`, for the commands that end by themselves.
    pub(crate) fn server(&self, home: &Home, arguments: &[&str]) -> Run {
        self.at_home("server", home, arguments)
    }

    /// Sends a message to `server`, with the server's key on the command line.
    pub(crate) fn send(&self, home: &Home, server: &Server, text: &str) -> Result<Outcome> {
        self.client(home, &["send", server.address(), text, "--server-key", server.key()?]).run()
    }

    fn at_home(&self, program: &str, home: &Home, arguments: &[&str]) -> Run {
        let mut command = self.program(program);
        command.arg("--home").arg(home).args(arguments);
        Run { command, input: Vec::new() }
    }
}

//! The names by which both programs are called on this machine, for commands that are shown to be pasted.
//!
//! Texts name commands as `client send` and `server list`. Where the programs are installed under other names, [`Naming::show`]
//! writes those instead, in hints and in the help.

use std::borrow::Cow;
use std::env;
use std::ffi::OsStr;
use std::path::Path;

use clap::builder::StyledStr;
use clap::{Arg, Command};

/// One of the two programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there are two programs")]
pub enum Program {
    /// The server.
    Server,
    /// The client.
    Client,
}

/// The names of the two programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Naming {
    /// `server` and `client`, as cargo builds them.
    Plain,
    /// `sockseal-server` and `sockseal-client`, as they are installed.
    Installed,
    /// `sockseal server` and `sockseal`: the front program runs both, and leaves them its own name.
    Front,
}

impl Naming {
    /// The naming by which this process was started.
    #[must_use]
    pub fn of_process() -> Self {
        env::args_os().next().map_or(Self::Plain, |program| Self::of(&program))
    }

    /// The naming that a program goes by which was started by this name or path.
    #[must_use]
    pub fn of(program: &OsStr) -> Self {
        let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy();
        match name.strip_prefix(FRONT) {
            Some("") => Self::Front,
            Some(rest) if rest.starts_with('-') => Self::Installed,
            _ => Self::Plain,
        }
    }

    /// The beginning of a command of the program.
    #[must_use]
    pub fn name(self, program: Program) -> &'static str {
        match (self, program) {
            (Self::Plain, Program::Server) => "server",
            (Self::Plain, Program::Client) => "client",
            (Self::Installed, Program::Server) => "sockseal-server",
            (Self::Installed, Program::Client) => "sockseal-client",
            (Self::Front, Program::Server) => "sockseal server",
            (Self::Front, Program::Client) => FRONT,
        }
    }

    /// Writes the commands in `text`, such as `client send`, by the names that they have here. All else stays as it is: words
    /// that are followed by no command, and those behind an article, as in "the server list".
    #[must_use]
    pub fn show(self, text: &str) -> Cow<'_, str> {
        if self == Self::Plain {
            return text.into();
        }
        let mut shown = String::with_capacity(text.len() + 16);
        let mut rest = text;
        while let Some((start, program)) = first_program(rest) {
            let (before, behind) = rest.split_at(start);
            let (word, behind) = behind.split_at(PROGRAM_LEN);
            shown.push_str(before);
            let is_command = is_command(program, behind) && !ends_in_article(&shown);
            shown.push_str(if is_command { self.name(program) } else { word });
            rest = behind;
        }
        if shown.is_empty() {
            return text.into();
        }
        shown.push_str(rest);
        shown.into()
    }

    /// Has the command line of a program go by this naming: its own name, and the commands in its help.
    #[must_use]
    pub fn adapt(self, command: Command, program: Program) -> Command {
        if self == Self::Plain {
            return command;
        }
        let name = self.name(program);
        self.adapt_texts(command.name(name).bin_name(name).display_name(name))
    }

    fn adapt_texts(self, command: Command) -> Command {
        let shown = |text: Option<&StyledStr>| text.map(|text| self.show(&text.to_string()).into_owned());
        let (about, long_about) = (shown(command.get_about()), shown(command.get_long_about()));
        let (after, after_long) = (shown(command.get_after_help()), shown(command.get_after_long_help()));
        let adapt_argument = |mut argument: Arg| {
            if let Some(help) = shown(argument.get_help()) {
                argument = argument.help(help);
            }
            match shown(argument.get_long_help()) {
                Some(help) => argument.long_help(help),
                None => argument,
            }
        };
        let mut command =
            command.mut_args(adapt_argument).mut_subcommands(|subcommand| self.adapt_texts(subcommand));
        if let Some(about) = about {
            command = command.about(about);
        }
        if let Some(about) = long_about {
            command = command.long_about(about);
        }
        if let Some(help) = after {
            command = command.after_help(help);
        }
        match after_long {
            Some(help) => command.after_long_help(help),
            None => command,
        }
    }
}

/// The commands of a program that [`Naming::show`] knows. A test of each program compares them with its command line.
#[must_use]
pub fn commands(program: Program) -> &'static [&'static str] {
    match program {
        Program::Server => SERVER,
        Program::Client => CLIENT,
    }
}

/// Where the name of a program stands in `text` as a word of its own, with a blank behind it.
fn first_program(text: &str) -> Option<(usize, Program)> {
    let mut from = 0;
    loop {
        let at = |name| text[from..].find(name).map(|at| from + at);
        let (start, program) = match (at("server "), at("client ")) {
            (Some(server), Some(client)) if client < server => (client, Program::Client),
            (Some(server), _) => (server, Program::Server),
            (None, Some(client)) => (client, Program::Client),
            (None, None) => return None,
        };
        if !text[..start].ends_with(|c: char| c.is_alphanumeric() || "-_./".contains(c)) {
            return Some((start, program));
        }
        from = start + PROGRAM_LEN;
    }
}

/// Whether a command of the program stands at the beginning of `text`, behind a blank, or behind a home.
fn is_command(program: Program, text: &str) -> bool {
    let text = text.trim_start();
    let word = text
        .strip_prefix("--home ")
        .map_or(text, behind_value)
        .split(|c: char| !c.is_alphanumeric() && c != '-')
        .next();
    word.is_some_and(|word| commands(program).contains(&word))
}

/// What stands behind the value at the beginning of `text`, which may have quotes around it.
fn behind_value(text: &str) -> &str {
    let mut is_quoted = false;
    let end = text.find(|c: char| {
        is_quoted ^= c == '\'';
        c == ' ' && !is_quoted
    });
    end.map_or("", |end| text[end..].trim_start())
}

fn ends_in_article(text: &str) -> bool {
    let last = text.split_whitespace().next_back();
    text.ends_with(char::is_whitespace) && last.is_some_and(|word| ARTICLES.contains(&word))
}

/// The name of the front program, with which those of the others begin.
const FRONT: &str = "sockseal";
/// The length of `server` and of `client`.
const PROGRAM_LEN: usize = 6;
const ARTICLES: [&str; 9] = ["the", "The", "a", "A", "this", "This", "that", "each", "its"];
const SERVER: &[&str] = &[
    "run",
    "pipe",
    "check",
    "reload",
    "status",
    "keygen",
    "fingerprint",
    "allow",
    "revoke",
    "list",
    "invite",
    "invites",
    "classic",
    "complete",
    "explain",
];
const CLIENT: &[&str] = &[
    "send",
    "pipe",
    "put",
    "get",
    "ls",
    "forward",
    "check",
    "ping",
    "status",
    "keygen",
    "fingerprint",
    "trust",
    "join",
    "classic",
    "complete",
    "doctor",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_program_tells_its_naming() {
        for (program, naming) in [
            ("client", Naming::Plain),
            ("/usr/local/bin/server", Naming::Plain),
            ("sockseal-client", Naming::Installed),
            ("/usr/bin/sockseal-server", Naming::Installed),
            ("./sockseal", Naming::Front),
            ("socksealed", Naming::Plain),
            ("", Naming::Plain),
        ] {
            assert_eq!(Naming::of(OsStr::new(program)), naming, "{program}");
        }
    }

    #[test]
    fn commands_are_shown_as_they_can_be_pasted() {
        let text = "client keygen makes a key; its owner lets it in with: server allow SHA256:... --name NAME (client fingerprint)";
        assert_eq!(
            Naming::Installed.show(text),
            "sockseal-client keygen makes a key; its owner lets it in with: sockseal-server allow SHA256:... --name NAME \
             (sockseal-client fingerprint)"
        );
        assert_eq!(Naming::Front.show("'client send ADDRESS -- -x'"), "'sockseal send ADDRESS -- -x'");
        assert_eq!(
            Naming::Front.show("server list; server pipe"),
            "sockseal server list; sockseal server pipe"
        );
        assert_eq!(
            Naming::Installed.show("server --home /var/lib/sockseal allow KEY; client --home '/a b' send A"),
            "sockseal-server --home /var/lib/sockseal allow KEY; sockseal-client --home '/a b' send A"
        );
        assert_eq!(Naming::Plain.show("client send"), "client send");
    }

    #[test]
    fn all_else_stays_as_it_is() {
        for text in [
            "is the server running, and listening there?",
            "the server list is long, and a client may send messages",
            "sockseal-client send",
            "my.server list",
            "/opt/client send",
            "the client's key; server 'run'",
            "client ",
            "",
            "server  ",
            "größerer server läuft",
            "server --home /srv",
            "server --home 'list it",
        ] {
            assert_eq!(Naming::Front.show(text), text);
        }
    }

    #[test]
    fn help_goes_by_the_naming_at_each_depth() {
        let command = Command::new("client")
            .about("as client send")
            .after_help("client ls A")
            .arg(Arg::new("x").long("x").help("server allow does").long_help("see client get"))
            .subcommand(Command::new("send").about("not client pipe").arg(Arg::new("y").help("client ping")));
        let mut command = Naming::Front.adapt(command, Program::Client);
        let help = command.render_long_help().to_string();
        assert!(help.contains("sockseal ls A") && help.contains("sockseal get"), "{help}");
        assert!(help.contains("Usage: sockseal [OPTIONS]"), "{help}");
        command.build();
        let help = command.find_subcommand_mut("send").unwrap().render_help().to_string();
        assert!(help.contains("not sockseal pipe") && help.contains("Usage: sockseal send [y]"), "{help}");
        assert!(help.contains("sockseal ping"), "{help}");
    }
}

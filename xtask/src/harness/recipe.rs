//! The recipes of the documentation, as scripts that do what they say.
//!
//! A fenced block begins with a comment that names the machine, as in `# at the gate`, or a file and the machine, as in
//! `# client.toml at the laptop`. What stands in a block of text right behind one of commands is what the last of them prints.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::harness::environment::Harness;
use crate::harness::missing::Missing;
use crate::harness::process::{Exit, Process};
use crate::workspace;

/// A recipe of `crates/sockseal/docs`.
pub(crate) struct Recipe {
    blocks: Vec<Block>,
}

enum Block {
    Commands { machine: String, lines: Vec<String> },
    File { name: String, machine: String, text: String },
    Printed(Vec<String>),
}

impl Recipe {
    pub(crate) fn read(name: &str) -> Result<Self> {
        let path = workspace::root()?.join("crates/sockseal/docs").join(name);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let mut blocks: Vec<Block> = Vec::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let Some(language) = line.strip_prefix("```") else { continue };
            let content: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
            let owned = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect();
            let title = content.first().and_then(|line| line.strip_prefix("# ")).unwrap_or_default();
            match (language, title.split_once("at the ")) {
                ("text", _) => {
                    if let Some(Block::Commands { .. }) = blocks.last() {
                        blocks.push(Block::Printed(owned(&content)));
                    }
                }
                ("sh", Some(("", machine))) => {
                    blocks.push(Block::Commands { machine: machine.into(), lines: owned(&content[1..]) });
                }
                (_, Some((name, machine))) if !name.is_empty() => {
                    let (name, machine) = (name.trim().to_owned(), machine.to_owned());
                    blocks.push(Block::File { name, machine, text: content.join("\n") });
                }
                _ => bail!("{}: a block of {language} does not say where it belongs", path.display()),
            }
        }
        Ok(Self { blocks })
    }

    /// Does it all on one machine that stands for all of those in the recipe, in namespaces of its own. The names in `hosts` lead
    /// to it, and `preparation` is what the recipe takes for granted.
    ///
    /// # Errors
    /// [`Missing`] where namespaces are not available, as in some containers.
    pub(crate) fn run(&self, harness: &Harness, hosts: &str, preparation: &str) -> Result<()> {
        let place = harness.home()?;
        fs::create_dir(place.file("bin"))?;
        for program in ["server", "client"] {
            let target = harness.program(program).get_program().to_owned();
            symlink(target, place.file(&format!("bin/sockseal-{program}")))?;
        }
        place.write("hosts", format!("127.0.0.1 localhost\n{hosts}"))?;
        let script = place.write("script", self.script(preparation))?;
        let user = if rustix::process::geteuid().is_root() { "--mount" } else { "--map-root-user" };
        let namespaces =
            [user, "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "bash"];
        let enter = |words: &[&Path]| {
            let mut command = harness.without_settings(Command::new("unshare"));
            command.args(namespaces).args(words);
            command
        };
        let tried = enter(&[Path::new("-c"), Path::new("ip link set lo up")]).output();
        match tried {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                return Err(Missing { tool: "network namespace", reason }.into());
            }
            Err(error) => return Err(Missing { tool: "unshare", reason: error.to_string() }.into()),
        }
        Process::start(enter(&[&script, place.path()]))?.finish()?.expect(Exit::Done)?;
        Ok(())
    }

    fn script(&self, preparation: &str) -> String {
        let mut script = format!("{PROLOGUE}\n{preparation}\n");
        let mut number = 0;
        for block in &self.blocks {
            match block {
                Block::Commands { machine, lines } => {
                    script.push_str(&format!("at {machine}\n"));
                    for line in lines {
                        number += 1;
                        let quoted = line.replace('\'', r"'\''");
                        script.push_str(&format!("echo '+ {quoted}'\n"));
                        script.push_str(&match Kind::of(line) {
                            Kind::Stays => {
                                format!(
                                    "{{ {line}\n}} > $PLACE/log-{number} 2>&1 &\nstands $PLACE/log-{number}\n"
                                )
                            }
                            Kind::Invites => format!("{{ {line}\n}} > $PLACE/line 2> $PLACE/out || failed\n"),
                            Kind::Joins => {
                                format!("{{ {line}\n}} < $PLACE/line > $PLACE/out 2>&1 || failed\n")
                            }
                            Kind::Ends => format!("{{ {line}\n}} > $PLACE/out 2>&1 || failed\n"),
                        });
                    }
                }
                Block::File { name, machine, text } => {
                    script.push_str(&format!(
                        "at {machine}\ncat > \"$(file {name})\" <<'END_OF_FILE'\n{text}\nEND_OF_FILE\n"
                    ));
                }
                Block::Printed(lines) => {
                    for line in lines {
                        let quoted = line.replace('\'', r"'\''");
                        script.push_str(&format!("grep -qF -- '{quoted}' $PLACE/out || failed\n"));
                    }
                }
            }
        }
        script
    }
}

/// What a command of a recipe does, for the script.
enum Kind {
    /// It runs until it is ended.
    Stays,
    /// It prints the line of an invite.
    Invites,
    /// It wants the line of an invite.
    Joins,
    /// It comes to its end.
    Ends,
}

impl Kind {
    fn of(line: &str) -> Self {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("sockseal-server"), None | Some("pipe" | "run")) => Self::Stays,
            (Some("sockseal-server"), Some(option)) if option.starts_with("--") => Self::Stays,
            (Some("sockseal-server"), Some("invite")) => Self::Invites,
            (Some("sockseal-client"), Some("join")) => Self::Joins,
            (Some("sockseal-client"), Some("forward")) if !line.contains(" -W ") => Self::Stays,
            _ => Self::Ends,
        }
    }
}

/// Each machine has a home, a configuration and a working directory of its own, and all have one network.
const PROLOGUE: &str = r#"set -euo pipefail
PLACE=$1
export PATH="$PLACE/bin:$PATH:/usr/sbin:/sbin"
ip link set lo up
mount --bind "$PLACE/hosts" /etc/hosts
mount -t tmpfs none /srv
at() {
    export HOME="$PLACE/$1" SOCKSEAL_HOME="$PLACE/$1/home" XDG_CONFIG_HOME="$PLACE/$1/config"
    mkdir -p "$HOME/work" "$XDG_CONFIG_HOME/sockseal"
    cd "$HOME/work"
}
file() {
    case $1 in
        server.toml | client.toml) echo "$XDG_CONFIG_HOME/sockseal/$1" ;;
        *) echo "$1" ;;
    esac
}
failed() {
    cat "$PLACE/out" >&2
    tail -n 5 "$PLACE"/log-* >&2 || true
    exit 1
}
until_true() {
    for _ in $(seq 1000); do
        if "$@" > /dev/null 2>&1; then return; fi
        sleep 0.03
    done
    echo "in vain: $*" >&2
    return 1
}
stands() { until_true grep -qE '^(listening on|connected)' "$1" || { cat "$1" >&2; exit 1; }; }
: > "$PLACE/out""#;

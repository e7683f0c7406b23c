//! Goal: shells complete names that only the programs know, next to commands and options, also where they have colons.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::dist::{Stamp, pages};
use crate::harness::{Harness, Tool, printed};
use crate::scenario::registration::scenarios;
use crate::workspace;

scenarios![bash_completes_names, zsh_completes_names, fish_completes_names];

/// What is typed, and what the shell makes of it or offers.
const TYPED: [(&str, &str); 6] = [
    ("sockseal-client send gate.ex", "gate.example:5000"),
    ("sockseal-client send gate.example:5", "gate.example:5000"),
    ("sockseal ping gate", "gate.example:5000"),
    ("sockseal-server allow --files ph", "photos"),
    ("sockseal server invite --service d", "db"),
    ("sockseal-server keyg", "keygen"),
];

/// Programs by the names that they are installed by, their scripts, and the configuration that names come from.
struct Shells {
    folder: tempfile::TempDir,
    pages: PathBuf,
}

impl Shells {
    fn new(harness: &Harness) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("completion-").tempdir()?;
        let bin = folder.path().join("bin");
        std::fs::create_dir_all(&bin)?;
        for (name, program) in [("sockseal-server", "server"), ("sockseal-client", "client")] {
            std::os::unix::fs::symlink(harness.program(program).get_program(), bin.join(name))?;
        }
        // The front looks beside itself, wherever a link leads.
        std::fs::copy(harness.program("sockseal").get_program(), bin.join("sockseal"))?;
        let configuration = folder.path().join("config/sockseal");
        std::fs::create_dir_all(&configuration)?;
        let server = "[[files]]\nname = 'photos'\ndir = '/srv'\n[[service]]\nname = 'db'\ntarget = 'a:1'\n";
        std::fs::write(configuration.join("server.toml"), server)?;
        let client = "[[forward]]\nserver = 'gate.example:5000'\nlocal = ['1234:a:1']\n";
        std::fs::write(configuration.join("client.toml"), client)?;
        let source = workspace::root()?;
        let pages = pages(&source, folder.path(), &Stamp::of(&source)?)?;
        Ok(Self { folder, pages })
    }

    fn command(&self, harness: &Harness, tool: &Tool) -> Result<Command> {
        let mut command = harness.without_settings(tool.command()?);
        let path = format!("{}:/usr/bin:/bin", self.folder.path().join("bin").display());
        command.env("PATH", path).env("XDG_CONFIG_HOME", self.folder.path().join("config"));
        command.env("HOME", self.folder.path()).env("TERM", "dumb").current_dir(self.folder.path());
        Ok(command)
    }

    fn script(&self, shell: &str, line: &str) -> Result<(String, PathBuf)> {
        let program = line.split(' ').next().context("a program")?.to_owned();
        let name = match shell {
            "fish" => format!("{program}.fish"),
            _ => program.clone(),
        };
        Ok((program, self.pages.join(shell).join(name)))
    }
}

fn bash_completes_names(harness: &Harness) -> Result<()> {
    let shells = Shells::new(harness)?;
    for (line, wanted) in TYPED {
        let (program, script) = shells.script("bash", line)?;
        // What bash's readline does, with its way to break words at colons.
        let ask = "source \"$1\"; COMP_LINE=$2; COMP_POINT=${#2}; read -ra COMP_WORDS <<<\"${2//:/ : }\"; \
                   COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); function=$(complete -p \"$3\"); function=${function#*-F }; \
                   ${function%% *} \"$3\" \"${COMP_WORDS[-1]}\" \"${COMP_WORDS[-2]}\"; printf '%s\\n' \"${COMPREPLY[@]}\"";
        let mut bash = shells.command(harness, &Tool::BASH)?;
        bash.args(["--norc", "-c", ask, "bash"]).arg(&script).args([line, &program]);
        let offered = printed(&mut bash)?;
        // Up to the last colon the word is the shell's already.
        let typed = line.rsplit(' ').next().unwrap_or_default();
        let kept = typed.rfind(':').map_or(0, |colon| colon + 1);
        let wanted = &wanted[kept..];
        ensure!(offered.lines().any(|offer| offer == wanted), "{line:?}: {wanted} is not in {offered:?}");
    }
    Ok(())
}

fn fish_completes_names(harness: &Harness) -> Result<()> {
    let shells = Shells::new(harness)?;
    for (line, wanted) in TYPED {
        let (_, script) = shells.script("fish", line)?;
        let mut fish = shells.command(harness, &Tool::FISH)?;
        let ask = format!("source {}; complete -C {line:?}", script.display());
        let offered = printed(fish.args(["--no-config", "-c", &ask]))?;
        // A description follows behind a tab.
        let is_offered = offered.lines().any(|offer| offer.split('\t').next() == Some(wanted));
        ensure!(is_offered, "{line:?}: {wanted} is not in {offered:?}");
    }
    Ok(())
}

/// A zsh with a terminal, at which Tab is pressed.
fn zsh_completes_names(harness: &Harness) -> Result<()> {
    let shells = Shells::new(harness)?;
    let driver = shells.folder.path().join("driver.zsh");
    std::fs::write(&driver, ZSH)?;
    for (line, wanted) in TYPED {
        let mut zsh = shells.command(harness, &Tool::ZSH)?;
        zsh.args([Path::new("-f"), &driver, &shells.pages.join("zsh")]).arg(line);
        let made = printed(&mut zsh)?;
        // The word is completed, and a blank follows; the terminal may show a backslash before the colon.
        let made = made.replace('\\', "");
        let head = line.rsplit_once(' ').map_or("", |(head, _)| head);
        ensure!(made.contains(&format!("{head} {wanted}")), "{line:?} becomes {made:?}");
    }
    Ok(())
}

const ZSH: &str = r#"
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "PROMPT=; RPROMPT=; unsetopt zle_bracketed_paste 2>/dev/null; zstyle ':completion:*' list-prompt ''"
zpty -w shell "fpath=(${(q)1} \$fpath); autoload -Uz compinit; compinit -u -D; print rea''dy"
zpty -r -m shell seen '*ready*'
# Ctrl-X shows the line as it is then.
zpty -w shell "show() { print -r -- \"made:[\$BUFFER]\" }; zle -N show; bindkey '^X' show; print se''t"
zpty -r -m shell seen '*set*'
zpty -w -n shell "$2"$'\t'
sleep 1
zpty -w -n shell $'\x18'
zpty -r -m shell seen '*made:\[*\]*'
print -r -- "${seen##*made:}"
zpty -d shell
"#;

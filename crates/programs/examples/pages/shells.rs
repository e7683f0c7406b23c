//! Completions of three shells: commands and options as clap_complete writes them, and values that the program is asked for.

use std::error::Error;
use std::fs;
use std::path::Path;

use clap::Command;
use clap_complete::{Shell, generate};

/// Writes the scripts of a program.
pub(crate) fn write(command: Command, folder: &Path) -> Result<(), Box<dyn Error>> {
    let name = command.get_name().to_owned();
    let script = |shell| {
        let mut script = Vec::new();
        generate(shell, &mut command.clone(), &name, &mut script);
        String::from_utf8(script)
    };
    let function = format!("_{}", name.replace('-', "_"));
    let generated = format!("_{}", name.replace('-', "__"));
    let in_place = |template: &str| {
        template.replace("PROGRAM", &name).replace("FUNCTION", &function).replace("GENERATED", &generated)
    };
    let bash = script(Shell::Bash)? + &in_place(BASH);
    fs::write(folder.join("bash").join(&name), bash)?;
    // Behind an option that takes a value fish offers what the option's own line says, and nothing else.
    let values = format!(" -r -a '(_{function}_values)'\n");
    let fish = script(Shell::Fish)?.replace(" -r\n", &values) + &in_place(FISH);
    fs::write(folder.join("fish").join(format!("{name}.fish")), fish)?;
    // The end of clap's script runs its own function where the file is that function, as autoload has it.
    let zsh = script(Shell::Zsh)?;
    let (functions, _) =
        zsh.rsplit_once("\nif [ \"$funcstack[1]\"").ok_or("zsh: an end that is not known")?;
    fs::write(folder.join("zsh").join(format!("_{name}")), format!("{functions}\n{}", in_place(ZSH)))?;
    Ok(())
}

/// Bash breaks words at colons, which are in addresses: the words are taken from the line, and what stands up to the last colon
/// of the current one is taken off again.
const BASH: &str = r#"
FUNCTION_values() {
    local line="${COMP_LINE:0:COMP_POINT}" words current value
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    mapfile -t COMPREPLY < <("${words[0]}" complete -- "${words[@]:1}" 2>/dev/null)
    if ((${#COMPREPLY[@]} == 0)); then
        GENERATED "$@"
        return
    fi
    current="${words[-1]}"
    if [[ $current == *:* && $COMP_WORDBREAKS == *:* ]]; then
        current="${current%"${current##*:}"}"
        COMPREPLY=("${COMPREPLY[@]#"$current"}")
    fi
}

complete -F FUNCTION_values -o nosort -o bashdefault -o default PROGRAM
"#;

const FISH: &str = r#"
function _FUNCTION_values
    set -l words (commandline -opc) (commandline -ct)
    $words[1] complete -- $words[2..] 2>/dev/null
end
complete -c PROGRAM -a '(_FUNCTION_values)'
"#;

const ZSH: &str = r#"
FUNCTION_values() {
    local -a values
    values=("${(@f)$(${words[1]} complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "${values[1]}" ]]; then
        compadd -a values
    else
        _PROGRAM "$@"
    fi
}

if [ "$funcstack[1]" = "_PROGRAM" ]; then
    FUNCTION_values "$@"
    compdef FUNCTION_values PROGRAM
else
    compdef FUNCTION_values PROGRAM
fi
"#;

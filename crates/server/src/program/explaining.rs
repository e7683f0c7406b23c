//! The command `server explain`.

use crate::cli::Explain;
use crate::error::Error;
use crate::explain::{Decision, Explanation};
use cli_support::home::Home;
use cli_support::invocation::Naming;
use cli_support::output;

/// Prints the decision on a client, and what is behind it.
///
/// # Errors
/// Those of [`Explanation::find`]; [`Error::Explained`] where the client does not get what it wants.
pub(super) fn explain(home: &Home, options: &Explain) -> Result<(), Error> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    let found = runtime.block_on(Explanation::find(home, options));
    // A lookup that nobody answers does not hold up the end.
    runtime.shutdown_background();
    let mut explanation = found?;
    let shown = |text: String| Naming::of_process().show(&text).into_owned();
    explanation.notes = explanation.notes.into_iter().map(shown).collect();
    explanation.remedy = explanation.remedy.map(shown);
    if options.json {
        output::print_json(&explanation)?;
    } else {
        lines(&explanation).into_iter().try_for_each(output::print)?;
    }
    match explanation.decision {
        Decision::Allowed => Ok(()),
        Decision::Refused | Decision::NotOffered => {
            Err(Error::Explained { client: explanation.client, wanted: explanation.wanted })
        }
    }
}

fn lines(explanation: &Explanation) -> Vec<String> {
    let Explanation { client, credential, wanted, decision, reason, .. } = explanation;
    let word = |decision| match decision {
        Decision::Allowed => "allowed",
        Decision::Refused => "refused",
        Decision::NotOffered => "not offered",
    };
    let mut lines = vec![format!("{client}: {wanted}: {}", word(*decision))];
    let mut line = |name: &str, text: &str| lines.push(format!("  {name:<8} {text}"));
    if let Some(credential) = credential.as_ref().filter(|credential| *credential != client) {
        line("key", credential);
    }
    if let Some(reason) = reason {
        line("reason", reason);
    }
    for rule in &explanation.rules {
        line("rule", rule);
    }
    for at in &explanation.addresses {
        let reason = at.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        line("address", &format!("{} {}{reason}", at.address, word(at.decision)));
    }
    if let Some(from) = &explanation.from {
        line("from", &if from.is_empty() { "nowhere".to_owned() } else { from.join(" ") });
    }
    if let Some(expires) = &explanation.expires {
        line("until", expires);
    }
    for note in &explanation.notes {
        line("note", note);
    }
    if let Some(remedy) = &explanation.remedy {
        line("try", remedy);
    }
    lines
}

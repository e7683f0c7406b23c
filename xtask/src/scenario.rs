//! Scenarios: tests of the whole programs, on ports that the system picks, each for one goal.

mod access;
mod accounts;
mod audit;
mod big;
mod classic;
mod clock;
mod completion;
mod crowd;
mod cut;
mod detach;
mod doctor;
mod drain;
mod explain;
mod fail2ban;
mod fault;
mod file;
mod files;
mod files_faults;
mod files_output;
mod files_resume;
mod files_rights;
mod files_share;
mod half_close;
mod hostile;
mod impostor;
mod invites;
mod invites_command;
mod invites_faults;
mod json_contract;
mod key_files;
mod listener;
mod log_format;
mod memory;
mod message;
mod metrics;
mod names;
mod outage;
mod package;
mod ping;
mod pipe;
mod policy;
mod pool;
mod proxy;
mod psk;
mod python;
mod real;
mod recipes;
mod registration;
mod reload;
mod resumable;
mod resumable_ends;
mod resumable_network;
mod resumable_reverse;
mod resumable_stdio;
mod resumption;
mod reverse;
mod rights;
mod second;
mod second_doctor;
mod second_files;
mod second_invites;
mod second_streams;
mod second_streams_server;
mod secret;
mod server_names;
mod service_units;
mod socks;
mod status_browser;
mod status_page;
mod terminal;
mod trust;
mod tunnel;
mod udp;

use std::sync::Arc;

use anyhow::{Context as _, Result};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::flags::TestFlags;
use crate::harness::{self, Harness, Missing};
use crate::scenario::registration::Scenario;
use crate::test::tally::Tally;
use crate::workspace;

pub(crate) fn run(flags: &TestFlags) -> Result<Tally> {
    harness::raise_descriptor_limit();
    let programs = match &flags.programs {
        Some(folder) => {
            folder.canonicalize().with_context(|| format!("{} is not a folder", folder.display()))?
        }
        None => workspace::build_programs()?,
    };
    let harness = Arc::new(Harness::new(programs)?);
    let arguments =
        Arguments { filter: flags.filter.clone(), test_threads: Some(AT_ONCE), ..Arguments::default() };
    let trials = chosen(flags).into_iter().map(|scenario| trial(scenario, Arc::clone(&harness))).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    Ok(Tally {
        passed: conclusion.num_passed,
        failed: conclusion.num_failed,
        skipped: conclusion.num_ignored,
    })
}

pub(crate) fn list(flags: &TestFlags) {
    for scenario in chosen(flags) {
        println!("{}", short(scenario.name));
    }
}

fn chosen(flags: &TestFlags) -> Vec<Scenario> {
    let modules = [
        hostile::SCENARIOS,
        fail2ban::SCENARIOS,
        log_format::SCENARIOS,
        audit::SCENARIOS,
        json_contract::SCENARIOS,
        detach::SCENARIOS,
        impostor::SCENARIOS,
        listener::SCENARIOS,
        message::SCENARIOS,
        metrics::SCENARIOS,
        trust::SCENARIOS,
        terminal::SCENARIOS,
        access::SCENARIOS,
        accounts::SCENARIOS,
        invites::SCENARIOS,
        invites_command::SCENARIOS,
        psk::SCENARIOS,
        resumption::SCENARIOS,
        ping::SCENARIOS,
        pipe::SCENARIOS,
        cut::SCENARIOS,
        file::SCENARIOS,
        files::SCENARIOS,
        files_output::SCENARIOS,
        files_resume::SCENARIOS,
        files_rights::SCENARIOS,
        secret::SCENARIOS,
        server_names::SCENARIOS,
        classic::SCENARIOS,
        python::SCENARIOS,
        key_files::SCENARIOS,
        second::SCENARIOS,
        second_files::SCENARIOS,
        second_invites::SCENARIOS,
        second_doctor::SCENARIOS,
        second_streams::SCENARIOS,
        second_streams_server::SCENARIOS,
        tunnel::SCENARIOS,
        reverse::SCENARIOS,
        socks::SCENARIOS,
        udp::SCENARIOS,
        rights::SCENARIOS,
        policy::SCENARIOS,
        explain::SCENARIOS,
        doctor::SCENARIOS,
        names::SCENARIOS,
        proxy::SCENARIOS,
        pool::SCENARIOS,
        half_close::SCENARIOS,
        outage::SCENARIOS,
        resumable::SCENARIOS,
        resumable_ends::SCENARIOS,
        resumable_network::SCENARIOS,
        resumable_reverse::SCENARIOS,
        resumable_stdio::SCENARIOS,
        drain::SCENARIOS,
        status_page::SCENARIOS,
        status_browser::SCENARIOS,
        reload::SCENARIOS,
        service_units::SCENARIOS,
        completion::SCENARIOS,
        package::SCENARIOS,
        fault::SCENARIOS,
        files_faults::SCENARIOS,
        invites_faults::SCENARIOS,
        crowd::SCENARIOS,
        memory::SCENARIOS,
        clock::SCENARIOS,
        real::SCENARIOS,
        recipes::SCENARIOS,
    ];
    let mut chosen = modules.concat();
    if flags.big {
        chosen.extend_from_slice(big::SCENARIOS);
    }
    chosen
}

fn trial(scenario: Scenario, harness: Arc<Harness>) -> Trial {
    Trial::ignorable_test(short(scenario.name), move || match (scenario.run)(&harness) {
        Ok(()) => Ok(Completion::Completed),
        Err(error) => match error.downcast_ref::<Missing>() {
            Some(missing) if !workspace::in_ci() => Ok(Completion::ignored_with(missing)),
            _ => Err(Failed::from(format!("{error:#}"))),
        },
    })
}

/// Shortens a scenario's name, such as `xtask::scenario::message::hello` to `message::hello`.
fn short(name: &'static str) -> &'static str {
    name.trim_start_matches("xtask::scenario::")
}

/// Number of scenarios at the same time, which is small since each of them runs two or three programs.
const AT_ONCE: usize = 2;

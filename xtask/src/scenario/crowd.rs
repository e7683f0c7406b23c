//! Goal: more than a server can take at once is taken one after the other, and being full is not being broken.

use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::scenario::scenarios;
use crate::scenario::tunnel::{local, works_again};
use crate::stage::{PATIENCE, Port, Site, Stage, Target, Tool, Visitor, dial, echoed, until};

scenarios![
    two_thousand_connections_against_a_limit_of_five_hundred,
    descriptors_that_run_out_come_back,
    clients_descriptors_that_run_out_come_back,
    visitors_of_leases_leave_descriptors_for_commands,
];

/// All at once, and each held until its answer is there. The limit is in the server's file.
fn two_thousand_connections_against_a_limit_of_five_hundred(stage: &Stage) -> Result<()> {
    let target = Target::echo()?;
    let site = Site::with_config(stage, &["--tcp", &target.address()], "max_channels = 500\n")?;
    let forward = site.forward(&["--wait", "55s", "-L", &local(&target)])?;
    let address = forward.local(0)?;
    works_again(&address)?;
    let before = (site.at_rest()?, forward.at_rest()?);
    let open = Arc::new(AtomicUsize::new(0));
    let barrier = Arc::new(Barrier::new(CROWD));
    let started = Instant::now();
    let visitors: Vec<_> = (0..CROWD)
        .map(|number| {
            let (address, barrier, open) = (address.clone(), Arc::clone(&barrier), Arc::clone(&open));
            // They need little, and two thousand of them much.
            let builder = thread::Builder::new().stack_size(128 * 1024);
            builder.spawn(move || -> Result<()> {
                barrier.wait();
                let mut stream = until(PATIENCE, "the listener's queue", || dial(&address))?;
                open.fetch_add(1, Ordering::SeqCst);
                echoed(&mut stream, format!("number {number}").as_bytes())
                    .with_context(|| format!("connection {number}"))
            })
        })
        .collect::<std::io::Result<_>>()?;
    let mut most = 0;
    while visitors.iter().any(|visitor| !visitor.is_finished()) && started.elapsed() < 2 * PATIENCE {
        most = most.max(site.vitals()?.channels);
        thread::sleep(Duration::from_millis(100));
    }
    let mut failed = Vec::new();
    for visitor in visitors {
        failed.extend(visitor.join().map_err(|_| anyhow!("a visitor panicked"))?.err());
    }
    if let Some(first) = failed.first() {
        return Err(anyhow!("{} of {CROWD} connections were not served; the first: {first:#}", failed.len()));
    }
    ensure!(most <= 500, "{most} channels at once");
    target.is_left_alone()?;
    site.expect_again(&before.0)?;
    forward.expect_again(&before.1)
}

/// A server with room for 64 descriptors: it is filled from outside until it can accept no more, and goes on after.
fn descriptors_that_run_out_come_back(stage: &Stage) -> Result<()> {
    let prlimit = Tool::PRLIMIT.find()?.display().to_string();
    let target = Target::echo()?;
    let rights = ["--tcp", &target.address(), "--listen", "*"];
    let site = Site::wrapped(stage, &rights, &[], &[&prlimit, "--nofile=64:64"])?;
    let forward = site.forward(&["-L", &local(&target)])?;
    works_again(&forward.local(0)?)?;
    let before = site.at_rest()?;
    for round in 0..2 {
        let visitors: Vec<_> = (0..120).filter_map(|_| Visitor::connect(&site.address()).ok()).collect();
        let mut streams = Vec::new();
        for _ in 0..60 {
            let mut stream = forward.dial()?;
            // It may be turned away already.
            stream.write_all(b"anybody there?").ok();
            streams.push(stream);
        }
        ensure!(visitors.len() + streams.len() > 64, "too few to fill it");
        drop(visitors);
        drop(streams);
        works_again(&forward.local(0)?).with_context(|| format!("round {round}"))?;
    }
    target.is_left_alone()?;
    site.expect_again(&before)
}

fn clients_descriptors_that_run_out_come_back(stage: &Stage) -> Result<()> {
    let prlimit = Tool::PRLIMIT.find()?.display().to_string();
    let target = Target::echo()?;
    let site = Site::open(stage, &["--tcp", &target.address(), "--listen", "*"])?;
    let port = Port::hold()?;
    let reverse = format!("{}:{}", port.number(), target.address());
    let wrapper = [prlimit, "--nofile=64:64".to_owned()];
    let arguments = ["-L", &local(&target), "-R", &reverse];
    let forward = crate::stage::Forward::wrapped(
        stage,
        site.alice(),
        &site.address(),
        site.key(),
        &arguments,
        &wrapper,
    )?;
    forward.remote(0)?;
    let here = forward.local(0)?;
    works_again(&here)?;
    for round in 0..2 {
        let mut streams = Vec::new();
        for address in [&here, &port.address()] {
            for _ in 0..80 {
                let mut stream = dial(address)?;
                stream.write_all(b"anybody there?").ok();
                streams.push(stream);
            }
        }
        let mut some = [0; 8];
        streams[0].read_exact(&mut some).with_context(|| format!("the first one, round {round}"))?;
        drop(streams);
        works_again(&here).with_context(|| format!("round {round}"))?;
        works_again(&port.address()).with_context(|| format!("reverse, round {round}"))?;
    }
    target.is_left_alone()
}

/// More visitors who say nothing than the server has descriptors, at proxies that it opens for a client.
fn visitors_of_leases_leave_descriptors_for_commands(stage: &Stage) -> Result<()> {
    let prlimit = Tool::PRLIMIT.find()?.display().to_string();
    let rights = ["--listen", "*"];
    let site = Site::wrapped(stage, &rights, &[], &[&prlimit, "--nofile=1024:1024"])?;
    let forward = site.forward(&["-R", "0"].repeat(LEASES))?;
    let addresses = (0..LEASES).map(|index| forward.remote(index)).collect::<Result<Vec<_>>>()?;
    let mut visitors = Vec::new();
    for _ in 0..1_200 / LEASES {
        for address in &addresses {
            visitors.push(dial(address)?);
        }
    }
    let vitals = site.vitals()?;
    ensure!(vitals.channels >= u64::try_from(LEASES)?, "{} channels", vitals.channels);
    let log = site.server()?.process.stderr.text();
    ensure!(!log.contains("cannot accept"), "descriptors have run out:\n{log}");
    Ok(())
}

const LEASES: usize = 10;
const CROWD: usize = 2_000;

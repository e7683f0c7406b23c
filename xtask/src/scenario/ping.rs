//! Goal: `client ping` reports what was negotiated and how long it took, for people and for programs.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::harness::{Exit, Harness, Key, Server, ping, shared_key, word};
use crate::scenario::registration::scenarios;

scenarios![
    json_tells_what_was_negotiated,
    count_is_the_number_of_round_trips,
    person_reads_it_too,
    client_key_is_named_when_there_is_one,
    shared_key_is_not_called_rsa,
];

fn json_tells_what_was_negotiated(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let report = ping(harness, &harness.home()?, server.address(), &["--server-key", server.key()?])?;
    ensure!(report["address"] == server.address(), "{report}");
    ensure!(report["mode"] == "rsa" && report["suite"] == "0x0001", "{report}");
    ensure!(report["server_key"] == server.key()? && report["client_key"].is_null(), "{report}");
    ensure!(report["handshake_ms"].as_f64().is_some_and(|time| time > 0.0), "{report}");
    let round_trips = report["rtt_ms"].as_array().context("no rtt_ms")?;
    ensure!(round_trips.len() == 1 && round_trips.iter().all(Value::is_number), "{report}");
    Ok(())
}

fn count_is_the_number_of_round_trips(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    for (count, expected) in [(&[][..], 3), (&["-c", "5"], 5)] {
        let arguments =
            [&["ping", server.address(), "--json", "--server-key", server.key()?], count].concat();
        let outcome = harness.client(&harness.home()?, &arguments).run()?.expect(Exit::Done)?;
        let report: Value = serde_json::from_slice(&outcome.stdout)?;
        let round_trips = report["rtt_ms"].as_array().context("no rtt_ms")?.len();
        ensure!(round_trips == expected, "{round_trips} round trips, expected {expected}");
    }
    Ok(())
}

fn person_reads_it_too(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let arguments = ["ping", server.address(), "--server-key", server.key()?];
    let text = harness.client(&harness.home()?, &arguments).run()?.expect(Exit::Done)?.text();
    ensure!(text.contains("ms") && text.contains(server.key()?), "ping printed {text:?}");
    Ok(())
}

fn client_key_is_named_when_there_is_one(harness: &Harness) -> Result<()> {
    let server = Server::start(harness, &harness.home_with(Key::Server)?, &[])?;
    let alice = harness.home_with(Key::Alice)?;
    let report = ping(harness, &alice, server.address(), &["--server-key", server.key()?])?;
    ensure!(report["client_key"] == harness.fingerprint("client", &alice)?.as_str(), "{report}");
    Ok(())
}

fn shared_key_is_not_called_rsa(harness: &Harness) -> Result<()> {
    let home = harness.home()?;
    let file = shared_key(harness, &home, "laptop")?;
    let server = Server::start(harness, &home, &["--psk", word(&file)?])?;
    let arguments = ["ping", server.address(), "--psk", word(&file)?];
    let text = harness.client(&harness.home()?, &arguments).run()?.expect(Exit::Done)?.text();
    ensure!(text.contains("psk:laptop") && text.contains("pre-shared key"), "ping printed {text:?}");
    ensure!(!text.contains("RSA") && !text.contains("server key"), "ping speaks of RSA: {text:?}");
    Ok(())
}

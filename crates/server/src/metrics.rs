//! The metrics of a running server. Everything is read when they are asked for, and nothing is kept for them but counts.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use cli_support::metrics::{FamilyWriter, ProgramLabel, write_process, write_resumptions};
use cli_support::status_server::MetricsFormat;
use cli_support::{metrics, output};
use jiff::Timestamp;
use prometheus_client::registry::Unit;
use tokio::time::Instant;

use crate::access::{InviteStanding, Snapshot};
use crate::server::Server;

/// Writes the metrics of `server`.
pub(crate) fn write(server: &Arc<Server>, format: MetricsFormat) -> String {
    // What is open has moved something since the last time.
    server.open.settle();
    let server = Arc::clone(server);
    metrics::write(format, move |families| {
        write_process(families, ProgramLabel::Server, server.started)?;
        write_program(&server, families)?;
        write_connections(&server, families)?;
        write_admission(&server, families)?;
        write_streams(&server, families)?;
        write_files(&server, families)?;
        write_invites(&server, families)
    })
}

fn write_program(server: &Server, families: &mut FamilyWriter<'_>) -> fmt::Result {
    let counters = &server.counters;
    let age = server.key_written_at.and_then(|at| SystemTime::now().duration_since(at).ok());
    if let Some(age) = age {
        let help = "Time since the file of the server's key was written.";
        families.gauge("sockseal_server_key_age", help, Some(&Unit::Seconds), age.as_secs_f64())?;
    }
    let tasks = server.runtime.metrics().num_alive_tasks();
    families.gauge("sockseal_runtime_tasks", "Tasks of the asynchronous runtime.", None, tasks)?;
    families.gauge(
        "sockseal_draining",
        "Whether the server takes no new streams any more: 1 if so.",
        None,
        u64::from(server.stopping.is_cancelled()),
    )?;
    families.counters(
        "sockseal_config_reloads",
        "Times that the configuration was read again.",
        None,
        &counters.reloads,
    )?;
    if let Some(at) = counters.reloaded_at() {
        let help = "When the configuration was last applied, since the Unix epoch.";
        families.gauge("sockseal_config_last_reload_timestamp", help, Some(&Unit::Seconds), at)?;
    }
    let help = "Log lines that were left out since there were too many of their kind, as of the last report.";
    families.total("sockseal_log_lines_suppressed", help, None, server.log_limits.suppressed())?;
    let help = "Lines of log and output that were lost since nobody read them in time.";
    families.total("sockseal_log_lines_lost", help, None, output::lost_lines())
}

fn write_connections(server: &Server, families: &mut FamilyWriter<'_>) -> fmt::Result {
    let counters = &server.counters;
    families.counters(
        "sockseal_connections_accepted",
        "Connections that were accepted.",
        None,
        &counters.accepted,
    )?;
    let help = "Times that the system gave no connection, as for want of descriptors.";
    families.counters("sockseal_connections_accept_errors", help, None, &counters.not_accepted)?;
    let help = "Connections that got no handshake.";
    families.counters("sockseal_connections_turned_away", help, None, &counters.turned_away)?;
    let help = "Connections whose handshake has let nobody in.";
    families.counters("sockseal_connections_failed", help, None, &counters.failed)?;
    let help = "How long handshakes took that have let a client in.";
    families.durations("sockseal_handshake_duration", help, &counters.handshakes)?;
    families.gauge(
        "sockseal_channels_open",
        "Channels of clients that are in.",
        None,
        server.limits.channels(),
    )?;
    let help = "Tickets that clients got for their next connection.";
    families.counters("sockseal_tickets_issued", help, None, &counters.tickets_issued)?;
    let help = "Tickets that were of no use, so that a full handshake followed.";
    families.counters("sockseal_tickets_rejected", help, None, &server.admission.counts().tickets_refused)
}

fn write_admission(server: &Server, families: &mut FamilyWriter<'_>) -> fmt::Result {
    let (admission, counts) = (&server.admission, server.admission.counts());
    let help = "Handshakes that are in progress.";
    families.gauge("sockseal_handshakes_in_progress", help, None, admission.handshakes())?;
    let help = "RSA operations that wait for a thread.";
    families.gauge("sockseal_rsa_queue_length", help, None, admission.waiting())?;
    families.durations(
        "sockseal_rsa_queue_wait",
        "How long RSA operations have waited.",
        &counts.rsa_wait,
    )?;
    let help = "RSA operations that were given up for want of time or room.";
    families.counters("sockseal_rsa_queue_dropped", help, None, &counts.rsa_dropped)?;
    let help = "Garbage and failed proofs that were charged to a source.";
    families.counters("sockseal_penalties", help, None, &counts.charged)?;
    families.counters("sockseal_bans", "Times that a source was banned.", None, &counts.banned)?;
    let banned = admission.banned(Instant::now());
    families.gauge("sockseal_sources_banned", "Sources that are banned now.", None, banned)
}

fn write_streams(server: &Server, families: &mut FamilyWriter<'_>) -> fmt::Result {
    let counters = &server.counters;
    counters.streams.write(families)?;
    let bytes = Some(&Unit::Bytes);
    let help = "Bytes of streams that have come from clients.";
    families.counters("sockseal_stream_received", help, bytes, &counters.received)?;
    let help = "Bytes of streams that have gone to clients.";
    families.counters("sockseal_stream_sent", help, bytes, &counters.sent)?;
    families.counters("sockseal_datagrams", "Datagrams that were carried.", None, &counters.datagrams)?;
    let help = "Datagrams that were dropped.";
    families.total("sockseal_datagrams_dropped", help, None, server.drops.count())?;
    write_resumptions(families, &server.resumption())?;
    let help = "Streams that were lost while they waited for their client.";
    families.counters("sockseal_streams_lost", help, None, &counters.resumption.lost)?;
    let help = "How long it took to reach the target of a connection.";
    families.durations("sockseal_dial_duration", help, &counters.dialed)?;
    let help = "Targets that could not be reached.";
    families.counters("sockseal_dial_failures", help, None, &counters.not_dialed)?;
    let help = "Addresses that the server listens on for clients.";
    families.gauge("sockseal_leases", help, None, server.handlers.leases())
}

fn write_files(server: &Server, families: &mut FamilyWriter<'_>) -> fmt::Result {
    let counters = &server.counters;
    families.counters(
        "sockseal_files_moved",
        "Entries that were moved or made.",
        None,
        &counters.files_moved,
    )?;
    let help = "Entries that were there already.";
    families.counters("sockseal_files_unchanged", help, None, &counters.files_unchanged)?;
    families.counters("sockseal_files_failed", "Entries that have failed.", None, &counters.files_failed)?;
    let help = "Content of files that was moved.";
    families.counters("sockseal_files_content", help, Some(&Unit::Bytes), &counters.file_bytes)?;
    let quotas = server.handlers.share_quotas(&server.config().files);
    let share = |name: &String| vec![("share", name.clone())];
    let used = quotas.iter().filter_map(|(name, used, _)| Some((share(name), (*used)?)));
    let help = "What the entries of a share with a quota count for, as far as is known.";
    families.gauges("sockseal_share_used", help, Some(&Unit::Bytes), used)?;
    let most = quotas.iter().map(|(name, _, most)| (share(name), *most));
    let help = "The most that the entries of a share may count for.";
    families.gauges("sockseal_share_quota", help, Some(&Unit::Bytes), most)
}

fn write_invites(server: &Server, families: &mut FamilyWriter<'_>) -> fmt::Result {
    let counters = &server.counters;
    if let Snapshot::Known(access) = server.access.look() {
        let clients = access.map_or(0, |access| access.grants().count());
        families.gauge("sockseal_clients_allowed", "Clients that were allowed.", None, clients)?;
    }
    // A file that cannot be read is in the log already.
    if let Ok(invites) = server.access.file().invites().read() {
        let now = Timestamp::now();
        families.gauges_by("sockseal_invites", "Invites, by what has become of them.", |standing| {
            invites
                .standings(now)
                .filter(|other: &InviteStanding| *other == standing)
                .count()
                .try_into()
                .unwrap_or(u64::MAX)
        })?;
    }
    families.counters(
        "sockseal_invites_used",
        "Clients that were let in by an invite.",
        None,
        &counters.invites_used,
    )?;
    let help = "Attempts to use an invite that were refused.";
    families.counters("sockseal_invites_refused", help, None, &counters.invites_refused)
}

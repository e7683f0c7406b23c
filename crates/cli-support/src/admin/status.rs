//! The status of a running program: one line of JSON, which `status --json` prints and the status page asks for, and a form
//! for people.
//!
//! [`SCHEMA`] is the version of the JSON form. Members are added under the same version; one that changes its meaning, or goes,
//! makes another. Those that a program has nothing to say about are absent. Times are as in RFC 3339, in UTC, and sizes are in bytes.

use std::fmt;
use std::time::{Duration, Instant};

use jiff::fmt::friendly::SpanPrinter;
use serde::{Deserialize, Serialize};
use tunnel::escape::{Escaped, escape_json};

use super::status_parts::{
    ClientIn, Counts, ForwardState, IdentityState, InviteCounts, InviteTried, LeaseHeld, Open, Protection,
    Refused, ResumptionState, ServerState, TrafficState,
};
use crate::output::machine;

/// The version of the JSON form of a [`Status`], which is that of all objects that the programs print.
pub const SCHEMA: u32 = machine::SCHEMA;

/// The status of a running program.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The version of this form, [`SCHEMA`].
    #[serde(default)]
    pub schema: u32,
    /// `server` or `client`.
    pub program: String,
    /// The version of the program.
    pub version: String,
    /// The process id.
    pub pid: u32,
    /// Seconds since the program started.
    pub uptime_seconds: u64,
    /// Number of tasks of the async runtime.
    pub tasks: usize,
    /// Whether the program takes no new streams any more, since it was told to end.
    #[serde(default)]
    pub draining: bool,
    /// Numbers of open channels, streams and the like.
    #[serde(flatten)]
    pub counts: Counts,
    /// What streams have carried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<TrafficState>,
    /// How it is with streams that outlive their channels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumption: Option<ResumptionState>,
    /// A server: how it proves itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityState>,
    /// A server: the addresses that it listens on, as they were given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listening: Vec<String>,
    /// A server: who is in, those with most streams first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<ClientIn>,
    /// Number of clients that `clients` leaves out.
    #[serde(default)]
    pub clients_left_out: usize,
    /// The open streams by client and target, those with most bytes first.
    #[serde(default)]
    pub open: Vec<Open>,
    /// Number of pairs of client and target that `open` leaves out.
    #[serde(default)]
    pub open_left_out: usize,
    /// What was refused, or has failed, since the program started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refused>,
    /// A server: how its invites stand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invites: Option<InviteCounts>,
    /// Attempts to use an invite that another key has used: somebody else has its line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub invites_tried: Vec<InviteTried>,
    /// A server: the addresses that it listens on for clients, as many as fit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leased: Vec<LeaseHeld>,
    /// How the process is protected, as the system says now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub protection: Vec<Protection>,
    /// A client: the servers that it forwards through.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<ServerState>,
    /// A client: its forwards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forwards: Vec<ForwardState>,
}

impl Status {
    /// Builds the status of the calling process, which has run since `started` with so many `tasks`.
    #[must_use]
    pub fn of_this_process(program: &str, started: Instant, tasks: usize, counts: Counts) -> Self {
        Self {
            schema: SCHEMA,
            program: program.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            uptime_seconds: started.elapsed().as_secs(),
            tasks,
            counts,
            ..Self::default()
        }
    }

    /// Encodes the status as one line of JSON, without its end.
    ///
    /// # Panics
    /// Never: names and numbers can always be encoded.
    #[must_use]
    pub fn to_json(&self) -> String {
        escape_json(&serde_json::to_string(self).expect("names and numbers can be written as JSON"))
    }
}

/// One line for each figure, with the figures aligned, and no line end after the last.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uptime = Duration::from_secs(self.uptime_seconds);
        writeln!(f, "program   {} {}", Escaped(&self.program), Escaped(&self.version))?;
        writeln!(f, "process   {}", self.pid)?;
        let draining = if self.draining { ", and ends: nothing new is taken" } else { "" };
        writeln!(f, "up        {}{draining}", SpanPrinter::new().unsigned_duration_to_string(&uptime))?;
        writeln!(f, "tasks     {}", self.tasks)?;
        let Counts { channels, streams, leases, idle_channels, dropped_datagrams } = self.counts;
        writeln!(f, "channels  {channels}, {idle_channels} idle")?;
        writeln!(f, "streams   {streams}")?;
        writeln!(f, "leases    {leases}")?;
        write!(f, "dropped   {dropped_datagrams} datagrams")?;
        if let Some(TrafficState { received, sent, .. }) = self.traffic {
            write!(f, "\ncarried   {received} bytes received, {sent} sent")?;
        }
        if let Some(ResumptionState { held, resumed, lost, longest_pause_ms, .. }) = self.resumption
            && (held > 0 || resumed > 0 || lost > 0)
        {
            write!(
                f,
                "\nresumed   {resumed}x, {held} wait, {lost} lost, longest pause {longest_pause_ms} ms"
            )?;
        }
        for address in &self.listening {
            write!(f, "\nlistening {}", Escaped(address))?;
        }
        for ClientIn { name, streams, from, since, .. } in &self.clients {
            let [name, from, since] = [name, from, since].map(Escaped);
            write!(f, "\nclient    {name} from {from}, {streams}x, since {since}")?;
        }
        if self.clients_left_out > 0 {
            write!(f, "\nclient    and {} more", self.clients_left_out)?;
        }
        for Open { client, target, streams, bytes, since } in &self.open {
            let [client, target, since] = [client, target, since].map(Escaped);
            write!(f, "\nopen      {client}: {target}, {streams}x, {bytes} bytes, since {since}")?;
        }
        if self.open_left_out > 0 {
            write!(f, "\nopen      and {} more", self.open_left_out)?;
        }
        for Refused { what, reason, count } in &self.refused {
            write!(f, "\nrefused   {}: {}, {count}x", Escaped(what), Escaped(reason))?;
        }
        for InviteTried { id, key, from, at, count } in &self.invites_tried {
            let [id, key, from, at] = [id, key, from, at].map(Escaped);
            write!(
                f,
                "\ninvite    {id}: used, and tried by {key} as well, {count}x, last from {from} at {at}"
            )?;
        }
        for ServerState { address, is_connected, .. } in &self.servers {
            let state = if *is_connected { "connected" } else { "out of reach" };
            write!(f, "\nserver    {}: {state}", Escaped(address))?;
        }
        for ForwardState { kind, server, listen, target } in &self.forwards {
            let [kind, server, listen] = [kind, server, listen].map(Escaped);
            write!(f, "\nforward   {kind} {listen}")?;
            if let Some(target) = target {
                write!(f, " -> {}", Escaped(target))?;
            }
            write!(f, ", through {server}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        Status {
            program: "server".into(),
            version: "0.1.0".into(),
            pid: 4711,
            uptime_seconds: 7384,
            tasks: 14,
            counts: Counts { channels: 12, streams: 9, leases: 1, idle_channels: 3, dropped_datagrams: 5 },
            ..Status::default()
        }
    }

    #[test]
    fn a_status_reads_in_aligned_lines() {
        let expected = "\
            program   server 0.1.0\n\
            process   4711\n\
            up        2h 3m 4s\n\
            tasks     14\n\
            channels  12, 3 idle\n\
            streams   9\n\
            leases    1\n\
            dropped   5 datagrams";
        assert_eq!(status().to_string(), expected);
        let hostile = Status { version: "\x1b[2J\n".into(), uptime_seconds: u64::MAX, ..status() };
        assert!(
            hostile.to_string().starts_with("program   server \\u{1b}[2J\\n\nprocess   4711\nup        ")
        );
    }

    #[test]
    fn what_was_resumed_is_shown_where_there_is_something() {
        let resumption = ResumptionState { kept: 4096, ..ResumptionState::default() };
        let status = Status { resumption: Some(resumption), ..status() };
        assert!(status.to_string().ends_with("datagrams"));
        let resumption =
            ResumptionState { held: 1, resumed: 14, lost: 2, longest_pause_ms: 3250, ..resumption };
        let status = Status { resumption: Some(resumption), ..status };
        assert!(
            status.to_string().ends_with("datagrams\nresumed   14x, 1 wait, 2 lost, longest pause 3250 ms"),
            "{status}"
        );
        assert_eq!(serde_json::from_str::<Status>(&status.to_json()).unwrap(), status);
    }

    #[test]
    fn a_client_shows_its_forwards_and_a_server_where_it_listens() {
        let forward = ForwardState {
            kind: "local".into(),
            server: "gate".into(),
            listen: "127.0.0.1:8080".into(),
            target: Some("\x1b[2J".into()),
        };
        let proxy = ForwardState { kind: "dynamic".into(), target: None, ..forward.clone() };
        let listening = vec!["127.0.0.1:5000".into()];
        let status = Status { listening, forwards: vec![forward, proxy], ..status() };
        let text = status.to_string();
        let (_, behind) = text.split_once("datagrams\n").unwrap();
        assert_eq!(
            behind,
            "listening 127.0.0.1:5000\n\
             forward   local 127.0.0.1:8080 -> \\u{1b}[2J, through gate\n\
             forward   dynamic 127.0.0.1:8080, through gate"
        );
    }

    #[test]
    fn what_is_open_stands_below_and_moves_no_terminal() {
        let open = Open {
            client: "\u{202e}alice".into(),
            target: "unix:/run/\x1b[2J\n".into(),
            streams: 2,
            bytes: 1234,
            since: "2026-11-24T10:00:00Z".into(),
        };
        let status = Status { open: vec![open], open_left_out: 7, ..status() };
        let text = status.to_string();
        let (_, behind) = text.split_once("datagrams\n").unwrap();
        assert!(
            behind
                .starts_with("open      \\u{202e}alice: unix:/run/\\u{1b}[2J\\n, 2x, 1234 bytes, since 2026")
        );
        assert_eq!(behind.lines().nth(1), Some("open      and 7 more"));
        let tried = InviteTried {
            id: "fqbh3l5myxqlsebhkgoywv267e".into(),
            key: "SHA256:x".into(),
            from: "\x1b[2J".into(),
            at: "2026-11-24T10:00:00Z".into(),
            count: 2,
        };
        let status = Status { invites_tried: vec![tried], ..status };
        assert!(status.to_string().ends_with(
            "\ninvite    fqbh3l5myxqlsebhkgoywv267e: used, and tried by SHA256:x as well, 2x, last from \\u{1b}[2J at \
             2026-11-24T10:00:00Z"
        ));
        assert_eq!(serde_json::from_str::<Status>(&status.to_json()).unwrap(), status);
    }
}

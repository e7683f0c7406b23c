//! What running forwards count, and its form as metrics.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use cli_support::admin::{Refused, ResumptionState};
use cli_support::label;
use cli_support::metrics::{
    self, Count, Durations, FamilyWriter, ProgramLabel, StreamCounts, write_process, write_resumptions,
};
use cli_support::output;
use cli_support::status_server::MetricsFormat;
use prometheus_client::registry::Unit;
use tunnel::pool::Fault;
use tunnel::traffic::Traffic;
use wire_protocol::message::Mode;
use wire_protocol::stream::Direction;

/// All that the forwards of the program count.
#[derive(Debug, Default)]
pub(super) struct ForwardCounts {
    pub(super) streams: StreamCounts,
    pub(super) traffic: Traffic,
    /// How long it took to make a channel: to connect, and for the handshake.
    pub(super) connected: Durations<ChannelMode>,
    /// Channels that have not come about.
    pub(super) not_connected: Count<ConnectFailure>,
    /// Times that a server could be reached again, the first time included.
    pub(super) reached: Count,
}

/// The servers that channels are made to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Servers {
    pub(super) all: usize,
    /// Those that can be reached, as far as is known.
    pub(super) up: usize,
}

/// What is read when metrics are asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gauges {
    pub(super) started: Instant,
    /// Channels of the pools that no stream is on.
    pub(super) idle: usize,
    /// Channels that the server may open a stream on.
    pub(super) parked: usize,
    /// Addresses that servers listen on.
    pub(super) leases: usize,
    pub(super) servers: Servers,
    pub(super) dropped_datagrams: u64,
    pub(super) is_draining: bool,
    pub(super) resumption: ResumptionState,
}

impl ForwardCounts {
    /// Writes all of it.
    pub(super) fn write(self: &Arc<Self>, format: MetricsFormat, gauges: Gauges) -> String {
        let counts = Arc::clone(self);
        metrics::write(format, move |families| {
            write_process(families, ProgramLabel::Client, gauges.started)?;
            counts.write_channels(&gauges, families)?;
            counts.write_streams(&gauges, families)
        })
    }

    /// What was refused, and what has failed.
    pub(super) fn refused(&self) -> Vec<Refused> {
        let channels = Refused::of("connection", &self.not_connected);
        let refused = Refused::of("stream", self.streams.refused());
        channels.chain(refused).chain(Refused::new("stream", "failed", self.streams.failed())).collect()
    }

    fn write_channels(&self, gauges: &Gauges, families: &mut FamilyWriter<'_>) -> fmt::Result {
        let help = "How long it took to make a channel, from the first packet to the end of the handshake.";
        families.durations("sockseal_connect_duration", help, &self.connected)?;
        let help = "Channels that have not come about.";
        families.counters("sockseal_connect_failures", help, None, &self.not_connected)?;
        let help = "Times that a server could be reached again, the first time included.";
        families.counters("sockseal_server_reached", help, None, &self.reached)?;
        families.gauge("sockseal_servers", "Servers that channels are made to.", None, gauges.servers.all)?;
        let help = "Servers that can be reached, as far as is known.";
        families.gauge("sockseal_servers_up", help, None, gauges.servers.up)?;
        let help = "Channels of the pools that no stream is on.";
        families.gauge("sockseal_pool_channels_idle", help, None, gauges.idle)?;
        let help = "Channels on which a server may open a stream.";
        families.gauge("sockseal_channels_parked", help, None, gauges.parked)?;
        families.gauge("sockseal_leases", "Addresses that servers listen on.", None, gauges.leases)?;
        let help = "Whether nothing new is taken any more: 1 if so.";
        families.gauge("sockseal_draining", help, None, u64::from(gauges.is_draining))?;
        let help = "Lines of log and output that were lost since nobody read them in time.";
        families.total("sockseal_log_lines_lost", help, None, output::lost_lines())
    }

    fn write_streams(&self, gauges: &Gauges, families: &mut FamilyWriter<'_>) -> fmt::Result {
        self.streams.write(families)?;
        let bytes = Some(&Unit::Bytes);
        let (received, sent) = (Direction::Received, Direction::Sent);
        let help = "Bytes of streams that have come from servers.";
        families.total("sockseal_stream_received", help, bytes, self.traffic.bytes(received))?;
        let help = "Bytes of streams that have gone to servers.";
        families.total("sockseal_stream_sent", help, bytes, self.traffic.bytes(sent))?;
        write_resumptions(families, &gauges.resumption)?;
        let help = "Streams that were lost while they waited for another channel.";
        families.total("sockseal_streams_lost", help, None, gauges.resumption.lost)?;
        let help = "Datagrams that have come from servers.";
        families.total("sockseal_datagrams_received", help, None, self.traffic.datagrams(received))?;
        let help = "Datagrams that have gone to servers.";
        families.total("sockseal_datagrams_sent", help, None, self.traffic.datagrams(sent))?;
        let help = "Datagrams that were dropped.";
        families.total("sockseal_datagrams_dropped", help, None, gauges.dropped_datagrams)
    }
}

label! {
    /// How a channel was authenticated.
    pub(super) enum ChannelMode("mode") {
        /// By RSA.
        Rsa = "rsa",
        /// By a pre-shared key.
        Psk = "psk",
        /// By a ticket of an earlier channel.
        Ticket = "ticket",
    }
}

impl From<Mode> for ChannelMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Rsa => Self::Rsa,
            Mode::Psk => Self::Psk,
            Mode::Resumption => Self::Ticket,
        }
    }
}

label! {
    /// Why a channel has not come about.
    pub(super) enum ConnectFailure("reason") {
        /// The server is not the one that is trusted, or something is wrong here.
        Permanent = "permanent",
        /// The server does not want this client.
        Denied = "denied",
        /// The client has as many channels as it may have.
        TooManyChannels = "too_many_channels",
        /// The server was not to be reached, or had no time.
        Passing = "passing",
    }
}

impl From<Fault> for ConnectFailure {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Permanent => Self::Permanent,
            Fault::Denied { .. } => Self::Denied,
            Fault::TooManyChannels => Self::TooManyChannels,
            Fault::Passing => Self::Passing,
        }
    }
}

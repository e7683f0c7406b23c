//! The metrics of a running server.

use std::collections::BTreeSet;

use cli_support::status_server::MetricsFormat;
use server::config::ServerConfig;
use server::{MessageFormat, Messages, Services};
use tokio::io::AsyncWriteExt as _;
use wire_protocol::message::{RefusedCode, Target};

use crate::api::running::Running;

/// The value of a series.
fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in\n{page}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_happened_is_counted_once() {
    let messages = Messages::new(MessageFormat::Text, 1 << 20, Some(std::io::sink()));
    let services = Services::new().messages(messages).tunnels();
    let running = Running::start(services, &ServerConfig::default(), "messages = true").await;
    for text in ["one", "two", "three"] {
        let mut stream = running.open(&Target::Message).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream.finish().await.unwrap().close().await.unwrap();
    }
    let target = Target::Tcp { host: "127.0.0.1".into(), port: 1 };
    assert_eq!(running.open(&target).await.unwrap_err(), RefusedCode::NotAllowed);
    let page = running.control.metrics(MetricsFormat::Prometheus).await.unwrap();
    for (series, expected) in [
        ("sockseal_connections_accepted_total", 4.0),
        ("sockseal_handshake_duration_seconds_count{mode=\"psk\"}", 4.0),
        ("sockseal_handshake_duration_seconds_count{mode=\"rsa\"}", 0.0),
        ("sockseal_streams_begun_total{kind=\"message\"}", 3.0),
        ("sockseal_streams_ended_total{kind=\"message\",outcome=\"completed\"}", 3.0),
        ("sockseal_streams_ended_total{kind=\"tcp\",outcome=\"refused\"}", 1.0),
        ("sockseal_streams_refused_total{reason=\"not_allowed\"}", 1.0),
        ("sockseal_streams_open{kind=\"message\"}", 0.0),
        ("sockseal_stream_received_bytes_total{kind=\"message\"}", 11.0),
        ("sockseal_stream_sent_bytes_total{kind=\"message\"}", 0.0),
        ("sockseal_tickets_issued_total", 0.0),
        ("sockseal_clients_allowed", 1.0),
    ] {
        assert!((value(&page, series) - expected).abs() < 0.5, "{series} is not {expected} in\n{page}");
    }
    let names = |page: &str| -> Vec<String> {
        let lines = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        lines.map(|line| line.split(' ').next().unwrap().trim_end_matches("_total").to_owned()).collect()
    };
    let unique: BTreeSet<String> = names(&page).into_iter().collect();
    assert_eq!(unique.len(), names(&page).len(), "a family stands twice in\n{page}");
    assert!(unique.len() >= 25, "{unique:?}");
    let open_metrics = running.control.metrics(MetricsFormat::OpenMetrics).await.unwrap();
    assert_eq!(names(&open_metrics).into_iter().collect::<BTreeSet<_>>(), unique);
    assert!(open_metrics.ends_with("# EOF\n"));
}

//! The header Accept (RFC 9110, section 12.5.1) of whoever asks for metrics.

use crate::metrics_format::MetricsFormat;

/// The form that `accept` prefers; Prometheus text where it has no wish, or none that can be met.
pub(super) fn preferred(accept: &str) -> MetricsFormat {
    let weight = |format| accept.split(',').map(|range| weight_in(range, format)).max().unwrap_or(0);
    match weight(MetricsFormat::OpenMetrics) > weight(MetricsFormat::Prometheus) {
        true => MetricsFormat::OpenMetrics,
        false => MetricsFormat::Prometheus,
    }
}

/// The weight in thousandths that one element of the header gives to `format`, with nothing for ranges, which are no wish
/// for OpenMetrics.
fn weight_in(range: &str, format: MetricsFormat) -> u16 {
    let mut parts = range.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
    let (name, versions): (_, &[&str]) = match format {
        MetricsFormat::Prometheus => ("text/plain", &["0.0.4"]),
        MetricsFormat::OpenMetrics => ("application/openmetrics-text", &["1.0.0", "0.0.1"]),
    };
    let is_any = format == MetricsFormat::Prometheus && matches!(kind.as_str(), "*/*" | "text/*");
    if kind != name && !is_any {
        return 0;
    }
    let mut weight = 1000;
    for parameter in parts {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = value.trim().trim_matches('"');
        match key.trim().to_ascii_lowercase().as_str() {
            "version" if !versions.contains(&value) => return 0,
            "q" => weight = thousandths(value),
            _ => {}
        }
    }
    weight
}

/// A weight of 0 to 1 with three digits behind the point at most; 0 for anything else.
fn thousandths(text: &str) -> u16 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_number = fraction.len() <= 3 && fraction.bytes().all(|digit| digit.is_ascii_digit());
    match whole {
        "1" if is_number => 1000,
        "0" if is_number => format!("{fraction:0<3}").parse().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_the_one_that_is_preferred() {
        // As Prometheus 3 sends it.
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
            application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,\
            text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for accept in [
            prometheus,
            "application/openmetrics-text",
            "Application/OpenMetrics-Text; Version=\"1.0.0\"",
            "text/plain;q=0.5, application/openmetrics-text;q=0.501",
        ] {
            assert_eq!(preferred(accept), MetricsFormat::OpenMetrics, "{accept}");
        }
        for accept in [
            "",
            "*/*",
            "text/html",
            "text/plain;version=0.0.4",
            "application/openmetrics-text;version=2.0.0",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=0.5,text/plain;q=0.5",
            "application/openmetrics-text;q=0.5,*/*",
            "application/openmetrics-text;q=7",
            "application/openmetrics-text;q=",
            "application/openmetrics-text;q=0.9999",
            "application/*",
            ";;,,=;q",
        ] {
            assert_eq!(preferred(accept), MetricsFormat::Prometheus, "{accept}");
        }
    }
}

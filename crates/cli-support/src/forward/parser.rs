//! Parses the arguments of `-L`, `-R`, `-D` and `-W`; see [the table](super) of their forms.

use std::borrow::Cow;
use std::str::FromStr;

use crypto_core::psk;
use tunnel::address::{Address, AddressError, AddressProblem};

use super::{
    DynamicForward, ForwardError, ForwardProblem, ListenSpec, LocalForward, RemoteForward, StdioForward,
    TargetSpec, Transport,
};

impl FromStr for LocalForward {
    type Err = ForwardError;

    fn from_str(text: &str) -> Result<Self, ForwardError> {
        explain(text, EXPECTED_LOCAL, || {
            let (listen, rest) = split_listen(text)?;
            let target = parse_target(rest.ok_or(ForwardProblem::NoTarget)?)?;
            Ok(Self { listen: listen_for(listen, &target)?, target })
        })
    }
}

impl FromStr for RemoteForward {
    type Err = ForwardError;

    fn from_str(text: &str) -> Result<Self, ForwardError> {
        explain(text, EXPECTED_REMOTE, || {
            let (address, rest) = split_listen(text)?;
            let Some(rest) = rest else {
                let listen = ListenSpec { address, transport: Transport::Stream };
                return Ok(Self { listen, target: None });
            };
            match parse_target(rest)? {
                TargetSpec::Service(_) => Err(ForwardProblem::NoServices),
                target => Ok(Self { listen: listen_for(address, &target)?, target: Some(target) }),
            }
        })
    }
}

impl FromStr for DynamicForward {
    type Err = ForwardError;

    fn from_str(text: &str) -> Result<Self, ForwardError> {
        explain(text, EXPECTED_DYNAMIC, || match split_listen(text)? {
            (listen, None) => Ok(Self { listen }),
            _ => Err(ForwardProblem::Listen),
        })
    }
}

impl FromStr for StdioForward {
    type Err = ForwardError;

    fn from_str(text: &str) -> Result<Self, ForwardError> {
        explain(text, EXPECTED_STDIO, || match parse_target(&without_brackets(text))? {
            TargetSpec::Udp { .. } => Err(ForwardProblem::Datagrams),
            target => Ok(Self { target }),
        })
    }
}

/// Removes the brackets of `[HOST]:PORT` unless the host is an IPv6 address, since ssh writes `[%h]:%p` for all
/// hosts.
fn without_brackets(text: &str) -> Cow<'_, str> {
    match text.strip_prefix('[').and_then(|rest| rest.split_once("]:")) {
        Some((host, port)) if host.chars().all(|c| c.is_alphanumeric() || "-._".contains(c)) => {
            Cow::Owned(format!("{host}:{port}"))
        }
        _ => Cow::Borrowed(text),
    }
}

fn explain<T>(
    text: &str,
    expected: &'static str,
    parse: impl FnOnce() -> Result<T, ForwardProblem>,
) -> Result<T, ForwardError> {
    parse().map_err(|problem| ForwardError { text: text.into(), problem, expected })
}

/// The listening side for `target`, whose transport it takes.
fn listen_for(address: Address, target: &TargetSpec) -> Result<ListenSpec, ForwardProblem> {
    match (&address, target) {
        (Address::Unix(_), TargetSpec::Udp { .. }) => Err(ForwardProblem::Datagrams),
        (_, TargetSpec::Udp { .. }) => Ok(ListenSpec { address, transport: Transport::Datagram }),
        _ => Ok(ListenSpec { address, transport: Transport::Stream }),
    }
}

/// Parses the listening side, and returns it and the text after the colon that follows.
fn split_listen(text: &str) -> Result<(Address, Option<&str>), ForwardProblem> {
    if let Some(path) = as_path(text) {
        let (path, rest) = split_field(path);
        check_path(path)?;
        return Ok((Address::Unix(path.into()), rest));
    }
    let (first, rest) = split_field(text);
    let (bind, port, rest) = if is_number(first) {
        ("127.0.0.1", first, rest)
    } else {
        let (port, rest) = split_field(rest.ok_or(ForwardProblem::Listen)?);
        (first, port, rest)
    };
    match Address::listening(&format!("{bind}:{port}")) {
        Ok(Address::Tcp { host, .. }) if host.len() > MAX_HOST_LEN => Err(ForwardProblem::TooLong),
        Ok(address @ Address::Tcp { .. }) => Ok((address, rest)),
        Err(error) if is_port_name(&error) => Err(ForwardProblem::PortName),
        _ => Err(ForwardProblem::Listen),
    }
}

fn parse_target(text: &str) -> Result<TargetSpec, ForwardProblem> {
    if let Some(name) = text.strip_prefix('@') {
        return if psk::is_valid_id(name) {
            Ok(TargetSpec::Service(name.into()))
        } else {
            Err(ForwardProblem::ServiceName)
        };
    }
    if let Some(path) = as_path(text) {
        check_path(path)?;
        return Ok(TargetSpec::Unix(path.into()));
    }
    let (text, transport) = match text.strip_suffix(DATAGRAM_SUFFIX) {
        Some(text) => (text, Transport::Datagram),
        None => (text, Transport::Stream),
    };
    match (parse_port(text)?, transport) {
        ((_, 0), _) => Err(ForwardProblem::Target),
        ((host, port), Transport::Stream) => Ok(TargetSpec::Tcp { host, port }),
        ((host, port), Transport::Datagram) => Ok(TargetSpec::Udp { host, port }),
    }
}

/// The path in a text that cannot be anything but a path.
fn as_path(text: &str) -> Option<&str> {
    text.strip_prefix("unix:").or_else(|| text.starts_with('/').then_some(text))
}

fn check_path(path: &str) -> Result<(), ForwardProblem> {
    if !path.starts_with('/') || path.ends_with('/') || path.contains(char::is_control) {
        Err(ForwardProblem::Path)
    } else if path.ends_with(DATAGRAM_SUFFIX) {
        // A file may have such a name, but the user probably means datagrams.
        Err(ForwardProblem::Datagrams)
    } else if path.len() > MAX_PATH_LEN {
        Err(ForwardProblem::TooLong)
    } else {
        Ok(())
    }
}

fn parse_port(text: &str) -> Result<(String, u16), ForwardProblem> {
    match text.parse() {
        Ok(Address::Tcp { host, .. }) if host.len() > MAX_HOST_LEN => Err(ForwardProblem::TooLong),
        Ok(Address::Tcp { host, port }) => Ok((host, port)),
        Err(error) if is_port_name(&error) => Err(ForwardProblem::PortName),
        _ => Err(ForwardProblem::Target),
    }
}

/// Returns whether the only error is that the port is a name.
fn is_port_name(error: &AddressError) -> bool {
    let AddressError { text, problem: AddressProblem::PortName } = error else { return false };
    text.rsplit(':').next().is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_alphabetic()))
}

/// Splits at the first colon outside of brackets.
fn split_field(text: &str) -> (&str, Option<&str>) {
    let bracketed = if text.starts_with('[') { text.find(']').unwrap_or(text.len()) } else { 0 };
    match text[bracketed..].find(':') {
        Some(colon) => (&text[..bracketed + colon], Some(&text[bracketed + colon + 1..])),
        None => (text, None),
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The suffix of a target for datagrams.
const DATAGRAM_SUFFIX: &str = "/udp";

/// Longest path of a unix socket in bytes, without the terminating zero byte.
const MAX_PATH_LEN: usize = 107;

/// Longest host in bytes, the limit of both the DNS and SOCKS.
const MAX_HOST_LEN: usize = 255;

const EXPECTED_LOCAL: &str =
    "[BIND:]PORT or /PATH to listen on, then :HOST:PORT, :HOST:PORT/udp, :/PATH or :@SERVICE";
const EXPECTED_REMOTE: &str =
    "[BIND:]PORT or /PATH to listen on, then :HOST:PORT, :HOST:PORT/udp, :/PATH, or nothing for SOCKS";
const EXPECTED_DYNAMIC: &str = "[BIND:]PORT or /PATH to listen on";
const EXPECTED_STDIO: &str = "HOST:PORT, /PATH or @SERVICE";

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    /// Checks that `text` parses and prints as `canonical`, which parses and prints as itself.
    #[track_caller]
    fn check<T: FromStr<Err = ForwardError> + fmt::Display + fmt::Debug + PartialEq>(
        text: &str,
        canonical: &str,
    ) -> T {
        let parsed: T = text.parse().unwrap();
        assert_eq!(parsed.to_string(), canonical);
        assert_eq!(canonical.parse::<T>().as_ref(), Ok(&parsed));
        parsed
    }

    #[track_caller]
    fn check_bad<T: FromStr<Err = ForwardError> + fmt::Debug>(text: &str, problem: ForwardProblem) {
        let error = text.parse::<T>().unwrap_err();
        assert_eq!(error.problem(), problem, "{text:?}");
    }

    #[test]
    fn local_forwards_print_as_they_are_written() {
        for (text, canonical) in [
            ("8080:example.org:80", "127.0.0.1:8080:example.org:80"),
            ("0:example.org:80", "127.0.0.1:0:example.org:80"),
            ("localhost:8080:example.org:80", "localhost:8080:example.org:80"),
            ("*:8080:example.org:80", "*:8080:example.org:80"),
            ("[::1]:8080:[::1]:80", "[::1]:8080:[::1]:80"),
            ("[::]:8080:10.0.0.1:65535", "[::]:8080:10.0.0.1:65535"),
            ("[fe80::1%eth0]:8080:[fe80::2%eth1]:80", "[fe80::1%eth0]:8080:[fe80::2%eth1]:80"),
            ("8080:[2001:db8::1]:80", "127.0.0.1:8080:[2001:db8::1]:80"),
            ("53:127.0.0.53:53/udp", "127.0.0.1:53:127.0.0.53:53/udp"),
            ("[::1]:53:[::1]:53/udp", "[::1]:53:[::1]:53/udp"),
            ("5432:@db", "127.0.0.1:5432:@db"),
            ("10.0.0.1:5432:@db-2.x_y", "10.0.0.1:5432:@db-2.x_y"),
            ("8080:/run/app", "127.0.0.1:8080:unix:/run/app"),
            ("8080:unix:/run/app", "127.0.0.1:8080:unix:/run/app"),
            ("localhost:8080:unix:/run/a:b", "localhost:8080:unix:/run/a:b"),
            ("/tmp/here:example.org:80", "unix:/tmp/here:example.org:80"),
            ("unix:/tmp/here:example.org:80", "unix:/tmp/here:example.org:80"),
            ("unix:/tmp/here:@db", "unix:/tmp/here:@db"),
            ("/tmp/here:/tmp/there", "unix:/tmp/here:unix:/tmp/there"),
            ("unix:/tmp/with a blank:unix:/tmp/there", "unix:/tmp/with a blank:unix:/tmp/there"),
        ] {
            check::<LocalForward>(text, canonical);
        }
    }

    #[test]
    fn remote_forwards_print_as_they_are_written() {
        for (text, canonical) in [
            ("8080:localhost:80", "127.0.0.1:8080:localhost:80"),
            ("*:0:localhost:80", "*:0:localhost:80"),
            ("53:localhost:53/udp", "127.0.0.1:53:localhost:53/udp"),
            ("/run/there:/tmp/here", "unix:/run/there:unix:/tmp/here"),
            ("1080", "127.0.0.1:1080"),
            ("[::]:1080", "[::]:1080"),
            ("gate.example.org:1080", "gate.example.org:1080"),
            ("/run/socks", "unix:/run/socks"),
        ] {
            check::<RemoteForward>(text, canonical);
        }
    }

    #[test]
    fn dynamic_and_stdio_forwards_print_as_they_are_written() {
        check::<DynamicForward>("1080", "127.0.0.1:1080");
        check::<DynamicForward>("0", "127.0.0.1:0");
        check::<DynamicForward>("*:1080", "*:1080");
        check::<DynamicForward>("[::1]:1080", "[::1]:1080");
        check::<DynamicForward>("/tmp/socks", "unix:/tmp/socks");
        check::<StdioForward>("example.org:22", "example.org:22");
        check::<StdioForward>("[::1]:22", "[::1]:22");
        check::<StdioForward>("[db.example.org]:22", "db.example.org:22");
        check::<StdioForward>("[127.0.0.1]:22", "127.0.0.1:22");
        check::<StdioForward>("/run/ssh", "unix:/run/ssh");
        check::<StdioForward>("unix:/run/ssh", "unix:/run/ssh");
        check::<StdioForward>("@ssh", "@ssh");
    }

    #[test]
    fn what_says_nothing_to_forward_is_refused() {
        use ForwardProblem::{Datagrams, Listen, NoTarget, Path, PortName, ServiceName, Target, TooLong};

        let (long_host, long_path) = ("h".repeat(256), format!("/{}", "p".repeat(107)));
        for (text, problem) in [
            ("", Listen),
            (":", Listen),
            ("8080", NoTarget),
            ("localhost", Listen),
            ("localhost:8080", NoTarget),
            ("[::1]:8080", NoTarget),
            ("/tmp/here", NoTarget),
            ("8080:", Target),
            ("8080:host", Target),
            ("8080:host:", Target),
            ("8080::80", Target),
            ("8080:host:0", Target),
            ("8080:host:65536", Target),
            ("8080:host:-1", Target),
            ("8080:host:+1", Target),
            ("8080:host:http", PortName),
            ("8080:host:domain/udp", PortName),
            ("host:http:host:80", PortName),
            ("http:host:80", PortName),
            ("8080:host:80:80", Target),
            ("8080:::1:80", Target),
            ("8080:[::1]", Target),
            ("8080:[::1:80", Target),
            ("8080:[host]:80", Target),
            ("8080:[::1]]:80", Target),
            ("8080:[::1]x:80", Target),
            ("8080:*:80", Target),
            ("8080:[fe80::1%]:80", Target),
            ("[fe80::1%]:8080:host:80", Listen),
            ("8080:host:80/tcp", Target),
            ("8080:host:80/UDP", Target),
            ("8080:host:80/udp/udp", Target),
            ("8080:host/udp", Target),
            ("8080:../run/app", Target),
            ("65536:host:80", Listen),
            ("99999999999999999999:host:80", Listen),
            (":8080:host:80", Listen),
            ("-1:host:80", PortName),
            ("::1:8080:host:80", Listen),
            ("[::1:8080:host:80", Listen),
            ("[::1]8080:host:80", Listen),
            ("[]:8080:host:80", Listen),
            ("*8080:host:80", Listen),
            ("**:8080:host:80", Listen),
            ("a*:8080:host:80", Listen),
            ("/udp:8080:host:80", Datagrams),
            ("host:8080/udp:host:80", Listen),
            (" 8080:host:80", Listen),
            ("8080 :host:80", Listen),
            ("8080: host:80", Target),
            ("8080:host :80", Target),
            ("8080:host: 80", Target),
            ("8080:host:80 ", Target),
            ("8080:ho\0st:80", Target),
            ("8080:host:80/udp ", Target),
            ("8080:@", ServiceName),
            ("8080:@d b", ServiceName),
            ("8080:@db/udp", ServiceName),
            ("8080:@db:80", ServiceName),
            ("8080:@d\u{e9}", ServiceName),
            ("8080:@@db", ServiceName),
            ("@db", Listen),
            ("@db:80:host:80", Listen),
            ("unix:", Path),
            ("unix::host:80", Path),
            ("unix:tmp/here:host:80", Path),
            ("unix:8080:host:80", Path),
            ("/:host:80", Path),
            ("/tmp/:host:80", Path),
            ("8080:unix:", Path),
            ("8080:unix:run/app", Path),
            ("8080:unix:host:80", Path),
            ("8080:/", Path),
            ("8080:/run/a\0b", Path),
            ("8080:/run/a\nb", Path),
            ("8080:/run/app/udp", Datagrams),
            ("8080:unix:/run/app/udp", Datagrams),
            ("/tmp/here/udp:host:53", Datagrams),
            ("/tmp/here:host:53/udp", Datagrams),
            (&format!("8080:{long_host}:80"), TooLong),
            (&format!("{long_host}:8080:host:80"), TooLong),
            (&format!("8080:{long_path}"), TooLong),
            (&format!("{long_path}:host:80"), TooLong),
        ] {
            check_bad::<LocalForward>(text, problem);
        }
        check_bad::<RemoteForward>("", Listen);
        check_bad::<RemoteForward>("8080:@db", ForwardProblem::NoServices);
        check_bad::<RemoteForward>("8080:80", Target);
        check_bad::<RemoteForward>("8080:", Target);
        check_bad::<RemoteForward>("1080/udp", Listen);
        check_bad::<RemoteForward>("/run/there:h:53/udp", Datagrams);
        check_bad::<DynamicForward>("", Listen);
        check_bad::<DynamicForward>("host", Listen);
        check_bad::<DynamicForward>("1080:", Listen);
        check_bad::<DynamicForward>("1080:host:80", Listen);
        check_bad::<DynamicForward>("1080/udp", Listen);
        check_bad::<DynamicForward>("65536", Listen);
        check_bad::<DynamicForward>("unix:socks", Path);
        check_bad::<StdioForward>("", Target);
        check_bad::<StdioForward>("22", Target);
        check_bad::<StdioForward>("host:0", Target);
        check_bad::<StdioForward>("[host]:0", Target);
        check_bad::<StdioForward>("[host]", Target);
        check_bad::<StdioForward>("[]:22", Target);
        check_bad::<StdioForward>("[[host]]:22", Target);
        check_bad::<StdioForward>("[@db]:22", Target);
        check_bad::<StdioForward>("[/run/ssh]:22", Target);
        check_bad::<StdioForward>("[host]:22/udp", Datagrams);
        check_bad::<StdioForward>("host:53/udp", Datagrams);
        check_bad::<StdioForward>("@", ServiceName);
        check_bad::<StdioForward>("run/ssh", Target);
    }

    #[test]
    fn an_error_says_what_is_expected() {
        let error = "1080 ".parse::<DynamicForward>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "no place to listen: \"1080 \" should be [BIND:]PORT or /PATH to listen on"
        );
    }
}

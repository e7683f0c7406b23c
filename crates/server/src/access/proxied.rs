//! Rules with `,proxy`, whose targets are told which client connects.

use std::fmt;
use std::str::FromStr;

use tunnel::proxy_header::ProxyHeader;

use crate::error::Error;

/// A rule, and whether its targets are told which client connects: `HOST:PORT,proxy`, `/PATH,proxy`.
///
/// The server writes the header of the PROXY protocol from its own knowledge. The client can neither change nor
/// omit it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxied<T> {
    pub(super) rule: T,
    pub(super) header: ProxyHeader,
}

impl<T: FromStr<Err = Error>> FromStr for Proxied<T> {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (rule, header) = match text.strip_suffix(PROXY_SUFFIX) {
            Some(rule) => (rule, ProxyHeader::V2),
            None => (text, ProxyHeader::None),
        };
        Ok(Self { rule: rule.parse()?, header })
    }
}

impl<T: fmt::Display> fmt::Display for Proxied<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rule.fmt(f)?;
        match self.header {
            ProxyHeader::None => Ok(()),
            ProxyHeader::V2 => f.write_str(PROXY_SUFFIX),
        }
    }
}

/// The header for a target to which all of these rules apply: a single rule with `,proxy` decides.
pub(super) fn header_of<'a, T: 'a>(rules: impl IntoIterator<Item = &'a Proxied<T>>) -> ProxyHeader {
    let is_told = rules.into_iter().any(|proxied| proxied.header == ProxyHeader::V2);
    if is_told { ProxyHeader::V2 } else { ProxyHeader::None }
}

const PROXY_SUFFIX: &str = ",proxy";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::rule::{SocketPath, TargetRule};

    #[track_caller]
    fn check<T: FromStr<Err = Error> + fmt::Display>(text: &str, header: ProxyHeader) {
        let rule = text.parse::<Proxied<T>>().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((rule.to_string().as_str(), rule.header), (text, header));
    }

    #[test]
    fn rules_print_as_they_are_written() {
        check::<TargetRule>("127.0.0.1:5432", ProxyHeader::None);
        check::<TargetRule>("127.0.0.1:5432,proxy", ProxyHeader::V2);
        check::<TargetRule>("[fd00::/8]:1-1024,proxy", ProxyHeader::V2);
        check::<TargetRule>("*:*,proxy", ProxyHeader::V2);
        check::<SocketPath>("/run/db.sock", ProxyHeader::None);
        check::<SocketPath>("/run/db.sock,proxy", ProxyHeader::V2);
        check::<SocketPath>("/run/a,b", ProxyHeader::None);
    }

    #[test]
    fn what_stands_behind_a_rule_is_that_word_alone() {
        for text in [
            "host:80,",
            "host:80,Proxy",
            "host:80, proxy",
            "host:80,proxy ",
            "host:80,proxy,proxy",
            "host:80,v1",
            ",proxy",
        ] {
            assert!(matches!(text.parse::<Proxied<TargetRule>>(), Err(Error::Rule { .. })), "{text:?}");
        }
        assert!("run/x,proxy".parse::<Proxied<SocketPath>>().is_err());
    }
}

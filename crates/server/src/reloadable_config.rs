//! The part of a running server's configuration that can be reloaded.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tunnel::resumable_streams::ResumptionLimits;

use crate::access::AnonymousPolicy;
use crate::config::{NamedService, ServerConfig};
use crate::file_share::FileShare;
use crate::proxy_source::ProxySource;

/// The part of the configuration that can be reloaded. Each connection reads it when it needs it.
#[derive(Debug, Clone)]
pub struct ReloadableConfig {
    /// The policy for anonymous clients.
    pub anonymous: AnonymousPolicy,
    /// The proxies that are trusted to name the origins of connections.
    pub proxies: Vec<ProxySource>,
    /// The services that clients may ask for by name.
    pub services: BTreeMap<String, NamedService>,
    /// The directories that clients get files from and put files to, by name.
    pub files: BTreeMap<String, FileShare>,
    /// Time that a channel may be idle between streams.
    pub idle_timeout: Duration,
    /// Most channels in all; `None` for as many as the system has descriptors for.
    pub max_channels: Option<usize>,
    /// Time that streams have to end once the server is told to end.
    pub grace: Duration,
    /// How much resumable streams may keep, and for how long. What is read again counts from the next start.
    pub resumption: ResumptionLimits,
}

impl ReloadableConfig {
    /// Returns whether connections from `source` begin with a proxy's header.
    pub(crate) fn is_proxy(&self, source: Option<IpAddr>) -> bool {
        self.proxies.iter().any(|proxy| proxy.covers(source))
    }

    pub(crate) fn service(&self, name: &str) -> Option<&NamedService> {
        self.services.get(name)
    }
}

impl From<&ServerConfig> for ReloadableConfig {
    fn from(config: &ServerConfig) -> Self {
        let services = config.services.iter();
        Self {
            anonymous: if config.anyone { AnonymousPolicy::Admit } else { AnonymousPolicy::Refuse },
            proxies: config.proxy_from.clone(),
            services: services.map(|service| (service.name.clone(), service.clone())).collect(),
            files: config.files.iter().map(|share| (share.name.clone(), share.clone())).collect(),
            idle_timeout: config.idle_timeout,
            max_channels: config.max_channels,
            grace: config.grace,
            resumption: config.resume.0,
        }
    }
}

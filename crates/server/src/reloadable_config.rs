//! The configuration of a running server that can be reloaded while it runs.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::access::AnonymousPolicy;
use crate::config::{NamedService, ServerConfig};
use crate::proxy_source::ProxySource;

/// The configuration that a running server goes by, and that can be reloaded: each connection looks at it when it needs it.
#[derive(Debug, Clone)]
pub struct ReloadableConfig {
    /// Whether clients that nobody has allowed may come in.
    pub anonymous: AnonymousPolicy,
    /// Proxies that say where connections come from.
    pub proxies: Vec<ProxySource>,
    /// What clients may ask for by name.
    pub services: BTreeMap<String, NamedService>,
    /// How long a channel may be idle between streams.
    pub idle_timeout: Duration,
    /// Channels in all; `None` for as many as the system has descriptors for.
    pub max_channels: Option<usize>,
    /// How long streams have to come to their end once the server is told to end.
    pub grace: Duration,
}

impl ReloadableConfig {
    /// Whether a connection from `source` begins with what a proxy says of it.
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
            idle_timeout: config.idle_timeout,
            max_channels: config.max_channels,
            grace: config.grace,
        }
    }
}

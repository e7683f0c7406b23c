//! What a running server goes by and can be given anew while it runs.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::access::AnonymousPolicy;
use crate::config::{NamedService, ServerConfig};
use crate::proxy_source::ProxySource;

/// What a running server goes by.
#[derive(Debug, Clone)]
pub struct Live {
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

impl Live {
    /// Whether a connection from `source` begins with what a proxy says of it.
    pub(crate) fn is_proxy(&self, source: Option<IpAddr>) -> bool {
        self.proxies.iter().any(|proxy| proxy.covers(source))
    }

    pub(crate) fn service(&self, name: &str) -> Option<&NamedService> {
        self.services.get(name)
    }
}

impl From<&ServerConfig> for Live {
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

/// The present [`Live`], which each connection looks at when it needs it.
#[derive(Debug)]
pub(crate) struct Current(RwLock<Arc<Live>>);

impl Current {
    pub(crate) fn new(live: Live) -> Self {
        Self(RwLock::new(Arc::new(live)))
    }

    pub(crate) fn get(&self) -> Arc<Live> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set(&self, live: Live) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(live);
    }
}

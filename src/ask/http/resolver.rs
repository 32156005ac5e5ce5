//! Name look-ups that can be dropped at any moment. getaddrinfo(3) would leave a thread behind that cannot be stopped
//! when the broker unloads the plugin.
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::util::Lock;

/// Resolves by `/etc/hosts` and the servers of `/etc/resolv.conf`.
///
/// Both files are read at the first look-up and again after a look-up that failed or was given up, and after a
/// connection that could not be made: a machine that is just booting may get its name servers after its
/// broker, and an API may move.
#[derive(Default, Clone)]
pub(super) struct Resolver {
    /// What the files said when they were read last.
    current: Arc<Lock<Option<TokioResolver>>>,
}

impl Resolver {
    /// The resolver in use, or a new one by what the files say now.
    fn current(&self) -> Result<TokioResolver, hickory_resolver::net::NetError> {
        let mut current = self.current.lock();
        if let Some(resolver) = &*current {
            return Ok(resolver.clone());
        }
        let mut builder = TokioResolver::builder_tokio()?;
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        let resolver = builder.build()?;
        *current = Some(resolver.clone());
        Ok(resolver)
    }

    /// Forgets all addresses, and has the next look-up read the files again.
    pub(super) fn forget(&self) {
        *self.current.lock() = None;
    }
}

/// A look-up that is under way. If it ends without an address or is given up, the next one reads the files again.
struct LookUp<'a> {
    resolver: &'a Resolver,
    succeeded: bool,
}

impl Drop for LookUp<'_> {
    fn drop(&mut self) {
        if !self.succeeded {
            self.resolver.forget();
        }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let this = self.clone();
        Box::pin(async move {
            let mut look_up = LookUp { resolver: &this, succeeded: false };
            let name = name.as_str();
            let found = this.current()?.lookup_ip(name).await.map_err(|error| {
                if error.is_no_records_found() {
                    format!("the name {name} has no address")
                } else {
                    format!("the name {name} could not be looked up ({error})")
                }
            })?;
            look_up.succeeded = true;
            let addresses: Vec<IpAddr> = found.iter().collect();
            let addresses: Addrs = Box::new(addresses.into_iter().map(|ip| SocketAddr::new(ip, 0)));
            Ok(addresses)
        })
    }
}

//! Tells whether a request goes over a connection that was kept, or waits for a new one. The HTTP client does not say
//! it, so a layer around its connector notes it.
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tower_layer::Layer;
use tower_service::Service;

use crate::ask::resolver::Resolver;
use crate::util::Lock;

tokio::task_local! {
    static PROGRESS: Progress;
}

/// How far the connection for one request has come.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress(Arc<State>);

#[derive(Debug, Default)]
struct State {
    step: AtomicU8,
    /// When there was a new connection.
    connected: Lock<Option<Instant>>,
}

impl Progress {
    /// No new connection was needed so far.
    const KEPT: u8 = 0;
    const LOOKING_UP: u8 = 1;
    const CONNECTING: u8 = 2;
    const CONNECTED: u8 = 3;

    /// The progress of the request on whose behalf this is called. Outside of a request, the client makes a connection in the
    /// background, and nothing asks about its progress.
    pub(super) fn of_this_request() -> Self {
        PROGRESS.try_with(Self::clone).unwrap_or_default()
    }

    /// Runs a request, and notes here how its connection comes about.
    pub(super) async fn watch<F: Future>(&self, request: F) -> F::Output {
        self.set(Self::KEPT);
        PROGRESS.scope(self.clone(), request).await
    }

    /// Whether the request goes over a connection that was kept from before.
    pub(super) fn uses_kept_connection(&self) -> bool {
        self.0.step.load(Ordering::Relaxed) == Self::KEPT
    }

    /// Whether the request went over a connection that was kept from before, and failed there with this error. That
    /// connection may have come back to the client while a new one was under way.
    pub(super) fn used_kept_connection(&self, error: &reqwest::Error) -> bool {
        self.0.step.load(Ordering::Relaxed) != Self::CONNECTED && !error.is_connect()
    }

    /// Whether there is a connection, kept or new.
    pub(super) fn is_connected(&self) -> bool {
        matches!(self.0.step.load(Ordering::Relaxed), Self::KEPT | Self::CONNECTED)
    }

    /// Whether the name of the server is being looked up.
    pub(super) fn is_looking_up(&self) -> bool {
        self.0.step.load(Ordering::Relaxed) == Self::LOOKING_UP
    }

    /// From now on the name of the server is looked up.
    pub(super) fn looks_up(&self) {
        self.set(Self::LOOKING_UP);
    }

    /// From now on the server is connected to.
    pub(super) fn connects(&self) {
        self.set(Self::CONNECTING);
    }

    /// When the request could be sent that was to go out at this time: once there was a connection.
    pub(super) fn sent(&self, meant: Instant) -> Instant {
        if self.uses_kept_connection() {
            return meant;
        }
        self.0.connected.lock().map_or(meant, |connected| connected.max(meant))
    }

    /// Another request for the same question has taken this one's place.
    pub(super) fn become_that_of(&self, other: &Self) {
        let connected = *other.0.connected.lock();
        *self.0.connected.lock() = connected;
        self.0.step.store(other.0.step.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    fn set(&self, step: u8) {
        self.0.step.store(step, Ordering::Relaxed);
        if step == Self::CONNECTED {
            *self.0.connected.lock() = Some(Instant::now());
        }
    }
}

/// The layer around a client's connector.
#[derive(Clone)]
pub(super) struct Watch;

impl<S> Layer<S> for Watch {
    type Service = Watched<S>;

    fn layer(&self, connector: S) -> Watched<S> {
        Watched(connector)
    }
}

/// A connector that notes its progress for the request that needs the connection.
#[derive(Clone)]
pub(super) struct Watched<S>(S);

impl<S, To> Service<To> for Watched<S>
where
    S: Service<To>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, to: To) -> Self::Future {
        let progress = Progress::of_this_request();
        progress.connects();
        let connecting = self.0.call(to);
        Box::pin(async move {
            let connection = connecting.await?;
            // In the background it is finished for a later request: this one has another.
            if Arc::ptr_eq(&progress.0, &Progress::of_this_request().0) {
                progress.set(Progress::CONNECTED);
            }
            Ok(connection)
        })
    }
}

/// Looks names up for the client, and notes it in the progress of the request that needs the address.
impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let progress = Progress::of_this_request();
            progress.looks_up();
            let found = resolver.addresses(name.as_str()).await?;
            progress.connects();
            let addresses: Addrs = Box::new(found.into_iter().map(|ip| SocketAddr::new(ip, 0)));
            Ok(addresses)
        })
    }
}

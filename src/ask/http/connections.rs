//! Whether a request goes over a connection that was kept, or waits for a new one. The HTTP client does not
//! say; a layer around its connector does.
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

tokio::task_local! {
    static PROGRESS: Progress;
}

/// How far the connection for one request has come.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress(Arc<AtomicU8>);

impl Progress {
    const CONNECTING: u8 = 1;
    const CONNECTED: u8 = 2;

    /// Runs the request whose connection this is about.
    pub(super) async fn watch<F: Future>(&self, request: F) -> F::Output {
        self.set(0);
        PROGRESS.scope(self.clone(), request).await
    }

    /// Whether no connection was needed but one from before.
    pub(super) fn uses_kept_connection(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// Whether there is a connection, kept or new.
    pub(super) fn is_connected(&self) -> bool {
        self.0.load(Ordering::Relaxed) != Self::CONNECTING
    }

    fn set(&self, progress: u8) {
        self.0.store(progress, Ordering::Relaxed);
    }
}

/// Goes around the connector of a client.
#[derive(Clone)]
pub(super) struct Watch;

impl<S> Layer<S> for Watch {
    type Service = Watched<S>;

    fn layer(&self, connector: S) -> Watched<S> {
        Watched(connector)
    }
}

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
        // None: a connection that is made in the background, for nobody in particular.
        let progress = PROGRESS.try_with(Progress::clone).unwrap_or_default();
        progress.set(Progress::CONNECTING);
        let connecting = self.0.call(to);
        Box::pin(async move {
            let connection = connecting.await?;
            progress.set(Progress::CONNECTED);
            Ok(connection)
        })
    }
}

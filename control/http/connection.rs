//! Detects whether a request was sent over a kept connection, and whether that connection was dead.
//!
//! Between two documents of a call, the connection to the application is idle. The application may close the idle
//! connection at the moment at which the client sends the next request. This request then fails although neither side
//! made an error (RFC 9112 §9.3.1). The client repeats this request on a new connection. The client does not repeat a
//! request that failed on a new connection, because the application may already have executed the request.

use std::cell::Cell;
use std::error::Error;
use std::io::{self, ErrorKind};
use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

tokio::task_local! {
    /// Whether a connection was opened for the current request.
    static OPENED: Cell<bool>;
}

/// Awaits `sending`, and returns whether the request used an existing connection.
pub(super) async fn observed<T>(sending: impl Future<Output = T>) -> (T, Reused) {
    OPENED
        .scope(Cell::new(false), async {
            let outcome = sending.await;
            // A request that started to connect counts as new. This applies even if the request then used a kept
            // connection that became free.
            let reused = if OPENED.with(Cell::get) { Reused::No } else { Reused::Yes };
            (outcome, reused)
        })
        .await
}

/// Whether the connection existed before the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reused {
    Yes,
    No,
}

/// Whether the connection ended before an answer.
pub(super) fn is_dead(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = cause {
        if error.downcast_ref::<hyper::Error>().is_some_and(|error| error.is_incomplete_message() || error.is_closed())
        {
            return true;
        }
        let io = error.downcast_ref::<io::Error>();
        let closed = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::ConnectionAborted];
        if io.is_some_and(|error| closed.contains(&error.kind())) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A layer that notes each new connection.
#[derive(Clone)]
pub(super) struct Observe;

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed(inner)
    }
}

#[derive(Clone)]
pub(super) struct Observed<S>(S);

impl<R, S: Service<R>> Service<R> for Observed<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: R) -> S::Future {
        // A connection that completes in the background belongs to no request.
        let _ = OPENED.try_with(|opened| opened.set(true));
        self.0.call(request)
    }
}

//! Whether a request went over a kept connection, and what to do when that one was dead.
//!
//! Between two documents of a call an application may close its idle connection at the very moment when the next request
//! goes out on it. The request then fails although nothing is wrong (RFC 9112 §9.3.1), so it is sent once more on a fresh
//! connection. A request that failed on a fresh connection is not repeated: the application may have acted on it.

use std::cell::Cell;
use std::error::Error;
use std::io::{self, ErrorKind};
use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

tokio::task_local! {
    /// Whether a connection was opened for the request that is being sent.
    static OPENED: Cell<bool>;
}

/// Sends by `sending`, and says whether it was over a connection that was there before.
pub(super) async fn observed<T>(sending: impl Future<Output = T>) -> (T, Kept) {
    OPENED
        .scope(Cell::new(false), async {
            let outcome = sending.await;
            // A request that began to connect counts as fresh, also when a kept connection became free meanwhile.
            let kept = if OPENED.with(Cell::get) { Kept::No } else { Kept::Yes };
            (outcome, kept)
        })
        .await
}

/// Whether a connection was there before the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
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

/// Notes each connection that is opened.
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
        // Outside of a request (a connection that is finished in the background) nobody asks.
        let _ = OPENED.try_with(|opened| opened.set(true));
        self.0.call(request)
    }
}

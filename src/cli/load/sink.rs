//! An application for media streams: takes what a server sends of each call and reads the stamps in the audio.
//!
//! ```text
//!   voice ──RTP, stamped──► server under test ──WebSocket, JSON──► sink        one clock at both ends
//! ```

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::any;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::figures::Figures;
use super::voice::Stamp;

/// Octets of a stamp.
const STAMP: usize = 22;

/// What came.
#[derive(Debug, Default)]
pub(super) struct SinkReport {
    streams: u64,
    /// Counted frames that came.
    pub(super) received: u64,
    unstamped: u64,
    /// From the packet to its message.
    latency: Figures,
    /// Of each stream, how much later than its fastest message; and the interarrival jitter (RFC 3550 §6.4.1) of its end.
    late: Figures,
    jitter: Figures,
    arrivals: HashMap<u64, Arrivals>,
}

#[derive(Debug, Default)]
struct Arrivals {
    all: Vec<f32>,
    last: f64,
    jitter: f64,
}

impl SinkReport {
    /// `sent`: counted packets of the callers.
    pub(super) fn report(&self, sent: u64) -> Value {
        json!({
            "streams": self.streams,
            "frames": self.received,
            "lost": sent.saturating_sub(self.received),
            "unstamped": self.unstamped,
            "packet_to_message_ms": self.latency.report(),
            "later_than_fastest_ms": self.late.report(),
            "jitter_ms": self.jitter.report(),
        })
    }

    /// A server's frames need not begin where packets do: `audio` is what is left of the frame before, in which a stamp may have
    /// begun.
    fn take(&mut self, text: &str, began: Instant, audio: &mut Vec<u8>) {
        let Some((_, payload)) = text.split_once("\"payload\":\"") else { return };
        let payload = payload.split('"').next().unwrap_or_default();
        if STANDARD.decode_vec(payload, audio).is_err() {
            return;
        }
        let places = 0..(audio.len() + 1).saturating_sub(STAMP);
        let found = places.clone().find_map(|place| Some((place, audio.get(place..).and_then(Stamp::read)?)));
        let read = found.as_ref().map_or(places.end, |(place, _)| place + STAMP);
        audio.drain(..read);
        match found {
            Some((_, stamp)) => self.count(&stamp, began),
            None => self.unstamped += 1,
        }
    }

    fn count(&mut self, stamp: &Stamp, began: Instant) {
        if !stamp.counted {
            return;
        }
        self.received += 1;
        let transit = began.elapsed().saturating_sub(stamp.at).as_secs_f64() * 1_000.0;
        self.latency.add(transit);
        let arrivals = self.arrivals.entry(stamp.call).or_default();
        if !arrivals.all.is_empty() {
            arrivals.jitter += ((transit - arrivals.last).abs() - arrivals.jitter) / 16.0;
        }
        arrivals.last = transit;
        arrivals.all.push(transit as f32);
    }

    fn finished(mut self) -> Self {
        for (_, arrivals) in self.arrivals.drain() {
            let fastest = arrivals.all.iter().copied().fold(f32::INFINITY, f32::min);
            arrivals.all.iter().for_each(|transit| self.late.add(f64::from(transit - fastest)));
            self.jitter.add(arrivals.jitter);
        }
        self
    }
}

/// The application's thread.
pub(super) struct Sink {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<SinkReport>,
}

#[derive(Clone)]
struct Shared {
    began: Instant,
    report: Arc<Mutex<SinkReport>>,
}

impl Shared {
    fn with(&self, act: impl FnOnce(&mut SinkReport)) {
        act(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Sink {
    /// Listens at once; `began` is the zero of the stamps.
    pub(super) fn start(address: SocketAddr, began: Instant) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)
            .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let shared = Shared { began, report: Arc::default() };
        let thread = std::thread::Builder::new().name("sink".to_owned()).spawn(move || {
            let app = Router::new().fallback(any(open)).with_state(shared.clone());
            let served = runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                tokio::select! {
                    served = axum::serve(listener, app) => served,
                    _ = stopped => Ok(()),
                }
            });
            if let Err(error) = served {
                eprintln!("sink: {error}");
            }
            let mut report = SinkReport::default();
            shared.with(|found| report = std::mem::take(found));
            report.finished()
        })?;
        Ok(Self { stop, thread })
    }

    pub(super) fn finish(self) -> SinkReport {
        // Gone already is the same.
        let _ = self.stop.send(());
        self.thread.join().unwrap_or_default()
    }
}

async fn open(upgrade: WebSocketUpgrade, State(shared): State<Shared>) -> Response {
    upgrade.on_upgrade(move |socket| listen(socket, shared))
}

async fn listen(mut socket: WebSocket, shared: Shared) {
    shared.with(|report| report.streams += 1);
    let mut audio = Vec::new();
    while let Some(Ok(message)) = socket.recv().await {
        if let Message::Text(text) = message {
            shared.with(|report| report.take(text.as_str(), shared.began, &mut audio));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a load generator's clock is the real one")]
    fn stamps_are_found_wherever_frames_begin_and_lateness_is_told_by_stream() {
        let began = Instant::now();
        for offset in [0, 1, 100, 150, 159] {
            let mut octets = vec![0xff; offset];
            for sequence in 0..4 {
                octets.extend(super::super::voice::stamped(7, sequence, began.elapsed()).get(12..).unwrap());
            }
            let (mut report, mut audio) = (SinkReport::default(), Vec::new());
            report.take(r#"{"event":"start"}"#, began, &mut audio);
            for frame in octets.chunks_exact(160) {
                let payload = STANDARD.encode(frame);
                let message = format!(r#"{{"event":"media","media":{{"track":"inbound","payload":"{payload}"}}}}"#);
                report.take(&message, began, &mut audio);
                assert!(audio.len() <= 160);
            }
            let told = report.finished().report(5);
            // The last stamp may be in a frame that is not whole.
            let all = if offset > 138 { 3 } else { 4 };
            assert_eq!((&told["frames"], &told["lost"]), (&json!(all), &json!(5 - all)), "{offset}");
            assert_eq!(told["later_than_fastest_ms"]["n"], all);
        }
    }
}

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
use std::time::{Duration, Instant};

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
/// Milliseconds of a message.
const FRAME: u64 = 20;
/// Later than this no stamp is believed.
const LONGEST: Duration = Duration::from_secs(10);

/// What came.
#[derive(Debug, Default)]
pub(super) struct SinkReport {
    streams: u64,
    /// Messages with audio, and frames that are missing among them by their timestamps.
    messages: u64,
    dropped: u64,
    /// Counted stamps that came.
    received: u64,
    unstamped: u64,
    /// From the packet to its message.
    latency: Figures,
    /// Of each stream, how much later than its fastest message; and the interarrival jitter (RFC 3550 §6.4.1) of its end.
    late: Figures,
    jitter: Figures,
    arrivals: HashMap<u64, Arrivals>,
}

/// What is known of one connection.
#[derive(Debug, Default)]
struct Connection {
    /// What is left of the last frame's audio.
    audio: Vec<u8>,
    /// The next message's timestamp.
    due: Option<u64>,
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
            "messages": self.messages,
            "dropped": self.dropped,
            "stamps": self.received,
            "stamps_lost": sent.saturating_sub(self.received),
            "unstamped": self.unstamped,
            "packet_to_message_ms": self.latency.report(),
            "later_than_fastest_ms": self.late.report(),
            "jitter_ms": self.jitter.report(),
        })
    }

    /// A server's frames need not begin where packets do: a stamp may have begun in the one before.
    fn take(&mut self, text: &str, began: Instant, connection: &mut Connection) {
        let member = |name: &str| text.split_once(name).and_then(|(_, value)| value.split('"').next());
        let Some(payload) = member("\"payload\":\"") else { return };
        self.messages += 1;
        if let Some(at) = member("\"timestamp\":\"").and_then(|at| at.parse::<u64>().ok()) {
            let due = connection.due.replace(at + FRAME).unwrap_or(at);
            self.dropped += at.saturating_sub(due) / FRAME;
        }
        let audio = &mut connection.audio;
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
        // A server that stretches or cuts silence may cut a stamp too: what is left of it says anything.
        let transit = began.elapsed().checked_sub(stamp.at).filter(|transit| *transit < LONGEST);
        let Some(transit) = transit.filter(|_| stamp.counted) else { return };
        self.received += 1;
        let transit = transit.as_secs_f64() * 1_000.0;
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
    let mut connection = Connection::default();
    while let Some(Ok(message)) = socket.recv().await {
        if let Message::Text(text) = message {
            shared.with(|report| report.take(text.as_str(), shared.began, &mut connection));
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
            let (mut report, mut connection) = (SinkReport::default(), Connection::default());
            report.take(r#"{"event":"start"}"#, began, &mut connection);
            for (count, frame) in octets.chunks_exact(160).enumerate() {
                let payload = STANDARD.encode(frame);
                // One that should have been there before the third is not.
                let at = 20 * (count + usize::from(count > 1));
                let message = format!(r#"{{"media":{{"timestamp":"{at}","payload":"{payload}"}}}}"#);
                report.take(&message, began, &mut connection);
                assert!(connection.audio.len() <= 160);
            }
            let told = report.finished().report(5);
            // The last stamp may be in a frame that is not whole.
            let all = if offset > 138 { 3 } else { 4 };
            assert_eq!((&told["stamps"], &told["stamps_lost"]), (&json!(all), &json!(5 - all)), "{offset}");
            assert_eq!((&told["messages"], &told["dropped"]), (&json!(4), &json!(1)));
            assert_eq!(told["later_than_fastest_ms"]["n"], all);
        }
    }
}

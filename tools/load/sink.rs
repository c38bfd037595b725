//! An application for media streams. The application receives the stream of each call, and reads the stamps in the
//! audio.
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
use tandem_cli::say_error;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::any;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::figures::{Figures, rounded};
use super::stamp::{STAMP, Stamp};

/// Duration of the audio in a message, in ms.
const FRAME: u64 = 20;
const MS: i64 = 8;
/// Interval at which the thread measures how late it wakes up.
const CHECK_INTERVAL: Duration = Duration::from_millis(5);

/// Results of the measurement of media streams.
#[derive(Debug, Default)]
pub(super) struct SinkReport {
    streams: u64,
    /// Number of messages with audio. `dropped` is the number of missing frames, which the timestamps of the messages
    /// show.
    messages: u64,
    dropped: u64,
    /// Number of counted packets whose stamp was found. `missing` is the number of packets that are missing between two
    /// found packets.
    found: u64,
    missing: u64,
    /// Duration of the audio that the server left out between stamps, in ms. `added_ms` is the duration of the audio
    /// that the server inserted. A server leaves audio out and inserts audio in order to adapt to the sender's clock
    /// and to the network.
    cut_ms: f64,
    added_ms: f64,
    /// Number of messages without a stamp.
    unstamped: u64,
    /// Time between the sending of a packet and the arrival of its message, in ms.
    latency: Figures,
    /// Delay of each message in comparison with the fastest message of the same stream, in ms. `jitter` contains the
    /// final interarrival jitter of each stream (RFC 3550 §6.4.1), in ms.
    late: Figures,
    jitter: Figures,
    /// Delay with which this thread wakes up, in ms.
    own: Figures,
    arrivals: HashMap<u64, Arrivals>,
}

/// State of one audio track of a connection.
#[derive(Debug, Default)]
struct Track {
    /// The part of the last frame that has not been searched for stamps. `at` is the position of this audio in the
    /// stream, in samples.
    audio: Vec<u8>,
    at: i64,
    /// Expected timestamp of the next message, in ms.
    due: Option<u64>,
}

#[derive(Debug, Default)]
struct Arrivals {
    all: Vec<f32>,
    last: f64,
    jitter: f64,
    /// Number of the newest packet, and the position of this packet in the stream in samples.
    newest: Option<(u32, i64)>,
}

impl SinkReport {
    /// Returns the results as JSON. `sent` is the number of counted packets that the calling ends have sent.
    pub(super) fn report(&self, sent: u64) -> Value {
        json!({
            "streams": self.streams,
            "messages": self.messages,
            "dropped": self.dropped,
            "stamps": {
                "sent": sent,
                "found": self.found,
                "missing_between": self.missing,
                "before_or_after": sent.saturating_sub(self.found + self.missing),
                "audio_cut_ms": rounded(self.cut_ms),
                "audio_added_ms": rounded(self.added_ms),
            },
            "unstamped": self.unstamped,
            "packet_to_message_ms": self.latency.report(),
            "later_than_fastest_ms": self.late.report(),
            "jitter_ms": self.jitter.report(),
            "generator_late_ms": self.own.report(),
        })
    }

    /// Handles a message. The frames of a server need not start at the start of a packet, so a stamp may begin in one
    /// frame and end in the next frame.
    fn handle_message(&mut self, text: &str, began: Instant, tracks: &mut [Track; 2]) {
        let member = |name: &str| text.split_once(name).and_then(|(_, value)| value.split('"').next());
        let Some(payload) = member("\"payload\":\"") else { return };
        self.messages += 1;
        let outbound = member("\"track\":\"") == Some("outbound");
        let [first, second] = tracks;
        let track = if outbound { second } else { first };
        if let Some(at) = member("\"timestamp\":\"").and_then(|at| at.parse::<u64>().ok()) {
            let due = track.due.replace(at + FRAME).unwrap_or(at);
            self.dropped += at.saturating_sub(due) / FRAME;
            if at != due || track.audio.is_empty() {
                track.audio.clear();
                track.at = at as i64 * MS;
            }
        }
        let audio = &mut track.audio;
        if STANDARD.decode_vec(payload, audio).is_err() {
            return audio.clear();
        }
        let (mut place, mut stamped) = (0, false);
        while let Some(here) = audio.get(place..).filter(|here| here.len() >= STAMP) {
            place += match Stamp::read(here) {
                Some((stamp, copy)) => {
                    stamped = true;
                    self.count(&stamp, track.at + place as i64 - (copy * STAMP) as i64, began);
                    STAMP
                }
                None => 1,
            };
        }
        audio.drain(..place);
        track.at += place as i64;
        self.unstamped += u64::from(!stamped);
    }

    /// Counts a stamp. `at` is the position of the stamp's packet in the stream, in samples.
    fn count(&mut self, stamp: &Stamp, at: i64, began: Instant) {
        let arrivals = self.arrivals.entry(stamp.call).or_default();
        let (last, place) = match arrivals.newest {
            // This is another copy of the last stamp, or the stamp of an older packet.
            Some((newest, _)) if stamp.sequence <= newest => return,
            Some(newest) => newest,
            None => (stamp.sequence.wrapping_sub(1), at - FRAME as i64 * MS),
        };
        arrivals.newest = Some((stamp.sequence, at));
        if !stamp.counted {
            return;
        }
        let transit = began.elapsed().saturating_sub(stamp.at).as_secs_f64() * 1_000.0;
        self.found += 1;
        self.latency.add(transit);
        if !arrivals.all.is_empty() {
            // The missing packets are counted packets, because the packet before them is a counted packet.
            let packets = stamp.sequence.wrapping_sub(last);
            self.missing += u64::from(packets.saturating_sub(1));
            let more = (at - place - i64::from(packets) * FRAME as i64 * MS) as f64 / MS as f64;
            if more > 0.0 {
                self.added_ms += more;
            } else {
                self.cut_ms -= more;
            }
            arrivals.jitter += ((transit - arrivals.last).abs() - arrivals.jitter) / 16.0;
        }
        arrivals.last = transit;
        arrivals.all.push(transit as f32);
    }

    fn finished(mut self) -> Self {
        for (_, arrivals) in self.arrivals.drain().filter(|(_, arrivals)| !arrivals.all.is_empty()) {
            let fastest = arrivals.all.iter().copied().fold(f32::INFINITY, f32::min);
            arrivals.all.iter().for_each(|transit| self.late.add(f64::from(transit - fastest)));
            self.jitter.add(arrivals.jitter);
        }
        self
    }
}

/// The handle for the thread of the application.
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
    /// Starts the thread, which listens on `address`. The times of the stamps are relative to `began`.
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
                    () = measure_lateness(&shared) => Ok(()),
                    _ = stopped => Ok(()),
                }
            });
            if let Err(error) = served {
                say_error!("sink: {error}");
            }
            let mut report = SinkReport::default();
            shared.with(|found| report = std::mem::take(found));
            report.finished()
        })?;
        Ok(Self { stop, thread })
    }

    pub(super) fn finish(self) -> SinkReport {
        // Sending fails if the thread has ended.
        let _ = self.stop.send(());
        self.thread.join().unwrap_or_default()
    }
}

async fn open(upgrade: WebSocketUpgrade, State(shared): State<Shared>) -> Response {
    upgrade.on_upgrade(move |socket| listen(socket, shared))
}

/// Measures how late the thread wakes up. This lateness is a delay of the generator, and not of the server.
async fn measure_lateness(shared: &Shared) {
    loop {
        let due = tokio::time::Instant::now() + CHECK_INTERVAL;
        tokio::time::sleep_until(due).await;
        shared.with(|report| report.own.add(due.elapsed().as_secs_f64() * 1_000.0));
    }
}

async fn listen(mut socket: WebSocket, shared: Shared) {
    shared.with(|report| report.streams += 1);
    let mut tracks = <[Track; 2]>::default();
    while let Some(Ok(message)) = socket.recv().await {
        if let Message::Text(text) = message {
            shared.with(|report| report.handle_message(text.as_str(), shared.began, &mut tracks));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octets(packets: impl IntoIterator<Item = u32>, began: Instant) -> Vec<u8> {
        let stamp = |sequence| Stamp { call: 7, direction: 0, counted: true, sequence, at: began.elapsed() };
        let mut octets = Vec::new();
        for sequence in packets {
            let start = octets.len();
            octets.resize(start + 160, 0);
            stamp(sequence).write(&mut octets[start..]);
        }
        octets
    }

    fn message(at: usize, frame: &[u8]) -> String {
        format!(r#"{{"media":{{"track":"inbound","timestamp":"{at}","payload":"{}"}}}}"#, STANDARD.encode(frame))
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a load generator's clock is the real one")]
    fn stamps_are_found_at_every_offset_and_lateness_is_reported_per_stream() {
        let began = Instant::now();
        for offset in [0, 1, 100, 150, 159] {
            let mut audio = vec![0xff; offset];
            audio.extend(octets(0..4, began));
            let (mut report, mut tracks) = (SinkReport::default(), <[Track; 2]>::default());
            report.handle_message(r#"{"event":"start"}"#, began, &mut tracks);
            for (count, frame) in audio.chunks_exact(160).enumerate() {
                report.handle_message(&message(20 * count, frame), began, &mut tracks);
                assert!(tracks[0].audio.len() < STAMP);
            }
            let result = report.finished().report(5);
            // The last packet may start so late in the frame that its stamp is not complete.
            let all = if offset > 121 { 3 } else { 4 };
            assert_eq!(
                (&result["stamps"]["found"], &result["stamps"]["before_or_after"]),
                (&json!(all), &json!(5 - all))
            );
            assert_eq!((&result["messages"], &result["dropped"]), (&json!(4), &json!(0)), "{offset}");
            assert_eq!(
                (&result["stamps"]["audio_cut_ms"], &result["stamps"]["audio_added_ms"]),
                (&json!(0.0), &json!(0.0))
            );
            assert_eq!(result["later_than_fastest_ms"]["n"], all);
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a load generator's clock is the real one")]
    fn dropped_frames_cut_audio_and_inserted_audio_are_distinguished() {
        let began = Instant::now();
        let (mut report, mut tracks) = (SinkReport::default(), <[Track; 2]>::default());
        // Packet 2 and the message with packet 2 are missing.
        for (at, packet) in [(0, 0), (20, 1), (60, 3)] {
            report.handle_message(&message(at, &octets([packet], began)), began, &mut tracks);
        }
        assert_eq!((report.found, report.missing, report.dropped), (3, 1, 1));
        // Half of packet 4 is missing. There is other audio between packets 5 and 6. Packet 7 has no stamp.
        let mut audio = octets([4], began)[80..].to_vec();
        audio.extend(octets([5], began));
        audio.extend([0xff; 80]);
        audio.extend(octets([6], began));
        audio.extend([0; 160]);
        audio.extend(octets([8], began));
        for (count, frame) in audio.chunks(160).enumerate() {
            report.handle_message(&message(80 + 20 * count, frame), began, &mut tracks);
        }
        assert_eq!((report.found, report.missing, report.dropped), (7, 2, 1));
        assert_eq!((report.cut_ms, report.added_ms), (10.0, 10.0));
    }
}

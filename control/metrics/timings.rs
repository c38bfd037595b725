//! The response times of applications and speech engines, and the counters of streams and conversations.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::families::{self, Family};
use crate::histogram::Histogram;
use crate::page::Page;
use crate::totals::Sum;

/// Upper bounds of the buckets in seconds. The lowest bound is the response time of a local application. The highest
/// bound is the time after which callers hang up.
const ENDS: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.5, 5.0, 10.0];

/// A measured time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timing {
    /// The fetch of an application's document, including redirects and second attempts.
    Document,
    /// One attempt to deliver a webhook.
    Webhook,
    /// The synthesis of one text. A cached text is not counted.
    TextToSpeech,
    /// The recognition of one utterance or file by an engine that recognises whole files.
    SpeechToText,
    /// The time from the start of a stream's WebSocket connection to the answer to the handshake.
    StreamConnect,
    /// The time from the start of a conversation's WebSocket connection to the answer to the handshake.
    ConversationConnect,
    /// The time from the handshake to the first audio from a stream's application.
    StreamFirstAudio,
    /// The time from the end of the caller's speech to the final recognised words.
    TurnWords,
    /// The time from the end of the caller's speech to the first message of the application's reply.
    TurnToken,
    /// The time from the end of the caller's speech to the first audio of the reply.
    TurnAudio,
    /// The time from the end of the caller's speech to the first audio from a stream's application.
    StreamTurnAudio,
}

/// A metric family, and the labels for each `T`.
type Series<T> = (&'static Family, &'static [(T, &'static str)]);

const TIMES: [Series<Timing>; 6] = [
    (&families::DOCUMENT_SECONDS, &[(Timing::Document, "")]),
    (&families::WEBHOOK_SECONDS, &[(Timing::Webhook, "")]),
    (&families::SPEECH_SECONDS, &[(Timing::TextToSpeech, "engine=\"tts\""), (Timing::SpeechToText, "engine=\"stt\"")]),
    (
        &families::STREAM_CONNECT_SECONDS,
        &[(Timing::StreamConnect, "kind=\"stream\""), (Timing::ConversationConnect, "kind=\"conversation\"")],
    ),
    (&families::STREAM_FIRST_AUDIO_SECONDS, &[(Timing::StreamFirstAudio, "")]),
    (
        &families::TURN_SECONDS,
        &[
            (Timing::TurnWords, "kind=\"conversation\",until=\"words\""),
            (Timing::TurnToken, "kind=\"conversation\",until=\"token\""),
            (Timing::TurnAudio, "kind=\"conversation\",until=\"audio\""),
            (Timing::StreamTurnAudio, "kind=\"stream\",until=\"audio\""),
        ],
    ),
];

/// The number of variants of `Timing`.
const TIMINGS: usize = Timing::StreamTurnAudio as usize + 1;

/// A counted event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// A text that was not spoken, or that was spoken by an engine other than the configured engine.
    TtsFailed,
    /// A failure of a recogniser.
    SttFailed,
    /// A conversation's reply that the caller interrupted.
    ConversationInterrupted,
    /// Audio of a stream's application that was still in the queue when the application cleared the queue.
    StreamInterrupted,
    /// A frame of 20 ms that was sent to a stream's application.
    FramesOut,
    /// A frame that was dropped because a stream's application was too slow.
    FramesDropped,
    /// A media message of a stream's application.
    MessagesIn,
    /// A gap in the audio of a stream's application.
    Underruns,
    /// A `clear` message of a stream's application.
    Clears,
    /// A mark of a stream's application.
    Marks,
}

const COUNTERS: [Series<Count>; 8] = [
    (&families::SPEECH_FAILED, &[(Count::TtsFailed, "engine=\"tts\""), (Count::SttFailed, "engine=\"stt\"")]),
    (
        &families::TURN_INTERRUPTIONS,
        &[(Count::ConversationInterrupted, "kind=\"conversation\""), (Count::StreamInterrupted, "kind=\"stream\"")],
    ),
    (&families::STREAM_FRAMES_OUT, &[(Count::FramesOut, "")]),
    (&families::STREAM_FRAMES_DROPPED, &[(Count::FramesDropped, "")]),
    (&families::STREAM_MESSAGES_IN, &[(Count::MessagesIn, "")]),
    (&families::STREAM_UNDERRUNS, &[(Count::Underruns, "")]),
    (&families::STREAM_CLEARS, &[(Count::Clears, "")]),
    (&families::STREAM_MARKS, &[(Count::Marks, "")]),
];

/// The number of variants of `Count`.
const COUNTS: usize = Count::Marks as usize + 1;

/// The times and counters since the start of the server. The server does not update these values for every audio
/// packet.
#[derive(Debug)]
pub struct Timings {
    times: [Mutex<Histogram>; TIMINGS],
    counts: [AtomicU64; COUNTS],
}

impl Default for Timings {
    fn default() -> Self {
        Self { times: std::array::from_fn(|_| Mutex::new(Histogram::new(&ENDS))), counts: Default::default() }
    }
}

impl Timings {
    /// Adds a measured time.
    pub fn took(&self, timing: Timing, time: Duration) {
        if let Some(times) = self.times.get(timing as usize) {
            times.lock().add(Some(time.as_secs_f64()));
        }
    }

    /// Returns the sum and the number of the measured times.
    pub(super) fn total(&self, timing: Timing) -> Sum {
        Sum::of(self.times.get(timing as usize).map(|times| times.lock()).as_deref())
    }

    /// Adds `times` to a counter.
    pub fn count(&self, count: Count, times: u64) {
        if let Some(counter) = self.counts.get(count as usize) {
            counter.fetch_add(times, Ordering::Relaxed);
        }
    }

    /// Writes the times and the counters.
    pub(super) fn render(&self, page: &mut Page) {
        for (family, series) in TIMES {
            let mut rows = page.family(family);
            for (timing, labels) in series {
                if let Some(times) = self.times.get(*timing as usize) {
                    rows.histogram(labels, &times.lock());
                }
            }
        }
        for (family, series) in COUNTERS {
            let mut rows = page.family(family);
            for (count, labels) in series {
                rows.row(labels, self.counts.get(*count as usize).map_or(0, |count| count.load(Ordering::Relaxed)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn braced(labels: &str) -> String {
        if labels.is_empty() { String::new() } else { format!("{{{labels}}}") }
    }

    #[test]
    fn each_timing_and_each_counter_belongs_to_one_family() {
        let timings = Timings::default();
        let all: Vec<_> = TIMES.iter().flat_map(|(_, rows)| rows.iter()).collect();
        assert_eq!(all.len(), TIMINGS);
        for (place, (timing, _)) in all.iter().enumerate() {
            timings.took(*timing, Duration::from_millis(100 * place as u64));
        }
        let counts: Vec<_> = COUNTERS.iter().flat_map(|(_, rows)| rows.iter()).collect();
        assert_eq!(counts.len(), COUNTS);
        counts.iter().enumerate().for_each(|(place, (count, _))| timings.count(*count, place as u64 + 1));
        let mut page = Page::default();
        timings.render(&mut page);
        let text = page.into_text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.iter().filter(|line| line.contains("_count") && line.ends_with(" 1")).count(), TIMINGS);
        for (place, (_, labels)) in counts.iter().enumerate() {
            assert!(lines.iter().any(|line| line.ends_with(&format!("{} {}", braced(labels), place + 1))), "{text}");
        }
        assert!(text.contains("tandem_webhook_seconds_bucket{le=\"0.1\"} 1\n"), "{text}");
        assert!(text.contains("tandem_turn_seconds_bucket{kind=\"stream\",until=\"audio\",le=\"0.7\"} 0\n"), "{text}");
    }
}

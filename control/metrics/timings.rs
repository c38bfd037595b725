//! How long applications and speech engines take, and what their streams and conversations carried.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::histogram::{Histogram, head};

/// Upper ends of the buckets, seconds: from an answer of this machine to one that a caller hangs up over.
const ENDS: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.5, 5.0, 10.0];

/// Something whose time is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timing {
    /// A document of an application, redirects and second attempts included.
    Document,
    /// One attempt at a webhook.
    Webhook,
    /// One text spoken by the engine; a text that was kept from before takes no time and is not counted.
    TextToSpeech,
    /// One utterance or file recognised by an engine that takes files.
    SpeechToText,
    /// From the first packet of a stream's WebSocket to the answer of its handshake.
    StreamConnect,
    /// The same of a conversation.
    ConversationConnect,
    /// From the handshake to the first audio that a stream's application sent.
    StreamFirstAudio,
    /// From the caller's end of speech to the final words.
    TurnWords,
    /// ... to the first message of the application's reply.
    TurnToken,
    /// ... to the first audio of the reply.
    TurnAudio,
    /// From the caller's end of speech to the first audio that a stream's application sent.
    StreamTurnAudio,
}

/// A family of `/metrics`: its name, its help, and which `T` has which labels.
type Family<T> = (&'static str, &'static str, &'static [(T, &'static str)]);

/// Times.
const FAMILIES: [Family<Timing>; 6] = [
    ("tandem_document_seconds", "Time that applications took to answer with a document", &[(Timing::Document, "")]),
    ("tandem_webhook_seconds", "Time of each attempt at a webhook", &[(Timing::Webhook, "")]),
    (
        "tandem_speech_seconds",
        "Time that a speech engine took for one text (tts) or one utterance or file (stt)",
        &[(Timing::TextToSpeech, "engine=\"tts\""), (Timing::SpeechToText, "engine=\"stt\"")],
    ),
    (
        "tandem_stream_connect_seconds",
        "Time until an application's WebSocket was open",
        &[(Timing::StreamConnect, "kind=\"stream\""), (Timing::ConversationConnect, "kind=\"conversation\"")],
    ),
    (
        "tandem_stream_first_audio_seconds",
        "Time from a stream's start to the first audio of its application",
        &[(Timing::StreamFirstAudio, "")],
    ),
    (
        "tandem_turn_seconds",
        "Time from the caller's end of speech to the recognised words, the application's first token and the first audio",
        &[
            (Timing::TurnWords, "kind=\"conversation\",until=\"words\""),
            (Timing::TurnToken, "kind=\"conversation\",until=\"token\""),
            (Timing::TurnAudio, "kind=\"conversation\",until=\"audio\""),
            (Timing::StreamTurnAudio, "kind=\"stream\",until=\"audio\""),
        ],
    ),
];

/// How many timings there are.
const TIMINGS: usize = Timing::StreamTurnAudio as usize + 1;

/// Something that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// A text that was not spoken, or not by the engine that is configured.
    TtsFailed,
    /// A recogniser that failed.
    SttFailed,
    /// A reply of a conversation that the caller cut short.
    ConversationInterrupted,
    /// Audio of a stream's application that it cleared while it waited to be played.
    StreamInterrupted,
    /// Frames of 20 ms sent to stream applications.
    FramesOut,
    /// Frames that an application was too slow for.
    FramesDropped,
    /// Media messages of applications.
    MessagesIn,
    /// Gaps in what an application said.
    Underruns,
    /// `clear` messages of applications.
    Clears,
    /// Marks of applications.
    Marks,
}

/// Counters.
const COUNTERS: [Family<Count>; 8] = [
    (
        "tandem_speech_failed_total",
        "Texts that were not spoken by the engine (tts), recognisers that failed (stt)",
        &[(Count::TtsFailed, "{engine=\"tts\"}"), (Count::SttFailed, "{engine=\"stt\"}")],
    ),
    (
        "tandem_turn_interruptions_total",
        "Replies of applications that were cut short",
        &[(Count::ConversationInterrupted, "{kind=\"conversation\"}"), (Count::StreamInterrupted, "{kind=\"stream\"}")],
    ),
    (
        "tandem_stream_frames_out_total",
        "Frames of 20 ms sent to stream applications, of ended streams",
        &[(Count::FramesOut, "")],
    ),
    (
        "tandem_stream_frames_dropped_total",
        "Frames that stream applications were too slow for, of ended streams",
        &[(Count::FramesDropped, "")],
    ),
    (
        "tandem_stream_messages_in_total",
        "Media messages of stream applications, of ended streams",
        &[(Count::MessagesIn, "")],
    ),
    (
        "tandem_stream_underruns_total",
        "Gaps of up to 500 ms in the audio of stream applications, of ended streams",
        &[(Count::Underruns, "")],
    ),
    ("tandem_stream_clears_total", "Clear messages of stream applications, of ended streams", &[(Count::Clears, "")]),
    ("tandem_stream_marks_total", "Marks of stream applications, of ended streams", &[(Count::Marks, "")]),
];

/// How many counters there are.
const COUNTS: usize = Count::Marks as usize + 1;

/// Since the start. Nothing here is touched for each packet.
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
    /// Something took so long.
    pub fn took(&self, timing: Timing, time: Duration) {
        if let Some(times) = self.times.get(timing as usize) {
            times.lock().add(Some(time.as_secs_f64()));
        }
    }

    /// Something happened so often.
    pub fn count(&self, count: Count, times: u64) {
        if let Some(counter) = self.counts.get(count as usize) {
            counter.fetch_add(times, Ordering::Relaxed);
        }
    }

    /// Prometheus text.
    pub(super) fn render(&self, out: &mut String) {
        for (name, help, rows) in FAMILIES {
            head(out, name, help);
            for (timing, labels) in rows {
                if let Some(times) = self.times.get(*timing as usize) {
                    times.lock().render(out, name, labels);
                }
            }
        }
        for (name, help, rows) in COUNTERS {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter");
            for (count, labels) in rows {
                let value = self.counts.get(*count as usize).map_or(0, |count| count.load(Ordering::Relaxed));
                let _ = writeln!(out, "{name}{labels} {value}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_timing_and_each_count_has_its_place_in_one_family() {
        let timings = Timings::default();
        let all: Vec<_> = FAMILIES.iter().flat_map(|(_, _, rows)| rows.iter()).collect();
        assert_eq!(all.len(), TIMINGS);
        for (place, (timing, _)) in all.iter().enumerate() {
            timings.took(*timing, Duration::from_millis(100 * place as u64));
        }
        let counts: Vec<_> = COUNTERS.iter().flat_map(|(_, _, rows)| rows.iter()).collect();
        assert_eq!(counts.len(), COUNTS);
        counts.iter().enumerate().for_each(|(place, (count, _))| timings.count(*count, place as u64 + 1));
        let mut text = String::new();
        timings.render(&mut text);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.iter().filter(|line| line.contains("_count") && line.ends_with(" 1")).count(), TIMINGS);
        for (place, (_, labels)) in counts.iter().enumerate() {
            assert!(lines.iter().any(|line| line.ends_with(&format!("{labels} {}", place + 1))), "{text}");
        }
        assert!(text.contains("tandem_webhook_seconds_bucket{le=\"0.1\"} 1\n"), "{text}");
        assert!(text.contains("tandem_turn_seconds_bucket{kind=\"stream\",until=\"audio\",le=\"0.7\"} 0\n"), "{text}");
    }
}

//! The statistics of a stream. The call's log shows each turn of the conversation, and all figures at the end. This
//! module does no I/O.
//!
//! A voice detector finds the turns in the caller's audio, because only the application recognises the words.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tandem_call::recognition::RecognitionEvent;
use tandem_media as media;
use tandem_metrics::timings::{Count, Timing, Timings};
use tandem_speech::recognise::{PAUSE, SpeechEdges};

use tandem_metrics::turns::Turns;

/// Duration of silence from the application after which its next audio counts as a new reply.
const SILENCE: Duration = Duration::from_millis(100);
/// Maximum number of log lines about the turns of one stream. So a long stream leaves room for the other lines of the
/// call. Later turns are only counted.
const MAX_TURN_LINES: u32 = 300;
/// Number of samples in a frame at 16 kHz.
const FRAME_16K: usize = 320;

pub(super) struct StreamStats {
    /// Time at which the socket was opened.
    began: Instant,
    /// Detects pauses of the caller. `None` if the application cannot send audio.
    edges: Option<(SpeechEdges, media::SampleRate)>,
    /// The byte order of linear samples.
    order: media::ByteOrder,
    turns: Turns,
    /// Time at which the playback of all audio that the application has sent so far will end. Gaps in the playback are
    /// not considered.
    until: Option<Instant>,
    first_audio: Option<Duration>,
    frames_out: u64,
    messages_in: u64,
    audio_in: Duration,
    refused: u64,
    clears: u64,
    marks: u64,
}

/// A line for the call's log, as text and as JSON.
pub(super) type LogLine = (String, Value);

/// The counts of the media engine for a stream.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct EngineCounts {
    /// Number of frames that were dropped because the application was too slow.
    pub(super) dropped: u64,
    /// The gaps in the application's audio.
    pub(super) underruns: media::Underruns,
}

impl StreamStats {
    /// Starts the statistics of a stream when its socket is open. `answers` says whether the application may send
    /// audio.
    pub(super) fn new(now: Instant, codec: media::TapCodec, answers: bool) -> Self {
        let (rate, order) = match codec {
            media::TapCodec::L16Wide(order) => (media::SampleRate::Hz16000, order),
            media::TapCodec::L16(order) => (media::SampleRate::Hz8000, order),
            _ => (media::SampleRate::Hz8000, media::ByteOrder::Little),
        };
        Self {
            began: now,
            edges: answers.then(|| (SpeechEdges::new(rate), rate)),
            order,
            turns: Turns::default(),
            until: None,
            first_audio: None,
            frames_out: 0,
            messages_in: 0,
            audio_in: Duration::ZERO,
            refused: 0,
            clears: 0,
            marks: 0,
        }
    }

    /// Counts a frame that is sent to the application. The function does not allocate memory.
    pub(super) fn sent(&mut self, now: Instant, frame: &media::TapFrame) {
        self.frames_out += 1;
        if let Some((edges, rate)) = self.edges.as_mut().filter(|_| frame.track == media::Track::Inbound) {
            let mut samples = [0; FRAME_16K];
            let samples = samples.get_mut(..rate.frame()).unwrap_or_default();
            decode(frame.codec, frame.audio(), self.order, samples);
            if let Some(RecognitionEvent::Paused) = edges.push(samples) {
                self.turns.caller_paused(now.checked_sub(PAUSE).unwrap_or(now));
            }
        }
    }

    /// Counts audio from the application. `length` is the duration of the audio. Returns lines for the log.
    pub(super) fn spoken(&mut self, now: Instant, length: Duration, timings: &Timings) -> Vec<LogLine> {
        let mut noted = Vec::new();
        self.messages_in += 1;
        self.audio_in = self.audio_in.saturating_add(length);
        if self.first_audio.is_none() {
            let after = now.saturating_duration_since(self.began);
            self.first_audio = Some(after);
            timings.took(Timing::StreamFirstAudio, after);
            let ms = after.as_millis() as u64;
            let text = format!("first audio of the application, {ms} ms after the stream was connected");
            noted.push((text, json!({ "event": "first_audio", "after_ms": ms })));
        }
        let silent = self.until.is_none_or(|until| now.saturating_duration_since(until) >= SILENCE);
        if silent && let Some(turn) = self.turns.spoke_at_last(now) {
            timings.took(Timing::StreamTurnAudio, turn.audio);
            if turn.number <= MAX_TURN_LINES {
                noted.push((turn.to_string(), turn.json()));
            }
        }
        let from = self.until.filter(|until| *until > now).unwrap_or(now);
        self.until = Some(from.checked_add(length).unwrap_or(from));
        noted
    }

    /// Counts a message whose audio was refused because too much audio was waiting.
    pub(super) fn refused(&mut self) {
        self.refused += 1;
    }

    /// Counts a command with which the application drops the waiting audio.
    pub(super) fn cleared(&mut self, now: Instant, timings: &Timings) {
        self.clears += 1;
        if self.until.take().is_some_and(|until| until > now) {
            self.turns.interrupted();
            timings.count(Count::StreamInterrupted, 1);
        }
    }

    /// Counts a mark that the application has sent.
    pub(super) fn marked(&mut self) {
        self.marks += 1;
    }

    pub(super) fn end(&self, now: Instant, name: &str, carried: EngineCounts, timings: &Timings) -> LogLine {
        let EngineCounts { dropped, underruns } = carried;
        for (count, times) in [
            (Count::FramesOut, self.frames_out),
            (Count::FramesDropped, dropped),
            (Count::MessagesIn, self.messages_in),
            (Count::Underruns, underruns.count),
            (Count::Clears, self.clears),
            (Count::Marks, self.marks),
        ] {
            timings.count(count, times);
        }
        let lasted = now.saturating_duration_since(self.began);
        let totals = self.turns.totals();
        let Self { frames_out, messages_in, audio_in, refused, clears, marks, .. } = self;
        let (gaps, silence) = (underruns.count, underruns.silence.as_millis());
        let text = format!(
            "stream {name}: {:.1} s; {frames_out} frames to the application, {dropped} dropped; from it {messages_in} \
             messages with {:.1} s of audio, {refused} refused, {gaps} underruns ({silence} ms), {clears} clears, {marks} \
             marks; {totals}",
            lasted.as_secs_f64(),
            audio_in.as_secs_f64(),
        );
        let ms = |time: Duration| time.as_millis() as u64;
        let data = json!({
            "event": "stream", "id": name, "duration_ms": ms(lasted), "frames_out": frames_out, "frames_dropped": dropped,
            "messages_in": messages_in, "audio_in_ms": ms(*audio_in), "refused": refused, "underruns": gaps,
            "underrun_ms": ms(underruns.silence), "clears": clears, "marks": marks,
            "first_audio_ms": self.first_audio.map(ms), "turns": totals.turns, "interruptions": totals.interruptions,
            "turn_audio_ms_mean": totals.mean().map(ms), "turn_audio_ms_max": totals.mean().map(|_| ms(totals.longest)),
        });
        (text, data)
    }
}

/// Decodes the audio of a frame into `samples`. Decodes at most as many samples as fit into `samples`.
pub(super) fn decode(codec: media::Codec, audio: &[u8], order: media::ByteOrder, samples: &mut [i16]) {
    let law = match codec {
        media::Codec::Pcmu => media::g711::Law::Mu,
        media::Codec::Pcma => media::g711::Law::A,
        _ => return order.read(audio, samples),
    };
    let length = samples.len().min(audio.len());
    if let (Some(octets), Some(samples)) = (audio.get(..length), samples.get_mut(..length)) {
        law.decode(octets, samples);
    }
}

#[cfg(test)]
mod tests {
    use media::ByteOrder::{Big, Little};

    use super::*;

    fn ms(time: u64) -> Duration {
        Duration::from_millis(time)
    }

    /// Returns a virtual clock: a function from milliseconds after the start to an instant.
    fn clock() -> impl Fn(u64) -> Instant {
        #[expect(clippy::disallowed_methods, reason = "any Instant will do as the start of a virtual clock")]
        let start = Instant::now();
        move |time| start + ms(time)
    }

    #[test]
    fn a_turn_of_a_stream_lasts_from_the_end_of_speech_to_the_first_audio() {
        let (at, timings) = (clock(), Timings::default());
        let mut tally = StreamStats::new(at(0), media::TapCodec::Native, true);
        let first = tally.spoken(at(300), ms(1_000), &timings);
        assert_eq!(first[0].0, "first audio of the application, 300 ms after the stream was connected");
        assert_eq!(first.len(), 1, "a greeting is no turn");
        tally.turns.caller_paused(at(1_200));
        assert!(tally.spoken(at(1_250), ms(100), &timings).is_empty(), "it goes on with what it was saying");
        tally.turns.caller_paused(at(2_000));
        let turn = tally.spoken(at(2_480), ms(500), &timings);
        assert_eq!(turn[0].0, "turn 1: from the end of speech 480 ms to the first audio");
        assert!(tally.spoken(at(2_500), ms(500), &timings).is_empty());
        tally.cleared(at(2_600), &timings);
        tally.turns.caller_paused(at(2_700));
        assert_eq!(tally.spoken(at(2_900), ms(20), &timings)[0].1["audio_ms"], 200, "after a clear nothing waits");
        tally.cleared(at(5_000), &timings);
        tally.marked();
        let carried = EngineCounts { dropped: 2, underruns: media::Underruns { count: 1, silence: ms(40) } };
        let (text, data) = tally.end(at(6_000), "MZ1", carried, &timings);
        assert_eq!(
            text,
            "stream MZ1: 6.0 s; 0 frames to the application, 2 dropped; from it 5 messages with 2.1 s of audio, 0 refused, \
             1 underruns (40 ms), 2 clears, 1 marks; 2 turns, 1 interruption, end of speech to first audio 340 ms on \
             average, 480 ms at most"
        );
        assert_eq!((&data["interruptions"], &data["first_audio_ms"]), (&json!(1), &json!(300)));
    }

    #[test]
    fn audio_is_decoded_by_its_codec_and_byte_order_as_far_as_the_samples_fit() {
        const LINEAR: media::Codec = media::Codec::L16(media::SampleRate::Hz8000);
        let decoded = |codec, audio: &[u8], order| {
            let mut samples = [7; 2];
            decode(codec, audio, order, &mut samples);
            samples
        };
        assert_eq!(decoded(LINEAR, &[0x01, 0x02, 0xff, 0xff, 9, 9], Little), [0x0201, -1]);
        assert_eq!(decoded(LINEAR, &[0x01, 0x02, 0xff, 0xfe], Big), [0x0102, -2]);
        assert_eq!(decoded(LINEAR, &[0x01, 0x02, 0x03], Big), [0x0102, 7], "half a sample is no sample");
        assert_eq!(decoded(media::Codec::Pcmu, &[0xff, 0x00, 0x80], Little), [0, -32_124]);
        assert_eq!(decoded(media::Codec::Pcma, &[0xd5], Little), [8, 7]);
    }

    #[test]
    fn a_clear_is_an_interruption_only_while_audio_is_playing() {
        let (at, timings) = (clock(), Timings::default());
        let mut stats = StreamStats::new(at(0), media::TapCodec::Native, true);
        stats.turns.caller_paused(at(0));
        stats.spoken(at(100), ms(400), &timings);
        stats.cleared(at(499), &timings);
        stats.cleared(at(499), &timings);
        stats.spoken(at(1_000), ms(400), &timings);
        stats.cleared(at(1_400), &timings);
        let (_, data) = stats.end(at(2_000), "MZ1", EngineCounts::default(), &timings);
        assert_eq!((&data["interruptions"], &data["clears"]), (&json!(1), &json!(3)));
    }

    #[test]
    fn waiting_audio_extends_the_playback_and_begins_no_turn() {
        let (at, timings) = (clock(), Timings::default());
        let mut stats = StreamStats::new(at(0), media::TapCodec::Native, true);
        stats.spoken(at(0), ms(1_000), &timings);
        stats.spoken(at(10), ms(1_000), &timings);
        stats.turns.caller_paused(at(1_500));
        assert!(stats.spoken(at(2_099), ms(20), &timings).is_empty(), "99 ms of silence are no new reply");
        stats.turns.caller_paused(at(2_150));
        assert_eq!(stats.spoken(at(2_219), ms(20), &timings)[0].1["audio_ms"], 69, "100 ms of silence are one");
    }

    #[test]
    fn a_long_stream_leaves_room_in_the_log_for_the_rest_of_its_call() {
        let (at, timings) = (clock(), Timings::default());
        let mut tally = StreamStats::new(at(0), media::TapCodec::Native, true);
        let mut lines = 0;
        for turn in 0..2_000 {
            tally.turns.caller_paused(at(1_000 * turn));
            lines += tally.spoken(at(1_000 * turn + 500), ms(20), &timings).len();
        }
        assert_eq!((lines, tally.turns.totals().turns), (MAX_TURN_LINES as usize + 1, 2_000));
    }
}

//! The part of a tested call that would be audio: sentences, files, tones, speech recognition and streams. Nothing is
//! heard, and everything takes its time on the virtual clock.

use std::time::Duration;

use tandem_call::conversation::{ConversationStatus, ConversationTarget};
use tandem_call::event::PlaybackEnd;
use tandem_call::machine_detection::{DetectionResult, GreetingEnd, Until};
use tandem_call::output::{LegCommand, LegEvent};
use tandem_call::program::instruction::{AudioSource, Play, Tone};
use tandem_call::recognition::{RecognisedText, RecognitionEvent};
use tandem_call::siprec::SiprecStatus;
use tandem_call::stream::StreamStatus;
use tandem_call::transcription::TranscriptionStatus;
use tandem_id::{LegId, OpId, QueueId};

use super::expectation::Action;
use super::log::{Fact, speaking_time, without_markup};
use super::stage::Stage;

/// Duration of the tone before a recording.
const BEEP: Duration = Duration::from_millis(500);
/// Frequency of this tone and of the ringback tone, in Hz.
const BEEP_HERTZ: f64 = 1_000.0;
const RINGBACK_HERTZ: f64 = 440.0;
/// Duration of a file that the test cannot read.
const UNKNOWN_FILE: Duration = Duration::from_secs(3);
/// Time from the answer of a called party to the result of answering-machine detection.
const DETECTION: Duration = Duration::from_secs(2);
/// Confidence of the recognised words.
const CONFIDENCE: f32 = 0.95;

impl Stage<'_> {
    pub(super) async fn play(&mut self, leg: LegId, op: OpId, play: Play) {
        let loops = play.loops.map(|loops| loops.get().min(1_000));
        let (length, end) = match &play.source {
            AudioSource::Speech(speech) => {
                let text = if speech.ssml { without_markup(&speech.text) } else { speech.text.clone() };
                self.note_of(leg, format!("hears \"{}\"", text.trim()), Fact::Speech(leg));
                let length = speaking_time(&text);
                self.texts.insert((leg, op), text);
                (length, PlaybackEnd::Completed)
            }
            AudioSource::Url(url) | AudioSource::UncachedUrl(url) => {
                let fact = Fact::Action(Action::Plays, vec![url.clone()]);
                self.note_of(leg, format!("hears {url}"), fact);
                match self.world.file(url).await {
                    Ok(length) => (length, PlaybackEnd::Completed),
                    Err(tandem_audio::AudioError::Missing(why)) => (Duration::ZERO, PlaybackEnd::Missing(why)),
                    Err(tandem_audio::AudioError::Unusable(why)) => (Duration::ZERO, PlaybackEnd::Failed(why)),
                }
            }
            AudioSource::Stored(name) => {
                let fact = Fact::Action(Action::Plays, vec![name.clone()]);
                self.note_of(leg, format!("hears the media file {name}"), fact);
                (UNKNOWN_FILE, PlaybackEnd::Completed)
            }
            AudioSource::Inline(_) => (UNKNOWN_FILE, PlaybackEnd::Completed),
            AudioSource::Silence(length) => (*length, PlaybackEnd::Completed),
            AudioSource::Tone(Tone::Beep) => {
                self.note_of(leg, "hears a beep".to_owned(), Fact::Tone(leg, BEEP_HERTZ));
                (BEEP, PlaybackEnd::Completed)
            }
            AudioSource::Tone(Tone::Ringback(_)) => {
                self.note_of(leg, "hears the ringback tone".to_owned(), Fact::Tone(leg, RINGBACK_HERTZ));
                return self.plays_on(leg, op);
            }
            AudioSource::Music => {
                let fact = Fact::Action(Action::Plays, vec!["music".to_owned()]);
                self.note_of(leg, "hears music".to_owned(), fact);
                return self.plays_on(leg, op);
            }
        };
        match (&end, loops) {
            (PlaybackEnd::Completed, Some(loops)) => self.plays_for(leg, op, length.saturating_mul(loops), end),
            (PlaybackEnd::Completed, None) => self.plays_on(leg, op),
            _ => self.plays_for(leg, op, Duration::ZERO, end),
        }
    }

    /// Notes a playback that only a command ends.
    fn plays_on(&mut self, leg: LegId, op: OpId) {
        if let Some(party) = self.party(leg) {
            party.playing.insert(op);
        }
    }

    /// Begins a sentence of a party.
    pub(super) fn speak(&mut self, place: usize, text: &str) {
        let (now, length) = (self.now, speaking_time(text));
        let Some(party) = self.parties.get_mut(place) else { return };
        party.acts(&self.log);
        (party.busy_until, party.spoke_until) = (Some(now + length), now + length);
        let (leg, other) = (party.leg, party.bridged);
        let listeners: Vec<OpId> = party.recognitions.iter().copied().collect();
        self.note_of(leg, format!("says \"{text}\""), Fact::Note);
        if let Some(other) = other {
            self.note_of(other, format!("hears \"{text}\""), Fact::Speech(other));
        }
        for op in listeners {
            self.feed(leg, LegEvent::Recognition { op, event: RecognitionEvent::Began });
        }
    }

    /// Ends a sentence of a party: the recognisers get the words.
    pub(super) fn has_spoken(&mut self, leg: LegId, text: &str) {
        let Some(party) = self.party(leg) else { return };
        let (other, listeners) = (party.bridged, party.recognitions.iter().copied().collect::<Vec<_>>());
        if listeners.is_empty() && other.is_none() && !self.is_recorded(leg) {
            self.note("", format!("nobody hears \"{text}\": the application does not listen at this moment"));
        }
        let words =
            RecognisedText { stable: text.to_owned(), confidence: Some(CONFIDENCE), ..RecognisedText::default() };
        for op in listeners {
            self.feed(leg, LegEvent::Recognition { op, event: RecognitionEvent::Paused });
            self.feed(leg, LegEvent::Recognition { op, event: RecognitionEvent::Final(words.clone()) });
        }
        if let Some(party) = other.and_then(|other| self.party(other)) {
            party.heard(text);
        }
    }

    /// Performs a command for which the server would use an engine.
    pub(super) fn engine(&mut self, leg: LegId, command: LegCommand) {
        match command {
            LegCommand::StartRecognition { op, .. } => {
                if let Some(party) = self.party(leg) {
                    party.recognitions.insert(op);
                }
            }
            LegCommand::FinishRecognition { op } => {
                self.stop_recognition(leg, op);
                self.feed(leg, LegEvent::RecognitionEnded { op, failed: None });
            }
            LegCommand::StopRecognition { op } => self.stop_recognition(leg, op),
            LegCommand::DetectMachine { op, spec } => {
                let machine = self.party(leg).is_some_and(|party| party.machine);
                let first = if machine { DetectionResult::Machine } else { DetectionResult::Human };
                let found = |result, after| LegEvent::MachineDetected { op, result, after };
                self.plan(DETECTION, leg, found(first, DETECTION));
                if machine && spec.until != Until::FirstResult {
                    let after = DETECTION * 2;
                    self.plan(after, leg, found(DetectionResult::GreetingEnded(GreetingEnd::Beep), after));
                }
            }
            LegCommand::StartStream { id, spec, .. } => {
                let fact = Fact::Action(Action::Stream, vec![spec.url.clone()]);
                self.note_of(leg, format!("is streamed to {} (not connected: a test has no audio)", spec.url), fact);
                self.feed(leg, LegEvent::Stream { id, status: StreamStatus::Started });
            }
            LegCommand::Converse { id, spec, .. } => {
                let with = match &spec.with {
                    ConversationTarget::Application(url) => url.clone(),
                    ConversationTarget::Agent(agent) => agent.name.to_string(),
                };
                let fact = Fact::Action(Action::Stream, vec![with.clone()]);
                self.note_of(leg, format!("talks with {with} (not connected: a test has no audio)"), fact);
                self.feed(leg, LegEvent::Conversation { id, status: ConversationStatus::Started });
            }
            LegCommand::StartSiprec { id, .. } => {
                self.feed(leg, LegEvent::Siprec { id, status: SiprecStatus::Started });
            }
            LegCommand::StartTranscription { op, id, .. } => {
                self.transcriptions.insert((leg, op), id);
                self.feed(leg, LegEvent::Transcription { id, status: TranscriptionStatus::Started });
            }
            LegCommand::StopTranscription { op } => {
                let id = self.transcriptions.remove(&(leg, op));
                if let Some(id) = id {
                    self.feed(leg, LegEvent::Transcription { id, status: TranscriptionStatus::Stopped });
                }
            }
            LegCommand::EnterQueue { op, .. } => {
                let id = QueueId::new(self.instant().time, &mut rand::rng());
                self.feed(leg, LegEvent::Enqueued { op, result: Ok(id) });
            }
            LegCommand::Refer { to, .. } => {
                self.note_of(leg, format!("is transferred to {to}"), Fact::Action(Action::Dial, vec![to]));
                self.feed(leg, LegEvent::ReferAnswered { status: 202 });
                self.feed(leg, LegEvent::ReferProgress { status: 200, done: true });
            }
            _ => {}
        }
    }

    fn stop_recognition(&mut self, leg: LegId, op: OpId) {
        if let Some(party) = self.party(leg) {
            party.recognitions.remove(&op);
        }
    }
}

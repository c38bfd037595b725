//! Documents that are played in a conference. A document is played repeatedly to a participant that waits or is on
//! hold. An announcement is a document that is played once.

use std::sync::Arc;
use std::time::Duration;

use tandem_audio::{AudioError, Loaded};
use tandem_call::Target;
use tandem_call::conference::event::RoomAudio;
use tandem_call::engine::{Engine, EngineEffect, EngineFailure};
use tandem_call::event::{EventKind, Playback, PlaybackEnd};
use tandem_call::fetch::{FailureKind, Fetch, FetchReason, Scope};
use tandem_call::leg::LegInfo;
use tandem_call::program::instruction::{AudioSource, Instruction, Play, Program, Wait, Warning};
use tandem_dialect::{self as dialect, Context};
use tandem_documents::{self as documents, RequestContext, ScriptSlot};
use tandem_history::call_port::CallPort;
use tandem_history::event_log::Line;
use tandem_host::clock;
use tandem_http::CookieJar;
use tandem_id::{ConferenceId, FetchId, LegId, OpId};
use tandem_media as media;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{ConferenceServices, Conferences, ParticipantUpdate};

/// Maximum number of documents in a chain of redirects.
const MAX_DOCUMENTS: usize = 10;
/// Minimum time between two requests for a repeated document.
const MIN_REPEAT_INTERVAL: Duration = Duration::from_secs(2);
/// Pause after a document that could not be played.
const FAILURE_PAUSE: Duration = Duration::from_secs(10);

/// Plays documents and audio in one conference, to one participant or to all participants.
pub(super) struct Announcer {
    pub(super) conferences: Conferences,
    pub(super) services: Arc<ConferenceServices>,
    pub(super) id: ConferenceId,
    pub(super) name: Arc<str>,
    /// The leg for which the document is requested.
    pub(super) leg: Arc<LegInfo>,
    /// The leg that hears the document. `None` means all participants.
    pub(super) to: Option<LegId>,
    /// The leg's call, which receives log lines and warnings.
    pub(super) call: Option<Arc<dyn CallPort<ParticipantUpdate>>>,
}

/// The reason why a document was not played completely.
struct Fault {
    /// The provider's error number. `None` if the error is not reported to the application.
    code: Option<u32>,
    why: String,
}

impl From<&str> for Fault {
    fn from(why: &str) -> Self {
        Self { code: None, why: why.to_owned() }
    }
}

/// A running playback. The playback stops when this value is dropped.
struct Playing<'a> {
    announcer: &'a Announcer,
    op: OpId,
}

impl Drop for Playing<'_> {
    fn drop(&mut self) {
        self.announcer.conferences.stop_play(self.announcer.id, self.op);
    }
}

impl Announcer {
    /// Plays a document once.
    ///
    /// # Errors
    /// Returns the reason why the document was not played completely.
    pub(super) async fn announce(self, target: Target) -> Result<(), String> {
        let done = self.perform(&CookieJar::new(), target).await;
        done.map_err(|fault| self.report_fault(fault))
    }

    /// Plays a document or a file repeatedly until the task is aborted.
    pub(super) async fn repeat(self, what: Wait) {
        let jar = CookieJar::new();
        let mut reported = None;
        loop {
            let began = Instant::now();
            let done = match (&what, what.file()) {
                (Wait::Document(target), _) => self.perform(&jar, target.clone()).await,
                (_, Some(file)) => self.play(Play::new(file, None)).await,
                // The room itself plays music, or there is nothing to play.
                (_, None) => return,
            };
            match done {
                Ok(()) => tokio::time::sleep_until(began + MIN_REPEAT_INTERVAL).await,
                Err(fault) => {
                    self.note("media", format!("not played in the conference: {}", fault.why));
                    // An error that repeats is reported only once.
                    if reported.as_ref() != Some(&fault.why) {
                        reported = Some(self.report_fault(fault));
                    }
                    tokio::time::sleep(FAILURE_PAUSE).await;
                }
            }
        }
    }

    /// Plays audio with its number of repetitions. The playback ends when all repetitions are played, or when `stopped`
    /// completes. Reports the start and the end of the playback.
    pub(super) async fn play_announcement(self, Play { source, loops, .. }: Play, stopped: oneshot::Receiver<()>) {
        let audio = match self.services.audio.get(&source, &self.leg.account).await {
            Ok(loaded) => self.of_engine(loaded),
            Err(error) => {
                let fault = self.unplayable(source, error);
                self.note("media", format!("not played in the conference: {}", fault.why));
                self.report_fault(fault);
                return;
            }
        };
        self.publish_playback(&source, false);
        if let Some((op, finished)) = self.conferences.play(self.id, audio, loops, self.to) {
            let _playing = Playing { announcer: &self, op };
            tokio::select! {
                // In both cases the playback has ended.
                _ = finished => {}
                _ = stopped => {}
            }
        }
        self.publish_playback(&source, true);
    }

    fn publish_playback(&self, source: &AudioSource, over: bool) {
        let audio = RoomAudio { source: source.clone(), to: self.to, over };
        self.conferences.with(self.id, |live| live.state.handle_played(clock::time(), &audio));
    }

    async fn perform(&self, jar: &CookieJar, mut target: Target) -> Result<(), Fault> {
        for _ in 0..MAX_DOCUMENTS {
            let program = self.fetch(jar, &target).await?;
            for warning in program.warnings {
                self.warn(warning);
            }
            let mut next = None;
            for instruction in program.instructions {
                match instruction {
                    Instruction::Play(play) => self.play(play).await?,
                    Instruction::Pause(length) => {
                        self.play(Play::once(AudioSource::Silence(length))).await?;
                    }
                    Instruction::Redirect(to) => {
                        next = Some(to);
                        break;
                    }
                    // Other instructions are not allowed in a conference document. The dialect has already warned about
                    // them.
                    _ => {}
                }
            }
            match next {
                Some(to) => target = to,
                None => return Ok(()),
            }
        }
        Err(Fault { code: None, why: format!("{MAX_DOCUMENTS} documents in a row only redirected to another one") })
    }

    async fn fetch(&self, jar: &CookieJar, target: &Target) -> Result<Program, Fault> {
        let services = &self.services;
        let found = services.dialects.get(&self.leg.dialect).zip(services.accounts.by_name(&self.leg.account));
        let Some((dialect, account)) = found else { return Err("unknown account or dialect".into()) };
        let reason = FetchReason::Conference { id: self.id, name: Arc::clone(&self.name), all: self.to.is_none() };
        let leg = Arc::clone(&self.leg);
        let fetch = Fetch {
            id: FetchId(0),
            leg,
            target: target.clone(),
            reason,
            scope: Scope::Conference,
            first_method: target.method,
        };
        let context =
            Context { public_url: Arc::clone(&services.public_url), sequence: 0, recording: None, queue: None };
        let asker = RequestContext {
            client: &services.client,
            dialects: &services.dialects,
            dialect,
            account: &account,
            jar,
            id: rand::random(),
            turns: &services.turns,
        };
        // A conference document is only a list of sounds, so it has no script.
        let done = documents::fetch(asker, &fetch, &context, &ScriptSlot::default()).await;
        self.note("webhook", done.line);
        match done.result {
            Ok(program) => Ok(program),
            // The URL probably leads to an audio file, so the file is played.
            Err(failure) if matches!(failure.kind, FailureKind::TooLarge | FailureKind::ContentType) => {
                let source = AudioSource::Url(target.url.to_string());
                let play = Instruction::Play(Play::once(source));
                Ok(Program { instructions: vec![play], warnings: Vec::new() })
            }
            Err(failure) => Err(Fault {
                code: dialect.error_number(dialect::ReportedError::Document(&failure)),
                why: failure.detail,
            }),
        }
    }

    async fn play(&self, Play { source, loops, .. }: Play) -> Result<(), Fault> {
        let audio = self.services.audio.get(&source, &self.leg.account).await;
        let audio = self.of_engine(audio.map_err(|error| self.unplayable(source.clone(), error))?);
        let playing = self.conferences.play(self.id, audio, loops, self.to);
        let (op, finished) = playing.ok_or("the conference is over")?;
        let _playing = Playing { announcer: self, op };
        finished.await.map_err(|_| "the conference is over".into())
    }

    /// Returns the audio. Reports the failure of the speech engine, if another engine spoke in its place.
    fn of_engine(&self, loaded: Loaded) -> Arc<media::Audio> {
        if let Some(why) = loaded.instead_of {
            let failure = EngineFailure::new(Engine::Voice, why).with_effect(EngineEffect::Recovered);
            self.report(ParticipantUpdate::EngineFailed(failure));
        }
        loaded.audio
    }

    fn unplayable(&self, source: AudioSource, error: AudioError) -> Fault {
        let why = error.to_string();
        let end = match error {
            AudioError::Missing(what) => PlaybackEnd::Missing(what),
            AudioError::Unusable(what) => PlaybackEnd::Failed(what),
        };
        let dialect = self.services.dialects.get(&self.leg.dialect);
        let event = EventKind::PlaybackEnded(Playback { op: OpId(0), source, prompt: false, callback: None }, end);
        Fault { code: dialect.and_then(|dialect| dialect.error_number(dialect::ReportedError::Event(&event))), why }
    }

    /// Sends a warning to the application, if the error has a number. Returns the reason of the error.
    fn report_fault(&self, Fault { code, why }: Fault) -> String {
        if let Some(code) = code {
            self.warn(Warning { code, message: why.clone() });
        }
        why
    }

    fn warn(&self, warning: Warning) {
        self.report(ParticipantUpdate::Warned(warning));
    }

    fn report(&self, update: ParticipantUpdate) {
        if let Some(call) = &self.call {
            // The call may be over.
            let _ = call.report(update);
        }
    }

    fn note(&self, kind: &'static str, text: String) {
        if let Some(call) = &self.call {
            call.log(Line { at: clock::time(), leg: Some(self.leg.id), kind: kind.into(), text, data: None });
        }
    }
}

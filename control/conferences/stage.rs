//! Documents that are heard in a conference: by one who waits or is held, over and over, or announced once.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tandem_call::Target;
use tandem_call::fetch::{FailureKind, Fetch, FetchReason, Scope};
use tandem_call::id::{ConferenceId, FetchId, LegId};
use tandem_call::leg::LegInfo;
use tandem_call::output::LegEvent;
use tandem_call::program::instruction::{AudioSource, Instruction, Play, Program, Warning};
use tandem_media as media;
use tokio::time::Instant;

use super::Conferences;
use crate::clock;
use crate::dialect::Context;
use crate::document;
use crate::http::CookieJar;
use crate::inbox::{Inbox, Message};
use crate::services::Services;

/// Documents that may lead from one to the next.
const MOST_DOCUMENTS: usize = 10;
/// How soon a document that is heard over and over is asked for again at most.
const HASTE: Duration = Duration::from_secs(2);
/// The pause after one that could not be had.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a document is heard.
pub(super) struct Stage {
    pub(super) conferences: Conferences,
    pub(super) services: Arc<Services>,
    pub(super) id: ConferenceId,
    pub(super) name: Arc<str>,
    /// On whose behalf it is asked for.
    pub(super) leg: Arc<LegInfo>,
    /// Who hears it; all if `None`.
    pub(super) to: Option<LegId>,
    /// Where its log is.
    pub(super) inbox: Option<Inbox>,
}

/// Something that plays, stopped when this is dropped.
struct Playing<'a> {
    stage: &'a Stage,
    op: media::OpId,
}

impl Drop for Playing<'_> {
    fn drop(&mut self) {
        self.stage.conferences.stop_play(self.stage.id, self.op);
    }
}

impl Stage {
    /// Once; an error says why it was not heard, or not to its end.
    pub(super) async fn announce(self, target: Target) -> Result<(), String> {
        self.perform(&CookieJar::new(), target).await
    }

    /// Over and over, until it is aborted.
    pub(super) async fn repeat(self, target: Target) {
        let jar = CookieJar::new();
        loop {
            let began = Instant::now();
            match self.perform(&jar, target.clone()).await {
                Ok(()) => tokio::time::sleep_until(began + HASTE).await,
                Err(why) => {
                    self.note("media", format!("not heard in the conference: {why}"));
                    tokio::time::sleep(PATIENCE).await;
                }
            }
        }
    }

    async fn perform(&self, jar: &CookieJar, mut target: Target) -> Result<(), String> {
        for _ in 0..MOST_DOCUMENTS {
            let program = self.fetch(jar, &target).await?;
            for warning in program.warnings {
                self.own(LegEvent::Warned(warning));
            }
            let mut next = None;
            for instruction in program.instructions {
                match instruction {
                    Instruction::Play(play) => self.play(play).await?,
                    Instruction::Pause(length) => {
                        self.play(Play { source: AudioSource::Silence(length), loops: NonZeroU32::new(1) }).await?;
                    }
                    Instruction::Redirect(to) => {
                        next = Some(to);
                        break;
                    }
                    // Not in place here; its dialect has warned of it.
                    _ => {}
                }
            }
            match next {
                Some(to) => target = to,
                None => return Ok(()),
            }
        }
        Err(format!("{MOST_DOCUMENTS} documents in a row only led to another one"))
    }

    async fn fetch(&self, jar: &CookieJar, target: &Target) -> Result<Program, String> {
        let services = &self.services;
        let found = services.dialects.get(&self.leg.dialect).zip(services.accounts.by_name(&self.leg.account));
        let Some((dialect, account)) = found else { return Err("nobody speaks for its account".to_owned()) };
        let reason = FetchReason::Conference { id: self.id, name: Arc::clone(&self.name), all: self.to.is_none() };
        let leg = Arc::clone(&self.leg);
        let fetch = Fetch { id: FetchId(0), leg, target: target.clone(), reason, scope: Scope::Conference };
        let context =
            Context { public_url: Arc::clone(&services.public_url), sequence: 0, recording: None, queue: None };
        let done = document::fetch(&services.client, dialect, &account, &fetch, &context, jar, rand::random()).await;
        self.note("webhook", done.line);
        match done.result {
            Ok(program) => Ok(program),
            // More than a document may be: a file, most likely.
            Err(failure) if matches!(failure.kind, FailureKind::TooLarge | FailureKind::ContentType) => {
                let source = AudioSource::Url(target.url.to_string());
                let play = Instruction::Play(Play { source, loops: NonZeroU32::new(1) });
                Ok(Program { instructions: vec![play], warnings: Vec::new() })
            }
            Err(failure) => {
                let (code, message) = (dialect.failure_code(&failure), failure.detail.clone());
                self.own(LegEvent::Warned(Warning { code, message }));
                Err(failure.detail)
            }
        }
    }

    async fn play(&self, Play { source, loops }: Play) -> Result<(), String> {
        let audio = self.services.audio.get(&source, &self.leg.account).await.map_err(|error| error.to_string())?;
        let playing = self.conferences.play(self.id, audio, loops, self.to);
        let (op, finished) = playing.ok_or_else(|| "the conference is over".to_owned())?;
        let _playing = Playing { stage: self, op };
        finished.await.map_err(|_| "the conference is over".to_owned())
    }

    fn own(&self, event: LegEvent) {
        if let Some(inbox) = &self.inbox {
            // The call may be over.
            let _ = inbox.offer(Message::Own(self.leg.id, event));
        }
    }

    fn note(&self, kind: &'static str, text: String) {
        if let Some(inbox) = &self.inbox {
            inbox.log().push(clock::time(), Some(self.leg.id), kind, text);
        }
    }
}

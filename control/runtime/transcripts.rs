//! Transcriptions of recordings. This module requests the transcriptions from the recogniser, stores the transcriptions
//! as resources, and reports the results to the application.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use jiff::SignedDuration;
use tandem_call::event::{CallEvent, EventKind};
use tandem_call::leg::LegInfo;
use tandem_call::recognition::{RecognisedText, RecognitionSpec};
use tandem_call::recording::Recording;
use tandem_call::transcription::{Transcript, TranscriptState, TranscriptionOrder};
use tandem_causes::Cause;
use tandem_history::problem::Problem;
use tandem_history::records;
use tandem_host::clock;
use tandem_id::TranscriptionId;
use tandem_speech::recognise::RecogniseError;
use tandem_store::resources::{self, Filter, Kind, Resource};
use tandem_store::{self as store, OwnedBy, Page, StoreError, TimeRange};

use crate::services::Services;

/// The stored transcriptions. The parent of a transcription is its recording.
pub const TRANSCRIPTS: Kind<Transcript> = Kind::new("transcript");
/// Maximum size of a file for the recogniser, in octets: 30 minutes of 16-bit samples at 8,000 Hz.
const LARGEST: u64 = 30 * 60 * 16_000 + 1_024;
/// Maximum age of unfinished transcriptions that are resumed after a restart.
const MAX_RETRY_AGE: SignedDuration = SignedDuration::from_hours(24);

/// Starts the transcription of a recording in the background. A shutdown waits for the end of the transcription.
pub fn begin(services: &Arc<Services>, leg: Arc<LegInfo>, recording: Recording, order: TranscriptionOrder) {
    let id = TranscriptionId::new(clock::time(), &mut rand::rng());
    let parent = recording.id.0;
    let transcript = Transcript { id, recording, callback: order.callback, state: TranscriptState::InProgress };
    let mut row = Resource::new(&leg.account, "", transcript);
    (row.id, row.parent) = (id.0, Some(parent));
    let tracker = services.fetches.clone();
    let services = Arc::clone(services);
    tracker.spawn(async move {
        if let Err(error) = resources::put(&services.store, TRANSCRIPTS, &row).await {
            tracing::error!(%error, "transcription not stored");
        }
        work(&services, leg, row).await;
    });
}

/// Resumes the unfinished transcriptions of an ended process. Returns the number of resumed transcriptions.
pub async fn recover(services: &Arc<Services>, owner: &OwnedBy) -> Result<usize, StoreError> {
    let since = clock::time().checked_sub(MAX_RETRY_AGE).ok();
    let filter = Filter { updated: TimeRange { since, ..TimeRange::default() }, ..Filter::default() };
    let mut found = 0;
    for account in services.accounts.all().iter() {
        let rows = resources::list(&services.store, TRANSCRIPTS, &account.name, &filter, &Page::first(1_000)).await?;
        let is_left = |row: &Resource<Transcript>| {
            row.details.state == TranscriptState::InProgress && owner.includes(row.details.recording.id.0)
        };
        for row in rows.into_iter().filter(is_left) {
            let leg = store::calls::find(&services.store, row.details.recording.leg.0).await?;
            let Some(leg) = leg.as_ref().and_then(records::leg_of) else { continue };
            found += 1;
            let again = Arc::clone(services);
            services.fetches.spawn(async move { work(&again, Arc::new(leg), row).await });
        }
    }
    Ok(found)
}

async fn work(services: &Arc<Services>, leg: Arc<LegInfo>, mut row: Resource<Transcript>) {
    row.details.state = match words(services, &row.details.recording).await {
        Ok(words) => TranscriptState::Completed(words),
        Err(why) => TranscriptState::Failed(why.to_string()),
    };
    row.updated_at = clock::time();
    if let Err(error) = resources::put(&services.store, TRANSCRIPTS, &row).await {
        tracing::error!(%error, "transcription not stored");
    }
    // The record of the leg may have changed during the transcription.
    let now = store::calls::find(&services.store, leg.id.0).await.ok().flatten();
    let leg = now.as_ref().and_then(records::leg_of).map_or(leg, Arc::new);
    if let TranscriptState::Failed(why) = &row.details.state {
        let message = format!("recording {} was not transcribed: {why}", row.details.recording.id);
        services.report(&*leg, row.updated_at, Problem::warning(Cause::of_recogniser(why), message));
    }
    let event = CallEvent { at: row.updated_at, leg, kind: EventKind::Transcribed(Box::new(row.details)) };
    for delivery in services.notices(&event, 0, None) {
        if let Err(error) = services.deliveries.enqueue(delivery).await {
            tracing::error!(%error, "notice not stored");
        }
    }
}

/// The reason why a recording was not transcribed.
#[derive(Debug, thiserror::Error)]
enum NotTranscribed {
    #[error("the recording's file: {0}")]
    Unreadable(#[from] std::io::Error),
    #[error("the recording is too long ({minutes} minutes)")]
    TooLong { minutes: u64 },
    #[error(transparent)]
    Recogniser(#[from] RecogniseError),
}

async fn words(services: &Services, recording: &Recording) -> Result<RecognisedText, NotTranscribed> {
    if services.recogniser.is_off() {
        return Err(RecogniseError::Off.into());
    }
    let files = &services.recordings;
    let audio = files.audio(recording.id, true).await?;
    let length = audio.len();
    if length > LARGEST {
        let minutes = recording.duration.unwrap_or(Duration::ZERO).as_secs() / 60;
        return Err(NotTranscribed::TooLong { minutes });
    }
    let mut wav = BytesMut::new();
    let mut blocks = std::pin::pin!(audio.read(0, length));
    while let Some(block) = blocks.next().await {
        wav.extend_from_slice(&block?);
    }
    let how = RecognitionSpec { punctuation: true, ..RecognitionSpec::default() };
    Ok(services.recogniser.transcribe(Bytes::from(wav), &how).await?)
}

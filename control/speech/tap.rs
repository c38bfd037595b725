//! Speech taps. A speech tap is a task that passes a leg's audio from a tap to recognisers, and reports the recognised
//! words.
//!
//! After [`SpeechTap::finish`], or after the end of the leg's audio, the task waits for the last result of its
//! recognisers and then ends. If the [`SpeechTap`] is dropped, the task ends at once and reports no further result.

use tandem_call::output::LegEvent;
use tandem_call::recognition::RecognitionEvent;
use tandem_call::recording::Track;
use tandem_call::transcription::TranscriptionStatus;
use tandem_id::{OpId, TranscriptionId};
use tandem_media as media;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::recognise::{RecogniseError, RecognitionSession, samples};

/// Maximum number of 20 ms frames that wait for a task: two seconds of audio in both directions. Further audio is
/// dropped.
pub const TAP_FRAMES: usize = 200;
/// The audio format of the taps.
pub const TAP_CODEC: media::TapCodec = media::TapCodec::L16(media::ByteOrder::Little);

/// The handle of a speech tap. The call keeps this handle.
pub struct SpeechTap {
    finish: Option<oneshot::Sender<()>>,
    task: AbortHandle,
}

/// The operation that uses the words of a speech tap.
#[derive(Clone, Copy)]
pub enum RecognitionOwner {
    Gather(OpId),
    /// A live transcription.
    Transcription(TranscriptionId),
}

impl SpeechTap {
    /// Starts a task with one recogniser for each direction in `sessions`. The task passes its results to `report`.
    pub fn open(
        listener: RecognitionOwner,
        sessions: Vec<(Track, RecognitionSession)>,
        tap: media::TapReader,
        report: impl Fn(LegEvent) + Send + Sync + 'static,
    ) -> Self {
        let (finish, finished) = oneshot::channel();
        let task = tokio::spawn(async move {
            let failed = listen(sessions, tap, finished, |track, event| {
                if let Some(event) = listener.leg_event(track, event) {
                    report(event);
                }
            })
            .await;
            report(listener.ended(failed));
        });
        Self { finish: Some(finish), task: task.abort_handle() }
    }

    /// Whether the task has ended.
    pub fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    /// Stops the speech tap. The task still reports the remaining results.
    pub fn finish(&mut self) {
        self.finish = None;
    }
}

impl Drop for SpeechTap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl RecognitionOwner {
    fn leg_event(self, track: Track, event: RecognitionEvent) -> Option<LegEvent> {
        match (self, event) {
            (Self::Gather(op), event) => Some(LegEvent::Recognition { op, event }),
            (Self::Transcription(_), RecognitionEvent::Began | RecognitionEvent::Paused) => None,
            (Self::Transcription(_), RecognitionEvent::Partial(words) | RecognitionEvent::Final(words))
                if words.text().is_empty() =>
            {
                None
            }
            (Self::Transcription(id), RecognitionEvent::Partial(words)) => {
                let status = TranscriptionStatus::Recognised { track, words, is_final: false };
                Some(LegEvent::Transcription { id, status })
            }
            (Self::Transcription(id), RecognitionEvent::Final(words)) => {
                let status = TranscriptionStatus::Recognised { track, words, is_final: true };
                Some(LegEvent::Transcription { id, status })
            }
        }
    }

    fn ended(self, failed: Option<RecogniseError>) -> LegEvent {
        let failed = failed.map(|why| why.to_string());
        match self {
            Self::Gather(op) => LegEvent::RecognitionEnded { op, failed },
            Self::Transcription(id) => {
                let status = failed.map_or(TranscriptionStatus::Stopped, TranscriptionStatus::Failed);
                LegEvent::Transcription { id, status }
            }
        }
    }
}

/// Runs until all recognisers have ended. If a recogniser failed, the function returns the reason.
async fn listen(
    mut sessions: Vec<(Track, RecognitionSession)>,
    tap: media::TapReader,
    mut finished: oneshot::Receiver<()>,
    mut event: impl FnMut(Track, RecognitionEvent),
) -> Option<RecogniseError> {
    let mut tap = Some(tap);
    while !sessions.is_empty() {
        let listening = tap.is_some();
        let audio = async {
            match &mut tap {
                Some(tap) => tap.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            frame = audio => match frame {
                Some(frame) => {
                    let track = if frame.track == media::Track::Inbound { Track::Inbound } else { Track::Outbound };
                    if let Some((_, session)) = sessions.iter().find(|(of, _)| *of == track) {
                        session.push(&samples(&frame));
                    }
                }
                None => {
                    tap = None;
                    sessions.iter_mut().for_each(|(_, session)| session.finish());
                }
            },
            _ = &mut finished, if listening => {
                tap = None;
                sessions.iter_mut().for_each(|(_, session)| session.finish());
            }
            (index, word) = next(&mut sessions) => match word {
                Some(Ok(what)) => {
                    if let Some((track, _)) = sessions.get(index) {
                        event(*track, what);
                    }
                }
                Some(Err(why)) => return Some(why),
                None => drop(sessions.remove(index)),
            },
        }
    }
    None
}

/// Waits for the next result of any recogniser. Returns the result and the index of the recogniser. If there is no
/// recogniser, the future never completes. The future is cancel-safe, because the recognisers are cancel-safe.
async fn next(
    sessions: &mut [(Track, RecognitionSession)],
) -> (usize, Option<Result<RecognitionEvent, RecogniseError>>) {
    match sessions {
        [(_, one)] => (0, one.next().await),
        [(_, one), (_, other), ..] => tokio::select! {
            word = one.next() => (0, word),
            word = other.next() => (1, word),
        },
        [] => std::future::pending().await,
    }
}

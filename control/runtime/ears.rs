//! Ears on a leg: a tap's audio into a recogniser, what it hears into the call's inbox. A task each.
//!
//! A task ends when its recogniser has said its last word: after [`Ear::finish`], or the leg's audio, has ended. Dropping
//! the [`Ear`] ends it at once, without a word.

use tandem_call::hearing::Heard;
use tandem_call::id::{LegId, OpId, TranscriptionId};
use tandem_call::output::LegEvent;
use tandem_call::recording::Track;
use tandem_call::transcription::TranscriptionStatus;
use tandem_media as media;
use tandem_speech::recognise::{RecogniseError, Session, samples};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::inbox::{Inbox, Message};

/// Audio that may wait for a task: two seconds of both directions. What comes beyond is dropped.
pub const TAP_FRAMES: usize = 200;
/// What a tap for ears gives.
pub const TAP_CODEC: media::TapCodec = media::TapCodec::L16(media::ByteOrder::Little);

/// A task that listens, from its call's side.
pub struct Ear {
    finish: Option<oneshot::Sender<()>>,
    task: AbortHandle,
}

/// What the events of a task are about.
#[derive(Clone, Copy)]
pub enum Listener {
    /// A gather.
    Gather(OpId),
    /// A live transcription.
    Transcription(TranscriptionId),
}

impl Ear {
    /// Begins to listen: to each of these directions on its own.
    pub fn open(
        listener: Listener,
        sessions: Vec<(Track, Session)>,
        tap: media::TapReader,
        leg: LegId,
        inbox: Inbox,
    ) -> Self {
        let (finish, finished) = oneshot::channel();
        let task = tokio::spawn(async move {
            let say = |event| {
                // The call may be over.
                let _ = inbox.post(Message::Own(leg, event));
            };
            let failed = listen(sessions, tap, finished, |track, heard| {
                if let Some(event) = listener.heard(track, heard) {
                    say(event);
                }
            })
            .await;
            say(listener.ended(failed));
        });
        Self { finish: Some(finish), task: task.abort_handle() }
    }

    /// Whether it has said its last word.
    pub fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    /// Hears no more, and tells the rest.
    pub fn finish(&mut self) {
        self.finish = None;
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listener {
    fn heard(self, track: Track, heard: Heard) -> Option<LegEvent> {
        match (self, heard) {
            (Self::Gather(op), heard) => Some(LegEvent::Heard { op, heard }),
            (Self::Transcription(_), Heard::Began | Heard::Paused) => None,
            (Self::Transcription(id), Heard::Partial(words)) => {
                let status = TranscriptionStatus::Said { track, words, is_final: false };
                Some(LegEvent::Transcription { id, status })
            }
            (Self::Transcription(_), Heard::Final(words)) if words.text().is_empty() => None,
            (Self::Transcription(id), Heard::Final(words)) => {
                let status = TranscriptionStatus::Said { track, words, is_final: true };
                Some(LegEvent::Transcription { id, status })
            }
        }
    }

    fn ended(self, failed: Option<RecogniseError>) -> LegEvent {
        let failed = failed.map(|why| why.to_string());
        match self {
            Self::Gather(op) => LegEvent::ListeningEnded { op, failed },
            Self::Transcription(id) => {
                let status = failed.map_or(TranscriptionStatus::Stopped, TranscriptionStatus::Failed);
                LegEvent::Transcription { id, status }
            }
        }
    }
}

/// Listens until every session has ended; why one failed.
async fn listen(
    mut sessions: Vec<(Track, Session)>,
    tap: media::TapReader,
    mut finished: oneshot::Receiver<()>,
    mut heard: impl FnMut(Track, Heard),
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
                        session.hear(&samples(&frame));
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
                        heard(*track, what);
                    }
                }
                Some(Err(why)) => return Some(why),
                None => drop(sessions.remove(index)),
            },
        }
    }
    None
}

/// The next word of any session, and whose it is; cancel-safe, as the sessions are. Never without a session.
async fn next(sessions: &mut [(Track, Session)]) -> (usize, Option<Result<Heard, RecogniseError>>) {
    match sessions {
        [(_, one)] => (0, one.next().await),
        [(_, one), (_, other), ..] => tokio::select! {
            word = one.next() => (0, word),
            word = other.next() => (1, word),
        },
        [] => std::future::pending().await,
    }
}

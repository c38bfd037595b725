//! Starts and stops speech recognition of a leg, for gathers and live transcriptions.

use tandem_call::output::LegEvent;
use tandem_call::recognition::RecognitionSpec;
use tandem_call::recording::Track;
use tandem_call::transcription::{TranscriptionSpec, TranscriptionStatus};
use tandem_id::{LegId, OpId, TranscriptionId};
use tandem_media as media;
use tandem_speech::recognise::RecogniseError;
use tandem_speech::tap::{RecognitionOwner, SpeechTap, TAP_CODEC, TAP_FRAMES};

use super::CallTask;
use crate::inbox::Message;

/// The reason why the speech of a leg is not recognised.
#[derive(Debug, thiserror::Error)]
enum NoTap {
    #[error(transparent)]
    Recogniser(#[from] RecogniseError),
    #[error("no such leg")]
    NoLeg,
    #[error("no audio path")]
    NoAudioPath,
}

impl CallTask {
    pub(super) fn start_recognition(&mut self, leg: LegId, op: OpId, how: &RecognitionSpec) {
        if let Err(why) = self.open_speech_tap(leg, op, RecognitionOwner::Gather(op), Track::Inbound, how) {
            self.post_leg_event(leg, LegEvent::RecognitionEnded { op, failed: Some(why.to_string()) });
        }
    }

    pub(super) fn finish_recognition(&mut self, leg: LegId, op: OpId) {
        if let Some(speech_tap) =
            self.state.legs.get_mut(&leg).and_then(|live| live.attachments.speech_taps.get_mut(&op))
        {
            speech_tap.finish();
        }
    }

    pub(super) fn stop_recognition(&mut self, leg: LegId, op: OpId) {
        if let Some(live) = self.state.legs.get_mut(&leg) {
            live.attachments.speech_taps.remove(&op);
            live.io.command(media::Command::Untap { op });
        }
    }

    pub(super) fn start_transcription(&mut self, leg: LegId, op: OpId, id: TranscriptionId, spec: &TranscriptionSpec) {
        let opened = self.open_speech_tap(leg, op, RecognitionOwner::Transcription(id), spec.track, &spec.recognition);
        let status =
            opened.map_or_else(|why| TranscriptionStatus::Failed(why.to_string()), |()| TranscriptionStatus::Started);
        self.post_leg_event(leg, LegEvent::Transcription { id, status });
    }

    fn open_speech_tap(
        &mut self,
        leg: LegId,
        op: OpId,
        listener: RecognitionOwner,
        track: Track,
        how: &RecognitionSpec,
    ) -> Result<(), NoTap> {
        let tracks = [Track::Inbound, Track::Outbound].into_iter().filter(|one| track == Track::Both || track == *one);
        let sessions = tracks.map(|one| Ok((one, self.services.recogniser.listen(how)?)));
        let sessions = sessions.collect::<Result<Vec<_>, RecogniseError>>()?;
        let inbox = self.inbox.clone();
        let live = self.state.legs.get_mut(&leg).ok_or(NoTap::NoLeg)?;
        let (sink, reader) = media::tap(TAP_FRAMES, TAP_CODEC);
        if !live.io.command(media::Command::Tap { op, tracks: tandem_legs::tracks(track), sink }) {
            return Err(NoTap::NoAudioPath);
        }
        // Ended taps are removed here, because no other code removes them.
        live.attachments.speech_taps.retain(|_, speech_tap| !speech_tap.is_over());
        let report = move |event| {
            // The call may have ended, so an error is ignored.
            let _ = inbox.post(Message::LegEvent(leg, event));
        };
        live.attachments.speech_taps.insert(op, SpeechTap::open(listener, sessions, reader, report));
        Ok(())
    }
}

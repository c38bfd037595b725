//! The interface to the media engine: sends the commands of a leg, and converts events of the engine for the call.

use tandem_call::event::PlaybackEnd;
use tandem_call::output::LegEvent;
use tandem_call::program::instruction::Tone;
use tandem_call::recording::{RecordingChannels, RecordingEnd, RecordingSpec};
use tandem_history::recordings::RecordingFiles;
use tandem_id::{OpId, RecordingId};
use tandem_media as media;

use super::LegIo;
use crate::RELAYED_DIGIT;
use crate::machine_detection;

impl LegIo {
    /// Sends a command to the media engine. If there is no session or the engine is overloaded, the function drops the
    /// command and returns `false`.
    pub fn command(&self, command: media::Command) -> bool {
        match &self.media {
            Some(media) => match media.command(command) {
                Ok(()) => true,
                Err(error) => {
                    tracing::warn!(leg = %self.leg.id(), ?error, "media engine accepts no commands");
                    false
                }
            },
            None => false,
        }
    }

    /// Starts a recording. If `after` is given, the recording starts when the playback with the operation id `after`
    /// ends. Returns whether the engine accepted the command.
    pub fn record(
        &self,
        op: OpId,
        id: RecordingId,
        spec: &RecordingSpec,
        after: Option<OpId>,
        files: &RecordingFiles,
    ) -> bool {
        let channels = match spec.channels {
            RecordingChannels::Mono => media::Channels::Mono,
            RecordingChannels::Dual => media::Channels::Dual,
        };
        let spec = media::RecordSpec {
            path: files.path(id),
            coding: files.coding,
            channels,
            track: crate::tracks(spec.track),
            max_length: spec.max_length,
            silence_timeout: spec.silence_timeout,
            trim: spec.trim,
            after,
            key: files.key.clone(),
        };
        self.command(media::Command::Recording(media::RecordingCommand::Start { op, spec }))
    }
}

/// Converts an event of the media engine to an event for the call. Returns `None` if the call does not need the event.
pub fn on_media(event: &media::Event) -> Option<LegEvent> {
    match event {
        media::Event::FirstPacket | media::Event::NextPacket => Some(LegEvent::PacketArrived),
        media::Event::Finished { op, .. } if *op == RELAYED_DIGIT => None,
        media::Event::Finished { op, reason } => {
            let end = match reason {
                media::FinishReason::Completed => PlaybackEnd::Completed,
                media::FinishReason::Stopped => PlaybackEnd::Stopped,
            };
            Some(LegEvent::PlayFinished { op: *op, end })
        }
        media::Event::RecordingFinished { op, reason, duration, recorded, .. } => {
            let end = match reason {
                media::RecordingReason::Stopped => RecordingEnd::Stopped,
                media::RecordingReason::MaxLength => RecordingEnd::MaxLength,
                media::RecordingReason::Silence => RecordingEnd::Silence,
                media::RecordingReason::Error(why) => RecordingEnd::Failed(why.clone()),
            };
            let (duration, recorded) = (*duration, *recorded);
            Some(LegEvent::RecordingFinished { op: *op, end, duration, recorded })
        }
        media::Event::NotJoined { .. } => Some(LegEvent::ConferenceOver { clears: false }),
        media::Event::MachineDetected { op, result, after } => Some(LegEvent::MachineDetected {
            op: *op,
            result: machine_detection::detection_result(*result),
            after: *after,
        }),
        _ => None,
    }
}

/// Converts a tone to the type of the media engine.
pub fn tone(tone: &Tone) -> media::Tone {
    match tone {
        Tone::Ringback(country) => media::Tone::Ringback(media::Country::from_code(country)),
        Tone::Beep => media::Tone::Beep { milliseconds: 300 },
    }
}

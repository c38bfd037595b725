//! The instructions to speak and to play audio. The leg waits for the end of the audio.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::call::{Abort, Call};
use crate::event::{EventKind, Playback, PlaybackEnd};
use crate::output::LegCommand;
use crate::program::instruction::Play;
use crate::program::{Running, Signal, Step};
use crate::resume::Standing;
use tandem_id::{LegId, OpId};

/// A running playback.
#[derive(Serialize, Deserialize)]
pub(crate) struct Playing {
    op: OpId,
    play: Play,
    /// Whether the audio is the prompt of a gather.
    prompt: bool,
    since: Timestamp,
    /// Timer for the maximum playing time.
    limit: Option<OpId>,
}

impl Playing {
    pub(crate) fn begin(call: &mut Call, leg: LegId, play: Play) -> Step {
        Step::Stay(Running::Playing(Self::start(call, leg, play, false)))
    }

    /// Starts a playback. `prompt` is true if the audio is the prompt of a gather.
    pub(crate) fn start(call: &mut Call, leg: LegId, play: Play, prompt: bool) -> Self {
        let (op, since) = (call.new_op(), call.now().time);
        let limit = play.max_duration.map(|max_duration| call.timer(leg, max_duration));
        call.push_command(leg, LegCommand::Play { op, play: play.clone(), elapsed: None });
        let playback = Playback { op, source: play.source.clone(), prompt, callback: play.callback.clone() };
        call.emit(leg, EventKind::PlaybackStarted(playback));
        Self { op, play, prompt, since, limit }
    }

    pub(crate) fn resume(&self, standing: &mut Standing<'_>) {
        let elapsed = Some(standing.now.since(self.since));
        standing.command(LegCommand::Play { op: self.op, play: self.play.clone(), elapsed });
    }

    fn playback(self) -> Playback {
        let Self { op, play, prompt, .. } = self;
        Playback { op, source: play.source, prompt, callback: play.callback }
    }

    pub(crate) fn handle(self, call: &mut Call, leg: LegId, signal: &Signal) -> Step {
        match self.finished(call, leg, signal) {
            Some(playing) => Step::Stay(Running::Playing(playing)),
            None => Step::Next,
        }
    }

    /// Handles a signal. Returns `None` if the playback has ended.
    pub(crate) fn finished(self, call: &mut Call, leg: LegId, signal: &Signal) -> Option<Self> {
        match signal {
            Signal::Played { op, end } if *op == self.op => {
                self.cancel(call, leg);
                call.emit(leg, EventKind::PlaybackEnded(self.playback(), end.clone()));
                None
            }
            Signal::Timer(op) if self.limit == Some(*op) => {
                call.push_command(leg, LegCommand::Stop { op: self.op });
                call.emit(leg, EventKind::PlaybackEnded(self.playback(), PlaybackEnd::Completed));
                None
            }
            _ => Some(self),
        }
    }

    pub(crate) fn abort(self, call: &mut Call, leg: LegId, why: Abort) {
        self.cancel(call, leg);
        call.push_command(leg, LegCommand::Stop { op: self.op });
        let end = if why == Abort::Hangup { PlaybackEnd::Hangup } else { PlaybackEnd::Stopped };
        call.emit(leg, EventKind::PlaybackEnded(self.playback(), end));
    }

    fn cancel(&self, call: &mut Call, leg: LegId) {
        if let Some(limit) = self.limit {
            call.cancel_timer(leg, limit);
        }
    }
}

//! The instructions to speak and to play audio. The leg waits for the end of the audio.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::call::Abort;
use crate::event::{EventKind, Playback, PlaybackEnd};
use crate::leg_cx::LegCx;
use crate::output::LegCommand;
use crate::program::instruction::Play;
use crate::program::{Input, Running, Step};
use crate::resume::Standing;
use tandem_id::OpId;

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
    pub(crate) fn begin(cx: &mut LegCx<'_>, play: Play) -> Step {
        Step::Stay(Running::Playing(Self::start(cx, play, false)))
    }

    /// Starts a playback. `prompt` is true if the audio is the prompt of a gather.
    pub(crate) fn start(cx: &mut LegCx<'_>, play: Play, prompt: bool) -> Self {
        let (op, since) = (cx.new_op(), cx.now().time);
        let limit = play.max_duration.map(|max_duration| cx.timer(max_duration));
        cx.command(LegCommand::Play { op, play: play.clone(), elapsed: None });
        let playback = Playback { op, source: play.source.clone(), prompt, callback: play.callback.clone() };
        cx.emit(EventKind::PlaybackStarted(playback));
        Self { op, play, prompt, since, limit }
    }

    pub(crate) fn resume(&self, standing: &mut Standing<'_>) {
        let elapsed = Some(standing.call.now.since(self.since));
        standing.command(LegCommand::Play { op: self.op, play: self.play.clone(), elapsed });
    }

    fn playback(self) -> Playback {
        let Self { op, play, prompt, .. } = self;
        Playback { op, source: play.source, prompt, callback: play.callback }
    }

    pub(crate) fn handle(self, cx: &mut LegCx<'_>, input: &Input) -> Step {
        match self.finished(cx, input) {
            Some(playing) => Step::Stay(Running::Playing(playing)),
            None => Step::Next,
        }
    }

    /// Handles an input. Returns `None` if the playback has ended.
    pub(crate) fn finished(self, cx: &mut LegCx<'_>, input: &Input) -> Option<Self> {
        match input {
            Input::Played { op, end } if *op == self.op => {
                cx.cancel_timer(self.limit);
                cx.emit(EventKind::PlaybackEnded(self.playback(), end.clone()));
                None
            }
            Input::Timer(op) if self.limit == Some(*op) => {
                cx.command(LegCommand::Stop { op: self.op });
                cx.emit(EventKind::PlaybackEnded(self.playback(), PlaybackEnd::Completed));
                None
            }
            _ => Some(self),
        }
    }

    pub(crate) fn abort(self, cx: &mut LegCx<'_>, why: Abort) {
        cx.cancel_timer(self.limit);
        cx.command(LegCommand::Stop { op: self.op });
        let end = if why == Abort::Hangup { PlaybackEnd::Hangup } else { PlaybackEnd::Stopped };
        cx.emit(EventKind::PlaybackEnded(self.playback(), end));
    }
}

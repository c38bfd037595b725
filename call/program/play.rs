//! Say and Play: audio to the leg, waited for.

use crate::call::{Abort, Call};
use crate::event::{EventKind, Playback, PlaybackEnd};
use crate::id::{LegId, OpId};
use crate::output::LegCommand;
use crate::program::instruction::Play;
use crate::program::{Running, Signal, Step};

/// Audio under way.
pub(crate) struct Playing {
    pub(crate) playback: Playback,
    /// It is stopped then.
    limit: Option<OpId>,
}

impl Playing {
    pub(crate) fn begin(call: &mut Call, leg: LegId, play: Play) -> Step {
        Step::Stay(Running::Playing(Self::start(call, leg, play, false)))
    }

    /// Starts audio; `prompt` if it belongs to a gather.
    pub(crate) fn start(call: &mut Call, leg: LegId, play: Play, prompt: bool) -> Self {
        let op = call.new_op();
        let playback = Playback { op, source: play.source.clone(), prompt, callback: play.callback.clone() };
        let limit = play.longest.map(|longest| call.timer(leg, longest));
        call.order(leg, LegCommand::Play { op, play });
        call.emit(leg, EventKind::PlaybackStarted(playback.clone()));
        Self { playback, limit }
    }

    pub(crate) fn handle(self, call: &mut Call, leg: LegId, signal: &Signal) -> Step {
        match self.finished(call, leg, signal) {
            Some(playing) => Step::Stay(Running::Playing(playing)),
            None => Step::Next,
        }
    }

    /// `None` once it has finished.
    pub(crate) fn finished(self, call: &mut Call, leg: LegId, signal: &Signal) -> Option<Self> {
        match signal {
            Signal::Played { op, end } if *op == self.playback.op => {
                self.cancel(call, leg);
                call.emit(leg, EventKind::PlaybackEnded(self.playback, end.clone()));
                None
            }
            Signal::Timer(op) if self.limit == Some(*op) => {
                call.order(leg, LegCommand::Stop { op: self.playback.op });
                call.emit(leg, EventKind::PlaybackEnded(self.playback, PlaybackEnd::Completed));
                None
            }
            _ => Some(self),
        }
    }

    pub(crate) fn abort(self, call: &mut Call, leg: LegId, why: Abort) {
        self.cancel(call, leg);
        call.order(leg, LegCommand::Stop { op: self.playback.op });
        let end = if why == Abort::Hangup { PlaybackEnd::Hangup } else { PlaybackEnd::Stopped };
        call.emit(leg, EventKind::PlaybackEnded(self.playback, end));
    }

    fn cancel(&self, call: &mut Call, leg: LegId) {
        if let Some(limit) = self.limit {
            call.timers.cancel(leg, limit);
        }
    }
}

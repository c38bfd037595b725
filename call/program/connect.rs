//! Streams. The connect instruction waits for the end of its stream. Other streams run while the leg's program
//! continues.

use serde::{Deserialize, Serialize};

use crate::Target;
use crate::call::Call;
use crate::event::EventKind;
use crate::fetch::FetchReason;
use crate::leg::EndFailure;
use crate::leg_cx::LegCx;
use crate::leg_state::MAX_STREAMS;
use crate::output::LegCommand;
use crate::program::instruction::Connect;
use crate::program::{Input, Running, Step};
use crate::stream::{ActiveStream, StreamFacts, StreamSpec, StreamStatus};
use tandem_id::{LegId, StreamId};

/// A running connect instruction. The leg waits until the stream ends.
#[derive(Serialize, Deserialize)]
pub(crate) struct Connected {
    id: StreamId,
    spec: StreamSpec,
    action: Option<Target>,
    outlives_failure: bool,
}

impl Connected {
    pub(crate) fn begin(cx: &mut LegCx<'_>, connect: Connect) -> Step {
        match cx.start_stream(connect.stream.clone()) {
            Some(id) => {
                let Connect { stream: spec, action, outlives_failure } = connect;
                Step::Stay(Running::Connect(Self { id, spec, action, outlives_failure }))
            }
            None => Step::Next,
        }
    }

    pub(crate) fn handle(self, cx: &mut LegCx<'_>, input: Input) -> Step {
        match input {
            Input::Stream { id, status: StreamStatus::Failed(_) } if id == self.id && self.outlives_failure => {
                Step::Stay(Running::Connect(self))
            }
            Input::Stream { id, status } if id == self.id && status != StreamStatus::Started => match self.action {
                Some(action) => {
                    Step::Fetch(action, FetchReason::Connected(StreamFacts { id, spec: self.spec, status }))
                }
                None => {
                    if let StreamStatus::Failed(why) = status
                        && why.is_fatal
                    {
                        cx.leg.failure = Some(Box::new(EndFailure::Stream(why)));
                    }
                    Step::Next
                }
            },
            _ => Step::Stay(Running::Connect(self)),
        }
    }

    /// Returns whether the leg waits for this stream and has no way to continue if the stream fails. Such a leg has no
    /// action and must not wait in silence.
    pub(crate) fn ends_with(&self, id: StreamId) -> bool {
        self.id == id && self.action.is_none() && !self.outlives_failure
    }

    pub(crate) fn abort(self, call: &mut Call, leg: LegId) {
        call.stop_stream(leg, self.id);
    }
}

impl LegCx<'_> {
    /// Starts a stream. Returns `None` if the leg already has its maximum number of streams.
    pub(crate) fn start_stream(&mut self, spec: StreamSpec) -> Option<StreamId> {
        let id = StreamId::new(self.now().time, &mut self.call.entropy.next_rng());
        let op = self.new_op();
        if self.leg.streams.len() >= MAX_STREAMS {
            return None;
        }
        self.leg.streams.push(ActiveStream { op, id, spec: spec.clone() });
        self.command(LegCommand::StartStream { op, id, spec });
        Some(id)
    }
}

impl Call {
    /// Closes a stream. Reports the end of the stream to applications. If an instruction waits for this end, reports
    /// the end to this instruction too. Returns `false` if the stream does not run.
    pub(crate) fn stop_stream(&mut self, leg: LegId, id: StreamId) -> bool {
        let Some(state) = self.leg_state_mut(leg) else { return false };
        let Some(index) = state.streams.iter().position(|one| one.id == id) else { return false };
        let ActiveStream { id, spec, .. } = state.streams.remove(index);
        self.push_command(leg, LegCommand::StopStream { id });
        self.emit(leg, EventKind::Stream(StreamFacts { id, spec, status: StreamStatus::Stopped }));
        self.handle_input(leg, Input::Stream { id, status: StreamStatus::Stopped });
        true
    }

    /// Closes the streams with this name, or all streams if `name` is `None`.
    pub(crate) fn stop_streams(&mut self, leg: LegId, name: Option<&str>) {
        let named = |spec: &StreamSpec| name.is_none() || spec.name.as_deref() == name;
        let ids: Vec<_> = self
            .leg_state(leg)
            .map(|state| state.streams.iter().filter(|one| named(&one.spec)).map(|one| one.id).collect())
            .unwrap_or_default();
        for id in ids {
            self.stop_stream(leg, id);
        }
    }

    /// Handles a status change that the shell reports for a stream.
    pub(crate) fn stream_changed(&mut self, leg: LegId, id: StreamId, mut status: StreamStatus) {
        let Some(state) = self.leg_state_mut(leg) else { return };
        if let StreamStatus::Failed(why) = &mut status {
            let awaited = matches!(&state.runner.running, Some(Running::Connect(connected)) if connected.ends_with(id));
            why.is_fatal = awaited && state.has_only_this_left();
        }
        let Some(index) = state.streams.iter().position(|one| one.id == id) else { return };
        let spec = match status {
            StreamStatus::Started => state.streams.get(index).map(|one| one.spec.clone()),
            _ => Some(state.streams.remove(index).spec),
        };
        if let Some(spec) = spec {
            self.emit(leg, EventKind::Stream(StreamFacts { id, spec, status: status.clone() }));
        }
        self.handle_input(leg, Input::Stream { id, status });
    }
}

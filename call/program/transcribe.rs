//! Live transcriptions. They run while the leg's program continues, until the leg or the transcription ends.

use crate::call::Call;
use crate::command::Refused;
use crate::event::EventKind;
use crate::leg_cx::LegCx;
use crate::leg_state::MAX_TRANSCRIPTIONS;
use crate::output::LegCommand;
use crate::transcription::{MAX_TEXT, Transcribing, TranscriptionFacts, TranscriptionSpec, TranscriptionStatus};
use tandem_id::{LegId, TranscriptionId};

impl LegCx<'_> {
    /// Starts a transcription, unless the leg already has its maximum number of transcriptions.
    pub(crate) fn start_transcription(&mut self, spec: TranscriptionSpec) -> Result<TranscriptionId, Refused> {
        let (id, op) = (TranscriptionId::new(self.now().time, &mut self.call.entropy.next_rng()), self.new_op());
        let spec = Box::new(spec);
        let state = &mut *self.leg;
        if state.transcriptions.len() >= MAX_TRANSCRIPTIONS {
            return Err(Refused::TooMany);
        }
        if spec.if_none_runs && state.transcriptions.iter().any(|one| one.spec.name == spec.name && !one.stopping) {
            return Err(Refused::AlreadyRunning);
        }
        let text = String::new();
        state.transcriptions.push(Transcribing { id, op, spec: spec.clone(), sequence: 0, stopping: false, text });
        self.command(LegCommand::StartTranscription { op, id, spec });
        Ok(id)
    }

    /// Orders the end of a transcription. A second order for the same transcription has no effect. Earlier speech is
    /// still reported. Returns `false` if the transcription does not run.
    pub(crate) fn stop_transcription(&mut self, id: TranscriptionId) -> bool {
        let state = &mut *self.leg;
        let Some(one) = state.transcriptions.iter_mut().find(|one| one.id == id && !one.stopping) else { return false };
        one.stopping = true;
        let op = one.op;
        self.command(LegCommand::StopTranscription { op });
        true
    }

    /// Orders the end of the transcriptions with this name. If `name` is `None`, orders the end of all transcriptions.
    pub(crate) fn stop_transcriptions(&mut self, name: Option<&str>) {
        let named = |spec: &TranscriptionSpec| name.is_none() || spec.name.as_deref() == name;
        let ids: Vec<_> = self.leg.transcriptions.iter().filter(|one| named(&one.spec)).map(|one| one.id).collect();
        for id in ids {
            self.stop_transcription(id);
        }
    }

    /// Returns the oldest running transcription with this name.
    pub(crate) fn named_transcription(&self, name: &str) -> Option<TranscriptionId> {
        let all = &self.leg.transcriptions;
        all.iter().find(|one| !one.stopping && one.spec.name.as_deref() == Some(name)).map(|one| one.id)
    }
}

impl Call {
    /// Handles an event that the shell reports for a transcription. The last event may come after the leg's end.
    pub(crate) fn transcription_changed(&mut self, leg: LegId, id: TranscriptionId, status: TranscriptionStatus) {
        let Some(state) = self.leg_state_mut(leg) else { return };
        let Some(index) = state.transcriptions.iter().position(|one| one.id == id) else { return };
        let Some(one) = state.transcriptions.get_mut(index) else { return };
        let status = match status {
            TranscriptionStatus::Stopped if one.spec.at_end => {
                TranscriptionStatus::FullText(std::mem::take(&mut one.text))
            }
            TranscriptionStatus::Recognised { words, is_final, .. } if one.spec.at_end => {
                let words = words.text();
                if is_final && one.text.len() + words.len() < MAX_TEXT {
                    let line = if one.text.is_empty() { "" } else { "\n" };
                    one.text.extend([line, &words]);
                }
                return;
            }
            TranscriptionStatus::Started if one.spec.at_end => return,
            other => other,
        };
        let (spec, sequence) = (one.spec.clone(), one.sequence);
        one.sequence += 1;
        let over = !matches!(status, TranscriptionStatus::Started | TranscriptionStatus::Recognised { .. });
        if over {
            state.transcriptions.remove(index);
        }
        self.emit(leg, EventKind::Transcription(TranscriptionFacts { id, spec, sequence, status }));
        if over {
            self.release_if_idle(leg);
        }
    }

    /// Ends the transcriptions whose end was not reported in time.
    pub(crate) fn abandon_transcriptions(&mut self, leg: LegId) {
        let Some(state) = self.leg_state(leg) else { return };
        for id in state.transcriptions.iter().map(|one| one.id).collect::<Vec<_>>() {
            self.transcription_changed(leg, id, TranscriptionStatus::Stopped);
        }
    }
}

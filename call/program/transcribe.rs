//! Live transcriptions, which run while the leg's program continues, until the leg or the transcription ends.

use crate::call::Call;
use crate::command::Refused;
use crate::event::EventKind;
use crate::id::{LegId, TranscriptionId};
use crate::leg_state::MOST_TRANSCRIPTIONS;
use crate::output::LegCommand;
use crate::transcription::{MOST_SAID, Transcribing, TranscriptionFacts, TranscriptionSpec, TranscriptionStatus};

impl Call {
    /// Starts a transcription, unless the leg already has its maximum number of transcriptions.
    pub(crate) fn start_transcription(
        &mut self,
        leg: LegId,
        spec: TranscriptionSpec,
    ) -> Result<TranscriptionId, Refused> {
        let (id, op) = (TranscriptionId::new(self.now().time, &mut self.rng), self.new_op());
        let spec = Box::new(spec);
        let party = self.party_mut(leg).ok_or(Refused::NoSuchLeg)?;
        if party.transcriptions.len() >= MOST_TRANSCRIPTIONS {
            return Err(Refused::TooMany);
        }
        if spec.alone && party.transcriptions.iter().any(|one| one.spec.name == spec.name && !one.stopping) {
            return Err(Refused::AlreadyRunning);
        }
        let said = String::new();
        party.transcriptions.push(Transcribing { id, op, spec: spec.clone(), sequence: 0, stopping: false, said });
        self.order(leg, LegCommand::StartTranscription { op, id, spec });
        Ok(id)
    }

    /// Orders the end of a transcription, at most once. Earlier speech is still reported. Returns `false` if the
    /// transcription does not run.
    pub(crate) fn stop_transcription(&mut self, leg: LegId, id: TranscriptionId) -> bool {
        let Some(party) = self.party_mut(leg) else { return false };
        let Some(one) = party.transcriptions.iter_mut().find(|one| one.id == id && !one.stopping) else { return false };
        one.stopping = true;
        let op = one.op;
        self.order(leg, LegCommand::StopTranscription { op });
        true
    }

    /// Orders the end of the transcriptions with this name, or of all transcriptions if `None`.
    pub(crate) fn stop_transcriptions(&mut self, leg: LegId, name: Option<&str>) {
        let named = |spec: &TranscriptionSpec| name.is_none() || spec.name.as_deref() == name;
        let ids: Vec<_> = self
            .party(leg)
            .map(|party| party.transcriptions.iter().filter(|one| named(&one.spec)).map(|one| one.id).collect())
            .unwrap_or_default();
        for id in ids {
            self.stop_transcription(leg, id);
        }
    }

    /// Returns the oldest running transcription with this name.
    pub(crate) fn named_transcription(&self, leg: LegId, name: &str) -> Option<TranscriptionId> {
        let all = &self.party(leg)?.transcriptions;
        all.iter().find(|one| !one.stopping && one.spec.name.as_deref() == Some(name)).map(|one| one.id)
    }

    /// Handles an event of a transcription that the shell reports. The last event may come after the leg's end.
    pub(crate) fn transcription_changed(&mut self, leg: LegId, id: TranscriptionId, status: TranscriptionStatus) {
        let Some(party) = self.party_mut(leg) else { return };
        let Some(index) = party.transcriptions.iter().position(|one| one.id == id) else { return };
        let Some(one) = party.transcriptions.get_mut(index) else { return };
        let status = match status {
            TranscriptionStatus::Stopped if one.spec.at_end => {
                TranscriptionStatus::Whole(std::mem::take(&mut one.said))
            }
            TranscriptionStatus::Said { words, is_final, .. } if one.spec.at_end => {
                let words = words.text();
                if is_final && one.said.len() + words.len() < MOST_SAID {
                    let line = if one.said.is_empty() { "" } else { "\n" };
                    one.said.extend([line, &words]);
                }
                return;
            }
            TranscriptionStatus::Started if one.spec.at_end => return,
            other => other,
        };
        let (spec, sequence) = (one.spec.clone(), one.sequence);
        one.sequence += 1;
        let over = !matches!(status, TranscriptionStatus::Started | TranscriptionStatus::Said { .. });
        if over {
            party.transcriptions.remove(index);
        }
        self.emit(leg, EventKind::Transcription(TranscriptionFacts { id, spec, sequence, status }));
        if over {
            self.release_if_idle(leg);
        }
    }

    /// Ends the transcriptions whose end was not reported in time.
    pub(crate) fn abandon_transcriptions(&mut self, leg: LegId) {
        let Some(party) = self.party(leg) else { return };
        for id in party.transcriptions.iter().map(|one| one.id).collect::<Vec<_>>() {
            self.transcription_changed(leg, id, TranscriptionStatus::Stopped);
        }
    }
}

//! Answering-machine detection on a leg: it hears each frame as long as it has not decided.

use super::MediaSession;
use crate::answering::MachineDetection;
use crate::answering::listener::MachineListener;
use crate::codec::SampleRate;
use crate::command::OpId;

impl MediaSession {
    /// Begins; a detection that runs is replaced and says nothing more.
    pub(super) fn detect_machine(&mut self, op: OpId, spec: &MachineDetection) {
        let heard = self.hears();
        let rate = self.listen_live(heard).inbound.rate();
        self.machine = Some(Box::new(MachineListener::new(op, spec, rate)));
    }

    /// Gives it the frame just heard; `None`: the peer sent nothing for it.
    pub(super) fn hear_machine(&mut self, heard: Option<(&[i16], SampleRate)>) {
        let Some(machine) = &mut self.machine else { return };
        let told = machine.handle_frame(heard);
        if machine.is_over() {
            self.machine = None;
            self.drop_unused_tracks();
        }
        if let Some(event) = told {
            self.emit(event);
        }
    }
}

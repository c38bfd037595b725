//! A detection as a session keeps it: voice activity and the detector behind it, whatever rate the leg speaks at.

use super::{AnsweringMachine, MachineDetection};
use crate::codec::{LONGEST_FRAME, SampleRate};
use crate::command::OpId;
use crate::event::Event;
use crate::vad::VoiceActivity;

/// Listens to one leg until it knows. Some 11 KiB.
#[derive(Debug)]
pub(crate) struct MachineListener {
    pub(crate) op: OpId,
    rate: SampleRate,
    activity: VoiceActivity,
    detection: AnsweringMachine,
}

impl MachineListener {
    /// For a leg whose PCM is at `rate`.
    pub(crate) fn new(op: OpId, spec: &MachineDetection, rate: SampleRate) -> MachineListener {
        MachineListener { op, rate, activity: VoiceActivity::new(rate), detection: AnsweringMachine::new(spec, rate) }
    }

    /// Whether nothing more will be told.
    pub(crate) fn is_over(&self) -> bool {
        self.detection.is_over()
    }

    /// Takes the 20 ms just heard and their rate; `None` when the peer sent nothing, which is silence. Allocates nothing,
    /// but when the leg changes its rate.
    pub(crate) fn handle_frame(&mut self, heard: Option<(&[i16], SampleRate)>) -> Option<Event> {
        if let Some((_, rate)) = heard
            && rate != self.rate
        {
            self.rate = rate;
            self.activity = VoiceActivity::new(rate);
            self.detection.set_rate(rate);
        }
        const SILENCE: &[i16] = &[0; LONGEST_FRAME];
        let silence = SILENCE.get(..self.rate.frame()).unwrap_or_default();
        let samples = heard.map_or(silence, |(samples, _)| samples);
        let verdict = self.detection.handle_frame(samples, self.activity.handle_frame(samples))?;
        Some(Event::MachineDetected { op: self.op, verdict, after: self.detection.elapsed() })
    }
}

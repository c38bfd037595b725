//! Answering machine detection on one leg. This module combines the detection with a voice activity detector. It adapts
//! both to the sample rate of the leg.

use super::{AnsweringMachine, MachineDetection};
use crate::codec::{LONGEST_FRAME, SampleRate};
use crate::command::OpId;
use crate::event::Event;
use crate::vad::VoiceActivity;

/// Runs answering machine detection on one leg until the last result. This struct takes about 11 KiB.
#[derive(Debug)]
pub(crate) struct MachineListener {
    pub(crate) op: OpId,
    rate: SampleRate,
    activity: VoiceActivity,
    detection: AnsweringMachine,
}

impl MachineListener {
    /// Creates a detection for a leg whose PCM has this sample rate.
    pub(crate) fn new(op: OpId, spec: &MachineDetection, rate: SampleRate) -> MachineListener {
        MachineListener { op, rate, activity: VoiceActivity::new(rate), detection: AnsweringMachine::new(spec, rate) }
    }

    /// Whether the detection has reported its last event.
    pub(crate) fn is_over(&self) -> bool {
        self.detection.is_over()
    }

    /// Handles the next 20 ms of inbound audio. `heard` contains the samples and their sample rate. With `None`, the
    /// far end sent nothing, and the frame counts as silence. The function allocates only when the sample rate changes.
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
        let result = self.detection.handle_frame(samples, self.activity.handle_frame(samples))?;
        Some(Event::MachineDetected { op: self.op, result, after: self.detection.elapsed() })
    }
}

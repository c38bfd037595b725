//! The beginning of every engine: frames of 20 ms, and whether somebody speaks in them.

use std::collections::VecDeque;

use tandem_call::hearing::Heard;
use tandem_media::{SampleRate, VoiceActivity};
use tokio::sync::mpsc;

/// Samples of a frame.
pub(super) const FRAME: usize = SampleRate::Hz8000.frame();
/// So many active frames, or as many more active ones than others, and somebody speaks: 100 ms. A click is shorter.
const SURE: u8 = 5;

/// Audio as it comes, cut into frames.
pub(super) struct Ears {
    pieces: mpsc::Receiver<Vec<i16>>,
    rest: VecDeque<i16>,
    activity: VoiceActivity,
    active: u8,
    speaking: bool,
}

/// 20 ms, and what they changed.
pub(super) struct Frame {
    pub(super) samples: [i16; FRAME],
    /// `Began` or `Paused`.
    pub(super) edge: Option<Heard>,
}

impl Ears {
    pub(super) fn new(pieces: mpsc::Receiver<Vec<i16>>) -> Self {
        let activity = VoiceActivity::new(SampleRate::Hz8000);
        Self { pieces, rest: VecDeque::new(), activity, active: 0, speaking: false }
    }

    /// The next frame; `None` when no more audio comes. Cancel-safe.
    pub(super) async fn frame(&mut self) -> Option<Frame> {
        while self.rest.len() < FRAME {
            let piece = self.pieces.recv().await?;
            self.rest.extend(piece);
        }
        let mut samples = [0; FRAME];
        samples.iter_mut().zip(self.rest.drain(..FRAME)).for_each(|(place, sample)| *place = sample);
        let edge = self.edge(&samples);
        Some(Frame { samples, edge })
    }

    /// Whether somebody speaks now.
    pub(super) fn speaking(&self) -> bool {
        self.speaking
    }

    fn edge(&mut self, samples: &[i16]) -> Option<Heard> {
        let activity = self.activity.handle_frame(samples);
        self.active = if activity.active { (self.active + 1).min(SURE) } else { self.active.saturating_sub(1) };
        match self.speaking {
            false if self.active == SURE => {
                self.speaking = true;
                Some(Heard::Began)
            }
            true if !activity.speech => {
                self.speaking = false;
                self.active = 0;
                Some(Heard::Paused)
            }
            _ => None,
        }
    }
}

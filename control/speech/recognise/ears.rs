//! The beginning of every engine: frames of 20 ms, and whether somebody speaks in them. [`Edges`] serves streams too.

use std::collections::VecDeque;
use std::time::Duration;

use tandem_call::hearing::Heard;
use tandem_media::{SampleRate, VoiceActivity};
use tokio::sync::mpsc;

/// Samples of a frame.
pub(super) const FRAME: usize = SampleRate::Hz8000.frame();
/// So many active frames, or as many more active ones than others, and somebody speaks: 100 ms. A click is shorter.
const SURE: u8 = 5;

/// A pause is known so long after the last frame in which somebody spoke.
pub const PAUSE: Duration = Duration::from_millis(200);

/// Audio as it comes, cut into frames.
pub(super) struct Ears {
    pieces: mpsc::Receiver<Vec<i16>>,
    rest: VecDeque<i16>,
    edges: Edges,
}

/// When somebody begins to speak, and when they pause.
pub struct Edges {
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
        Self { pieces, rest: VecDeque::new(), edges: Edges::new(SampleRate::Hz8000) }
    }

    /// The next frame; `None` when no more audio comes. Cancel-safe.
    pub(super) async fn frame(&mut self) -> Option<Frame> {
        while self.rest.len() < FRAME {
            let piece = self.pieces.recv().await?;
            self.rest.extend(piece);
        }
        let mut samples = [0; FRAME];
        samples.iter_mut().zip(self.rest.drain(..FRAME)).for_each(|(place, sample)| *place = sample);
        let edge = self.edges.push(&samples);
        Some(Frame { samples, edge })
    }

    /// Whether somebody speaks now.
    pub(super) fn speaking(&self) -> bool {
        self.edges.speaking
    }
}

impl Edges {
    /// For frames of 20 ms at `rate`.
    pub fn new(rate: SampleRate) -> Self {
        Self { activity: VoiceActivity::new(rate), active: 0, speaking: false }
    }

    /// The next 20 ms; `Began` or `Paused` if they change something. Allocates nothing.
    pub fn push(&mut self, samples: &[i16]) -> Option<Heard> {
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

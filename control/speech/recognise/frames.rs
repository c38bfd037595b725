//! The first step for every engine. This step cuts audio into frames of 20 ms and detects speech in the frames. Audio
//! streams also use [`SpeechEdges`].

use std::collections::VecDeque;
use std::time::Duration;

use tandem_call::recognition::RecognitionEvent;
use tandem_media::{SampleRate, VoiceActivity};
use tokio::sync::mpsc;

/// Number of samples in a frame.
pub(super) const FRAME: usize = SampleRate::Hz8000.frame();
/// Speech is reported when there are more active frames than inactive frames, and the difference is this number of
/// frames. 5 frames last 100 ms. A click is shorter, so it is not reported as speech.
const SPEECH_FRAMES: u8 = 5;

/// Time from the last frame with speech until a pause is reported.
pub const PAUSE: Duration = Duration::from_millis(200);

/// Incoming audio, cut into frames.
pub(super) struct FrameReader {
    pieces: mpsc::Receiver<Vec<i16>>,
    rest: VecDeque<i16>,
    edges: SpeechEdges,
}

/// Detects the beginnings of speech and the pauses in speech.
pub struct SpeechEdges {
    activity: VoiceActivity,
    active: u8,
    speaking: bool,
}

/// A frame of 20 ms, and the change of the speech state that this frame caused.
pub(super) struct Frame {
    pub(super) samples: [i16; FRAME],
    /// `Began` or `Paused`, if the frame changed the state.
    pub(super) edge: Option<RecognitionEvent>,
}

impl FrameReader {
    pub(super) fn new(pieces: mpsc::Receiver<Vec<i16>>) -> Self {
        Self { pieces, rest: VecDeque::new(), edges: SpeechEdges::new(SampleRate::Hz8000) }
    }

    /// Returns the next frame. `None` at the end of the audio. Cancel-safe.
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

    pub(super) fn speaking(&self) -> bool {
        self.edges.speaking
    }
}

impl SpeechEdges {
    /// Creates a detector for frames of 20 ms. `rate` is the sampling rate.
    pub fn new(rate: SampleRate) -> Self {
        Self { activity: VoiceActivity::new(rate), active: 0, speaking: false }
    }

    /// Adds the next frame of 20 ms. Returns `Began` or `Paused` if the frame changes the state. The function does not
    /// allocate memory.
    pub fn push(&mut self, samples: &[i16]) -> Option<RecognitionEvent> {
        let activity = self.activity.handle_frame(samples);
        self.active =
            if activity.active { (self.active + 1).min(SPEECH_FRAMES) } else { self.active.saturating_sub(1) };
        match self.speaking {
            false if self.active == SPEECH_FRAMES => {
                self.speaking = true;
                Some(RecognitionEvent::Began)
            }
            true if !activity.speech => {
                self.speaking = false;
                self.active = 0;
                Some(RecognitionEvent::Paused)
            }
            _ => None,
        }
    }
}

//! Voice activity with Silero: the probability that somebody speaks, each 32 ms.

use std::path::Path;
use std::sync::Arc;

use rten::NodeId;
use rten_tensor::NdTensor;

use crate::voice::network::Network;

/// The number of values that the network carries from one window to the next.
const STATE: usize = 2 * 128;
/// Noise and music change the state, so that the network misses the speech after them. So the state is cleared after this number
/// of windows (2 s), at a moment without speech.
const WINDOWS_TO_RESET: u32 = 62;
/// A moment without speech: so many windows (160 ms) with a probability below [`NO_SPEECH`].
const QUIET_WINDOWS: u32 = 5;
const NO_SPEECH: f32 = 0.1;

/// The network of Silero, for any number of streams.
pub struct Silero {
    network: Network,
    inputs: [NodeId; 3],
    outputs: [NodeId; 2],
}

impl Silero {
    /// Loads `silero_vad.onnx` of a folder.
    ///
    /// # Errors
    /// The file is missing or is another network.
    pub fn load(folder: &Path) -> Result<Self, String> {
        let network = Network::load(&folder.join("silero_vad.onnx"))?;
        let inputs = [network.node("input")?, network.node("state")?, network.node("sr")?];
        let outputs = [network.node("output")?, network.node("stateN")?];
        Ok(Self { network, inputs, outputs })
    }
}

/// The voice activity of one stream.
pub struct Vad {
    silero: Arc<Silero>,
    rate: u32,
    /// The samples of a window, and those of the window before that the network gets too.
    window: usize,
    context: usize,
    /// The context, and the samples of the window that have come.
    samples: Vec<f32>,
    state: Vec<f32>,
    windows: u32,
    quiet: u32,
}

impl Vad {
    /// The voice activity of a stream with 8,000 or 16,000 Hz. `None` for another rate.
    pub fn new(silero: &Arc<Silero>, rate: u32) -> Option<Self> {
        let (window, context) = match rate {
            8_000 => (256, 32),
            16_000 => (512, 64),
            _ => return None,
        };
        let samples = vec![0.0; context];
        Some(Self {
            silero: Arc::clone(silero),
            rate,
            window,
            context,
            samples,
            state: vec![0.0; STATE],
            windows: 0,
            quiet: 0,
        })
    }

    /// Takes any number of samples, and returns the probability (0.0 to 1.0) of each window of 32 ms that is complete.
    ///
    /// # Errors
    /// The network failed.
    pub fn push(&mut self, samples: &[i16]) -> Result<Vec<f32>, String> {
        let mut probabilities = Vec::new();
        let size = self.context + self.window;
        for sample in samples {
            self.samples.push(f32::from(*sample) / 32_768.0);
            if self.samples.len() == size {
                let found = self.decide();
                // The end of this window is the context of the next one, also if the network failed.
                self.samples.drain(..self.window);
                probabilities.push(found?);
            }
        }
        Ok(probabilities)
    }

    fn decide(&mut self) -> Result<f32, String> {
        let samples = NdTensor::from_data([1, self.samples.len()], self.samples.clone());
        let state = NdTensor::from_data([2, 1, 128], std::mem::take(&mut self.state));
        let rate = NdTensor::from_data([], vec![self.rate as i32]);
        let [input, input_state, input_rate] = self.silero.inputs;
        let inputs = vec![(input, samples.into()), (input_state, state.into()), (input_rate, rate.into())];
        let result = self.silero.network.run(inputs, self.silero.outputs);
        self.state = vec![0.0; STATE];
        let [probability, state] = result?;
        let probability = probability.into_tensor::<f32>().and_then(|tensor| tensor.into_data().first().copied());
        // One value that is no number would stay in the state for ever.
        let probability = probability.filter(|probability| probability.is_finite());
        let state = state
            .into_tensor::<f32>()
            .map(|tensor| tensor.into_data())
            .filter(|state| state.len() == STATE && state.iter().all(|value| value.is_finite()));
        let (Some(probability), Some(state)) = (probability, state) else {
            return Err("the network gave no probability".to_owned());
        };
        self.quiet = if probability < NO_SPEECH { self.quiet + 1 } else { 0 };
        self.windows += 1;
        if self.windows >= WINDOWS_TO_RESET && self.quiet >= QUIET_WINDOWS {
            self.windows = 0;
            self.quiet = 0;
        } else {
            self.state = state;
        }
        Ok(probability)
    }
}

//! A voice of Piper: one network for one speaker.

use std::path::Path;

use rten::NodeId;
use rten_tensor::NdTensor;

use super::config::Config;
use super::network::{Network, find};

/// The numbers of a text without phonemes: the begin, a mark, the end, and the paddings.
const MARKS_ONLY: usize = 5;

/// The network and its configuration.
pub(super) struct Piper {
    pub(super) config: Config,
    network: Network,
    inputs: [NodeId; 3],
    output: NodeId,
}

impl Piper {
    /// Loads one file `.onnx` and its configuration `.onnx.json`. The second value is the name of the speaker.
    pub(super) fn load(folder: &Path) -> Result<(Self, String), String> {
        let path = find(folder)?;
        let text = std::fs::read_to_string(path.with_extension("onnx.json"));
        let text = text.map_err(|error| format!("{}.json: {error}", path.display()))?;
        let config = Config::read(&text)?;
        let network = Network::load(&path)?;
        let inputs = [network.node("input")?, network.node("input_lengths")?, network.node("scales")?];
        let output = network.node("output")?;
        Ok((Self { config, network, inputs, output }, name(&path)))
    }

    /// The audio of phonemes at the speed. `None` if there are no phonemes.
    pub(super) fn speak(&self, phonemes: &str, speed: f32) -> Result<Option<Vec<f32>>, String> {
        let ids = self.config.ids(phonemes);
        let count = ids.len();
        // Nothing but marks: a sign that espeak-ng does not know.
        if count <= MARKS_ONLY {
            return Ok(None);
        }
        let ids = NdTensor::from_data([1, count], ids);
        let lengths = NdTensor::from_data([1], vec![count as i32]);
        let scales = [self.config.noise, self.config.length / speed, self.config.noise_of_lengths];
        let scales = NdTensor::from_data([3], scales.to_vec());
        let [input, input_lengths, input_scales] = self.inputs;
        let inputs = vec![(input, ids.into()), (input_lengths, lengths.into()), (input_scales, scales.into())];
        let [output] = self.network.run(inputs, [self.output])?;
        let output = output.into_tensor::<f32>().ok_or("the network gave no audio")?;
        Ok(Some(output.into_data()))
    }
}

/// The name in the name of a file: `en_US-joe-medium.onnx` is `joe`.
fn name(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    stem.split('-').nth(1).unwrap_or(&stem).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_voice_is_in_the_name_of_its_file() {
        assert_eq!(name(Path::new("/models/en_US-joe-medium.onnx")), "joe");
        assert_eq!(name(Path::new("other.onnx")), "other");
    }
}

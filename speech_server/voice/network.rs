//! A neural network from an ONNX file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rten::{Model, ModelOptions, NodeId, RunOptions, ThreadPool, Value, ValueOrView};

thread_local! {
    /// Each thread of this program computes alone. So several requests do not wait for each other, and the program uses as many
    /// cores as it has working threads.
    static POOL: Arc<ThreadPool> = Arc::new(ThreadPool::with_num_threads(1));
}

/// A loaded network. Several threads can use it at the same time.
pub(crate) struct Network {
    model: Model,
}

impl Network {
    /// Reads a file.
    ///
    /// # Errors
    /// Says why the file cannot be read or is no network.
    pub(crate) fn load(path: &Path) -> Result<Self, String> {
        let mut options = ModelOptions::with_all_ops();
        options.prepack_weights(true);
        let model = options.load_file(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { model })
    }

    /// Reads the content of a file.
    ///
    /// # Errors
    /// Says why the content is no network.
    pub(crate) fn read(model: Vec<u8>) -> Result<Self, String> {
        let mut options = ModelOptions::with_all_ops();
        options.prepack_weights(true);
        Ok(Self { model: options.load(model).map_err(|error| error.to_string())? })
    }

    /// Returns the input or the output with this name.
    ///
    /// # Errors
    /// Names it if the network does not have it.
    pub(crate) fn node(&self, name: &str) -> Result<NodeId, String> {
        self.model.find_node(name).ok_or_else(|| format!("the network has no `{name}`"))
    }

    /// The input with this position, and the output with this position.
    ///
    /// # Errors
    /// Says that the network does not have them.
    pub(crate) fn ends(&self, input: usize, output: usize) -> Result<(NodeId, NodeId), String> {
        let ends = self.model.input_ids().get(input).zip(self.model.output_ids().get(output));
        ends.map(|(input, output)| (*input, *output))
            .ok_or_else(|| "the network has other inputs and outputs".to_owned())
    }

    /// Computes outputs.
    ///
    /// # Errors
    /// Says which operation failed.
    pub(crate) fn run<const N: usize>(
        &self,
        inputs: Vec<(NodeId, ValueOrView<'_>)>,
        outputs: [NodeId; N],
    ) -> Result<[Value; N], String> {
        let options = RunOptions::default().with_thread_pool(Some(POOL.with(Arc::clone)));
        self.model.run_n(inputs, outputs, Some(options)).map_err(|error| error.to_string())
    }
}

/// The network in a folder: its only file `.onnx`.
///
/// # Errors
/// There is none.
pub(crate) fn find(folder: &Path) -> Result<PathBuf, String> {
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "onnx"));
    paths.sort();
    paths.into_iter().next().ok_or_else(|| format!("{} has no file .onnx", folder.display()))
}

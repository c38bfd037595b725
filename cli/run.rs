//! The log and the threads of a command.

use tandem_settings::LogConfig;

use crate::Failure;
use crate::log_format::start_log;

/// Starts a text log on standard error. The level is the value of `TANDEM_LOG`, or `default` if this variable is not
/// set.
pub fn log(default: &str) {
    start_log(&LogConfig { level: default.into(), ..LogConfig::default() });
}

/// Runs a future until it is complete. The number of threads is half the number of cores. There are two reasons. The
/// media threads need the other cores. And moving a call to another thread costs more time than the move saves. The
/// measurements are in docs/performance.md.
pub fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(cores.div_ceil(2)).enable_all().build();
    Ok(runtime.map_err(|error| Failure::Environment(error.into()))?.block_on(future))
}

//! The composition root: builds the server out of its areas and owns the order in which it shuts down.

use tandem_config::Config;

/// Runs the server until it is told to stop.
pub async fn run(config: Config) -> anyhow::Result<()> {
    drop(config);
    anyhow::bail!("the server is not put together yet")
}

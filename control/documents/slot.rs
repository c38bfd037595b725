//! The script of one leg, and the instructions that it gave last.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tandem_call::conversation::AgentSpec;
use tandem_call::fetch::FetchFailure;
use tandem_call::program::instruction::Program;
use tandem_call::snapshot::{CallSnapshotError, base64_octets};
use tandem_dialect::Dialects;
use tandem_dialect::script::Script;
use tandem_id::FetchId;
use tokio::sync::MutexGuard;

/// The stateful program (script) that provides the leg's documents, if there is a script. Each leg has its own script.
/// All clones share the script.
#[derive(Clone, Default)]
pub struct ScriptSlot(Arc<Slot>);

#[derive(Default)]
struct Slot {
    /// The turn to run the script. A second request waits until the first request is complete.
    turn: tokio::sync::Mutex<()>,
    /// Locked for the steps of the script only, so that the script can be written while it awaits a response.
    script: Mutex<Option<RunningScript>>,
}

struct RunningScript {
    /// The name of the dialect that reads the script.
    dialect: String,
    script: Box<dyn Script>,
    given: Option<Given>,
}

/// The instructions that a script gave last. If the leg did not get them before a restart, it requests them again under
/// the same id.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Given {
    pub(crate) id: FetchId,
    pub(crate) line: String,
    pub(crate) result: Result<Program, FetchFailure>,
}

/// The written form of a script. It contains secrets of the application.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct WrittenScript {
    dialect: String,
    #[serde(with = "base64_octets")]
    state: bytes::Bytes,
    given: Option<Given>,
}

impl std::fmt::Debug for WrittenScript {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WrittenScript({}, ..)", self.dialect)
    }
}

impl ScriptSlot {
    /// Waits until the script may run. The script may run until the result is dropped.
    pub(crate) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.0.turn.lock().await
    }

    /// Replaces the script.
    pub(crate) fn start(&self, dialect: &str, script: Box<dyn Script>) {
        *self.0.script.lock() = Some(RunningScript { dialect: dialect.to_owned(), script, given: None });
    }

    /// Calls `act` with the script. Returns `None` if there is no script.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut dyn Script) -> T) -> Option<T> {
        self.0.script.lock().as_mut().map(|running| act(&mut *running.script))
    }

    /// Whether there is a script.
    pub(crate) fn is_running(&self) -> bool {
        self.0.script.lock().is_some()
    }

    /// Keeps the instructions that the script has given.
    pub(crate) fn keep(&self, given: Given) {
        if let Some(running) = &mut *self.0.script.lock() {
            running.given = Some(given);
        }
    }

    /// Returns the instructions that the script has given for this request.
    pub(crate) fn given(&self, id: FetchId) -> Option<Given> {
        self.0.script.lock().as_ref()?.given.as_ref().filter(|given| given.id == id).cloned()
    }

    /// Takes the agents that wait for the end of a document of the script.
    pub fn take_absent_agents(&self) -> Vec<AgentSpec> {
        self.with(|script| script.take_absent_agents()).unwrap_or_default()
    }

    /// Writes the script. Returns `None` if there is no script.
    pub fn write(&self) -> Result<Option<WrittenScript>, CallSnapshotError> {
        let slot = self.0.script.lock();
        let Some(RunningScript { dialect, script, given }) = &*slot else { return Ok(None) };
        let state = script.write()?.into();
        Ok(Some(WrittenScript { dialect: dialect.clone(), state, given: given.clone() }))
    }

    /// Reads a script that [`ScriptSlot::write`] has written.
    pub fn read(dialects: &Dialects, written: WrittenScript) -> Result<Self, CallSnapshotError> {
        let WrittenScript { dialect, state, given } = written;
        let reader = dialects.get(&dialect).and_then(|dialect| dialect.documents());
        let Some(reader) = reader else {
            return Err(CallSnapshotError::Malformed(format!("no dialect {dialect:?} has scripts")));
        };
        let script = reader.read_script(&state)?;
        Ok(Self(Arc::new(Slot {
            turn: tokio::sync::Mutex::default(),
            script: Mutex::new(Some(RunningScript { dialect, script, given })),
        })))
    }
}

//! The parts of the server that conferences use, and the interface to the calls of the participants.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tandem_accounts::Accounts;
use tandem_audio::AudioLoader;
use tandem_call::engine::EngineFailure;
use tandem_call::program::instruction::Warning;
use tandem_cluster::Cluster;
use tandem_dialect::Dialects;
use tandem_documents::Turns;
use tandem_events::Bus;
use tandem_history::problem::Problem;
use tandem_history::recordings::RecordingFiles;
use tandem_http::Client;
use tandem_id::AccountName;
use tandem_media as media;
use tandem_store::Store;
use tandem_webhooks::Deliveries;
use tokio_util::task::TaskTracker;

/// The parts of the server that conferences use.
pub struct ConferenceServices {
    /// The accounts, to which conferences belong.
    pub accounts: Arc<Accounts>,
    /// The other nodes: a conference has participants from all nodes.
    pub cluster: Cluster,
    /// The dialects by name.
    pub dialects: Dialects,
    /// The media engine, which has a room for each conference.
    pub media: media::Engine,
    /// The database of records.
    pub store: Store,
    /// HTTP client for documents and streams.
    pub client: Client,
    /// Audio for playback.
    pub audio: AudioLoader,
    /// The maximum time without received data on the WebSocket of a stream. After this time the WebSocket is closed.
    /// `None` means no limit.
    pub stream_idle: Option<Duration>,
    /// The byte order of linear samples in streams.
    pub stream_byte_order: media::ByteOrder,
    /// The turns to read documents.
    pub turns: Turns,
    /// Base URL of this server as other hosts see it, without a trailing slash.
    pub public_url: Arc<str>,
    /// Folder and format of recordings.
    pub recordings: RecordingFiles,
    /// The webhook queues.
    pub deliveries: Deliveries,
    /// The bus that carries the events of conferences to readers in this process.
    pub events: Bus,
    /// The tasks that publish events. A shutdown waits for these tasks.
    pub tasks: TaskTracker,
    /// The receiver of the problems of conferences.
    pub reporter: Reporter,
}

/// The receiver of problems, with the account that each problem concerns. Before [`Reporter::set`], problems are dropped.
#[derive(Default)]
pub struct Reporter(OnceLock<Receiver>);

type Receiver = Box<dyn Fn(&AccountName, Problem) + Send + Sync>;

impl Reporter {
    /// Sets the receiver of all later problems. The receiver must not wait. Further calls have no effect.
    pub fn set(&self, receiver: impl Fn(&AccountName, Problem) + Send + Sync + 'static) {
        // An error means that there is a receiver already.
        let _ = self.0.set(Box::new(receiver));
    }

    pub(super) fn report(&self, account: &AccountName, problem: Problem) {
        if let Some(receiver) = self.0.get() {
            receiver(account, problem);
        }
    }
}

/// A report of a conference to the call of a participant.
#[derive(Serialize, Deserialize)]
pub enum ParticipantUpdate {
    /// The conference has removed the leg. If `clears` is true, the leg ends too.
    Removed {
        /// Whether the leg ends too.
        clears: bool,
    },
    /// A document of the conference has a fault. The call may drop the warning if too many messages wait.
    Warned(Warning),
    /// An engine that works for the conference failed. The call may drop the report if too many messages wait.
    EngineFailed(EngineFailure),
}

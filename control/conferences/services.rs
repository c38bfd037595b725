//! What conferences use: parts of the server, and the calls of the participants.

use std::sync::Arc;
use std::time::Duration;

use tandem_accounts::Accounts;
use tandem_audio::AudioLoader;
use tandem_call::program::instruction::Warning;
use tandem_dialect::Dialects;
use tandem_history::recordings::RecordingFiles;
use tandem_http::Client;
use tandem_media as media;
use tandem_store::Store;
use tandem_webhooks::Deliveries;
use tokio_util::task::TaskTracker;

/// The parts of the server that conferences use.
pub struct ConferenceServices {
    /// The accounts, to which conferences belong.
    pub accounts: Arc<Accounts>,
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
    /// Time without received data after which the WebSocket of a stream is closed. `None` means no limit.
    pub stream_idle: Option<Duration>,
    /// Base URL of this server for others, without a trailing slash.
    pub public_url: Arc<str>,
    /// Folder and format of recordings.
    pub recordings: RecordingFiles,
    /// The webhook queues.
    pub deliveries: Deliveries,
    /// The tasks that publish events; a shutdown waits for them.
    pub tasks: TaskTracker,
}

/// The call of a participant, as the conference sees it. No method waits.
pub trait ParticipantCall: Send + Sync {
    /// The conference has removed the leg. With `clears` the leg ends too.
    fn removed(&self, clears: bool);

    /// Tells the leg's application of a fault in a document of the conference. A call with too many waiting messages
    /// drops the warning.
    fn warn(&self, warning: Warning);

    /// Adds a line about the leg to the call's log.
    fn note(&self, kind: &'static str, text: String);
}

//! What calls are made with: everything of which the server has one.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tandem_accounts::Accounts;
use tandem_call::address::Address;
use tandem_call::id::RecordingId;
use tandem_call::leg::LegInfo;
use tandem_history::feed::Feed;
use tandem_history::recordings::RecordingFiles;
use tandem_history::stored_media::StoredMedia;
use tandem_http::Client;
use tandem_media as media;
use tandem_metrics::Counters;
use tandem_routing::channels::{Barred, Channels};
use tandem_routing::{Outbound, Own, Routing};
use tandem_settings::IceConfig;
use tandem_settings::current::Current;
use tandem_sip as sip;
use tandem_speech::Voice;
use tandem_speech::recognise::Recogniser;
use tandem_stir::Stir;
use tandem_store::{Store, StoreError};
use tandem_webhooks::Deliveries;
use tokio::sync::{Mutex, Notify};
use tokio_util::task::TaskTracker;

use crate::agent::Agents;
use crate::audio::AudioRoom;
use crate::conferences::Conferences;
use crate::followers::Followers;
use crate::local_streams::LocalStreams;
use crate::notify::Dialects;
use crate::queues::Queues;
use crate::siprec::Connectors;

/// What calls are made with. One for the server.
pub struct Services {
    /// Accounts of the configuration.
    pub accounts: Arc<Accounts>,
    /// Dialects by name.
    pub dialects: Dialects,
    /// Numbers and trunks.
    pub routing: Current<Routing>,
    /// The media engine.
    pub media: media::Engine,
    /// The database.
    pub store: Store,
    /// For documents, files and streams.
    pub client: Client,
    /// Audio for playback.
    pub audio: AudioRoom,
    /// Audio files that accounts keep here.
    pub stored_media: Arc<StoredMedia>,
    /// Text to speech.
    pub voice: Arc<Voice>,
    /// Speech to text.
    pub recogniser: Arc<Recogniser>,
    /// Voice agents.
    pub agents: Current<Agents>,
    /// How much audio of a stream's application may wait to be played.
    pub stream_buffer: Duration,
    /// How long a stream's application may give no sign of life.
    pub stream_idle: Option<Duration>,
    /// What callers are told; no trailing slash.
    pub public_url: Arc<str>,
    /// Where recordings are, and in what form.
    pub recordings: RecordingFiles,
    /// STUN and TURN servers that applications' clients are told of.
    pub ice: Current<IceConfig>,
    /// Recording servers that applications know by name.
    pub siprec: Current<Connectors>,
    /// Who vouches for calling numbers.
    pub stir: Current<Stir>,
    /// Legs of whatever calls that hear each other.
    pub conferences: Conferences,
    /// Legs of whatever calls that wait for somebody.
    pub queues: Queues,
    /// Channels that legs have taken, where connections have limits.
    pub channels: Channels,
    /// Who in this process watches what calls write into their logs.
    pub feed: Feed,
    /// Who in here follows a leg.
    pub followers: Followers,
    /// Parts of this server that wait for a leg's stream.
    pub local_streams: LocalStreams,
    /// For `/metrics`.
    pub counters: Counters,
    /// Requests for documents under way: a shutdown waits for them.
    pub fetches: TaskTracker,
    /// SIP and the webhook queues.
    pub late: Late,
}

/// What needs the calls themselves and so is there only after them.
#[derive(Default)]
pub struct Late {
    sip: OnceLock<Arc<sip::transport::Handle>>,
    deliveries: OnceLock<Deliveries>,
    /// Held while who may register and call is read, and until SIP has been told: what is read last is told last.
    reading_phones: Mutex<()>,
    /// Told when a call has ended.
    pub used: Notify,
}

impl Services {
    /// Adds the webhook queues, which report to the calls themselves. Once, before the first call.
    pub fn connect_deliveries(&self, deliveries: Deliveries) {
        let set = self.late.deliveries.set(deliveries);
        debug_assert!(set.is_ok(), "connected twice");
    }

    /// Adds SIP, which reports to the calls itself. Once.
    pub fn connect_sip(&self, sip: sip::transport::Handle) {
        let set = self.late.sip.set(Arc::new(sip));
        debug_assert!(set.is_ok(), "connected twice");
    }

    /// The SIP endpoint. What comes in while the server is still being put together waits here.
    pub fn sip(&self) -> &Arc<sip::transport::Handle> {
        self.late.sip.wait()
    }

    /// Something was used, or somebody wants to be told of it: the triggers are looked at.
    pub fn usage_changed(&self) {
        self.late.used.notify_one();
    }

    /// Reads anew who may register and call, and tells SIP. To be asked whenever domains, lists or what is in them, or trunks,
    /// have changed.
    pub async fn phones_changed(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.late.reading_phones.lock().await;
        let directory = self.routing.get().phones().load(&self.store).await?;
        self.sip().post(sip::Command::Directory(directory));
        Ok(())
    }

    /// The webhook queues.
    pub fn deliveries(&self) -> &Deliveries {
        self.late.deliveries.wait()
    }

    /// Where a leg is sent, the best way first, as the trunks are now. `via`: over the trunks of these names.
    pub fn routes(&self, account: &str, to: &Address, via: &[Arc<str>]) -> Vec<Outbound> {
        let sip = self.sip();
        self.routing.get().outbound(account, to, via, |trunk| sip.peer(trunk).health, &mut rand::rng())
    }

    /// The destination on this server that a leg reaches without SIP, if it is one.
    pub fn own(&self, account: &str, dialect: &str, to: &Address, via: &[Arc<str>]) -> Option<Own> {
        self.routing.get().own(account, dialect, to, via)
    }

    /// Whether there is anywhere at all that a leg to that address can be sent. A client always is: whether a phone has its
    /// name is found out by the call.
    pub fn reaches(&self, account: &str, dialect: &str, to: &Address, via: &[Arc<str>]) -> bool {
        matches!(to, Address::Client(_))
            || self.own(account, dialect, to, via).is_some()
            || !self.routes(account, to, via).is_empty()
    }

    /// Takes the channels of a leg that is to be called, unless it has them.
    pub fn take_outbound(&self, leg: &LegInfo) -> Result<(), Barred> {
        let connection = leg.application.as_deref();
        self.channels.take(leg.id, self.routing.get().outbound_channels(&leg.account, connection, &leg.to)?)
    }

    /// The id of an account's number, as its legs keep it.
    pub fn number_id(&self, account: &str, number: &Address) -> Option<Arc<str>> {
        self.routing.get().number_id(account, number).map(|id| format!("{id:032x}").into())
    }

    /// The file of a recording.
    pub fn recording_path(&self, id: RecordingId) -> PathBuf {
        self.recordings.path(id)
    }
}

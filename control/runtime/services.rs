//! The services that calls use; the server has one of each.

use std::path::PathBuf;
use std::sync::Arc;

use tandem_accounts::Accounts;
use tandem_audio::AudioRoom;
use tandem_call::address::Address;
use tandem_call::id::{LegId, RecordingId};
use tandem_call::leg::LegInfo;
use tandem_call::route::Route;
use tandem_conferences::Conferences;
use tandem_conversations::Conversations;
use tandem_dialect::Dialects;
use tandem_history::feed::Feed;
use tandem_history::recordings::RecordingFiles;
use tandem_history::stored_media::StoredMedia;
use tandem_http::Client;
use tandem_media as media;
use tandem_metrics::Counters;
use tandem_queues::Queues;
use tandem_routing::channels::{Barred, Channels};
use tandem_routing::{InternalDestination, Outbound, Routing};
use tandem_settings::IceConfig;
use tandem_settings::current::Current;
use tandem_sip as sip;
use tandem_siprec::Connectors;
use tandem_speech::Voice;
use tandem_speech::recognise::Recogniser;
use tandem_stir::Stir;
use tandem_store::{Store, StoreError};
use tandem_streams::Streams;
use tandem_webhooks::Deliveries;
use tokio::sync::{Mutex, Notify};
use tokio_util::task::TaskTracker;

use crate::followers::Followers;

/// The services that calls use. One instance for the server.
pub struct Services {
    /// The accounts of the configuration and their subaccounts.
    pub accounts: Arc<Accounts>,
    /// The dialects by name.
    pub dialects: Dialects,
    /// The routing of calls: numbers, trunks, phones.
    pub routing: Current<Routing>,
    /// The media engine.
    pub media: media::Engine,
    /// The database of records and resources.
    pub store: Store,
    /// HTTP client for documents, files and streams.
    pub client: Client,
    /// Audio for playback.
    pub audio: AudioRoom,
    /// Audio files that accounts have uploaded.
    pub stored_media: Arc<StoredMedia>,
    /// Text to speech.
    pub voice: Arc<Voice>,
    /// Speech to text.
    pub recogniser: Arc<Recogniser>,
    /// The conversations of callers with applications and agents.
    pub conversations: Arc<Conversations>,
    /// The media streams to and from applications.
    pub streams: Streams,
    /// Base URL of this server for others, without a trailing slash.
    pub public_url: Arc<str>,
    /// Folder and format of recordings.
    pub recordings: RecordingFiles,
    /// The STUN and TURN servers that clients of applications receive.
    pub ice: Current<IceConfig>,
    /// The recording servers (SIPREC) that applications know by name.
    pub siprec: Current<Connectors>,
    /// Signs and verifies calling numbers (STIR/SHAKEN).
    pub stir: Current<Stir>,
    /// The conferences, which connect legs of different calls.
    pub conferences: Conferences,
    /// The call queues.
    pub queues: Queues,
    /// The channels in use, where connections have limits.
    pub channels: Channels,
    /// The subscribers in this process to the lines of live call logs.
    pub feed: Feed,
    /// The subscribers in this process to the events of a leg.
    pub followers: Followers,
    /// The counters for `/metrics`.
    pub counters: Counters,
    /// Running requests for documents; a shutdown waits for them.
    pub fetches: TaskTracker,
    /// The SIP endpoint.
    pub sip: Arc<sip::transport::Handle>,
    /// The webhook queues.
    pub deliveries: Deliveries,
    /// Held while the phone users are read and until SIP has them, so that the latest data is sent last.
    pub reading_phones: Mutex<()>,
    /// Notified when a call has ended or the usage triggers have changed.
    pub usage: Notify,
}

impl Services {
    /// Makes the usage triggers check again, because usage or a trigger has changed.
    pub fn usage_changed(&self) {
        self.usage.notify_one();
    }

    /// Reads again which phones may register and call, and passes the result to SIP. Call it whenever trunks, domains,
    /// lists or their contents have changed.
    pub async fn phones_changed(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.reading_phones.lock().await;
        let directory = self.routing.get().phones().load(&self.store).await?;
        self.sip.post(sip::Command::Directory(directory));
        Ok(())
    }

    /// Returns the current routes of a leg, best first. `via` names the trunks to use.
    pub fn routes(&self, account: &str, to: &Address, via: &[Arc<str>]) -> Vec<Outbound> {
        let sip = &self.sip;
        self.routing.get().outbound(account, to, via, |trunk| sip.peer(trunk).health, &mut rand::rng())
    }

    /// Returns the destination on this server that a leg reaches without SIP, if there is one.
    pub fn own(&self, account: &str, dialect: &str, to: &Address, via: &[Arc<str>]) -> Option<InternalDestination> {
        self.routing.get().own(account, dialect, to, via)
    }

    /// Whether a leg to this address has any route. A client always has one; only the call itself finds out whether a
    /// phone has this name.
    pub fn reaches(&self, account: &str, dialect: &str, to: &Address, via: &[Arc<str>]) -> bool {
        matches!(to, Address::Client(_))
            || self.own(account, dialect, to, via).is_some()
            || !self.routes(account, to, via).is_empty()
    }

    /// Takes the channels of an inbound leg to `user`. `caller`: the calling phone.
    pub fn take_inbound(
        &self,
        leg: LegId,
        caller: Option<&sip::Caller>,
        route: &Route,
        user: &str,
    ) -> Result<(), Barred> {
        let wanted = self.routing.get().channels(caller, route, user);
        let taken = wanted.and_then(|wanted| self.channels.take(leg, wanted));
        taken.inspect_err(|barred| tracing::info!(%leg, account = %route.account, "call refused: {barred}"))
    }

    /// Takes the channels of an outbound leg, unless it has them already.
    pub fn take_outbound(&self, leg: &LegInfo) -> Result<(), Barred> {
        let connection = leg.application.as_deref();
        self.channels.take(leg.id, self.routing.get().outbound_channels(&leg.account, connection, &leg.to)?)
    }

    /// Returns the id of an account's number in the form that legs store.
    pub fn number_id(&self, account: &str, number: &Address) -> Option<Arc<str>> {
        self.routing.get().number_id(account, number).map(|id| format!("{id:032x}").into())
    }

    /// Returns the path of a recording's file.
    pub fn recording_path(&self, id: RecordingId) -> PathBuf {
        self.recordings.path(id)
    }
}

//! The services that calls use. The server has one instance of each service.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tandem_accounts::Accounts;
use tandem_audio::AudioLoader;
use tandem_call::address::Address;
use tandem_call::leg::LegInfo;
use tandem_call::route::Route;
use tandem_clients::Clients;
use tandem_cluster::Cluster;
use tandem_conferences::Conferences;
use tandem_conversations::Conversations;
use tandem_dialect::Dialects;
pub use tandem_documents::Turns;
use tandem_events::{Bus, ResourceKind};
use tandem_history::recordings::RecordingFiles;
use tandem_http::Client;
use tandem_id::{AccountName, LegId, RecordingId};
use tandem_leg::signal::Caller;
use tandem_legs::browser::WebPhones;
use tandem_legs::sip::Endpoint;
use tandem_media as media;
use tandem_metrics::Counters;
use tandem_queues::Queues;
use tandem_routing::channels::{Barred, Channels};
use tandem_routing::new_call::CreateError;
use tandem_routing::{Outbound, Routing};
use tandem_sip as sip;
use tandem_siprec::Connectors;
use tandem_speech::recognise::Recogniser;
use tandem_stir::Stir;
use tandem_store::{Store, StoreError};
use tandem_streams::Streams;
use tandem_webhooks::Deliveries;
use tokio::sync::{Mutex, Notify};
use tokio_util::task::TaskTracker;

use crate::pending::PendingRequests;
use crate::reporting::resource_changed;

/// All services that calls use. The server has one instance of this type.
pub struct Services {
    /// The accounts of the configuration and their subaccounts.
    pub accounts: Arc<Accounts>,
    pub dialects: Dialects,
    /// The routing of calls: numbers, trunks, phones.
    pub routing: ArcSwap<Routing>,
    pub media: media::Engine,
    /// The database of records and resources.
    pub store: Store,
    /// The nodes, if this server is a node of a cluster.
    pub cluster: Cluster,
    /// HTTP client for documents, files and streams.
    pub client: Client,
    /// Audio for playback.
    pub audio: AudioLoader,
    /// Speech to text.
    pub recogniser: Arc<Recogniser>,
    /// The conversations of callers with applications and agents.
    pub conversations: Arc<Conversations>,
    /// The media streams to and from applications.
    pub streams: Streams,
    /// Base URL of this server as other hosts see it, without a trailing slash.
    pub public_url: Arc<str>,
    /// Folder and format of recordings.
    pub recordings: RecordingFiles,
    /// The recording servers (SIPREC) that applications can name.
    pub siprec: ArcSwap<Connectors>,
    /// The service that signs and verifies calling numbers (STIR/SHAKEN).
    pub stir: ArcSwap<Stir>,
    /// The conferences. A conference connects legs of different calls.
    pub conferences: Conferences,
    pub queues: Queues,
    /// The channels that live legs have taken. Channels limit the concurrent calls of connections and outbound
    /// profiles.
    pub channels: Channels,
    /// The turns to read documents and to run scripts.
    pub turns: Turns,
    /// The bus that carries the events of the server to readers in this process.
    pub events: Bus,
    /// The counters for `/metrics`.
    pub counters: Counters,
    /// The requests for documents that are in progress. A shutdown waits until these requests are complete.
    pub fetches: TaskTracker,
    /// The same requests for documents, by call.
    pub pending: PendingRequests,
    /// The users that can be called as clients, with their contacts.
    pub clients: Clients,
    /// The web pages among these contacts.
    pub pages: WebPhones,
    pub sip: Arc<Endpoint>,
    /// The webhook queues.
    pub deliveries: Deliveries,
    /// The lock for updates of the phone users. An update holds the lock while it reads the data and passes the data to
    /// SIP. So the latest data reaches SIP last.
    pub reading_phones: Mutex<()>,
    /// The signal that a call has ended or that the usage triggers have changed.
    pub usage: Notify,
}

impl Services {
    /// Starts a new check of the usage triggers, because usage or a trigger has changed.
    pub fn usage_changed(&self) {
        self.usage.notify_one();
    }

    /// Reads the phones that may register and call from the database again, and passes the result to SIP. This function
    /// must be called after each change of trunks, domains, lists or the contents of lists.
    pub async fn phones_changed(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.reading_phones.lock().await;
        let directory = self.routing.load_full().phones().load(&self.store).await?;
        self.sip.post(sip::Command::Directory(directory));
        resource_changed(&self.events, &AccountName::server(), ResourceKind::SipUsers);
        Ok(())
    }

    /// Publishes that the configuration file was read again.
    pub fn reloaded(&self) {
        resource_changed(&self.events, &AccountName::server(), ResourceKind::Configuration);
    }

    /// Returns the current routes of a leg, best route first. `via` names the trunks to use.
    pub fn routes(&self, account: &AccountName, to: &Address, via: &[Arc<str>]) -> Vec<Outbound> {
        let sip = &self.sip;
        self.routing.load_full().outbound(account, to, via, |trunk| sip.trunk_status(trunk).health, &mut rand::rng())
    }

    /// Returns the reason why calls of an account may not go to a SIP URI, as far as the reason is known without a lookup
    /// of the host name. A request that stores a SIP URI is refused for this reason. The call itself is checked again.
    pub async fn refusal_of_target(&self, account: &AccountName, uri: &str) -> Option<String> {
        let accounts = self.routing.load_full().trunk_owners(account);
        self.sip.refusal_of(&accounts, uri).await
    }

    /// Checks that a leg to this address has a route that the account may use. A `client:` address always has a route,
    /// because only the call itself detects whether a phone with this name exists. The call itself is checked again,
    /// with the addresses of host names.
    ///
    /// # Errors
    /// [`CreateError::NoRoute`] or [`CreateError::ForbiddenTarget`].
    pub async fn check_route(
        &self,
        account: &AccountName,
        dialect: &str,
        to: &Address,
        via: &[Arc<str>],
    ) -> Result<(), CreateError> {
        let is_internal = || self.routing.load_full().own(account, dialect, to, via).is_some();
        if matches!(to, Address::Client(_)) || is_internal() {
            return Ok(());
        }
        let mut error = CreateError::NoRoute(to.to_string());
        for route in self.routes(account, to, via) {
            let Some(uri) = route.chosen_uri() else { return Ok(()) };
            let Some(why) = self.refusal_of_target(account, uri).await else { return Ok(()) };
            error = CreateError::ForbiddenTarget { to: to.to_string(), why };
        }
        Err(error)
    }

    /// Reserves the channels that an inbound leg to `user` needs. `caller` is the calling phone.
    pub(crate) fn take_inbound(
        &self,
        routing: &Routing,
        leg: LegId,
        caller: Option<&Caller>,
        route: &Route,
        user: &str,
    ) -> Result<(), Barred> {
        self.channels.take(leg, routing.channels(caller, route, user)?)
    }

    /// Reserves the channels that an outbound leg needs, unless the leg has these channels already.
    pub(crate) fn take_outbound(&self, routing: &Routing, leg: &LegInfo) -> Result<(), Barred> {
        let connection = leg.application.as_deref();
        self.channels.take(leg.id, routing.outbound_channels(&leg.account, connection, &leg.to)?)
    }

    /// Returns the path of a recording's file.
    pub fn recording_path(&self, id: RecordingId) -> PathBuf {
        self.recordings.path(id)
    }
}

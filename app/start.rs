//! The start of the server, in the order that the crate's documentation lists.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use arc_swap::ArcSwap;
use tandem_accounts::Accounts;
use tandem_agent::Agents;
use tandem_audio::AudioLoader;
use tandem_audio::stored_media::StoredMedia;
use tandem_clients::Clients;
use tandem_cluster::Cluster;
use tandem_conferences::{ConferenceServices, Conferences, Reporter};
use tandem_config::Config;
use tandem_conversations::Conversations;
use tandem_dialect::delivery::DialectSigner;
use tandem_dialect::{Dialect, Dialects};
use tandem_events::Bus;
use tandem_history::recordings::{RecordingFiles, Recordings};
use tandem_host::clock;
use tandem_http::{Client, LocalResponse, NetworkPolicy, Origins, SystemResolver, tls_config};
use tandem_media as media;
use tandem_metrics::Counters;
use tandem_metrics::timings::Timings;
use tandem_queues::Queues;
use tandem_routing::channels::Channels;
use tandem_routing::inventory::Inventory;
use tandem_routing::phones::{self, Phones};
use tandem_runtime::app::{App, Configuration};
use tandem_runtime::pending::PendingRequests;
use tandem_runtime::services::{Services, Turns};
use tandem_runtime::{Calls, notify, recovery};
use tandem_server as server;
use tandem_shares::ParentOf;
use tandem_signalwire as signalwire;
use tandem_sip as sip;
use tandem_siprec::Connectors;
use tandem_softphone::Dialled;
use tandem_speech::recognise::Recogniser;
use tandem_speech::{self as speech, LocalSpeech, SpeechError, Voice};
use tandem_stir::Stir;
use tandem_store::nodes::NodeDetails;
use tandem_store::{self as store, Sharing, Store};
use tandem_streams::Streams;
use tandem_telnyx::Telnyx;
use tandem_texml as texml;
use tandem_twilio as twilio;
use tandem_webhooks::{AttemptReport, Deliveries, Delivery};
use tokio::sync::{Mutex, Notify};
use tokio_util::task::TaskTracker;

use crate::configured::{agents_and_stir, phones, routing, sip_settings};
use crate::data_dir::{Listening, Lock};
use crate::first_account::FirstAccount;
use crate::housekeeping::Housekeeping;
use crate::listeners::{Listeners, advice};
use crate::{BUILD, Server, descriptors, entries, nodes};

/// Time limit for the TCP connection of an outgoing HTTP request that has no time limit of its own.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of webhook requests that are in progress at the same time.
const WEBHOOKS_AT_A_TIME: usize = 256;

/// The parts of a server that depend only on the configuration and on the files that the configuration names. `tandem
/// check` builds the same parts, so `tandem serve` and `tandem check` accept the same files.
pub struct Parts {
    recordings: RecordingFiles,
    client: Client,
    stir: Stir,
    agents: Agents,
}

impl Parts {
    /// Builds the parts. An error names the key that prevents the start.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let recordings =
            RecordingFiles::new(&config.recordings, &config.data_dir).map_err(|error| anyhow!("{error}"))?;
        let policy = NetworkPolicy { allow_networks: config.webhooks.allow_networks.clone() };
        let tls = tls_config(config.webhooks.ca_file.as_deref()).context("webhooks.ca_file")?;
        let client = Client::with(policy, CONNECT_TIMEOUT, tls, Arc::new(SystemResolver))
            .context("TLS of outgoing connections")?;
        let (agents, stir) = agents_and_stir(config)?;
        Ok(Self { recordings, client, stir, agents })
    }

    /// Builds the parts again that entries of the web console may change.
    fn with_entries(self, config: &Config) -> anyhow::Result<Self> {
        let (agents, stir) = agents_and_stir(config)?;
        Ok(Self { agents, stir, ..self })
    }
}

/// The parts that exist before the calls, and from which the services of the calls are built.
struct Foundation {
    parts: Parts,
    accounts: Arc<Accounts>,
    store: Store,
    cluster: Cluster,
    dialects: Dialects,
    phones: Arc<Phones>,
    stored_media: Arc<StoredMedia>,
    sip: Arc<sip::transport::Handle>,
    public_url: Arc<str>,
}

impl Server {
    /// Builds and starts all parts of the server. An error describes the problem of the environment that prevents the
    /// start.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        Self::start_with(config, None).await
    }

    /// Does the same as [`Self::start`]. With `softphone`, also serves the page `/dev/phone`, which makes this call.
    pub async fn start_with(config: Config, softphone: Option<Dialled>) -> anyhow::Result<Self> {
        let parts = Parts::new(&config)?;
        let lock = Lock::take(&config.data_dir)?;
        let open_files = descriptors::raise();
        if let Some(shortage) = descriptors::shortage(&config, open_files) {
            tracing::warn!("{shortage}");
        }
        let http_connections = descriptors::http_connections(config.http.max_connections, open_files);
        let first_account = match config.accounts.is_empty() {
            true => Some(FirstAccount::load_or_draw(&config.data_dir)?),
            false => None,
        };
        let own = first_account.as_ref().map(|first| first.account.clone());
        let accounts = Arc::new(Accounts::new(config.accounts.iter().cloned().chain(own.clone())));
        let listeners = Listeners::bind(&config).await?;
        let public_url = config.http.base(listeners.address);
        let (store, cluster) = open_store(&config, &accounts, &parts.recordings, listeners.address).await?;
        let changes = cluster.run().await?;
        let base = config;
        let config = entries::join(&base, entries::load(&store).await.context("entries of the console")?).log();
        let mut parts = parts.with_entries(&config)?;
        parts.recordings = parts.recordings.with_cluster(&cluster);
        prepare_client(&parts.client, &config);
        warn_of_missing_speech(&config);
        let phones = phones(&config, own);
        let mut sip_config = sip_settings(&config, &phones, &store).await?;
        sip_config.websocket = Some(listeners.address);
        sip_config.bindings = phones::restore(&store, &cluster, clock::time()).await.context("registered phones")?;
        let inventory = Inventory::load(&store).await.context("numbers and applications")?;
        let stored_media = load_stored_media(&config, &store).await?;
        let sip = sip::transport::prepare(sip_config).await.map_err(sip_refused)?;
        let recordings = parts.recordings.clone();
        let foundation = Foundation {
            parts,
            accounts: Arc::clone(&accounts),
            store: store.clone(),
            cluster: cluster.clone(),
            dialects: dialects(config.webhooks.sign_strip_https_port),
            phones: Arc::clone(&phones),
            stored_media: Arc::clone(&stored_media),
            sip: Arc::new(sip.handle()),
            public_url: Arc::clone(&public_url),
        };
        let calls = Calls::new(foundation.services(&config, inventory).await?);
        let deliveries = calls.services().deliveries.clone();
        let noting = calls.clone();
        let report = move |delivery: &Delivery, report: &AttemptReport| notify::attempted(&noting, delivery, report);
        deliveries.start(Arc::new(report), nodes::senders(&cluster, &deliveries));
        let (lost, unanswered) = nodes::recover_own(calls.services()).await.context("recovery after a crash")?;
        deliveries.resume(nodes::ownerless(&cluster));
        recordings.recover(&store).await.context("recordings that wait for the bucket")?;
        if !cluster.is_on() {
            // The first heartbeat is written before the first call, because the recovery after a crash uses the last
            // heartbeat.
            store::server::heartbeat(&store, clock::time()).await.context("database.url")?;
        }
        let housekeeping = Housekeeping::start(&calls, &stored_media, &config);

        let incoming = calls.clone();
        sip.run(move |event| incoming.on_sip(event));
        // The account is stored only after a successful start, because the credentials are shown only at the start that
        // creates the account.
        if let Some(first) = &first_account {
            first.keep()?;
        }
        let sip = Arc::clone(&calls.services().sip);
        phones.listen_on(sip.local_addrs().iter().map(|(_, address)| *address));
        let listening = listening(listeners.address, &sip);
        tokio::spawn(async move { recovery::end_dialogs(&sip, lost, unanswered).await });
        let (configuration, requests) = Configuration::new();
        nodes::start(&calls, &accounts, &configuration, &config, changes).await.context("database.url")?;
        let ice = Arc::new(ArcSwap::from_pointee(config.ice.clone()));
        let app = App {
            accounts: Arc::clone(&accounts),
            logins: server::LOGINS,
            recordings: Recordings::new(store.clone(), recordings),
            calls: calls.clone(),
            stored_media,
            ice: Arc::clone(&ice),
            public_url: Arc::clone(&public_url),
            configuration,
        };
        let http = listeners.serve(app, &config, http_connections, softphone);
        lock.publish(&listening);
        Ok(Self {
            calls,
            store,
            deliveries,
            public_url,
            accounts,
            base: ArcSwap::from_pointee(base),
            config: ArcSwap::from_pointee(config),
            ice,
            requests,
            first_account,
            http,
            housekeeping,
            _lock: lock,
        })
    }
}

impl Foundation {
    /// Builds what every call uses: the media engine, speech, conferences, queues and webhooks.
    async fn services(self, config: &Config, inventory: Inventory) -> anyhow::Result<Services> {
        let Self { parts, accounts, store, cluster, dialects, phones, stored_media, sip, public_url } = self;
        let Parts { recordings, client, stir, agents } = parts;
        let timings = Arc::new(Timings::default());
        let local = LocalSpeech::new(&client)?;
        let recogniser = Recogniser::new(config.speech.clone(), client.clone(), Arc::clone(&timings));
        let recogniser = Arc::new(recogniser.with_local(&local));
        let spoken = config.data_dir.join("cache/speech");
        let voice = Voice::new(config.speech.clone(), spoken, client.clone(), Arc::clone(&timings));
        let voice = Arc::new(voice.with_local(&config.speech, &local));
        let signer = Arc::new(DialectSigner { accounts: Arc::clone(&accounts), dialects: dialects.clone() });
        let deliveries = Deliveries::new(store.clone(), client.clone(), signer, WEBHOOKS_AT_A_TIME);
        let audio = AudioLoader::new(client.clone(), voice, stored_media);
        let turns = Turns::default();
        let known = Arc::clone(&accounts);
        let parent_of: ParentOf = Arc::new(move |account| known.parent(account));
        store.share_reads(Arc::clone(&parent_of));
        audio.share(Arc::clone(&parent_of));
        turns.share(parent_of);
        let conversations = Conversations::new(
            agents,
            client.clone(),
            audio.clone(),
            Arc::clone(&recogniser),
            Arc::clone(&timings),
            config.streams.idle(),
        );
        let media = media::Engine::start(config.media.clone())?;
        let (fetches, events) = (TaskTracker::new(), Bus::default());
        let conferences = Conferences::new(ConferenceServices {
            accounts: Arc::clone(&accounts),
            cluster: cluster.clone(),
            dialects: dialects.clone(),
            media: media.clone(),
            store: store.clone(),
            client: client.clone(),
            audio: audio.clone(),
            stream_idle: config.streams.idle(),
            stream_byte_order: tandem_streams::byte_order(&config.streams),
            turns: turns.clone(),
            public_url: Arc::clone(&public_url),
            recordings: recordings.clone(),
            deliveries: deliveries.clone(),
            events: events.clone(),
            tasks: fetches.clone(),
            reporter: Reporter::default(),
        });
        let routing = routing(config, phones, Arc::new(inventory), &accounts);
        Ok(Services {
            routing: ArcSwap::from_pointee(routing),
            streams: Streams::new(client.clone(), Arc::clone(&timings), &config.streams),
            siprec: ArcSwap::from_pointee(Connectors::new(config.siprec.clone())),
            stir: ArcSwap::from_pointee(stir),
            queues: Queues::load(&store, events.clone(), cluster.clone()).await.context("queues")?,
            conversations: Arc::new(conversations),
            counters: Counters::new(BUILD, timings),
            accounts,
            dialects,
            media,
            store,
            cluster,
            client,
            audio,
            recogniser,
            public_url,
            recordings,
            conferences,
            clients: Clients::default(),
            pages: Default::default(),
            channels: Channels::default(),
            turns,
            events,
            fetches,
            pending: PendingRequests::default(),
            sip,
            deliveries,
            reading_phones: Mutex::default(),
            usage: Notify::new(),
        })
    }
}

/// Opens the database and the folder of the recordings, joins the cluster if there is one, and loads the accounts and keys
/// that the API created.
async fn open_store(
    config: &Config,
    accounts: &Accounts,
    recordings: &RecordingFiles,
    http: SocketAddr,
) -> anyhow::Result<(Store, Cluster)> {
    let store = Store::open(config.database.url.expose()).await.context("database.url")?;
    let sharing = if config.cluster.is_on() { Sharing::Nodes } else { Sharing::Alone };
    store.claim(sharing).await.context("database.url")?;
    match recordings.prepare().await {
        Ok(None) => {}
        Ok(Some(away)) => {
            tracing::warn!("recordings.url: {away}; recordings wait on the disk until the bucket answers");
        }
        Err(fault) => return Err(anyhow!("recordings.url: {fault}")),
    }
    // A node must renew its lease, so the slow checks come before. Settings are read after, so no change is missed.
    let (version, http) = (BUILD.version.to_owned(), http.to_string());
    let details = NodeDetails { version, http, ..NodeDetails::default() };
    let cluster = Cluster::join(&config.cluster, &store, details).await?;
    accounts.load(&store).await.context("accounts and keys")?;
    Ok((store, cluster))
}

async fn load_stored_media(config: &Config, store: &Store) -> anyhow::Result<Arc<StoredMedia>> {
    let folder = config.data_dir.join("media");
    let stored_media = StoredMedia::load(folder.clone(), store, clock::time()).await;
    stored_media.map(Arc::new).with_context(|| format!("media in {}", folder.display()))
}

/// Gives the HTTP client the origins, and the documents that this server itself hosts.
fn prepare_client(client: &Client, config: &Config) {
    client.set_origins(Origins::new(config.origins.clone()));
    client.set_local_responder(|url, body| {
        let page = twilio::hosted(url, body)?;
        Some(LocalResponse { content_type: page.content_type, body: page.body })
    });
}

/// Logs a warning if the configured speech engine is not installed.
pub(super) fn warn_of_missing_speech(config: &Config) {
    match speech::missing(&config.speech) {
        Some(missing @ SpeechError::NoLocalEngine(_)) => tracing::warn!("{missing}"),
        Some(missing) => tracing::warn!("{missing}; until then <Say> and speak play nothing"),
        None => {}
    }
}

/// Returns the dialects of all providers. `strip_port` is the setting `webhooks.sign_strip_https_port`.
pub fn dialects(strip_port: bool) -> Dialects {
    let signalwire = signalwire::dialect(strip_port);
    Dialects::new([
        Arc::new(twilio::dialect(strip_port)) as Arc<dyn Dialect>,
        Arc::new(signalwire),
        Arc::new(signalwire::swml::dialect(signalwire)),
        Arc::new(texml::dialect()),
        Arc::new(Telnyx),
    ])
}

/// Returns the addresses for the lock file.
fn listening(http: SocketAddr, sip: &sip::transport::Handle) -> Listening {
    let listens = |(transport, address): &(sip::Transport, SocketAddr)| {
        format!("{}://{address}", transport.token().to_lowercase())
    };
    Listening { http, sip: sip.local_addrs().iter().map(listens).collect() }
}

fn sip_refused(error: sip::transport::StartError) -> anyhow::Error {
    match &error {
        sip::transport::StartError::Bind { error: cause, .. } => {
            let advice = advice(cause, "SIP__LISTEN=udp://127.0.0.1:5062,tcp://127.0.0.1:5062");
            anyhow!("{error}{advice}")
        }
        _ => error.into(),
    }
}

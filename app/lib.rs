//! The whole server as a library, for the binary, for `tandem demo` and for tests. This is the composition root: it builds
//! the server from the crates, and controls the order of start and shutdown.
//!
//! ```text
//!  start:     lock data_dir ▸ open files ▸ HTTP port ▸ database ▸ SIP ports ▸ media ▸ calls ▸ webhooks ▸ recovery ▸ SIP ▸ HTTP
//!  shut down: refuse new calls ▸ live calls end (drain_timeout) ▸ hang up the rest ▸ webhooks ▸ SIP ▸ media ▸ HTTP ▸ database
//! ```
#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod data_dir;
mod descriptors;
mod first_account;

use std::io::{ErrorKind, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use arc_swap::ArcSwap;
use axum::Router;
use tandem_accounts::{Account, Accounts};
use tandem_agent::Agents;
use tandem_audio::AudioLoader;
use tandem_clients::Clients;
use tandem_host::{clock, directory};
use tandem_conferences::{ConferenceServices, Conferences, Reporter};
use tandem_config::Config;
use tandem_conversations::Conversations;
use tandem_dialect::delivery::DialectSigner;
use tandem_dialect::{Dialect, Dialects};
use tandem_events::Bus;
use tandem_gateway as gateway;
use tandem_history::recordings::{RecordingFiles, Recordings};
use tandem_history::stored_media::StoredMedia;
use tandem_http::{Client, LocalResponse, NetworkPolicy, Origins, SystemResolver, tls_config};
use tandem_media as media;
use tandem_metrics::timings::Timings;
use tandem_metrics::{Build, Counters};
use tandem_queues::Queues;
use tandem_routing::channels::Channels;
use tandem_routing::inventory::Inventory;
use tandem_routing::number_pool::NumberPool;
use tandem_routing::phones::{self, Phones};
use tandem_routing::{Routing, trunk};
use tandem_runtime::Calls;
use tandem_runtime::app::{App, Reload, Reloaded};
use tandem_runtime::notify;
use tandem_runtime::services::{Services, Turns};
use tandem_runtime::{certificates, recovery, transcripts, usage};
use tandem_server::{self as server, listener};
use tandem_settings::log_filter::LOG;
use tandem_settings::{DatabaseConfig, IceConfig, NumberConfig, TrunkConfig};
use tandem_signalwire as signalwire;
use tandem_sip as sip;
use tandem_siprec::Connectors;
use tandem_speech::recognise::Recogniser;
use tandem_speech::{self as speech, Voice};
use tandem_stir::Stir;
use tandem_store::health::Check;
use tandem_store::{self as store, Store};
use tandem_streams::Streams;
use tandem_telnyx::{self as telnyx, Telnyx};
use tandem_texml as texml;
use tandem_twilio as twilio;
use tandem_webhooks::{AttemptReport, Deliveries, Delivery};
use tokio::net::TcpListener;
use tokio::signal::unix::{self, SignalKind};
use tokio::sync::{Mutex, Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

pub use data_dir::Listening;

use data_dir::Lock;
use first_account::FirstAccount;

/// Time limit for the TCP connection of an outgoing HTTP request that has no time limit of its own.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of webhook requests that are in progress at the same time.
const WEBHOOKS_AT_A_TIME: usize = 256;
/// Interval between heartbeats, which the server writes to the database. After a crash, the time of the last heartbeat
/// is used as the end time of the calls that were live.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Time limit for the query of the free space on a disk. After this time, the health report says that the file system
/// does not respond.
const SLOW: Duration = Duration::from_secs(3);
/// Maximum number of connections to the listener for metrics.
const METRICS_CONNECTIONS: usize = 64;
/// Maximum number of connections to each gateway port.
const GATEWAY_CONNECTIONS: usize = 256;
/// Interval between removals of old history.
const PRUNING: Duration = Duration::from_secs(3_600);
/// Interval between removals of expired media and phones.
const SWEEPING: Duration = Duration::from_secs(60);
/// Maximum time for which a shutdown waits for the calls to end after the hang-up. The shutdown also waits at most this
/// time for the document requests, and at most this time for the webhooks.
const HANGUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Version, commit and compiler of this build. The script build.rs sets these values.
pub const BUILD: Build =
    Build { version: env!("CARGO_PKG_VERSION"), commit: env!("TANDEM_COMMIT"), rustc: env!("TANDEM_RUSTC") };

/// A running server.
pub struct Server {
    calls: Calls,
    store: Store,
    deliveries: Deliveries,
    http_addr: SocketAddr,
    public_url: Arc<str>,
    accounts: Arc<Accounts>,
    /// The configuration that is in effect.
    config: ArcSwap<Config>,
    /// The STUN and TURN servers that clients of applications receive.
    ice: Arc<ArcSwap<IceConfig>>,
    /// Requests to reload the configuration.
    reloads: mpsc::Receiver<oneshot::Sender<Reloaded>>,
    first_account: Option<FirstAccount>,
    stop_http: watch::Sender<bool>,
    http: JoinHandle<()>,
    heartbeat: JoinHandle<()>,
    watching: JoinHandle<()>,
    pruning: JoinHandle<()>,
    sweeping: JoinHandle<()>,
    usage: JoinHandle<()>,
    expiry: JoinHandle<()>,
    _lock: Lock,
}

/// Returns the account that a server created at its first start, because no account was configured.
pub fn first_account(data_dir: &std::path::Path) -> anyhow::Result<tandem_accounts::Account> {
    let path = data_dir.join("account.toml");
    if !path.exists() {
        return Err(anyhow!(
            "no account is configured, and no server has created one yet: {} does not exist",
            path.display()
        ));
    }
    FirstAccount::load(data_dir)
}

/// Runs the server until SIGTERM or Ctrl-C, and then shuts the server down gracefully. A second signal hangs up all
/// calls at once. After SIGHUP and after `POST /console/reload`, the server calls `read` and applies the returned
/// settings.
pub async fn run(config: Config, read: impl Fn() -> Result<Config, String>) -> anyhow::Result<()> {
    run_with(config, OnHangup::Reload, read, Server::introduce).await
}

/// Whether this process was started with SIGHUP ignored, as by nohup(1). On systems without `/proc`, the result is `false`.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // The lowest bit is the bit of signal 1, SIGHUP (proc(5)).
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 != 0)
}

/// The reaction of a server to SIGHUP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnHangup {
    /// The server reads its configuration again, as services do.
    Reload,
    /// The server ends, because its terminal was closed. A server that was started with SIGHUP ignored continues.
    End,
}

/// Runs the server like [`run`], and also calls `greet` when the server has started. `on_hangup` is the reaction to
/// SIGHUP.
pub async fn run_with(
    config: Config,
    on_hangup: OnHangup,
    read: impl Fn() -> Result<Config, String>,
    greet: impl FnOnce(&Server),
) -> anyhow::Result<()> {
    let mut signals = signals()?;
    let is_detached = on_hangup == OnHangup::End && ignores_hangup();
    let mut hangups = if is_detached { None } else { Some(unix::signal(SignalKind::hangup())?) };
    let mut server = Server::start(config).await?;
    greet(&server);
    loop {
        let reply = tokio::select! {
            () = signals.recv() => break,
            _ = async { hangups.as_mut()?.recv().await }, if hangups.is_some() => match on_hangup {
                OnHangup::Reload => None,
                OnHangup::End => break,
            },
            reply = server.reloads.recv() => reply,
        };
        let reloaded = server.reload_from(&read).await;
        if let Some(reply) = reply {
            // Sending fails if the client that requested the reload has disconnected.
            let _ = reply.send(reloaded);
        }
    }
    server.calls.stop_accepting();
    let live = server.calls.live_legs();
    tracing::info!(
        "draining: no new calls; waiting for {live} legs, {} s at most (a second signal hangs up at once)",
        server.config.load_full().drain_timeout.as_secs()
    );
    server.shutdown(signals).await;
    tracing::info!("shut down");
    Ok(())
}

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
            RecordingFiles::new(&config.recordings).map_err(|error| anyhow!("recordings.encryption_key: {error}"))?;
        let policy = NetworkPolicy { allow_networks: config.webhooks.allow_networks.clone() };
        let tls = tls_config(config.webhooks.ca_file.as_deref()).context("webhooks.ca_file")?;
        let client = Client::with(policy, CONNECT_TIMEOUT, tls, Arc::new(SystemResolver))
            .context("TLS of outgoing connections")?;
        let stir = Stir::new(&config.stir, &config.trunks).map_err(|(path, why)| anyhow!("{path}: {why}"))?;
        let agents = Agents::new(config.agents.iter().cloned()).map_err(|why| anyhow!("agents: {why}"))?;
        Ok(Self { recordings, client, stir, agents })
    }
}

impl Server {
    /// Builds and starts all parts of the server. An error describes the problem of the environment that prevents the
    /// start.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        let in_force = config.clone();
        let Parts { recordings, client, stir, agents } = Parts::new(&config)?;
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
        let accounts = match &first_account {
            Some(first) => Arc::new(Accounts::new([first.account.clone()])),
            None => Arc::new(Accounts::new(config.accounts)),
        };
        let http = bind_http("http.listen", config.http.listen).await?;
        let http_addr = http.local_addr()?;
        let public_url = config.http.base(http_addr);
        let metrics = match config.http.metrics_listen {
            Some(listen) => Some(bind_http("http.metrics_listen", listen).await?),
            None => None,
        };
        let mut gateway_listeners = Vec::new();
        for (key, port) in config.gateways.ports(http_addr.port()) {
            let listen = SocketAddr::new(http_addr.ip(), port);
            let listener = TcpListener::bind(listen).await.map_err(|error| {
                let advice = advice(&error, &format!("{}=0, or another port", key.to_uppercase().replace('.', "__")));
                anyhow!("{key}: cannot listen on {listen}: {error}{advice}")
            })?;
            gateway_listeners.push(listener);
        }
        let store = Store::open(config.database.url.expose()).await.context("database.url")?;
        store.claim().await.context("database.url")?;
        accounts.load(&store).await.context("accounts and keys")?;
        directory::make(&recordings.folder)
            .with_context(|| format!("recordings.url: {}", recordings.folder.display()))?;
        directory::try_write(&recordings.folder)
            .with_context(|| format!("recordings.url: cannot create a file in {}", recordings.folder.display()))?;
        let recordings_folder = recordings.folder.clone();
        client.set_origins(Origins::new(config.origins));
        client.set_local_responder(|url, body| {
            let page = twilio::hosted(url, body)?;
            Some(LocalResponse { content_type: page.content_type, body: page.body })
        });
        if let Some(missing) = speech::missing(&config.speech) {
            tracing::warn!("{missing}; until then <Say> and speak play nothing");
        }
        let timings = Arc::new(Timings::default());
        let recogniser = Arc::new(Recogniser::new(config.speech.clone(), client.clone(), Arc::clone(&timings)));
        let spoken = config.data_dir.join("cache/speech");
        let voice = Arc::new(Voice::new(config.speech, spoken, client.clone(), Arc::clone(&timings)));
        let own = first_account.as_ref().map(|first| first.account.clone());
        let phones = phones(&in_force, own);
        let mut sip_config = sip_settings(&in_force, &phones, &store).await?;
        sip_config.websocket = Some(http_addr);
        sip_config.bindings = phones::restore(&store, clock::time()).await.context("registered phones")?;
        let inventory = Arc::new(Inventory::load(&store).await.context("numbers and applications")?);
        let media_folder = config.data_dir.join("media");
        let stored_media = StoredMedia::load(media_folder.clone(), &store, clock::time()).await;
        let stored_media = Arc::new(stored_media.with_context(|| format!("media in {}", media_folder.display()))?);
        let twilio = twilio::dialect(config.webhooks.sign_strip_https_port);
        let signalwire = signalwire::dialect(config.webhooks.sign_strip_https_port);
        let swml = signalwire::swml::dialect(signalwire);
        let dialects = Dialects::new([
            Arc::new(twilio) as Arc<dyn Dialect>,
            Arc::new(signalwire),
            Arc::new(swml),
            Arc::new(texml::dialect()),
            Arc::new(Telnyx),
        ]);
        let signer = Arc::new(DialectSigner { accounts: Arc::clone(&accounts), dialects: dialects.clone() });
        let deliveries = Deliveries::new(store.clone(), client.clone(), signer, WEBHOOKS_AT_A_TIME);
        let sip = sip::transport::prepare(sip_config).await.map_err(sip_refused)?;
        let audio = AudioLoader::new(client.clone(), voice, Arc::clone(&stored_media));
        let conversations = Conversations::new(
            agents,
            client.clone(),
            audio.clone(),
            Arc::clone(&recogniser),
            Arc::clone(&timings),
            config.streams.idle(),
        );
        let media = media::Engine::start(config.media)?;
        let (fetches, turns, events) = (TaskTracker::new(), Turns::default(), Bus::default());
        let conferences = Conferences::new(ConferenceServices {
            accounts: Arc::clone(&accounts),
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
        let ice = Arc::new(ArcSwap::from_pointee(config.ice));
        let calls = Calls::new(Services {
            accounts: Arc::clone(&accounts),
            dialects: dialects.clone(),
            routing: ArcSwap::from_pointee(routing(&in_force, Arc::clone(&phones), inventory, &accounts)),
            media,
            store: store.clone(),
            client: client.clone(),
            audio,
            recogniser,
            conversations: Arc::new(conversations),
            streams: Streams::new(client.clone(), Arc::clone(&timings), &config.streams),
            public_url: Arc::clone(&public_url),
            recordings,
            clients: Clients::default(),
            siprec: ArcSwap::from_pointee(Connectors::new(config.siprec)),
            stir: ArcSwap::from_pointee(stir),
            conferences,
            queues: Queues::load(&store, events.clone()).await.context("queues")?,
            channels: Channels::default(),
            turns,
            events,
            counters: Counters::new(BUILD, timings),
            fetches,
            sip: Arc::new(sip.handle()),
            deliveries: deliveries.clone(),
            reading_phones: Mutex::default(),
            usage: Notify::new(),
        });

        let noting = calls.clone();
        deliveries.start(Arc::new(move |delivery: &Delivery, report: &AttemptReport| {
            notify::attempted(&noting, delivery, report);
        }));
        let (lost, unanswered) = recover(calls.services()).await.context("recovery after a crash")?;
        // The first heartbeat is written before the first call, because the recovery after a crash uses the last
        // heartbeat.
        store::server::heartbeat(&store, clock::time()).await.context("database.url")?;
        let heartbeat = tokio::spawn(heartbeat(store.clone()));
        let watching = tokio::spawn(watch_room(store.clone(), recordings_folder));
        let pruning = tokio::spawn(prune(store.clone(), config.database));
        let sweeping = tokio::spawn(sweep(calls.clone(), Arc::clone(&stored_media)));
        let usage = tokio::spawn(usage::watch(Arc::clone(calls.services())));
        let expiry = tokio::spawn(certificates::watch(Arc::clone(calls.services())));

        let incoming = calls.clone();
        sip.run(move |event| incoming.on_sip(event));
        let sip = Arc::clone(&calls.services().sip);
        // The account is stored only after a successful start, because the credentials are shown only at the start that
        // creates the account.
        if let Some(first) = &first_account {
            first.keep()?;
        }
        phones.listen_on(sip.local_addrs().iter().map(|(_, address)| *address));
        let listens = |(transport, address): &(sip::Transport, SocketAddr)| {
            format!("{}://{address}", transport.token().to_lowercase())
        };
        let listening = Listening { http: http_addr, sip: sip.local_addrs().iter().map(listens).collect() };
        let ending = Arc::clone(&sip);
        tokio::spawn(async move { recovery::end_dialogs(&ending, lost, unanswered).await });
        let (reload, reloads) = Reload::new();
        let app = App {
            accounts: Arc::clone(&accounts),
            logins: server::LOGINS,
            recordings: Recordings::new(calls.services().store.clone(), calls.services().recordings.clone()),
            calls: calls.clone(),
            stored_media,
            ice: Arc::clone(&ice),
            public_url: Arc::clone(&public_url),
            reload,
        };
        let (stop_http, stopped) = watch::channel(false);
        let metrics_listener = metrics.map(|listener| {
            let router = server::metrics_router(app.clone());
            tokio::spawn(serve(listener, router, METRICS_CONNECTIONS, stopped.clone()))
        });
        let front_page = config.gateways.has_front_page();
        let (gateways, elsewhere) = gateway::routes(&app, config.gateways);
        let proxies = config.http.trusted_proxies;
        let router = server::router(app, metrics_listener.is_none(), (gateways, front_page), proxies);
        let mut other_listeners: Vec<_> = metrics_listener.into_iter().collect();
        for listener in gateway_listeners {
            other_listeners.push(tokio::spawn(serve(
                listener,
                elsewhere.clone(),
                GATEWAY_CONNECTIONS,
                stopped.clone(),
            )));
        }
        let http = tokio::spawn(async move {
            serve(http, router, http_connections, stopped).await;
            for listener in other_listeners {
                // The other listeners receive the same signal to stop as the first listener.
                let _ = listener.await;
            }
        });
        lock.publish(&listening);
        Ok(Self {
            calls,
            store,
            deliveries,
            http_addr,
            public_url,
            accounts,
            config: ArcSwap::from_pointee(in_force),
            ice,
            reloads,
            first_account,
            stop_http,
            http,
            heartbeat,
            watching,
            pruning,
            sweeping,
            usage,
            expiry,
            _lock: lock,
        })
    }

    /// Returns the address to which the HTTP listener is bound.
    pub fn http_addr(&self) -> SocketAddr {
        self.http_addr
    }

    /// Returns the addresses to which the SIP sockets are bound.
    pub fn sip_addrs(&self) -> &[(sip::Transport, SocketAddr)] {
        self.calls.services().sip.local_addrs()
    }

    /// Returns the registry of live calls.
    pub fn calls(&self) -> &Calls {
        &self.calls
    }

    /// Returns all accounts.
    pub fn accounts(&self) -> Arc<Vec<Arc<Account>>> {
        self.accounts.all()
    }

    /// Prints the credentials of a new account. Logs the server's addresses, and suggests the operator's next step in
    /// the log.
    fn introduce(&self) {
        if let Some(account) = &self.first_account {
            // An error means that nobody reads the output. The credentials are in the file of the account too.
            let _ = writeln!(std::io::stdout(), "{account}");
        }
        for (transport, address) in self.sip_addrs() {
            tracing::info!("SIP on {}:{address}", transport.token().to_lowercase());
        }
        // Only applications that use Telnyx or TeXML need the Telnyx key.
        let config = self.config.load_full();
        let has = |provider: &str| config.applications.iter().any(|one| &*one.provider == provider);
        let speaks_telnyx = has("telnyx") || has(texml::NAME);
        for account in self.accounts.all().iter().filter(|_| speaks_telnyx) {
            if let Some(Ok(key)) = account.telnyx.as_ref().map(telnyx::sign::public_key) {
                tracing::info!(account = %account.name, "Telnyx public key: {key}");
            }
            if account.telnyx.is_some() && has(texml::NAME) {
                let id = telnyx::id::user_id(&account.name);
                tracing::info!(account = %account.name, "TeXML account: {id}");
            }
        }
        tracing::info!("HTTP on {}; public URL {}", self.http_addr, self.public_url);
        tracing::info!("{}", self.next_step());
    }

    /// Returns a suggestion for the operator: to call a number, or to create a number.
    fn next_step(&self) -> String {
        let config = self.config.load_full();
        let number = config.numbers.iter().find_map(|number| number.number.exact());
        let has_numbers = || {
            let inventory = Arc::clone(self.calls.services().routing.load_full().inventory());
            self.accounts.all().iter().any(|account| !inventory.numbers.all(&account.name).is_empty())
        };
        match number {
            Some(number) => format!("call one of your numbers: `tandem call {number}`"),
            None if !config.numbers.is_empty() || has_numbers() => {
                "call one of your numbers: `tandem call NUMBER`".to_owned()
            }
            None => {
                "no number yet: `tandem dev URL` serves with one for the application at URL; [[numbers]] in --config \
                     and the API make others"
                    .to_owned()
            }
        }
    }

    /// Applies new settings while calls continue. Returns the keys that take effect only at a restart. If TLS,
    /// STIR/SHAKEN or the stored phones cause an error, the old settings remain in effect.
    pub async fn reload(&self, config: Config) -> anyhow::Result<Vec<String>> {
        let services = self.calls.services();
        let first_account = match config.accounts.is_empty() {
            true => Some(FirstAccount::load_or_draw(&self.config.load_full().data_dir)?.account),
            false => None,
        };
        let stir = Stir::new(&config.stir, &config.trunks).map_err(|(path, why)| anyhow!("{path}: {why}"))?;
        let tls = tls_config(config.webhooks.ca_file.as_deref()).context("webhooks.ca_file")?;
        let phones = phones(&config, first_account.clone());
        phones.listen_on(services.sip.local_addrs().iter().map(|(_, address)| *address));
        let agents = Agents::new(config.agents.iter().cloned()).map_err(|why| anyhow!("agents: {why}"))?;
        let sip_config = sip_settings(&config, &phones, &services.store).await?;
        services.sip.reload(sip_config).await.context("TLS")?;
        let inventory = Arc::clone(services.routing.load_full().inventory());
        services.routing.store(Arc::new(routing(&config, phones, inventory, &self.accounts)));
        services.stir.store(Arc::new(stir));
        services.siprec.store(Arc::new(Connectors::new(config.siprec.clone())));
        services.conversations.agents.store(Arc::new(agents));
        self.ice.store(Arc::new(config.ice.clone()));
        services.client.set_origins(Origins::new(config.origins.clone()));
        services.client.set_tls(tls);
        LOG.configure(&config.log.level).map_err(|why| anyhow!("log.level: {why}"))?;
        if let Some(missing) = speech::missing(&config.speech) {
            tracing::warn!("{missing}; until then <Say> and speak play nothing");
        }
        if self.config.load_full().speech != config.speech {
            services.recogniser.reconfigure(config.speech.clone());
            services.audio.voice().reconfigure(config.speech.clone());
        }
        // This call also applies the phones that applications have added or changed with the REST API since the phones
        // were loaded above.
        services.phones_changed().await.context("phones")?;
        match first_account {
            Some(account) => self.accounts.replace([account]),
            None => self.accounts.replace(config.accounts.iter().cloned()),
        }
        let in_force = self.config.load_full();
        let restart = in_force.needs_restart(&config);
        self.config.store(Arc::new(in_force.replaced_by(config)));
        Ok(restart)
    }

    /// Reads the current configuration and applies it. Logs the result, and returns the same result for the client that
    /// requested the reload.
    async fn reload_from(&self, read: impl Fn() -> Result<Config, String>) -> Reloaded {
        let done = match read() {
            Ok(config) => {
                for note in &config.notes {
                    tracing::warn!("{note}");
                }
                let (trunks, numbers, endpoints) = (config.trunks.len(), config.numbers.len(), config.endpoints.len());
                let summary = format!("reloaded: trunks: {trunks}, numbers: {numbers}, endpoints: {endpoints}\n");
                let before = self.config.load_full();
                match before.refusal_of(&config) {
                    Some(why) => Err(format!("{why}\n")),
                    None => {
                        let removed = before.removed_by(&config).map(|names| format!("removed: {names}"));
                        let reloaded = self.reload(config).await;
                        let notes = |restart: Vec<String>| {
                            let restart =
                                (!restart.is_empty()).then(|| format!("restart needed: {}", restart.join(", ")));
                            removed.into_iter().chain(restart).collect::<Vec<_>>()
                        };
                        reloaded.map(|restart| (summary, notes(restart))).map_err(|error| format!("{error:#}\n"))
                    }
                }
            }
            Err(faults) => Err(faults),
        };
        match done {
            Ok((mut summary, notes)) => {
                tracing::info!("{}", summary.trim_end());
                for line in notes {
                    tracing::warn!("{line}");
                    summary = format!("{summary}{line}\n");
                }
                Ok(summary)
            }
            Err(faults) => {
                for fault in faults.lines() {
                    tracing::error!("not reloaded: {fault}");
                }
                Err(faults)
            }
        }
    }

    /// Shuts the server down. Live calls may continue until `drain_timeout` has passed or `hurry` receives a signal.
    pub async fn shutdown(self, mut hurry: Signals) {
        let Self {
            calls,
            store,
            deliveries,
            config,
            stop_http,
            http,
            heartbeat,
            watching,
            pruning,
            sweeping,
            usage,
            expiry,
            ..
        } = self;
        let drain_timeout = config.load_full().drain_timeout;
        calls.stop_accepting();
        let mut limit = HANGUP_TIMEOUT;
        tokio::select! {
            () = calls.idle() => {}
            () = tokio::time::sleep(drain_timeout) => tracing::warn!("drain_timeout has passed: hanging up"),
            () = hurry.recv() => {
                tracing::warn!("second signal: hanging up");
                limit = Duration::from_secs(1);
            }
        }
        calls.hangup_all();
        if tokio::time::timeout(limit, calls.idle()).await.is_err() {
            tracing::warn!("{} legs did not end in time", calls.live_legs());
        }
        // This also ends conferences without participants, because no hang-up ends them.
        calls.services().conferences.end_all();
        calls.services().fetches.close();
        if tokio::time::timeout(limit, calls.services().fetches.wait()).await.is_err() {
            tracing::warn!("the last requests to applications were not finished in time");
        }
        if !deliveries.drain(limit).await {
            tracing::warn!("some webhooks are not delivered yet; they are sent after the next start");
        }
        let services = Arc::clone(calls.services());
        services.sip.shutdown().await;
        // The shutdown of the media engine blocks until all recordings are complete.
        let closed = tokio::task::spawn_blocking(move || services.media.shutdown()).await;
        if let Err(error) = closed {
            tracing::error!(%error, "media did not shut down");
        }
        // Sending fails if no listener waits for the signal any more.
        let _ = stop_http.send(true);
        if tokio::time::timeout(Duration::from_secs(2), http).await.is_err() {
            tracing::warn!("HTTP requests did not finish in time and were aborted");
        }
        heartbeat.abort();
        watching.abort();
        pruning.abort();
        sweeping.abort();
        usage.abort();
        expiry.abort();
        store.close().await;
    }
}

async fn bind_http(key: &str, listen: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(listen).await.map_err(|error| {
        let advice = advice(&error, &format!("{}=127.0.0.1:8090", key.to_uppercase().replace('.', "__")));
        anyhow!("{key}: cannot listen on {listen}: {error}{advice}")
    })
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

/// Ends the legs that were live at a crash, repairs the recordings, and restarts the transcriptions. Logs the number of
/// legs, recordings and transcriptions. Returns the SIP dialogs that the server must still end, and the Call-IDs of the
/// calls that it must end if they are answered.
async fn recover(services: &Arc<Services>) -> anyhow::Result<(Vec<sip::DialogState>, Vec<String>)> {
    let recovered = recovery::recover(services).await?;
    if recovered.legs + recovered.recordings > 0 {
        let recovery::Recovered { legs, recordings, dialogs, .. } = &recovered;
        let dialogs = dialogs.len();
        tracing::warn!(
            "after a crash: ended {legs} legs, repaired {recordings} recordings, sending BYE in {dialogs} dialogs"
        );
    }
    if recovered.adopted > 0 {
        tracing::warn!("after a crash: added {} recordings without a call", recovered.adopted);
    }
    let transcripts = transcripts::recover(services).await?;
    if transcripts > 0 {
        tracing::warn!("after a crash: restarted {transcripts} transcriptions");
    }
    Ok((recovered.dialogs, recovered.unanswered))
}

/// Receiver of the signals SIGTERM and SIGINT (Ctrl-C).
pub struct Signals(Option<(unix::Signal, unix::Signal)>);

impl Signals {
    /// Returns a receiver that never receives a signal, for a server inside another program.
    pub fn none() -> Self {
        Self(None)
    }

    async fn recv(&mut self) {
        match &mut self.0 {
            Some((terminate, interrupt)) => {
                tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
            }
            None => std::future::pending().await,
        }
    }
}

fn signals() -> anyhow::Result<Signals> {
    Ok(Signals(Some((unix::signal(SignalKind::terminate())?, unix::signal(SignalKind::interrupt())?))))
}

/// Returns advice for an error that a bind returned, or an empty text. `variable` is the assignment of an environment
/// variable that selects another port.
fn advice(error: &std::io::Error, variable: &str) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => format!("; stop what listens there, or listen elsewhere: TANDEM_{variable}"),
        _ => String::new(),
    }
}

/// Builds the phones from the configuration. The phones can belong to the configured accounts and to `first_account`,
/// which is the account that the server created.
fn phones(config: &Config, first_account: Option<Account>) -> Arc<Phones> {
    let (sip, srtp) = (&config.sip, config.media.endpoint_srtp);
    let phones = Phones::new(&sip.registrar, &sip.advertise, config.endpoints.clone(), srtp);
    let accounts = config.accounts.iter().cloned().chain(first_account);
    Arc::new(phones.with_trunks(&config.trunks).with_accounts(accounts).with_reserved(reserved_names(config)))
}

/// Returns the names that no account may have as its SIP domain, in addition to the names of this server in SIP: the
/// names of the certificates, the host of `http.public_url`, and the hosts of the trunks.
fn reserved_names(config: &Config) -> Vec<String> {
    let tls_trunks = config.trunks.iter().map(TrunkConfig::tls).collect();
    let tls = sip::Config { tls_trunks, ..config.sip.clone() };
    let certificates = sip::transport::own_certificates(&tls).into_iter().flat_map(|own| own.names);
    let trunks = config.trunks.iter().flat_map(|trunk| [&trunk.uri, &trunk.registrar, &trunk.from_domain]).flatten();
    let public = config.http.public_url.iter().filter_map(|url| url.split("://").nth(1)?.split(['/', ':']).next());
    let hosts = trunks.map(|uri| &**uri).chain(public).map(|text| phones::host_of(text).0.to_owned());
    certificates.chain(hosts).collect()
}

/// Returns the settings of `[sip]` together with the SIP settings of trunks and phones.
async fn sip_settings(config: &Config, phones: &Phones, store: &Store) -> anyhow::Result<sip::Config> {
    let trunks = &config.trunks;
    let own_word = |trunk: &TrunkConfig| Some((Arc::clone(&trunk.name), trunk.prack?));
    let transfers = |trunk: &TrunkConfig| Some((Arc::clone(&trunk.name), trunk.refer?));
    Ok(sip::Config {
        trunks: sources(trunks),
        tls_trunks: trunks.iter().map(TrunkConfig::tls).collect(),
        trunk_settings: trunks.iter().map(trunk::peer).collect(),
        directory: phones.load(store).await.context("phones")?,
        prack_by_trunk: trunks.iter().filter_map(own_word).collect(),
        refer_by_trunk: trunks.iter().filter_map(transfers).collect(),
        ..config.sip.clone()
    })
}

/// Builds the routing of calls from the configuration.
fn routing(config: &Config, phones: Arc<Phones>, inventory: Arc<Inventory>, accounts: &Arc<Accounts>) -> Routing {
    let inline = |number: &NumberConfig| config.inline_document(number)?.ok();
    let applications = Arc::new(config.applications.clone());
    let pool = match config.number_pool.is_empty() && config.trunks.is_empty() {
        true => NumberPool::fictitious(),
        false => NumberPool::new(config.number_pool.clone()),
    };
    Routing::new(config.numbers.clone(), applications, config.trunks.clone(), inline)
        .with_phones(phones)
        .with_inventory(inventory, pool)
        .with_strict_callers(config.twilio.strict_caller_id)
        .with_accounts(Arc::clone(accounts))
}

/// Returns the networks from which the server accepts calls. If no trunk is configured, these are the loopback
/// networks and this machine's own address: many softphones call 127.0.0.1 from the address of the network card.
fn sources(trunks: &[TrunkConfig]) -> Vec<sip::TrunkAcl> {
    if trunks.is_empty() {
        let loopback = ["127.0.0.0/8", "::1/128"].iter().filter_map(|network| network.parse().ok());
        return vec![sip::TrunkAcl {
            name: "loopback".into(),
            networks: loopback.chain(own_address().map(Into::into)).collect(),
        }];
    }
    let acl = |trunk: &TrunkConfig| sip::TrunkAcl { name: Arc::clone(&trunk.name), networks: trunk.networks() };
    trunks.iter().map(acl).collect()
}

/// Returns the IPv4 address from which this machine sends to other networks. `None` without a default route. Connecting
/// a UDP socket looks up the route and sends nothing. The destination is an address for documentation (RFC 5737).
fn own_address() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(203, 0, 113, 1), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

async fn heartbeat(store: Store) {
    let mut beat = tokio::time::interval(HEARTBEAT);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        beat.tick().await;
        // The store logs an error once and shows it in its health.
        let _ = store::server::heartbeat(&store, clock::time()).await;
    }
}

/// Checks every second whether the disk has enough free space for recordings.
async fn watch_room(store: Store, folder: PathBuf) {
    let mut beat = tokio::time::interval(HEARTBEAT);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        beat.tick().await;
        let path = folder.clone();
        let mut looked = tokio::task::spawn_blocking(move || directory::check_room(&path));
        // A network disk may not respond for a long time. This loop starts no other query before the current query has
        // returned.
        let outcome = loop {
            match tokio::time::timeout(SLOW, &mut looked).await {
                Ok(Ok(outcome)) => break outcome,
                Ok(Err(error)) => break Err(error.to_string()),
                Err(_) => {
                    let reason = format!("the file system of {} does not respond", folder.display());
                    store.health().note(Check::Recordings, Err(reason));
                }
            }
        };
        store.health().note(Check::Recordings, outcome);
    }
}

/// Adds up the usage of the days that are over, and removes the history that is older than the configured retention,
/// first at once and then every hour.
async fn prune(store: Store, config: DatabaseConfig) {
    let mut hour = tokio::time::interval(PRUNING);
    hour.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        hour.tick().await;
        if let Err(error) = store::usage::settle(&store, clock::time()).await {
            tracing::error!(%error, "cannot add up the usage of the days that are over");
        }
        let Some(since) = config.kept_since(clock::time()) else { continue };
        match store::server::prune(&store, since).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, %since, "old history removed"),
            Err(error) => tracing::error!(%error, "cannot remove old history"),
        }
    }
}

/// Removes expired media and expired phones every minute.
async fn sweep(calls: Calls, stored_media: Arc<StoredMedia>) {
    let mut minute = tokio::time::interval(SWEEPING);
    minute.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        minute.tick().await;
        let (services, now) = (calls.services(), clock::time());
        if let Err(error) = stored_media.sweep(&services.store, now).await {
            tracing::warn!(%error, "cannot remove expired media");
        }
        let connections = services.routing.load_full().phones().connections();
        if connections.has_expired(now)
            && let Err(error) = services.phones_changed().await
        {
            tracing::warn!(%error, "cannot determine the expired registrations");
        }
    }
}

async fn serve(listener: TcpListener, router: Router, connections: usize, mut stopped: watch::Receiver<bool>) {
    let stop = async move {
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    listener::serve(listener, router, connections, stop).await;
}

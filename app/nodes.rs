//! The recovery after a crash, and what this server does when the nodes of its cluster change.
//!
//! One node, the one with the lowest epoch, ends the calls of dead nodes and continues the webhook queues of all nodes
//! that have ended. While it lives, no other node has a lower epoch. So each queue has one sender.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tandem_accounts::Accounts;
use tandem_causes::cause::Cause;
use tandem_cluster::{Change, Cluster, Note, ReadSettings};
use tandem_config::Config;
use tandem_host::clock;
use tandem_id::AccountName;
use tandem_id::node::NodeTag;
use tandem_runtime::app::Configuration;
use tandem_runtime::recovery::{self, Ended};
use tandem_runtime::services::Services;
use tandem_runtime::{Calls, transcripts};
use tandem_sip::{Command, DialogState};
use tandem_store::nodes::{NodeRow, NodeState, Settings};
use tandem_store::{self as store, OwnedBy, StoreError};
use tandem_webhooks::{Deliveries, Senders};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use crate::bans::SharedBans;
use crate::events;
use crate::limits;
use crate::phones::{self, OtherPhones};
use crate::proxies;

/// Interval between two searches for webhook queues without an owner.
const SEARCH: Duration = Duration::from_secs(30);

/// Maximum time for a read of the phones of other nodes.
const READING: Duration = Duration::from_secs(5);

/// Time from the first to the second read of the phones of a node that has just started. Until a node is known, its notes
/// about phones are not used.
const SECOND_READ: Duration = Duration::from_millis(1_500);

/// Pause before the second search for unfinished records of a dead node. A last write of this node may arrive late.
const SECOND_LOOK: Duration = Duration::from_secs(5);

/// The SIP dialogs that must still be ended, and the Call-IDs of the calls that must be ended if they are answered.
pub(super) type Dialogs = (Vec<DialogState>, Vec<String>);

/// Returns the owners whose webhook queues this server continues.
pub(super) fn ownerless(cluster: &Cluster) -> OwnedBy {
    match (cluster.is_on(), cluster.is_first()) {
        (false, _) => OwnedBy::Anybody,
        (true, true) => {
            let living = cluster.others().into_iter().filter_map(|row| NodeTag::of_epoch(row.epoch));
            OwnedBy::NoneOf(living.collect())
        }
        // A node continues its own queues as long as it lives.
        (true, false) => cluster.tag().map_or(OwnedBy::Anybody, OwnedBy::Node),
    }
}

/// A node has stored a webhook in a queue of another node.
#[derive(Serialize, Deserialize)]
struct Queued {
    queue: String,
}

impl Note for Queued {
    const NAME: &'static str = "queued";
}

/// The senders of the webhook queues. A server that is alone sends all queues.
struct OfCluster(Cluster);

impl Senders for OfCluster {
    fn is_own(&self, queue: &str) -> bool {
        self.0.sends(queue)
    }

    fn tell(&self, queue: &str) {
        self.0.post(&Queued { queue: queue.to_owned() });
    }
}

/// Returns the senders of the webhook queues, and starts to listen to the other nodes.
pub(super) fn senders(cluster: &Cluster, deliveries: &Deliveries) -> Arc<dyn Senders> {
    let deliveries = deliveries.clone();
    cluster.listen(move |queued: Queued, _| deliveries.check(queued.queue));
    Arc::new(OfCluster(cluster.clone()))
}

/// Repairs what an earlier process on this machine has left unfinished.
pub(super) async fn recover_own(services: &Arc<Services>) -> anyhow::Result<Dialogs> {
    let cluster = &services.cluster;
    let before = store::server::last_alive(&services.store).await?;
    if !cluster.is_on() {
        let ended = Ended { owner: OwnedBy::Anybody, last_alive: before, has_files: true };
        return Ok(recover(services, &ended, true).await?);
    }
    limits::withhold(services);
    let nodes = cluster.nodes().await?.into_iter().map(|node| node.row);
    let dead = nodes.filter(|row| row.state == NodeState::Dead && row.successor == cluster.epoch());
    let own = |row: &NodeRow| cluster.name() == Some(&row.name);
    let mut left: Vec<_> = dead.map(|row| (ended(&row, own(&row)), Some(row))).collect();
    if cluster.is_first() && cluster.others().is_empty() {
        // The database may come from a server that was alone.
        let owner = OwnedBy::NoneOf(cluster.tags());
        left.push((Ended { owner, last_alive: before, has_files: true }, None));
    }
    let (mut dialogs, mut unanswered) = (Vec::new(), Vec::new());
    for (ended, row) in left {
        let more = recover(services, &ended, true).await?;
        dialogs.extend(more.0);
        unanswered.extend(more.1);
        if let Some(row) = row {
            cluster.ended_calls_of(&row).await?;
        }
    }
    store::server::forget_heartbeat(&services.store).await?;
    Ok((dialogs, unanswered))
}

/// Starts the work of a node of a cluster that no call has asked for. A server that is alone has none.
pub(super) async fn start(
    calls: &Calls,
    accounts: &Arc<Accounts>,
    configuration: &Configuration,
    config: &Config,
    changes: mpsc::Receiver<Change>,
) -> Result<(), StoreError> {
    let services = calls.services();
    let cluster = &services.cluster;
    if !cluster.is_on() {
        return Ok(());
    }
    phones::publish_addresses(cluster, config, &services.sip).await?;
    limits::start(services).await?;
    let settings = SharedSettings::new(calls, accounts, configuration);
    let own = settings.clone();
    cluster.answer(move |asked: ReadSettings| {
        let settings = own.clone();
        async move { settings.read_all(asked.groups).await }
    });
    let watch = Watch {
        calls: calls.clone(),
        settings,
        phones: OtherPhones::new(services),
        bans: SharedBans::new(cluster, &services.sip),
        changed: Arc::default(),
        second_read: None,
    };
    events::start(cluster, &services.events);
    tokio::spawn(proxies::run(cluster.clone(), config.cluster.proxies.clone(), Arc::clone(&watch.changed)));
    tokio::spawn(watch.run(changes));
    Ok(())
}

/// The parts of the server that a change of the cluster concerns.
struct Watch {
    calls: Calls,
    settings: SharedSettings,
    phones: Arc<OtherPhones>,
    bans: SharedBans,
    /// Wakes the task that tells the proxies about the nodes.
    changed: Arc<Notify>,
    /// When the phones of a node that has just started are read again: the first ones may not have been stored yet.
    second_read: Option<Instant>,
}

impl Watch {
    /// Handles the changes of the cluster for as long as the server runs. The first search comes at once.
    async fn run(mut self, mut changes: mpsc::Receiver<Change>) {
        let services = Arc::clone(self.calls.services());
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut search = tokio::time::interval(SEARCH);
        loop {
            tokio::select! {
                change = changes.recv() => match change {
                    Some(change) => self.handle(change).await,
                    None => return,
                },
                _ = second.tick() => {
                    // A node with a conference of other nodes' callers is not idle either.
                    services.cluster.set_legs(self.calls.live_legs() + services.conferences.guests());
                    services.sip.post(Command::TakeCalls(self.calls.accepts()));
                    self.bans.tell();
                    if self.second_read.take_if(|at| *at <= Instant::now()).is_some() {
                        self.read_phones().await;
                    }
                }
                _ = search.tick() => {
                    self.read_phones().await;
                    self.calls.read_other_pages();
                    services.deliveries.resume(ownerless(&services.cluster));
                }
            }
        }
    }

    /// Reads the phones of the other nodes. A database that does not answer must not hold up the changes of the cluster.
    async fn read_phones(&self) {
        if tokio::time::timeout(READING, self.phones.read()).await.is_err() {
            tracing::warn!("the phones of other nodes were not read: the database does not answer");
        }
    }

    async fn handle(&mut self, change: Change) {
        let services = self.calls.services();
        self.changed.notify_one();
        match change {
            Change::Settings(settings) => {
                let shared = self.settings.clone();
                tokio::spawn(async move { shared.read_all(vec![settings]).await });
            }
            Change::Joined(row) => {
                tracing::info!("node {} takes part now ({})", row.name, row.details.http);
                self.read_phones().await;
                self.second_read = Some(Instant::now() + SECOND_READ);
                self.calls.read_pages_of(row);
            }
            Change::Expired(row) => {
                self.phones.node_left(&row);
                self.calls.node_left(&row);
                tokio::spawn(take_over(Arc::clone(services), row));
            }
            Change::Left(row) => {
                tracing::info!("node {} takes part no more (epoch {})", row.name, row.epoch);
                // The node may have been started again.
                if services.cluster.others().iter().all(|node| node.name != row.name) {
                    self.phones.node_left(&row);
                }
                self.calls.node_left(&row);
                services.deliveries.resume(ownerless(&services.cluster));
            }
        }
    }
}

/// The stored settings that every node has in memory. Cheap to clone.
#[derive(Clone)]
struct SharedSettings {
    calls: Calls,
    accounts: Arc<Accounts>,
    configuration: Configuration,
    /// Held while settings are read and applied, so that no older state replaces a newer one.
    reading: Arc<tokio::sync::Mutex<()>>,
}

impl SharedSettings {
    fn new(calls: &Calls, accounts: &Arc<Accounts>, configuration: &Configuration) -> Self {
        let (calls, accounts, configuration) = (calls.clone(), Arc::clone(accounts), configuration.clone());
        Self { calls, accounts, configuration, reading: Arc::default() }
    }

    /// Reads settings that a node has changed. This node reads its own changes too, which changes nothing.
    async fn read_all(&self, groups: Vec<Settings>) {
        let _reading = self.reading.lock().await;
        for group in groups {
            self.read(group).await;
        }
    }

    async fn read(&self, group: Settings) {
        let (services, store) = (self.calls.services(), &self.calls.services().store);
        let read = match group {
            Settings::Inventory => services.routing.load_full().inventory().reload(store).await,
            Settings::Accounts => self.accounts.load(store).await,
            Settings::Phones => services.phones_changed().await,
            Settings::Queues => services.queues.reload().await,
            Settings::Entries => {
                if let Some(Err(error)) = self.configuration.read_entries().await {
                    tracing::error!(
                        error,
                        "the entries of the web console that another node has changed are not applied"
                    );
                }
                Ok(())
            }
        };
        if let Err(error) = read {
            tracing::error!(%error, settings = group.word(), "settings that another node has changed cannot be read");
        }
    }
}

/// Ends the calls of a dead node, and continues its webhook queues.
async fn take_over(services: Arc<Services>, dead: NodeRow) {
    let text = format!(
        "node {} did not renew its lease for 3 s ({} legs at its last renewal): this node ends its calls",
        dead.name, dead.details.legs
    );
    services.store.health().report(&AccountName::server(), Cause::NodeDied, text);
    let ended = ended(&dead, false);
    loop {
        match end_calls(&services, &ended, true).await {
            Ok(()) => break,
            Err(error) => tracing::error!(%error, node = dead.name, "the calls of a dead node are not ended yet"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    services.deliveries.resume(ended.owner.clone());
    tokio::time::sleep(SECOND_LOOK).await;
    if let Err(error) = end_calls(&services, &ended, false).await {
        tracing::error!(%error, node = dead.name, "the second search for calls of a dead node failed");
    }
    if let Err(error) = services.cluster.ended_calls_of(&dead).await {
        tracing::error!(%error, node = dead.name, "the row of a dead node is not ended");
    }
}

/// Ends the calls of a dead node. The transcriptions are restarted only once.
async fn end_calls(services: &Arc<Services>, ended: &Ended, transcribes: bool) -> Result<(), StoreError> {
    let (dialogs, unanswered) = recover(services, ended, transcribes).await?;
    let sip = Arc::clone(&services.sip);
    tokio::spawn(async move { recovery::end_dialogs(&sip, dialogs, unanswered).await });
    Ok(())
}

fn ended(node: &NodeRow, has_files: bool) -> Ended {
    let owner = NodeTag::of_epoch(node.epoch).map_or(OwnedBy::NoneOf(Vec::new()), OwnedBy::Node);
    // The database and this machine have about the same time.
    let last_alive: Option<Timestamp> = Some(node.alive_at.min(clock::time()));
    Ended { owner, last_alive, has_files }
}

/// Ends the legs of an ended process, repairs the recordings, and restarts the transcriptions. Logs the number of legs,
/// recordings and transcriptions.
async fn recover(services: &Arc<Services>, ended: &Ended, transcribes: bool) -> Result<Dialogs, StoreError> {
    let recovered = recovery::recover(services, ended).await?;
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
    let transcripts = if transcribes { transcripts::recover(services, &ended.owner).await? } else { 0 };
    if transcripts > 0 {
        tracing::warn!("after a crash: restarted {transcripts} transcriptions");
    }
    Ok((recovered.dialogs, recovered.unanswered))
}

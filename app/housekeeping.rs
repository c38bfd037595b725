//! The tasks that run for as long as the server runs: the heartbeat, and the removal of what has expired.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tandem_audio::stored_media::StoredMedia;
use tandem_cluster::Cluster;
use tandem_config::Config;
use tandem_host::{clock, directory};
use tandem_runtime::{Calls, certificates, observation, uploads, usage};
use tandem_settings::DatabaseConfig;
use tandem_store::health::Check;
use tandem_store::{self as store, Store};
use tokio::task::JoinHandle;

/// Interval between heartbeats, which the server writes to the database. After a crash, the time of the last heartbeat
/// is used as the end time of the calls that were live.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Time limit for the query of the free space on a disk. After this time, the health report says that the file system
/// does not respond.
const SLOW: Duration = Duration::from_secs(3);
/// Interval between removals of old history.
const PRUNING: Duration = Duration::from_secs(3_600);
/// Interval between removals of expired media and phones.
const SWEEPING: Duration = Duration::from_secs(60);

/// The running tasks.
pub(super) struct Housekeeping([JoinHandle<()>; 8]);

impl Housekeeping {
    /// Starts the tasks.
    pub(super) fn start(calls: &Calls, stored_media: &Arc<StoredMedia>, config: &Config) -> Self {
        let services = calls.services();
        let copies = Duration::from_secs(u64::from(config.recordings.keep_local_hours) * 3_600);
        let (store, cluster) = (|| services.store.clone(), || services.cluster.clone());
        Self([
            tokio::spawn(heartbeat(store(), cluster())),
            tokio::spawn(watch_room(store(), services.recordings.folder.clone())),
            tokio::spawn(prune(store(), cluster(), config.database.clone())),
            tokio::spawn(sweep(calls.clone(), Arc::clone(stored_media))),
            tokio::spawn(usage::watch(Arc::clone(services))),
            tokio::spawn(certificates::watch(Arc::clone(services))),
            tokio::spawn(uploads::run(Arc::clone(services), copies)),
            tokio::spawn(observation::watch(calls.clone())),
        ])
    }

    /// Stops the tasks.
    pub(super) fn stop(&self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

async fn heartbeat(store: Store, cluster: Cluster) {
    if cluster.is_on() {
        // The renewal of the lease is the heartbeat of a node.
        return;
    }
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
/// first at once and then every hour. In a cluster, one node does it.
async fn prune(store: Store, cluster: Cluster, config: DatabaseConfig) {
    let mut hour = tokio::time::interval(PRUNING);
    hour.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        hour.tick().await;
        if !cluster.is_first() {
            continue;
        }
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

//! The bans of a cluster: a source that one node bans is banned by all.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tandem_cluster::{Cluster, Note};
use tandem_host::clock;
use tandem_server::BanLifted;
use tandem_sip as sip;
use tokio::time::Instant;

/// A new ban of the node that sends the note.
#[derive(Serialize, Deserialize)]
struct NewBan {
    source: IpAddr,
    /// The word of the offence.
    why: String,
    /// Rest of the ban, in seconds.
    seconds: u64,
}

impl Note for NewBan {
    const NAME: &'static str = "ban";
}

/// The bans of this node that the others know.
pub(super) struct SharedBans {
    cluster: Cluster,
    sip: Arc<sip::transport::Handle>,
    /// The start of the latest ban that was told.
    told: Instant,
}

impl SharedBans {
    /// Starts to apply the bans of other nodes.
    pub(super) fn new(cluster: &Cluster, sip: &Arc<sip::transport::Handle>) -> Self {
        let lifted = Arc::clone(sip);
        cluster.listen(move |ban: BanLifted, _| {
            lifted.guard().unban(clock::now().instant, ban.source);
        });
        let applied = Arc::clone(sip);
        cluster.listen(move |ban: NewBan, _| {
            let why = sip::Offence::ALL.into_iter().find(|offence| offence.word() == ban.why);
            if let Some(why) = why {
                applied.guard().ban(clock::now().instant, ban.source, why, Duration::from_secs(ban.seconds));
            }
        });
        Self { cluster: cluster.clone(), sip: Arc::clone(sip), told: Instant::now() }
    }

    /// Tells the other nodes about the bans since the last call.
    pub(super) fn tell(&mut self) {
        let now = clock::now().instant;
        let since = self.told.into_std();
        // A ban of another node counts no offences here.
        let new = self.sip.guard().bans(now).into_iter().filter(|ban| ban.since > since && ban.count > 0);
        for ban in new {
            self.told = self.told.max(ban.since.into());
            let seconds = ban.until.saturating_duration_since(now).as_secs();
            let (source, why) = (ban.source.addr(), ban.why.word().to_owned());
            self.cluster.post(&NewBan { source, why, seconds });
        }
    }
}

//! The view of a running server for people: the state of live calls, and the events that exist only while a reader takes them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tandem_call::leg::{LegInfo, Quality};
use tandem_conversations::LiveConversation;
use tandem_events::{Event, Kind, Topic, TrunkEvent};
use tandem_id::{AccountName, CallId, LegId};
use tandem_streams::StreamFigures;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};

use crate::calls::Calls;
use crate::inbox::{Message, PostError};

/// Time between two measurements of the audio quality of a leg.
const QUALITY_INTERVAL: Duration = Duration::from_secs(2);
/// Time between two comparisons of the state of all trunks.
const TRUNK_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum time for the replies of all calls to one request.
const REPLY_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum time for the measurements of one request.
const MEASUREMENT_TIMEOUT: Duration = Duration::from_millis(500);

/// The current state of a call.
#[derive(Clone, Debug)]
pub struct CallView {
    /// The id of the call. If calls were merged, the id of the call that has all legs now.
    pub id: CallId,
    /// The legs that have not ended, in the order of their creation.
    pub legs: Vec<LegView>,
}

/// The replies of calls to one request for their state.
#[derive(Clone, Debug, Default)]
pub struct Inspection {
    /// Each call that has replied, once. Calls that have ended are left out.
    pub views: Vec<CallView>,
    /// Whether a live call has not replied in time.
    pub is_partial: bool,
}

/// The current state of a live leg.
#[derive(Clone, Debug)]
pub struct LegView {
    pub leg: Arc<LegInfo>,
    /// The name of the running instruction, if the leg runs one.
    pub verb: Option<&'static str>,
    pub bridged_with: Option<LegId>,
    /// The last measurement of the audio quality. The server measures only while a reader takes [`Kind::LegQuality`], or
    /// after [`Calls::measure`].
    pub quality: Option<Quality>,
    /// Whether a request has muted the far end, in its call or in its conference.
    pub is_muted: bool,
    /// Whether the leg is on hold in its conference, or the far end holds the call: it has offered to send no audio. The
    /// second is known only after a measurement.
    pub is_on_hold: bool,
    /// The conference of the leg.
    pub conference: Option<Arc<str>>,
    /// The leg to whose call this leg listens, as a supervisor.
    pub listens_to: Option<LegId>,
    /// The running streams.
    pub streams: Vec<Arc<StreamFigures>>,
    /// The running conversation.
    pub conversation: Option<Arc<LiveConversation>>,
}

impl LegView {
    /// Creates the view of a leg that runs nothing.
    pub fn idle(leg: Arc<LegInfo>) -> Self {
        Self {
            leg,
            verb: None,
            bridged_with: None,
            quality: None,
            is_muted: false,
            is_on_hold: false,
            conference: None,
            listens_to: None,
            streams: Vec::new(),
            conversation: None,
        }
    }
}

impl Calls {
    /// Returns the live calls of this node that have a leg of a selected account.
    pub fn live_calls(&self, selects: impl Fn(&AccountName) -> bool) -> BTreeSet<CallId> {
        let legs = self.registry().live().select(|leg| selects(&leg.account));
        legs.into_iter().map(|leg| leg.session).collect()
    }

    /// Returns the state of these calls. All calls receive the request before the function waits for the first reply.
    /// Waits for at most 1 s.
    pub async fn inspect(&self, calls: &BTreeSet<CallId>) -> Inspection {
        let mut inspection = Inspection::default();
        let mut replies = Vec::new();
        for inbox in calls.iter().filter_map(|call| self.inbox(*call)) {
            let (reply, view) = oneshot::channel();
            match inbox.offer(Message::Inspect(reply)) {
                Ok(()) => replies.push(view),
                Err(PostError::Full) => inspection.is_partial = true,
                Err(PostError::Over) => {}
            }
        }
        let until = Instant::now() + REPLY_TIMEOUT;
        let mut known = HashSet::new();
        for reply in replies {
            match timeout_at(until, reply).await {
                // Several ids belong to one call, if calls were merged.
                Ok(Ok(view)) if known.insert(view.id) => inspection.views.push(view),
                // Without a reply, the call has ended.
                Ok(_) => {}
                Err(_) => inspection.is_partial = true,
            }
        }
        inspection
    }

    /// Measures the audio quality of these legs, and waits for the results for at most 500 ms. Then [`Calls::inspect`]
    /// returns the results.
    pub async fn measure(&self, legs: impl IntoIterator<Item = LegId>) {
        let mut results = Vec::new();
        for leg in legs {
            let (done, result) = oneshot::channel();
            self.request_measurement(leg, Some(done));
            results.push(result);
        }
        let until = Instant::now() + MEASUREMENT_TIMEOUT;
        for result in results {
            // An error means that the leg has ended, or that the measurement takes too long.
            let _ = timeout_at(until, result).await;
        }
    }

    /// Requests a measurement of the audio quality of a leg. The result is published as [`Kind::LegQuality`].
    fn request_measurement(&self, leg: LegId, done: Option<oneshot::Sender<()>>) {
        if let Some(inbox) = self.registry().inbox(leg.0) {
            // An overloaded call is not measured.
            let _ = inbox.offer(Message::MeasureQuality { leg, done });
        }
    }
}

/// Publishes the audio quality of live legs and the changes of trunks, as long as readers take such events. Does not end.
pub async fn watch(calls: Calls) {
    tokio::join!(watch_quality(&calls), watch_trunks(&calls));
}

async fn watch_quality(calls: &Calls) {
    loop {
        calls.services().events.wanted(Kind::LegQuality).await;
        let answered = calls.registry().live().select(|leg| leg.answered_at.is_some());
        answered.iter().for_each(|leg| calls.request_measurement(leg.id, None));
        sleep(QUALITY_INTERVAL).await;
    }
}

async fn watch_trunks(calls: &Calls) {
    let services = calls.services();
    let mut known: HashMap<Arc<str>, _> = HashMap::new();
    loop {
        services.events.wanted(Kind::Trunk).await;
        let routing = services.routing.load_full();
        let mut now = HashMap::new();
        for trunk in routing.trunks() {
            let status = services.sip.trunk_status(&trunk.name);
            if known.get(&trunk.name) != Some(&status) {
                let account = trunk.account.clone().unwrap_or_default();
                services.events.publish(Topic::new(Kind::Trunk, &account), || {
                    let (trunk, account) = (Arc::clone(&trunk.name), trunk.account.clone());
                    Event::Trunk(TrunkEvent { trunk, account, status })
                });
            }
            now.insert(Arc::clone(&trunk.name), status);
        }
        known = now;
        sleep(TRUNK_INTERVAL).await;
    }
}

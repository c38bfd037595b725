//! The current state of a call, for people who watch the call.

use std::slice;
use std::sync::Arc;

use tandem_events::{Event, Kind, LegQuality, Topic};
use tandem_id::{LegId, Now};
use tandem_media as media;
use tandem_metrics::quality;

use super::CallTask;
use crate::observation::{CallView, LegView};

impl CallTask {
    /// Returns the current state of the call and of its live legs, in the order of their creation.
    pub(super) fn view(&self) -> CallView {
        let view = |leg: &Arc<_>| self.leg_view(leg);
        let mut legs: Vec<_> = self.state.call.legs().map(view).collect();
        legs.sort_by_key(|view| (view.leg.created_at, view.leg.id));
        CallView { id: self.state.call.id(), legs }
    }

    fn leg_view(&self, leg: &Arc<tandem_call::leg::LegInfo>) -> LegView {
        let live = self.state.legs.get(&leg.id);
        LegView {
            verb: self.state.call.running_verb(leg.id),
            bridged_with: live.and_then(|live| live.bridged_with),
            quality: live.and_then(|live| live.quality.as_deref().copied()),
            leg: Arc::clone(leg),
        }
    }

    /// Handles the statistics of a live leg.
    pub(super) fn measured(&mut self, now: Now, leg: LegId, stats: &media::Stats) {
        let Some(info) = self.state.call.leg(leg) else { return };
        let Some(live) = self.state.legs.get_mut(&leg) else { return };
        let quality = quality::of(stats);
        live.quality = Some(Box::new(quality));
        let topic = Topic::of_call(Kind::LegQuality, &info.account, slice::from_ref(&info.session), Some(leg));
        self.services.events.publish(topic, || {
            let (session, account) = (info.session, Arc::clone(&info.account));
            Event::LegQuality(LegQuality { at: now.time, leg, session, account, quality })
        });
    }
}

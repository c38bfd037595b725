//! The current state of a call, for people who watch the call.

use std::slice;
use std::sync::Arc;

use tandem_events::{Event, Kind, LegQuality, Topic};
use tandem_id::{LegId, Now};
use tandem_media as media;
use tandem_metrics::quality;
use tokio::sync::oneshot;

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
            quality: live.and_then(|live| live.facts.quality.as_deref().copied()),
            leg: Arc::clone(leg),
        }
    }

    /// Requests the statistics of a live leg from the media engine. `done` receives a message when they have arrived.
    pub(super) fn measure(&mut self, leg: LegId, done: Option<oneshot::Sender<()>>) {
        if let Some(live) = self.state.legs.get_mut(&leg) {
            // A reader waits only for a limited time.
            live.attachments.awaiting_quality.retain(|reader| !reader.is_closed());
            live.attachments.awaiting_quality.extend(done);
        }
        self.engine(leg, media::Command::ReportStats);
    }

    /// Handles the statistics of a live leg.
    pub(super) fn measured(&mut self, now: Now, leg: LegId, stats: &media::Stats) {
        let Some(info) = self.state.call.leg(leg) else { return };
        let Some(live) = self.state.legs.get_mut(&leg) else { return };
        let quality = quality::of(stats);
        live.facts.quality = Some(Box::new(quality));
        for reader in live.attachments.awaiting_quality.drain(..) {
            // An error means that the reader does not wait any more.
            let _ = reader.send(());
        }
        let topic = Topic::of_call(Kind::LegQuality, &info.account, slice::from_ref(&info.session), Some(leg));
        self.services.events.publish(topic, || {
            let (session, account) = (info.session, info.account.clone());
            Event::LegQuality(LegQuality { at: now.time, leg, session, account, quality })
        });
    }
}

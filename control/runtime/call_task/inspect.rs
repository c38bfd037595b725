//! The current state of a call, for people who watch the call.

use std::slice;
use std::sync::Arc;

use tandem_events::{Event, Kind, LegQuality, Topic, VerbChange};
use tandem_history::event_log::Line;
use tandem_host::clock;
use tandem_http::without_credentials;
use tandem_id::{LegId, Now};
use tandem_media as media;
use tandem_metrics::quality;
use tokio::sync::oneshot;

use super::{CallTask, event_data};
use crate::observation::{CallView, LegView};

/// The verb of a leg that waits for a document.
const FETCH: &str = "fetch";

/// Returns the line about a changed verb of a leg. There is no line about [`FETCH`], because the log has the request.
pub(super) fn verb_line(
    leg: LegId,
    before: Option<&'static str>,
    verb: Option<&'static str>,
    document: Option<&str>,
) -> Option<Line> {
    let logged = |verb: Option<&'static str>| verb.filter(|verb| *verb != FETCH);
    let (text, data) = match (logged(before), logged(verb)) {
        (_, Some(verb)) => {
            let document = document.map(without_credentials);
            (format!("runs {verb}"), event_data::verb("started", verb, document.as_deref()))
        }
        (Some(verb), None) => (format!("{verb} is over"), event_data::verb("ended", verb, None)),
        (None, None) => return None,
    };
    Some(Line { at: clock::time(), leg: Some(leg), kind: "verb".into(), text, data: Some(Box::new(data)) })
}

impl CallTask {
    /// Returns the current state of the call and of its live legs, in the order of their creation. The call keeps ended
    /// legs until they are released; the view does not have them.
    pub(super) fn view(&self) -> CallView {
        let view = |leg: &Arc<_>| self.leg_view(leg);
        let call = &self.state.call;
        let live = call.legs().filter(|leg| !leg.status.is_final() && !call.is_remote(leg.id));
        let mut legs: Vec<_> = live.map(view).collect();
        legs.sort_by_key(|view| (view.leg.created_at, view.leg.id));
        CallView { id: self.state.call.id(), legs }
    }

    fn leg_view(&self, leg: &Arc<tandem_call::leg::LegInfo>) -> LegView {
        let call = &self.state.call;
        let (participation, supervision) = (call.participation(leg.id), call.supervision(leg.id));
        let mut view = LegView {
            verb: call.running_verb(leg.id),
            is_muted: call.is_muted(leg.id) || participation.is_some_and(|own| own.muted),
            is_on_hold: participation.is_some_and(|own| own.hold.is_some()),
            conference: participation.map(|own| Arc::clone(&own.conference)),
            listens_to: supervision.map(|supervision| supervision.of),
            ..LegView::idle(Arc::clone(leg))
        };
        let Some(live) = self.state.legs.get(&leg.id) else { return view };
        let running = &live.attachments;
        view.bridged_with = live.bridged_with.map(|bridged| call.shown_id(bridged));
        view.quality = live.facts.quality.as_deref().copied();
        // A listener sends no audio either.
        let is_coach = participation.is_some_and(|own| own.coach.is_some());
        view.is_on_hold |= live.facts.is_silenced && supervision.is_none() && !is_coach;
        view.streams = running.streams.values().map(|stream| Arc::clone(&stream.figures)).collect();
        view.streams.sort_by_key(|stream| stream.since);
        view.conversation = running.conversation.as_ref().map(|conversation| Arc::clone(&conversation.live));
        view
    }

    /// Publishes and logs the running verb of each leg whose verb has changed since the last use of this method.
    pub(super) fn publish_verbs(&mut self) {
        for (leg, live) in &mut self.state.legs {
            let verb = self.state.call.running_verb(*leg);
            if live.published_verb == verb || self.state.call.is_remote(*leg) {
                continue;
            }
            let before = std::mem::replace(&mut live.published_verb, verb);
            let document = self.state.call.running_document(*leg);
            if let Some(line) = verb_line(*leg, before, verb, document) {
                self.inbox.log().push_line(line);
            }
            let Some(info) = self.state.call.leg(*leg) else { continue };
            let topic = Topic::of_call(Kind::Verb, &info.account, slice::from_ref(&info.session), Some(*leg));
            self.services.events.publish(topic, || {
                let (session, account, verb) = (info.session, info.account.clone(), verb.map(Into::into));
                Event::Verb(VerbChange { leg: *leg, session, account, verb })
            });
        }
    }

    /// Requests the statistics of a live leg from the media engine. `done` receives a message when they have arrived.
    pub(super) fn measure(&mut self, leg: LegId, done: Option<oneshot::Sender<()>>) {
        if let Some(live) = self.state.legs.get_mut(&leg) {
            // A reader waits only for a limited time.
            let waiting = &mut live.attachments.awaiting_quality.get_or_insert_default().0;
            waiting.retain(|reader| !reader.is_closed());
            waiting.extend(done);
        }
        self.engine(leg, media::Command::ReportStats);
    }

    /// Handles the statistics of a live leg.
    pub(super) fn measured(&mut self, now: Now, leg: LegId, stats: &media::Stats, series: &[media::QualityPoint]) {
        self.inbox.log().set_quality(leg, quality::series(series));
        let Some(info) = self.state.call.leg(leg) else { return };
        let Some(live) = self.state.legs.get_mut(&leg) else { return };
        let quality = quality::of(stats);
        live.facts.quality = Some(Box::new(quality));
        let was_silenced = std::mem::replace(&mut live.facts.is_silenced, !stats.expected);
        let running = &live.attachments;
        let is_busy =
            !running.streams.is_empty() || running.conversation.is_some() || was_silenced != live.facts.is_silenced;
        for reader in live.attachments.awaiting_quality.take().into_iter().flat_map(|waiting| waiting.0) {
            // An error means that the reader does not wait any more.
            let _ = reader.send(());
        }
        let topic = Topic::of_call(Kind::LegQuality, &info.account, slice::from_ref(&info.session), Some(leg));
        self.services.events.publish(topic, || {
            let (session, account, dialect) = (info.session, info.account.clone(), Arc::clone(&info.dialect));
            let lacks_audio = self.services.counters.lacks_audio(leg);
            Event::LegQuality(LegQuality {
                at: now.time,
                leg,
                session,
                account,
                dialect,
                quality,
                lacks_audio,
                is_busy,
            })
        });
    }
}

//! Publishes the events of a conference in order. Each event goes to the records of the conference and to the
//! application of the conference.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tandem_call::conference::event::{ConferenceEvent, ConferenceEventKind};
use tandem_causes::Cause;
use tandem_dialect::{Context, delivery};
use tandem_events::{Event, Kind, Topic};
use tandem_history::problem::Problem;
use tokio::sync::mpsc;

use super::{ConferenceServices, history};

/// Number of waiting events at which optional events are dropped. Necessary events are always accepted. The number of
/// necessary events is limited by the number of participants and the number of requests about participants.
const FULL: usize = 1024;

/// The sending side of the publishing task. When this value is dropped, the task publishes the waiting events and ends.
#[derive(Clone)]
pub(super) struct EventPublisher {
    sender: mpsc::UnboundedSender<ConferenceEvent>,
    waiting: Arc<AtomicUsize>,
}

impl EventPublisher {
    /// Starts the publishing task of a new conference. A shutdown waits for this task.
    pub(super) fn start(services: &Arc<ConferenceServices>) -> Self {
        let (sender, mut receiver) = mpsc::unbounded_channel::<ConferenceEvent>();
        let waiting = Arc::new(AtomicUsize::new(0));
        let (left, own) = (Arc::clone(&waiting), Arc::clone(services));
        services.tasks.spawn(async move {
            let mut sequence = 1;
            while let Some(event) = receiver.recv().await {
                left.fetch_sub(1, Ordering::Relaxed);
                publish(&own, &event, &mut sequence).await;
            }
        });
        Self { sender, waiting }
    }

    /// Whether optional events must be dropped, because too many events wait.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) >= FULL
    }

    pub(super) fn publish(&self, event: ConferenceEvent) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // This cannot fail, because the task ends only after its senders are dropped.
        let _ = self.sender.send(event);
    }
}

/// Stores and publishes one event. `sequence` is the number of the next notice.
pub(super) async fn publish(services: &ConferenceServices, event: &ConferenceEvent, sequence: &mut u32) {
    let info = &event.conference;
    tracing::debug!(conference = %info.id, name = %info.name, kind = ?event.kind, "conference");
    services.events.publish(Topic::new(Kind::Conference, &info.account), || Event::Conference(event.clone()));
    if let Some(cause) = Cause::of_conference(&event.kind) {
        let text = match &event.kind {
            ConferenceEventKind::Recording(recording) => format!("recording {} {}", recording.id, recording.status),
            ConferenceEventKind::Stream(stream) => format!("stream {} {}", stream.id, stream.status),
            other => format!("{other:?}"),
        };
        let problem = Problem::new(cause, format!("conference {}: {text}", info.name));
        services.reporter.report(&info.account, problem);
    }
    if let Err(error) = history::write(services, event).await {
        tracing::error!(%error, conference = %info.id, "record not stored");
    }
    let Some((dialect, account)) = services.dialects.get(&info.dialect).zip(services.accounts.by_name(&info.account))
    else {
        return;
    };
    let context =
        Context { public_url: Arc::clone(&services.public_url), sequence: *sequence, recording: None, queue: None };
    for notice in dialect.conference(&account, event, &context) {
        *sequence += u32::from(notice.numbered);
        let delivery = delivery::of_conference(notice, dialect.as_ref(), info, rand::random());
        if let Err(error) = services.deliveries.enqueue(delivery).await {
            tracing::error!(%error, conference = %info.id, "notice not stored");
        }
    }
}

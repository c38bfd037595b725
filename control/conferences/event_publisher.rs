//! Publishes the events of a conference in order. Each event goes to the records of the conference and to the
//! application of the conference.

use std::sync::Arc;

use tandem_call::conference::event::{ConferenceEvent, ConferenceEventKind};
use tandem_causes::Cause;
use tandem_dialect::{Context, delivery};
use tandem_events::{Event, Kind, Topic};
use tandem_history::problem::Problem;
use tokio::sync::mpsc;

use super::{ConferenceServices, history};

/// Number of waiting events at which optional events are dropped. The other events are necessary.
const FULL: usize = 1024;
/// Number of waiting events at which necessary events are dropped too, and the server logs an error. Participants and
/// requests about participants cause only a few necessary events, so this number is reached only if the database does not
/// answer for a long time.
const CAPACITY: usize = 16_384;

/// The sending side of the publishing task. When this value is dropped, the task publishes the waiting events and ends.
#[derive(Clone)]
pub(super) struct EventPublisher {
    sender: mpsc::Sender<ConferenceEvent>,
}

impl EventPublisher {
    /// Starts the publishing task of a new conference. A shutdown waits for this task.
    pub(super) fn start(services: &Arc<ConferenceServices>) -> Self {
        let (sender, mut receiver) = mpsc::channel::<ConferenceEvent>(CAPACITY);
        let own = Arc::clone(services);
        services.tasks.spawn(async move {
            let mut sequence = 1;
            while let Some(event) = receiver.recv().await {
                publish(&own, &event, &mut sequence).await;
            }
        });
        Self { sender }
    }

    /// Whether optional events must be dropped, because too many events wait.
    pub(super) fn is_full(&self) -> bool {
        CAPACITY - self.sender.capacity() >= FULL
    }

    pub(super) fn publish(&self, event: ConferenceEvent) {
        if let Err(refused) = self.sender.try_send(event) {
            let event = refused.into_inner();
            tracing::error!(conference = %event.conference.id, kind = ?event.kind, "too many events wait: an event is lost");
        }
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
    if let Err(error) = history::write(&services.store, &services.recordings, event).await {
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

//! The way to a call, and all that may come by it.

use std::sync::Arc;

use tandem_call::call::NewLeg;
use tandem_call::command::{Accepted, Refused, Request};
use tandem_call::fetch::FetchFailure;
use tandem_call::id::{FetchId, LegId, OpId, StreamId};
use tandem_call::output::LegEvent;
use tandem_call::program::instruction::{Play, Program};
use tandem_call::stream::StreamStatus;
use tandem_media as media;
use tandem_sip as sip;
use tokio::sync::{mpsc, oneshot};

use crate::audio::AudioError;
use crate::call_task::Estate;
use crate::clock;
use crate::event_log::Line;
use crate::stream::Ready;

/// Messages that may wait for one call.
const INBOX: usize = 1024;

/// The way to a call. Cheap to clone.
#[derive(Clone)]
pub struct Inbox(mpsc::Sender<Message>);

/// Something for a call.
pub enum Message {
    /// From its dialogs.
    Sip(LegId, sip::Event),
    /// From the engine.
    Media(LegId, media::Event),
    /// A document came.
    Fetched {
        /// For this leg.
        leg: LegId,
        /// The fetch.
        id: FetchId,
        /// For the log.
        line: String,
        /// It.
        result: Result<Program, FetchFailure>,
    },
    /// Audio is ready.
    Rendered {
        /// For this leg.
        leg: LegId,
        /// The playback.
        op: OpId,
        /// How often.
        play: Play,
        /// It.
        audio: Result<Arc<media::Audio>, AudioError>,
    },
    /// A stream's socket is open.
    StreamReady {
        /// Its leg.
        leg: LegId,
        /// It.
        id: StreamId,
        /// The media it needs.
        ready: Box<Ready>,
    },
    /// A stream is over.
    Stream {
        /// Its leg.
        leg: LegId,
        /// It.
        id: StreamId,
        /// How.
        status: StreamStatus,
    },
    /// An application asks something.
    Request {
        /// Of this leg.
        leg: LegId,
        /// What.
        request: Box<Request>,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Accepted, Refused>>,
    },
    /// An application wants another leg in this call.
    NewLeg(Box<NewLeg>),
    /// How many more legs this call can take.
    Room(oneshot::Sender<usize>),
    /// Give this call's legs to the one that asks; what comes afterwards goes to `heir`. Without an answer if there are
    /// too many.
    Surrender {
        /// The inbox of the call that takes over.
        heir: Inbox,
        /// The most legs it can take.
        room: usize,
        /// Where the legs go.
        reply: oneshot::Sender<Box<Estate>>,
    },
    /// Take these legs over.
    Absorb(Box<Estate>),
    /// Found out by a leg's own hands.
    Own(LegId, LegEvent),
    /// A line for the log.
    Note(Line),
    /// Show the log.
    Log(oneshot::Sender<Vec<Line>>),
    /// Hang everything up.
    HangupAll,
}

impl Inbox {
    /// A new inbox.
    pub fn new() -> (Self, mpsc::Receiver<Message>) {
        let (sender, receiver) = mpsc::channel(INBOX);
        (Self(sender), receiver)
    }

    /// Waits for room. A call that is over takes nothing; that is no error.
    pub async fn send(&self, message: Message) {
        let _ = self.0.send(message).await;
    }

    /// Does not wait: what does not fit is sent by a task that does.
    pub fn post(&self, message: Message) {
        if let Err(mpsc::error::TrySendError::Full(message)) = self.0.try_send(message) {
            let inbox = self.clone();
            tokio::spawn(async move { inbox.send(message).await });
        }
    }

    /// Does not wait: what does not fit is dropped. For what only the log wants to know.
    pub fn offer(&self, message: Message) {
        let _ = self.0.try_send(message);
    }

    /// A line for the call's log; dropped when there is no room.
    pub fn note(&self, leg: LegId, text: String) {
        self.log(Line { at: clock::now().time, leg: Some(leg), kind: "media".to_owned(), text });
    }

    /// Puts a line in the log; dropped when there is no room.
    pub fn log(&self, line: Line) {
        self.offer(Message::Note(line));
    }

    /// Whether both lead to the same call.
    pub fn same(&self, other: &Self) -> bool {
        self.0.same_channel(&other.0)
    }

    /// Where the engine's events go.
    pub(crate) fn sink(&self) -> media::EventSink {
        let inbox = self.clone();
        Arc::new(move |key, event| match inbox.0.try_send(Message::Media(LegId(key.0), event)) {
            Err(mpsc::error::TrySendError::Full(_)) => Err(media::Full),
            _ => Ok(()),
        })
    }

    /// Something a leg's hands found out while obeying.
    pub(crate) fn post_event(&self, leg: LegId, event: LegEvent) {
        self.post(Message::Own(leg, event));
    }
}

//! The inbox of a call, and the messages that it takes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};
use tandem_audio::AudioError;
use tandem_call::call::NewLeg;
use tandem_call::command::{Accepted, Refused, Request};
use tandem_call::fetch::FetchFailure;
use tandem_call::id::{ConversationId, FetchId, LegId, OpId, StreamId};
use tandem_call::output::LegEvent;
use tandem_call::program::instruction::{Play, Program};
use tandem_call::stream::StreamStatus;
use tandem_clock as clock;
use tandem_conversations::ConversationUpdate;
use tandem_history::event_log::{EventLog, Exchanged, Line};
use tandem_http::exchange::HttpExchange;
use tandem_media as media;
use tandem_sip as sip;
use tandem_streams::Ready;
use tokio::sync::mpsc::error::SendError;
use tokio::sync::{mpsc, oneshot};

use crate::call_state::CallState;

/// Number of waiting messages from which optional ones are refused: requests of applications, INFO, provisional
/// responses. Media events then wait in the engine. Necessary messages are still accepted; their number is bounded by
/// the call's own requests and by its legs.
const FULL: usize = 1024;

/// The sending side of a call's inbox. Cheap to clone. No method waits, and messages keep their order.
#[derive(Clone)]
pub(crate) struct Inbox {
    /// Boxed messages: the channel reserves room for 32.
    sender: mpsc::UnboundedSender<Box<Message>>,
    shared: Arc<Shared>,
}

/// The receiving side of a call's inbox, owned by the call's task.
pub(crate) struct Messages {
    receiver: mpsc::UnboundedReceiver<Box<Message>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// The number of waiting messages.
    waiting: AtomicUsize,
    /// Log lines go directly to the log: most of what concerns a call is only logged.
    log: Mutex<EventLog>,
}

/// The reason that a message was not accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NotTaken {
    /// The call is over.
    Over,
    /// Too many messages wait.
    Full,
}

/// A message to a call.
pub(crate) enum Message {
    /// An event of one of its SIP dialogs.
    Sip(LegId, sip::Event),
    /// An event of the media engine.
    Media(LegId, Box<media::Event>),
    /// The result of a document request.
    Fetched {
        /// The leg that requested it.
        leg: LegId,
        /// The id of the request.
        id: FetchId,
        /// The line for the log.
        line: String,
        /// The exchange for the log.
        exchange: Option<Box<HttpExchange>>,
        /// The dialect that handles the leg from now on, if it has changed.
        speaks: Option<Arc<str>>,
        /// The document, or the reason that there is none.
        result: Result<Program, FetchFailure>,
    },
    /// A request with its answer, for the log.
    Exchanged {
        /// The leg that it is about.
        leg: Option<LegId>,
        /// The request and its answer.
        exchange: Box<HttpExchange>,
        /// A log line about it, if there is one.
        line: Option<Line>,
    },
    /// Return the exchanges of the log.
    Exchanges(oneshot::Sender<Vec<Exchanged>>),
    /// The audio of a playback is ready.
    Rendered {
        /// The leg that plays it.
        leg: LegId,
        /// The operation id of the playback.
        op: OpId,
        /// The source of the audio and the number of repetitions.
        play: Play,
        /// The audio, or the reason that there is none.
        audio: Result<Arc<media::Audio>, AudioError>,
    },
    /// The WebSocket of a stream is open, but its leg is not answered yet.
    StreamOpen {
        /// The leg of the stream.
        leg: LegId,
        /// The id of the stream.
        id: StreamId,
    },
    /// The WebSocket of a stream is open, and the stream starts.
    StreamReady {
        /// The leg of the stream.
        leg: LegId,
        /// The id of the stream.
        id: StreamId,
        /// The sink and the source to attach.
        ready: Box<Ready>,
    },
    /// The application of a stream sends DTMF digits.
    StreamPress {
        /// The leg of the stream.
        leg: LegId,
        /// The id of the stream.
        id: StreamId,
        /// `0-9 A-D * #`.
        digits: String,
    },
    /// A stream has ended.
    Stream {
        /// The leg of the stream.
        leg: LegId,
        /// The id of the stream.
        id: StreamId,
        /// The status at the end of the stream.
        status: StreamStatus,
    },
    /// A report of a conversation.
    Conversation {
        /// The leg of the conversation.
        leg: LegId,
        /// The id of the conversation.
        id: ConversationId,
        /// The report.
        news: Box<ConversationUpdate>,
    },
    /// A request of an application.
    Request {
        /// The leg that it is about.
        leg: LegId,
        /// The request.
        request: Box<Request>,
        /// The sender for the result.
        reply: oneshot::Sender<Result<Accepted, Refused>>,
    },
    /// An application adds these legs to the call.
    NewLegs(Vec<NewLeg>),
    /// Another call may be merged into this one: return how many legs it may have.
    Expect {
        /// The sender for the number of legs.
        room: oneshot::Sender<usize>,
        /// The call does not end until the sender of this is dropped.
        settled: oneshot::Receiver<()>,
    },
    /// Move this call's legs into another call; later messages are forwarded there.
    MergeInto {
        /// The inbox of the target call.
        target: Inbox,
        /// Maximum number of legs that the target call accepts. A call with more legs keeps them.
        room: usize,
        /// Gets a message when the move is done; dropped if the move is not possible.
        done: oneshot::Sender<()>,
    },
    /// Take over the legs of another call.
    Merge {
        /// The whole state of the other call.
        estate: Box<CallState>,
        /// Gets a message when the legs are registered with this call.
        done: oneshot::Sender<()>,
    },
    /// An event that performing a command has caused.
    Own(LegId, LegEvent),
    /// Return the lines of the log.
    Log(oneshot::Sender<Vec<Line>>),
    /// Hang up all legs.
    HangupAll,
}

impl Inbox {
    /// Creates an inbox and its receiving side.
    pub(crate) fn new() -> (Self, Messages) {
        let ((sender, receiver), shared) = (mpsc::unbounded_channel(), Arc::<Shared>::default());
        (Self { sender, shared: Arc::clone(&shared) }, Messages { receiver, shared })
    }

    /// Posts a message that the call needs.
    ///
    /// # Errors
    /// [`NotTaken::Over`] if the call is over.
    pub(crate) fn post(&self, message: Message) -> Result<(), NotTaken> {
        self.put(Box::new(message), usize::MAX).map_err(|(_, why)| why)
    }

    /// Moves everything that a call owns to this call. Returns it if this call is over.
    pub(crate) fn give(&self, estate: Box<CallState>, done: oneshot::Sender<()>) -> Result<(), Box<CallState>> {
        match self.put(Box::new(Message::Merge { estate, done }), usize::MAX).map_err(|(message, _)| *message) {
            Err(Message::Merge { estate, .. }) => Err(estate),
            _ => Ok(()),
        }
    }

    /// Posts an exchange if there is room; otherwise it is dropped. Returns it if this call is over.
    pub(crate) fn exchanged(
        &self,
        leg: Option<LegId>,
        exchange: HttpExchange,
        line: Option<Line>,
    ) -> Result<(), Box<(HttpExchange, Option<Line>)>> {
        match self.put(Box::new(Message::Exchanged { leg, exchange: Box::new(exchange), line }), FULL) {
            Err((message, NotTaken::Over)) => match *message {
                Message::Exchanged { exchange, line, .. } => Err(Box::new((*exchange, line))),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Appends a message if fewer than `most` wait.
    fn put(&self, message: Box<Message>, most: usize) -> Result<(), (Box<Message>, NotTaken)> {
        if self.shared.waiting.load(Ordering::Relaxed) >= most && !self.is_over() {
            return Err((message, NotTaken::Full));
        }
        self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        self.sender.send(message).map_err(|SendError(message)| (message, NotTaken::Over))
    }

    /// Posts an optional message.
    ///
    /// # Errors
    /// [`NotTaken::Over`] if the call is over, [`NotTaken::Full`] if too many messages wait.
    pub(crate) fn offer(&self, message: Message) -> Result<(), NotTaken> {
        self.put(Box::new(message), FULL).map_err(|(_, why)| why)
    }

    /// Whether the call is over.
    pub(crate) fn is_over(&self) -> bool {
        self.sender.is_closed()
    }

    /// The call's log. Lines that are added after the end of the call are lost.
    pub(crate) fn log(&self) -> MutexGuard<'_, EventLog> {
        self.shared.log.lock()
    }

    /// Takes an event of a SIP dialog: trace lines go to the log, all others to the queue in their order.
    pub(crate) fn sip(&self, leg: LegId, event: sip::Event) {
        if let sip::Event::Trace { sent, peer, transport, line, .. } = event {
            let text = traced(sent, peer, transport.token(), &line);
            return self.log().push(clock::time(), Some(leg), "sip", text);
        }
        let spare = matches!(event, sip::Event::Info { .. } | sip::Event::Provisional { .. });
        let message = Message::Sip(leg, event);
        if spare {
            let _ = self.offer(message);
        } else {
            let _ = self.post(message);
        }
    }

    /// Whether both handles lead to the same call.
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.sender.same_channel(&other.sender)
    }

    /// The sink for events of the media engine.
    pub(crate) fn sink(&self) -> media::EventSink {
        let inbox = self.clone();
        Arc::new(move |key, event| match inbox.offer(Message::Media(LegId(key.0), Box::new(event))) {
            Err(NotTaken::Full) => Err(media::Full),
            _ => Ok(()),
        })
    }
}

/// A line about a SIP message: `-> 192.0.2.1:5060 UDP INVITE sip:...`.
pub(crate) fn traced(sent: bool, peer: SocketAddr, transport: &str, line: &str) -> String {
    let arrow = if sent { "->" } else { "<-" };
    format!("{arrow} {peer} {transport} {line}")
}

impl Messages {
    /// Waits for the next message; `None` when no [`Inbox`] handle is left.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        self.receiver.recv().await.map(|message| self.taken(message))
    }

    /// The next message, if one is waiting.
    pub(crate) fn ready(&mut self) -> Option<Message> {
        self.receiver.try_recv().ok().map(|message| self.taken(message))
    }

    fn taken(&self, message: Box<Message>) -> Message {
        self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
        *message
    }

    /// The call's log.
    pub(crate) fn log(&self) -> MutexGuard<'_, EventLog> {
        self.shared.log.lock()
    }

    /// Refuses further messages; the waiting ones stay.
    pub(crate) fn close(&mut self) {
        self.receiver.close();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;

    #[test]
    fn a_request_that_a_call_hears_of_too_late_comes_back_to_be_written_down_elsewhere() {
        let at = Timestamp::UNIX_EPOCH;
        let exchange = || HttpExchange::new(at, "POST", "http://app/status", &[], Duration::ZERO);
        let line = || Some(Line { at, leg: None, kind: "webhook".into(), text: "said".to_owned(), data: None });
        let (inbox, mut messages) = Inbox::new();
        assert!(inbox.exchanged(None, exchange(), line()).is_ok());
        messages.close();
        let (back, told) = *inbox.exchanged(None, exchange(), line()).unwrap_err();
        assert_eq!((back.url.as_str(), told), ("http://app/status", line()));
        // Messages that arrived in time can still be read.
        assert!(matches!(messages.ready(), Some(Message::Exchanged { .. })));
        assert!(messages.ready().is_none());
    }

    #[test]
    fn a_traced_message_says_which_way_it_went_and_where() {
        let of = |sent, peer: &str| traced(sent, peer.parse().unwrap(), "UDP", "BYE sip:a@b");
        assert_eq!(of(true, "10.0.200.1:5060"), "-> 10.0.200.1:5060 UDP BYE sip:a@b");
        assert_eq!(of(false, "[2001:db8::1]:65535"), "<- [2001:db8::1]:65535 UDP BYE sip:a@b");
    }
}

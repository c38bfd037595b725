//! The inbox of a call, and the messages in the inbox.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tandem_audio::{AudioError, Loaded};
use tandem_call::command::{Accepted, Refused, Request};
use tandem_call::fetch::FetchFailure;
use tandem_call::leg::LegInfo;
use tandem_call::new_leg::NewLeg;
use tandem_call::output::LegEvent;
use tandem_call::program::instruction::Program;
use tandem_call::queue::NotQueued;
use tandem_call::stream::StreamStatus;
use tandem_conferences::{JoinRefusal, Seat};
use tandem_conversations::ConversationUpdate;
use tandem_history::event_log::{EventLog, Line, LogContent};
use tandem_host::clock;
use tandem_http::exchange::HttpExchange;
use tandem_id::{ConversationId, FetchId, LegId, OpId, StreamId};
use tandem_leg::signal::{SignalCommand, SignalEvent};
use tandem_legs::sip::Trace;
use tandem_media as media;
use tandem_queues::EnterResult;
use tandem_store::nodes::NodeRow;
use tandem_streams::Ready;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use crate::call_state::MovedCall;
use crate::observation::CallView;
use crate::remote_legs::{Join, RemoteWish};

/// Number of waiting messages at which optional messages are refused. Optional messages are requests of applications,
/// INFO, and provisional responses. At this number, events of the media engine wait in the engine. The other messages are
/// necessary.
const FULL: usize = 1024;
/// Number of waiting messages at which necessary messages are refused too, and the server logs an error. The call's own
/// requests and the call's legs cause only a few necessary messages, so a call with so many waiting messages hangs.
const CAPACITY: usize = 16_384;

/// The sending side of a call's inbox. Cheap to clone. No method waits. The inbox keeps the order of messages.
#[derive(Clone)]
pub(crate) struct Inbox {
    /// The sender of the channel. The messages are boxed, because the channel reserves memory for 32 messages.
    sender: mpsc::Sender<Box<Message>>,
    shared: Arc<Shared>,
}

/// The receiving side of a call's inbox. The call's task owns this side.
pub(crate) struct Messages {
    receiver: mpsc::Receiver<Box<Message>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// The call's log. Log lines bypass the queue, because most events of a call are only logged.
    log: Mutex<EventLog>,
}

/// The reason why a message was not accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PostError {
    /// The call has ended.
    Over,
    /// Too many messages wait.
    Full,
}

pub(crate) enum Message {
    /// An order to the far end of a leg.
    SendSignal(LegId, SignalCommand),
    Signal {
        leg: LegId,
        /// The leg, or the branch of the leg that the signal is about.
        branch: LegId,
        event: SignalEvent,
    },
    /// An event of the media engine.
    Media(LegId, Box<media::Event>),
    /// The result of a document request.
    Fetched(Box<FetchedDocument>),
    /// An HTTP exchange, for the log.
    Exchanged(Box<LoggedExchange>),
    /// The audio of a playback is ready.
    Rendered {
        leg: LegId,
        op: OpId,
        /// The number of times that the audio plays. `None` means without end.
        loops: Option<NonZeroU32>,
        /// The part that was played before a restart.
        elapsed: Duration,
        /// The audio, or the reason why there is no audio.
        audio: Result<Loaded, AudioError>,
    },
    /// The WebSocket of a stream is open, and the leg of the stream is not answered yet.
    StreamOpen {
        leg: LegId,
        id: StreamId,
    },
    /// The WebSocket of a stream is open, and the stream starts.
    StreamReady {
        leg: LegId,
        id: StreamId,
        /// The sink and the source to attach.
        ready: Box<Ready>,
    },
    /// The application of a stream sends DTMF digits.
    StreamDigits {
        leg: LegId,
        id: StreamId,
        /// The digits, from `0-9 A-D * #`.
        digits: String,
    },
    /// A stream has ended.
    Stream {
        leg: LegId,
        id: StreamId,
        /// The status at the end of the stream.
        status: StreamStatus,
    },
    /// A report of a conversation.
    Conversation {
        leg: LegId,
        id: ConversationId,
        update: Box<ConversationUpdate>,
    },
    /// A leg has joined the conference that it asked other nodes for, or was refused.
    Seated {
        leg: LegId,
        /// The number of the attempt.
        number: u64,
        seat: Box<Result<Seat, JoinRefusal>>,
    },
    /// A leg has entered the queue for which it asked other nodes, or was refused.
    EnteredQueue {
        leg: LegId,
        /// Id of the operation of `EnterQueue`.
        op: OpId,
        result: Box<Result<EnterResult, NotQueued>>,
    },
    /// Join a leg of this call with a leg of another node.
    JoinRemote {
        leg: LegId,
        /// The leg of the other node.
        other: Arc<LegInfo>,
        node: Box<NodeRow>,
        wish: RemoteWish,
        /// The reply comes when the other node has agreed.
        reply: oneshot::Sender<Result<Accepted, Refused>>,
    },
    /// Another node joins its leg with a leg of this call.
    JoinedBy {
        join: Box<Join>,
        reply: oneshot::Sender<Result<(), Refused>>,
    },
    /// A request of an application.
    Request {
        leg: LegId,
        request: Box<Request>,
        reply: oneshot::Sender<Result<Accepted, Refused>>,
    },
    /// An application adds these legs to the call.
    NewLegs(Vec<NewLeg>),
    /// A request that announces a possible merge of another call into this call. The reply is the number of legs that
    /// this call can still accept.
    Expect {
        /// Sends the number of legs that this call can still accept.
        room: oneshot::Sender<usize>,
        /// Completes when the sender of this channel is dropped. The call does not end before this receiver completes.
        settled: oneshot::Receiver<()>,
    },
    /// A request to move the legs of this call into another call. Later messages are forwarded to the other call.
    MergeInto {
        target: Inbox,
        /// Maximum number of legs that the target call accepts. If this call has more legs, this call does not move its
        /// legs.
        room: usize,
        /// Receives a message after the move. The sender is dropped if the move is not possible.
        done: oneshot::Sender<()>,
    },
    /// A request to take over the legs of another call.
    Merge {
        moved: Box<MovedCall>,
        /// Receives a message when the legs are registered with this call.
        done: oneshot::Sender<()>,
    },
    /// An event that a command of the call caused while the task performed the command.
    LegEvent(LegId, LegEvent),
    /// A request for the content of the log.
    Log(oneshot::Sender<LogContent>),
    /// A request for the current state of the call and of its legs.
    Inspect(oneshot::Sender<CallView>),
    /// A request to measure the audio quality of a leg. The result is published on the event bus.
    MeasureQuality {
        leg: LegId,
        /// Receives a message when [`Message::Inspect`] returns the result.
        done: Option<oneshot::Sender<()>>,
    },
    HangupAll,
}

/// The result of a document request.
pub(crate) struct FetchedDocument {
    /// The leg that requested the document, at the time of the request.
    pub(crate) leg: Arc<LegInfo>,
    /// The id of the request.
    pub(crate) id: FetchId,
    /// The line for the log.
    pub(crate) line: String,
    /// The HTTP exchange for the log.
    pub(crate) exchange: Option<HttpExchange>,
    /// The name of the leg's new dialect, if the dialect has changed.
    pub(crate) other_dialect: Option<Arc<str>>,
    /// The document, or the reason why there is no document.
    pub(crate) result: Result<Program, FetchFailure>,
}

/// An HTTP exchange for the log of a call.
pub(crate) struct LoggedExchange {
    /// The leg to which the exchange belongs.
    pub(crate) leg: Option<LegId>,
    /// The HTTP request and its response.
    pub(crate) exchange: HttpExchange,
    /// A log line about the exchange, if there is a line.
    pub(crate) line: Option<Line>,
    /// The advice for a failed exchange.
    pub(crate) advice: Option<Line>,
}

impl Inbox {
    pub(crate) fn new() -> (Self, Messages) {
        let ((sender, receiver), shared) = (mpsc::channel(CAPACITY), Arc::<Shared>::default());
        (Self { sender, shared: Arc::clone(&shared) }, Messages { receiver, shared })
    }

    /// Posts a message that the call needs. The message is accepted even if optional messages are refused.
    ///
    /// # Errors
    /// Returns [`PostError::Over`] if the call has ended, and [`PostError::Full`] if [`CAPACITY`] messages wait.
    pub(crate) fn post(&self, message: Message) -> Result<(), PostError> {
        self.put(Box::new(message), CAPACITY).map_err(|(_, why)| why)
    }

    /// Moves another call into this call. Returns the other call as an error if this call has ended.
    pub(crate) fn post_merge(&self, moved: Box<MovedCall>, done: oneshot::Sender<()>) -> Result<(), Box<MovedCall>> {
        match self.put(Box::new(Message::Merge { moved, done }), CAPACITY).map_err(|(message, _)| *message) {
            Err(Message::Merge { moved, .. }) => Err(moved),
            _ => Ok(()),
        }
    }

    /// Posts an HTTP exchange, or drops the exchange if the inbox is full. Returns the exchange as an error if this
    /// call has ended.
    pub(crate) fn exchanged(&self, exchange: LoggedExchange) -> Result<(), Box<LoggedExchange>> {
        match self.put(Box::new(Message::Exchanged(Box::new(exchange))), FULL) {
            Err((message, PostError::Over)) => match *message {
                Message::Exchanged(exchange) => Err(exchange),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Posts the result of a document request. Returns the result as an error if this call has ended.
    pub(crate) fn fetched(&self, fetched: FetchedDocument) -> Result<(), Box<FetchedDocument>> {
        match self.put(Box::new(Message::Fetched(Box::new(fetched))), CAPACITY).map_err(|(message, _)| *message) {
            Err(Message::Fetched(fetched)) => Err(fetched),
            _ => Ok(()),
        }
    }

    /// Appends a message if fewer than `max` messages wait.
    fn put(&self, message: Box<Message>, max: usize) -> Result<(), (Box<Message>, PostError)> {
        let waiting = CAPACITY - self.sender.capacity();
        if waiting >= max && !self.is_over() {
            return Err((message, PostError::Full));
        }
        self.sender.try_send(message).map_err(|refused| match refused {
            TrySendError::Closed(message) => (message, PostError::Over),
            TrySendError::Full(message) => {
                tracing::error!("a call does not handle its {waiting} waiting messages: a message is lost");
                (message, PostError::Full)
            }
        })
    }

    /// Posts an optional message.
    ///
    /// # Errors
    /// Returns [`PostError::Over`] if the call has ended, and [`PostError::Full`] if too many messages wait.
    pub(crate) fn offer(&self, message: Message) -> Result<(), PostError> {
        self.put(Box::new(message), FULL).map_err(|(_, why)| why)
    }

    /// Whether the call has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.sender.is_closed()
    }

    /// Returns the call's log. Lines that are added after the end of the call are lost.
    pub(crate) fn log(&self) -> MutexGuard<'_, EventLog> {
        self.shared.log.lock()
    }

    /// Adds a message of a leg to the log.
    pub(crate) fn trace(&self, leg: LegId, trace: &Trace) {
        let Trace { sent, far_end, transport, line, .. } = trace;
        let text = trace_line(*sent, *far_end, transport, line);
        let (at, mut log) = (clock::time(), self.log());
        // A single lost packet is of no interest, so the first repetition is not reported.
        let repeats = *sent && line.starts_with("INVITE ") && line.ends_with(" (retransmission)");
        let silence = repeats.then(|| format!("no answer from {far_end} yet: the INVITE is being repeated"));
        let silence = silence.filter(|silence| log.says("sip", &text) && !log.says("call", silence));
        log.push(at, Some(leg), "sip", text);
        if let Some(silence) = silence {
            log.push(at, Some(leg), "call", silence);
        }
    }

    /// Posts a signal of a leg, or of a branch of the leg. Digits and progress are dropped if the inbox is full.
    pub(crate) fn signal(&self, leg: LegId, branch: LegId, event: SignalEvent) {
        let spare = matches!(event, SignalEvent::Digit(_) | SignalEvent::Ringing { .. });
        let message = Message::Signal { leg, branch, event };
        if spare {
            let _ = self.offer(message);
        } else {
            let _ = self.post(message);
        }
    }

    /// Whether both handles belong to the same call.
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.sender.same_channel(&other.sender)
    }

    /// Returns the sink for events of a leg's media session. Events of a session with another key are dropped: the leg
    /// does not use this session, or no longer.
    pub(crate) fn sink(&self, leg: LegId) -> media::EventSink {
        let inbox = self.clone();
        Arc::new(move |key, event| {
            if key != leg {
                return Ok(());
            }
            match inbox.offer(Message::Media(leg, Box::new(event))) {
                Err(PostError::Full) => Err(media::Full),
                _ => Ok(()),
            }
        })
    }
}

/// A line about a SIP message: `-> 192.0.2.1:5060 UDP INVITE sip:...`.
pub(crate) fn trace_line(sent: bool, peer: SocketAddr, transport: &str, line: &str) -> String {
    let arrow = if sent { "->" } else { "<-" };
    format!("{arrow} {peer} {transport} {line}")
}

impl Messages {
    /// Waits for the next message. Returns `None` when no [`Inbox`] handle exists any more, or when no message is left
    /// after [`Messages::close`].
    pub(crate) async fn next(&mut self) -> Option<Message> {
        let message = self.receiver.recv().await?;
        Some(*message)
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, EventLog> {
        self.shared.log.lock()
    }

    /// Refuses further messages. The waiting messages stay in the inbox.
    pub(crate) fn close(&mut self) {
        self.receiver.close();
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[tokio::test]
    async fn an_exchange_that_arrives_after_the_end_of_its_call_is_returned() {
        let at = Timestamp::UNIX_EPOCH;
        let line = || Some(Line { at, leg: None, kind: "webhook".into(), text: "said".to_owned(), data: None });
        let exchange = || {
            let exchange = HttpExchange::new(at, "POST", "http://app/status", &[], Duration::ZERO);
            LoggedExchange { leg: None, exchange, line: line(), advice: None }
        };
        let (inbox, mut messages) = Inbox::new();
        assert!(inbox.exchanged(exchange()).is_ok());
        messages.close();
        let back = *inbox.exchanged(exchange()).map_err(Some).unwrap_err().unwrap();
        assert_eq!((back.exchange.url.as_str(), back.line), ("http://app/status", line()));
        // Messages that arrived in time can still be read.
        assert!(matches!(messages.next().await, Some(Message::Exchanged(_))));
        assert!(messages.next().await.is_none());
    }

    #[test]
    fn a_silent_far_end_is_reported_once_after_repeated_retransmissions() {
        let (inbox, _messages) = Inbox::new();
        let invite = |line: &str| {
            let (leg, far_end) = (LegId(1), "192.0.2.9:5060".parse().unwrap());
            inbox.trace(leg, &Trace { leg, sent: true, far_end, transport: "UDP", line: line.to_owned() });
        };
        let reported = || {
            let lines = inbox.log().lines();
            lines.iter().filter(|line| line.kind == "call").map(|line| line.text.clone()).collect::<Vec<_>>()
        };
        invite("INVITE sip:600@192.0.2.9");
        invite("INVITE sip:600@192.0.2.9 (retransmission)");
        assert!(reported().is_empty());
        (0..4).for_each(|_| invite("INVITE sip:600@192.0.2.9 (retransmission)"));
        assert_eq!(reported(), ["no answer from 192.0.2.9:5060 yet: the INVITE is being repeated"]);
    }

    #[test]
    fn the_trace_line_of_a_message_has_its_direction_and_its_address() {
        let of = |sent, peer: &str| trace_line(sent, peer.parse().unwrap(), "UDP", "BYE sip:a@b");
        assert_eq!(of(true, "10.0.200.1:5060"), "-> 10.0.200.1:5060 UDP BYE sip:a@b");
        assert_eq!(of(false, "[2001:db8::1]:65535"), "<- [2001:db8::1]:65535 UDP BYE sip:a@b");
    }
}

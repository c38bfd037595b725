//! The way to a call, and all that may come by it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::{Mutex, MutexGuard};
use tandem_call::call::NewLeg;
use tandem_call::command::{Accepted, Refused, Request};
use tandem_call::fetch::FetchFailure;
use tandem_call::id::{ConversationId, FetchId, LegId, OpId, StreamId};
use tandem_call::output::LegEvent;
use tandem_call::program::instruction::{Play, Program};
use tandem_call::stream::StreamStatus;
use tandem_clock as clock;
use tandem_history::event_log::{EventLog, Exchanged, Line};
use tandem_http::exchange::Exchange;
use tandem_media as media;
use tandem_sip as sip;
use tokio::sync::oneshot;

use crate::audio::AudioError;
use crate::call_task::Estate;
use crate::conversation::News;
use crate::stream::Ready;

/// Messages that wait for one call before those that it can do without are turned away: requests of applications, INFO,
/// ringing; media events wait in the engine. What it cannot do without is let in beyond that, and is
/// bounded by what the call itself has asked for and by its legs.
const FULL: usize = 1024;

/// The way to a call. Cheap to clone. Nothing here waits, and what came first is taken first.
pub struct Inbox(Arc<Shared>);

/// The call's own end of its inbox.
pub struct Messages(Arc<Shared>);

/// A channel of our own, as not everything that comes is worth a waking: a call is mostly told of what it has just done.
struct Shared {
    /// How many have the address.
    addresses: AtomicUsize,
    queue: Mutex<Queue>,
    /// Lines, unlike messages, wait for nobody: most of what is heard of a call is only written down.
    log: Mutex<EventLog>,
}

#[derive(Default)]
struct Queue {
    /// Boxed: it lasts as long as the call does, which seldom has two waiting.
    messages: VecDeque<Box<Message>>,
    /// The call, when it has taken everything and sleeps.
    sleeper: Option<Waker>,
    /// It sleeps until SIP has said its last word, so that the engine's can wait for that.
    patient: bool,
    over: bool,
}

/// It was not taken: the call is over, or has too much to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotTaken {
    /// The call is over.
    Over,
    /// It has too much to do.
    Full,
}

/// Something for a call.
pub enum Message {
    /// From its dialogs.
    Sip(LegId, sip::Event),
    /// From the engine.
    Media(LegId, Box<media::Event>),
    /// A document came.
    Fetched {
        /// For this leg.
        leg: LegId,
        /// The fetch.
        id: FetchId,
        /// For the log.
        line: String,
        /// For the log too.
        exchange: Option<Box<Exchange>>,
        /// The dialect that speaks for the leg from now on, if another one does.
        speaks: Option<Arc<str>>,
        /// It.
        result: Result<Program, FetchFailure>,
    },
    /// A request with its answer, for the log.
    Exchanged {
        /// About this leg.
        leg: Option<LegId>,
        /// Both.
        exchange: Box<Exchange>,
        /// What tells of it, if anything does.
        line: Option<Line>,
    },
    /// Show those.
    Exchanges(oneshot::Sender<Vec<Exchanged>>),
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
    /// The socket of a stream is open whose leg is not answered yet.
    StreamOpen {
        /// Its leg.
        leg: LegId,
        /// It.
        id: StreamId,
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
    /// The application of a stream presses keys.
    StreamPress {
        /// The stream's leg.
        leg: LegId,
        /// The stream.
        id: StreamId,
        /// `0-9 A-D * #`.
        digits: String,
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
    /// What a conversation needs, wants, or has come to.
    Conversation {
        /// Its leg.
        leg: LegId,
        /// It.
        id: ConversationId,
        /// What.
        news: Box<News>,
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
    /// An application wants further legs in this call.
    NewLegs(Vec<NewLeg>),
    /// Another call's legs may come: how many can be taken?
    Expect {
        /// Where the answer goes.
        room: oneshot::Sender<usize>,
        /// Until this is dropped the call does not end.
        settled: oneshot::Receiver<()>,
    },
    /// Give this call's legs to another one; what comes afterwards goes there too.
    Surrender {
        /// The inbox of the call that takes over.
        heir: Inbox,
        /// The most legs it can take; a call with more keeps them.
        room: usize,
        /// Told when it is done, dropped when it is not.
        done: oneshot::Sender<()>,
    },
    /// Take these legs over.
    Absorb {
        /// All of it.
        estate: Box<Estate>,
        /// Told when they can be found here.
        done: oneshot::Sender<()>,
    },
    /// Found out by a leg's own hands.
    Own(LegId, LegEvent),
    /// Show the log.
    Log(oneshot::Sender<Vec<Line>>),
    /// Hang everything up.
    HangupAll,
}

impl Inbox {
    /// A new inbox.
    pub fn new() -> (Self, Messages) {
        let shared =
            Arc::new(Shared { addresses: AtomicUsize::new(1), queue: Mutex::default(), log: Mutex::default() });
        (Self(Arc::clone(&shared)), Messages(shared))
    }

    /// Puts in what the call cannot do without.
    pub fn post(&self, message: Message) -> Result<(), NotTaken> {
        self.put(Box::new(message), usize::MAX).map_err(|(_, why)| why)
    }

    /// Hands a call's estate over; it comes back when this call is over.
    pub fn give(&self, estate: Box<Estate>, done: oneshot::Sender<()>) -> Result<(), Box<Estate>> {
        match self.put(Box::new(Message::Absorb { estate, done }), usize::MAX).map_err(|(message, _)| *message) {
            Err(Message::Absorb { estate, .. }) => Err(estate),
            _ => Ok(()),
        }
    }

    /// Puts in a request with its answer, if there is room; it comes back when this call is over.
    pub fn exchanged(
        &self,
        leg: Option<LegId>,
        exchange: Exchange,
        line: Option<Line>,
    ) -> Result<(), Box<(Exchange, Option<Line>)>> {
        match self.put(Box::new(Message::Exchanged { leg, exchange: Box::new(exchange), line }), FULL) {
            Err((message, NotTaken::Over)) => match *message {
                Message::Exchanged { exchange, line, .. } => Err(Box::new((*exchange, line))),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Puts it in unless so many wait already, and wakes the call if that is worth it.
    fn put(&self, message: Box<Message>, most: usize) -> Result<(), (Box<Message>, NotTaken)> {
        let mut queue = self.0.queue.lock();
        if queue.over {
            return Err((message, NotTaken::Over));
        }
        if queue.messages.len() >= most {
            return Err((message, NotTaken::Full));
        }
        let can_wait = match &*message {
            Message::Media(_, event) => queue.patient && matches!(**event, media::Event::Closed { .. }),
            _ => false,
        };
        queue.messages.push_back(message);
        let sleeper = queue.sleeper.take_if(|_| !can_wait);
        drop(queue);
        if let Some(sleeper) = sleeper {
            sleeper.wake();
        }
        Ok(())
    }

    /// Puts in what may be turned away.
    pub fn offer(&self, message: Message) -> Result<(), NotTaken> {
        self.put(Box::new(message), FULL).map_err(|(_, why)| why)
    }

    /// Whether the call is over.
    pub fn is_over(&self) -> bool {
        self.0.queue.lock().over
    }

    /// The call's log, for a line or a look. What is added when the call is over is lost.
    pub fn log(&self) -> MutexGuard<'_, EventLog> {
        self.0.log.lock()
    }

    /// What SIP says, in order.
    pub fn sip(&self, leg: LegId, event: sip::Event) {
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

    /// Whether both lead to the same call.
    pub fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Where the engine's events go.
    pub fn sink(&self) -> media::EventSink {
        let inbox = self.clone();
        Arc::new(move |key, event| match inbox.offer(Message::Media(LegId(key.0), Box::new(event))) {
            Err(NotTaken::Full) => Err(media::Full),
            _ => Ok(()),
        })
    }
}

/// `-> 192.0.2.1:5060 UDP INVITE sip:...`: a dozen in the shortest call, and most of what it costs to format one is the
/// address, so that is spelled by hand.
pub fn traced(sent: bool, peer: SocketAddr, transport: &str, line: &str) -> String {
    let mut text = Vec::with_capacity(line.len() + 32);
    text.extend_from_slice(if sent { b"-> " } else { b"<- " });
    match peer {
        SocketAddr::V4(peer) => {
            for (octet, after) in peer.ip().octets().into_iter().zip(*b"...:") {
                push_decimal(&mut text, octet.into());
                text.push(after);
            }
            push_decimal(&mut text, peer.port());
        }
        SocketAddr::V6(peer) => text.extend_from_slice(peer.to_string().as_bytes()),
    }
    for part in [" ", transport, " ", line] {
        text.extend_from_slice(part.as_bytes());
    }
    // It is of text.
    String::from_utf8(text).unwrap_or_default()
}

fn push_decimal(text: &mut Vec<u8>, number: u16) {
    if number >= 10 {
        push_decimal(text, number / 10);
    }
    text.push(b'0' + (number % 10) as u8);
}

impl Clone for Inbox {
    fn clone(&self) -> Self {
        self.0.addresses.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&self.0))
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        if self.0.addresses.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(sleeper) = { self.0.queue.lock().sleeper.take() }
        {
            sleeper.wake();
        }
    }
}

impl Messages {
    /// The next one; `None` when nobody has the address any more. `patient`: SIP has yet to say its last word.
    pub async fn next(&mut self, patient: bool) -> Option<Message> {
        poll_fn(|context| self.poll(context, patient)).await
    }

    fn poll(&mut self, context: &Context<'_>, patient: bool) -> Poll<Option<Message>> {
        let mut queue = self.0.queue.lock();
        if let Some(message) = queue.messages.pop_front() {
            return Poll::Ready(Some(*message));
        }
        if self.0.addresses.load(Ordering::Acquire) == 0 {
            return Poll::Ready(None);
        }
        queue.patient = patient;
        if !queue.sleeper.as_ref().is_some_and(|sleeper| sleeper.will_wake(context.waker())) {
            queue.sleeper = Some(context.waker().clone());
        }
        Poll::Pending
    }

    /// The next one that is there already.
    pub fn ready(&mut self) -> Option<Message> {
        self.0.queue.lock().messages.pop_front().map(|message| *message)
    }

    /// The call's log.
    pub fn log(&self) -> MutexGuard<'_, EventLog> {
        self.0.log.lock()
    }

    /// Takes nothing more; what is there stays.
    pub fn close(&mut self) {
        self.0.queue.lock().over = true;
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.close();
        let rest = std::mem::take(&mut self.0.queue.lock().messages);
        // What was waiting may have another inbox in it, or somebody who waits for an answer.
        drop(rest);
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
        let exchange = || Exchange::new(at, "POST", "http://app/status", &[], Duration::ZERO);
        let line = || Some(Line { at, leg: None, kind: "webhook".into(), text: "said".to_owned(), data: None });
        let (inbox, mut messages) = Inbox::new();
        assert!(inbox.exchanged(None, exchange(), line()).is_ok());
        messages.close();
        let (back, told) = *inbox.exchanged(None, exchange(), line()).unwrap_err();
        assert_eq!((back.url.as_str(), told), ("http://app/status", line()));
        // What came in time is still there.
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

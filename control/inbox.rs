//! The way to a call, and all that may come by it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tandem_call::call::NewLeg;
use tandem_call::command::{Accepted, Refused, Request};
use tandem_call::fetch::FetchFailure;
use tandem_call::id::{ConversationId, FetchId, LegId, OpId, StreamId};
use tandem_call::output::LegEvent;
use tandem_call::program::instruction::{Play, Program};
use tandem_call::stream::StreamStatus;
use tandem_media as media;
use tandem_sip as sip;
use tokio::sync::{mpsc, oneshot};

use crate::audio::AudioError;
use crate::call_task::Estate;
use crate::clock;
use crate::conversation::News;
use crate::event_log::{Exchanged, Line};
use crate::exchange::Exchange;
use crate::stream::Ready;

/// Messages that wait for one call before those that it can do without are turned away: requests of applications, INFO,
/// ringing, lines for the log; media events wait in the engine. What it cannot do without is let in beyond that, and is
/// bounded by what the call itself has asked for and by its legs.
const FULL: usize = 1024;

/// The way to a call. Cheap to clone. Nothing here waits, and what came first is taken first.
#[derive(Clone)]
pub struct Inbox {
    /// Messages are boxed: the channel has room for 32 of them as long as the call lasts, which seldom has two waiting.
    sender: mpsc::UnboundedSender<Box<Message>>,
    waiting: Arc<AtomicUsize>,
}

/// The call's own end of its inbox.
pub struct Messages {
    receiver: mpsc::UnboundedReceiver<Box<Message>>,
    waiting: Arc<AtomicUsize>,
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
        /// It.
        result: Result<Program, FetchFailure>,
    },
    /// A request with its answer, for the log.
    Exchanged(Option<LegId>, Box<Exchange>),
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
    /// A line for the log.
    Note(Line),
    /// Show the log.
    Log(oneshot::Sender<Vec<Line>>),
    /// Hang everything up.
    HangupAll,
}

impl Inbox {
    /// A new inbox.
    pub fn new() -> (Self, Messages) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        (Self { sender, waiting: Arc::clone(&waiting) }, Messages { receiver, waiting })
    }

    /// Puts in what the call cannot do without.
    pub fn post(&self, message: Message) -> Result<(), NotTaken> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.sender.send(Box::new(message)).map_err(|_| NotTaken::Over)
    }

    /// Hands a call's estate over; it comes back when this call is over.
    pub(crate) fn give(&self, estate: Box<Estate>, done: oneshot::Sender<()>) -> Result<(), Box<Estate>> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let Err(mpsc::error::SendError(message)) = self.sender.send(Box::new(Message::Absorb { estate, done })) else {
            return Ok(());
        };
        match *message {
            Message::Absorb { estate, .. } => Err(estate),
            _ => Ok(()),
        }
    }

    /// Puts in what may be turned away.
    pub fn offer(&self, message: Message) -> Result<(), NotTaken> {
        if self.waiting.load(Ordering::Relaxed) >= FULL {
            return Err(NotTaken::Full);
        }
        self.post(message)
    }

    /// Puts a line in the log, if there is room.
    pub fn log(&self, line: Line) {
        let _ = self.offer(Message::Note(line));
    }

    /// A line about a leg's media, if there is room.
    pub fn note(&self, leg: LegId, text: String) {
        self.log(Line { at: clock::now().time, leg: Some(leg), kind: "media".into(), text });
    }

    /// What SIP says, in order.
    pub fn sip(&self, leg: LegId, event: sip::Event) {
        if let sip::Event::Trace { sent, peer, transport, line, .. } = event {
            let text = traced(sent, peer, transport.token(), &line);
            return self.log(Line { at: clock::now().time, leg: Some(leg), kind: "sip".into(), text });
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
        self.sender.same_channel(&other.sender)
    }

    /// Where the engine's events go.
    pub(crate) fn sink(&self) -> media::EventSink {
        let inbox = self.clone();
        Arc::new(move |key, event| match inbox.offer(Message::Media(LegId(key.0), Box::new(event))) {
            Err(NotTaken::Full) => Err(media::Full),
            _ => Ok(()),
        })
    }
}

/// `-> 192.0.2.1:5060 UDP INVITE sip:...`: a dozen in the shortest call, and most of what it costs to format one is the
/// address, so that is spelled by hand.
fn traced(sent: bool, peer: SocketAddr, transport: &str, line: &str) -> String {
    let mut text = String::with_capacity(line.len() + 32);
    text.push_str(if sent { "-> " } else { "<- " });
    match peer {
        SocketAddr::V4(peer) => {
            for (octet, after) in peer.ip().octets().into_iter().zip(['.', '.', '.', ':']) {
                push_decimal(&mut text, octet.into());
                text.push(after);
            }
            push_decimal(&mut text, peer.port());
        }
        SocketAddr::V6(peer) => text.push_str(&peer.to_string()),
    }
    for part in [" ", transport, " ", line] {
        text.push_str(part);
    }
    text
}

fn push_decimal(text: &mut String, number: u16) {
    if number >= 10 {
        push_decimal(text, number / 10);
    }
    text.push(char::from(b'0' + (number % 10) as u8));
}

impl Messages {
    /// The next one; `None` when nobody has the address any more.
    pub async fn next(&mut self) -> Option<Message> {
        let message = self.receiver.recv().await?;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        Some(*message)
    }

    /// The next one that is there already.
    pub fn ready(&mut self) -> Option<Message> {
        let message = self.receiver.try_recv().ok()?;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        Some(*message)
    }

    /// Takes nothing more; what is there stays.
    pub fn close(&mut self) {
        self.receiver.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traced_message_says_which_way_it_went_and_where() {
        let of = |sent, peer: &str| traced(sent, peer.parse().unwrap(), "UDP", "BYE sip:a@b");
        assert_eq!(of(true, "10.0.200.1:5060"), "-> 10.0.200.1:5060 UDP BYE sip:a@b");
        assert_eq!(of(false, "[2001:db8::1]:65535"), "<- [2001:db8::1]:65535 UDP BYE sip:a@b");
    }
}

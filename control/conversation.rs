//! A conversation's task: the application's socket, the voice that speaks for it, the ears that listen for it.
//!
//! ```text
//!   socket ──words──► talk (who speaks, what is cut short) ──phrases──► voice ──► source ──► caller
//!   socket ◄─prompts─ talk ◄──marks, keys, what is heard───── recogniser ◄──────── tap ◄──── caller
//! ```
//!
//! It asks its call for the media ([`News::Ready`]), and tells it how the conversation ended. What it holds is bounded by what
//! `talk` lets wait. What was heard and said, and how long each turn took, it writes into the call's log (`conversation/notes.rs`).

mod notes;
mod phrases;
mod talk;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tandem_call::conversation::{ConversationSpec, ConversationStatus};
use tandem_call::hearing::Listening;
use tandem_call::id::{ConversationId, LegId, OpId};
use tandem_call::stream::{StreamFailure, StreamFault};
use tandem_media as media;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::audio::AudioError;
use crate::clock;
use crate::counters::timings::{Count, Timing};
use crate::dialect::conversation::{ConversationWire, Told};
use crate::inbox::{Inbox, Message};
use crate::services::Services;
use crate::speech::recognise::{self, RecogniseError, Session};
use crate::stream::Ready;
use crate::websocket::{Socket, Word};
use notes::Notes;
use talk::{Fact, Order, Talk};

/// Notes to a conversation that may wait.
const NOTES: usize = 1024;
/// Frames of the caller that may wait: two seconds.
const TAP_FRAMES: usize = 100;
/// Longest piece that can be put: a file that the application wants played.
const LONGEST: Duration = Duration::from_secs(600);
/// What is said and heard: as a recogniser wants it, and as a voice makes it.
const ORDER: media::ByteOrder = media::ByteOrder::Little;

/// A running conversation, from its call's side.
pub struct ConversationHandle {
    /// Its id.
    pub id: ConversationId,
    /// Its operation on the media.
    pub op: OpId,
    notes: mpsc::Sender<Note>,
}

/// What a conversation is made of.
pub struct NewConversation {
    /// Its leg.
    pub leg: LegId,
    /// Whose leg it is.
    pub account: Arc<str>,
    /// Its id.
    pub id: ConversationId,
    /// Its operation on the media.
    pub op: OpId,
    /// As asked for.
    pub spec: ConversationSpec,
    /// Its wire form.
    pub wire: Box<dyn ConversationWire>,
    /// Its id and its leg's as the application knows them, for the log.
    pub names: (String, String),
}

/// What a call hears of its conversation.
pub enum News {
    /// The application is there; this is the media that is needed.
    Ready(Ready),
    /// Keys are to be pressed.
    Press(String),
    /// It is over.
    Over(ConversationStatus),
}

enum Note {
    Mark(Arc<str>),
    Key(char),
    Stop,
}

impl ConversationHandle {
    /// Starts one. It reports to `inbox`.
    pub fn start(services: Arc<Services>, inbox: Inbox, new: NewConversation) -> Self {
        let (sender, notes) = mpsc::channel(NOTES);
        let handle = Self { id: new.id, op: new.op, notes: sender };
        tokio::spawn(async move {
            let (leg, id) = (new.leg, new.id);
            let status = run(services, &inbox, new, notes).await;
            // Its call may be over.
            let _ = inbox.post(Message::Conversation { leg, id, news: Box::new(News::Over(status)) });
        });
        handle
    }

    /// What was put has been heard up to this mark.
    pub fn mark(&self, name: Arc<str>) {
        self.note(Note::Mark(name));
    }

    /// The caller pressed a key.
    pub fn key(&self, key: char) {
        self.note(Note::Key(key));
    }

    /// Ends it.
    pub fn stop(&self) {
        self.note(Note::Stop);
    }

    fn note(&self, note: Note) {
        // Full means that the socket has taken nothing for long: it is about to be given up, and a handle that is dropped ends it.
        if let Err(error) = self.notes.try_send(note) {
            tracing::debug!(%error, "conversation takes no note");
        }
    }
}

async fn run(
    services: Arc<Services>,
    inbox: &Inbox,
    new: NewConversation,
    mut notes: mpsc::Receiver<Note>,
) -> ConversationStatus {
    let client = services.client.of_account(&new.account);
    let began = clock::now().instant;
    let open = Socket::open(&client, &new.spec.url, new.wire.handshake(), services.stream_idle);
    let mut socket = tokio::select! {
        opened = open => match opened {
            Ok(socket) => socket,
            Err(why) => return ConversationStatus::Failed { after_start: false, why },
        },
        () = stopped(&mut notes) => return ConversationStatus::Completed,
    };
    let connected = clock::now().instant.saturating_duration_since(began);
    services.counters.timings.took(Timing::ConversationConnect, connected);
    let (sink, tap) = media::tap(TAP_FRAMES, media::TapCodec::L16(ORDER));
    let (source, writer) = media::source(media::SourceCodec::L16(media::SourceRate::Hz8000, ORDER), LONGEST);
    let NewConversation { leg, id, spec, wire, account, names, .. } = new;
    let mut floor = Floor {
        notes: Notes::new(inbox, leg, names, services.recogniser.shows_words()),
        listening: listening(&spec),
        talk: Talk::new(spec),
        services,
        inbox,
        leg,
        account,
        id,
        wire,
        writer,
        made: HashMap::new(),
        making: HashMap::new(),
        makers: JoinSet::new(),
        cleared: 0,
        ears: None,
    };
    let end = match floor.begin(&mut socket, Ready { sink, source: Some(source) }).await {
        Ok(()) => floor.go_on(&mut socket, tap, notes).await,
        Err(why) => Err(why),
    };
    floor.notes.end(floor.talk.totals());
    match end {
        Ok(End::Stopped) => {
            let (code, reason) = floor.wire.farewell();
            socket.close(code, reason).await;
            ConversationStatus::Completed
        }
        Ok(End::Over { status, malformed }) => {
            let (code, reason) = if malformed { floor.wire.malformed() } else { floor.wire.farewell() };
            // The call goes on meanwhile.
            tokio::spawn(socket.close(code, reason));
            status
        }
        Err(why) => ConversationStatus::Failed { after_start: true, why },
    }
}

async fn stopped(notes: &mut mpsc::Receiver<Note>) {
    while !matches!(notes.recv().await, Some(Note::Stop) | None) {}
}

/// How the caller is listened to at first.
fn listening(spec: &ConversationSpec) -> Listening {
    let manner = spec.manner(&spec.hears);
    Listening {
        language: language(&spec.hears),
        hints: manner.hints.clone(),
        model: manner.model.clone(),
        partials: spec.partials,
        no_profanity: spec.no_profanity,
        punctuation: true,
    }
}

/// `multi` is any.
fn language(code: &str) -> Option<String> {
    (code != "multi").then(|| code.to_owned())
}

/// Why it is over.
enum End {
    /// By the call.
    Stopped,
    /// By the application.
    Over { status: ConversationStatus, malformed: bool },
}

/// Where caller and application meet.
struct Floor<'a> {
    talk: Talk,
    notes: Notes<'a>,
    services: Arc<Services>,
    inbox: &'a Inbox,
    leg: LegId,
    account: Arc<str>,
    id: ConversationId,
    wire: Box<dyn ConversationWire>,
    writer: media::StreamWriter,
    /// Audio of pieces that wait for their turn, as octets.
    made: HashMap<u64, Bytes>,
    making: HashMap<u64, AbortHandle>,
    makers: JoinSet<(u64, Result<Arc<media::Audio>, AudioError>)>,
    /// How often the source was cleared: marks of before mean nothing.
    cleared: u64,
    listening: Listening,
    ears: Option<Session>,
}

impl Floor<'_> {
    async fn begin(&mut self, socket: &mut Socket, ready: Ready) -> Result<(), StreamFailure> {
        socket.send(self.wire.setup()).await?;
        self.post(News::Ready(ready))?;
        if let Err(why) = self.listen() {
            self.hears_nothing(socket, &why).await?;
        }
        self.talk.begin(clock::now().instant);
        Ok(())
    }

    /// The caller is not heard any more, or never was: the application is told, and so is whoever reads the log.
    async fn hears_nothing(&mut self, socket: &mut Socket, why: &RecogniseError) -> Result<(), StreamFailure> {
        self.notes.deaf(why);
        socket.send(self.wire.told(&Told::Problem(why.to_string()), clock::time())).await
    }

    fn post(&self, news: News) -> Result<(), StreamFailure> {
        let message = Message::Conversation { leg: self.leg, id: self.id, news: Box::new(news) };
        self.inbox.post(message).map_err(|_| StreamFault::Internal.because("the call is over"))
    }

    fn listen(&mut self) -> Result<(), RecogniseError> {
        self.ears = None;
        self.ears = Some(self.services.recogniser.listen(&self.listening)?);
        Ok(())
    }

    async fn go_on(
        &mut self,
        socket: &mut Socket,
        mut tap: media::TapReader,
        mut notes: mpsc::Receiver<Note>,
    ) -> Result<End, StreamFailure> {
        loop {
            if let Some(end) = self.obey(socket).await? {
                return Ok(end);
            }
            let due = self.talk.poll_timeout();
            tokio::select! {
                word = socket.next() => match word {
                    Word::Text(text) => match self.wire.decode(&text) {
                        Ok(ask) => self.talk.ask(clock::now().instant, ask),
                        Err(why) => self.talk.malformed(why),
                    },
                    Word::Binary => self.talk.malformed(self.wire.binary()),
                    Word::Closed(how) => {
                        let gone = || StreamFault::Closed.because("the application closed it without an end");
                        return Err(how.err().unwrap_or_else(gone));
                    }
                },
                frame = tap.next() => match frame {
                    Some(frame) => {
                        if let Some(ears) = &self.ears {
                            ears.hear(&recognise::samples(&frame));
                        }
                    }
                    None => return Ok(End::Stopped),
                },
                heard = hear(&mut self.ears) => match heard {
                    Some(Ok(heard)) => self.talk.heard(clock::now().instant, heard),
                    Some(Err(why)) => self.hears_nothing(socket, &why).await?,
                    None => self.ears = None,
                },
                Some(made) = self.makers.join_next() => {
                    // One that was aborted was forgotten before.
                    if let Ok((piece, made)) = made && self.making.remove(&piece).is_some() {
                        self.take(piece, made);
                    }
                }
                note = notes.recv() => match note {
                    Some(Note::Mark(name)) => {
                        if let Some(piece) = self.piece(&name) {
                            self.talk.reached(clock::now().instant, piece);
                        }
                    }
                    Some(Note::Key(key)) => self.talk.key(clock::now().instant, key),
                    Some(Note::Stop) | None => return Ok(End::Stopped),
                },
                () = sleep_until(due), if due.is_some() => self.talk.handle_timeout(clock::now().instant),
            }
        }
    }

    /// Does what was decided.
    async fn obey(&mut self, socket: &mut Socket) -> Result<Option<End>, StreamFailure> {
        while let Some(order) = self.talk.poll_order() {
            match order {
                Order::Make { piece, source } => {
                    let (audio, account) = (self.services.audio.clone(), Arc::clone(&self.account));
                    let making = self.makers.spawn(async move { (piece, audio.get(&source, &account).await) });
                    self.making.insert(piece, making);
                }
                Order::Put { piece } => {
                    let octets = self.made.get(&piece).cloned().unwrap_or_default();
                    if self.writer.audio(octets).is_err() {
                        // Its mark comes back at once.
                        let why = Told::Problem(format!("audio of more than {} s is not played", LONGEST.as_secs()));
                        socket.send(self.wire.told(&why, clock::time())).await?;
                    }
                    self.writer.mark(format!("{}:{piece}", self.cleared).into());
                }
                Order::Forget { piece } => {
                    self.made.remove(&piece);
                    if let Some(making) = self.making.remove(&piece) {
                        making.abort();
                    }
                }
                Order::Clear => {
                    self.cleared += 1;
                    self.writer.clear();
                }
                Order::Press(digits) => self.post(News::Press(digits))?,
                Order::Tell(told) => socket.send(self.wire.told(&told, clock::time())).await?,
                Order::Listen(code) => {
                    let (hints, model) = self.talk.ears_for(&code);
                    self.listening = Listening { language: language(&code), hints, model, ..self.listening.clone() };
                    if let Err(why) = self.listen() {
                        self.hears_nothing(socket, &why).await?;
                    }
                }
                Order::Note(fact) => self.note(&fact),
                Order::Over { status, malformed } => return Ok(Some(End::Over { status, malformed })),
            }
        }
        Ok(None)
    }

    fn note(&mut self, fact: &Fact) {
        let timings = &self.services.counters.timings;
        match fact {
            Fact::Interrupted { .. } => timings.count(Count::ConversationInterrupted, 1),
            Fact::Turn(turn) => {
                let times = [(Timing::TurnWords, turn.words), (Timing::TurnToken, turn.token)];
                for (timing, time) in times.into_iter().chain([(Timing::TurnAudio, Some(turn.audio))]) {
                    time.into_iter().for_each(|time| timings.took(timing, time));
                }
            }
            _ => {}
        }
        self.notes.note(fact);
    }

    /// The audio of a piece is there, or is not.
    fn take(&mut self, piece: u64, made: Result<Arc<media::Audio>, AudioError>) {
        let now = clock::now().instant;
        match made {
            Ok(audio) => {
                let octets: Vec<u8> = audio.samples().iter().flat_map(|sample| sample.to_le_bytes()).collect();
                let length = audio.duration();
                self.made.insert(piece, octets.into());
                self.talk.made(now, piece, Ok(length));
            }
            Err(why) => self.talk.made(now, piece, Err(why.to_string())),
        }
    }

    /// The piece whose mark this is, if it was put since the last clearing.
    fn piece(&self, mark: &str) -> Option<u64> {
        let (cleared, piece) = mark.split_once(':')?;
        (cleared.parse() == Ok(self.cleared)).then(|| piece.parse().ok())?
    }
}

/// What is heard next; nothing ever, without ears. Cancel-safe.
async fn hear(ears: &mut Option<Session>) -> Option<Result<tandem_call::hearing::Heard, RecogniseError>> {
    match ears {
        Some(ears) => ears.next().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(due: Option<std::time::Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due.into()).await;
    }
}

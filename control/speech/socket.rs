//! Text to speech over a WebSocket. The engine sends the audio of a text while it makes the audio. A [`VoiceLine`] has one
//! connection, which it opens for the first text and keeps for the next texts. It speaks its texts one after another. If
//! nobody waits for the audio of a text any more, the text is cancelled.

mod messages;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tandem_http::Client;
use tandem_http::websocket::{self, Connection};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::SpeechError;
use messages::Answer;
pub(super) use messages::Protocol;

/// Number of texts that a line has not looked at yet. All of them but one are cancelled.
const WAITING: usize = 8;
/// Maximum time for which a connection may accept no data.
const STALLED: Duration = Duration::from_secs(5);
/// Time limit for the engine to confirm that a text is cancelled.
const CANCELLED: Duration = Duration::from_secs(1);
/// The reason why an engine with too much audio has failed.
const TOO_LONG: &str = "the audio of the text is too long";
/// Time limit for the closing handshake.
const CLOSED: Duration = Duration::from_secs(1);

/// An engine with a WebSocket interface.
pub(super) struct SocketVoice {
    pub(super) protocol: Protocol,
    pub(super) client: Client,
    /// Time limit for opening a connection.
    pub(super) time: Duration,
}

/// A connection to the engine for one conversation. Dropping the last clone closes the connection.
#[derive(Clone)]
pub(super) struct VoiceLine {
    jobs: mpsc::Sender<Job>,
    /// The text with the permit is the one that the engine speaks.
    turn: Arc<Semaphore>,
}

/// A text to speak.
struct Job {
    voice: String,
    language: Option<String>,
    text: String,
    chunks: mpsc::Sender<Vec<i16>>,
    done: oneshot::Sender<Result<(), String>>,
}

impl SocketVoice {
    /// Returns the part of the cache key that identifies the engine, the model, the voice and the language.
    pub(super) fn identity(&self, voice: &str, language: Option<&str>) -> String {
        format!("{} {} {voice} {}", self.protocol.url, self.protocol.model, language.unwrap_or_default())
    }

    /// Creates a line. With `ahead`, the line opens its connection for this voice at once.
    pub(super) fn line(self: &Arc<Self>, ahead: Option<String>) -> VoiceLine {
        let (jobs, receiver) = mpsc::channel(WAITING);
        tokio::spawn(serve(Arc::clone(self), receiver, ahead.filter(|_| self.protocol.keeps_connection())));
        VoiceLine { jobs, turn: Arc::new(Semaphore::new(1)) }
    }
}

impl VoiceLine {
    /// Speaks a plain text in a voice and a language. Gives the samples, at 8,000 Hz, to `chunks`. The first chunk is empty:
    /// it says that the texts before this one are over. Dropping the receiver of the chunks cancels the text.
    pub(super) async fn speak(
        &self,
        (voice, language): (&str, Option<&str>),
        text: &str,
        chunks: mpsc::Sender<Vec<i16>>,
    ) -> Result<(), SpeechError> {
        let (done, result) = oneshot::channel();
        let (voice, language) = (voice.to_owned(), language.map(str::to_owned));
        let ended = || SpeechError::Failed("the connection to the engine has ended".to_owned());
        let _turn = self.turn.acquire().await.map_err(|_| ended())?;
        chunks.send(Vec::new()).await.map_err(|_| ended())?;
        let job = Job { voice, language, text: text.to_owned(), chunks, done };
        self.jobs.send(job).await.map_err(|_| ended())?;
        result.await.map_err(|_| ended())?.map_err(SpeechError::Failed)
    }
}

/// Speaks the texts of a line until the line is dropped.
async fn serve(engine: Arc<SocketVoice>, mut jobs: mpsc::Receiver<Job>, ahead: Option<String>) {
    let mut line = Line { engine: &engine, connection: None, contexts: 0 };
    if let Some(voice) = ahead {
        // If this fails, the next text tries again and reports the reason.
        let _ = line.open(&voice).await;
    }
    loop {
        let job = tokio::select! {
            job = jobs.recv() => job,
            () = line.is_unused() => {
                line.close().await;
                continue;
            }
        };
        let Some(job) = job else { break };
        if job.chunks.is_closed() {
            continue;
        }
        let result = line.speak(&job).await;
        let Job { chunks, done, .. } = job;
        drop(chunks);
        // The text may have been cancelled.
        let _ = done.send(result);
    }
    line.close().await;
}

struct Line<'a> {
    engine: &'a SocketVoice,
    connection: Option<Open>,
    /// Number of texts so far.
    contexts: u64,
}

/// An open connection.
struct Open {
    socket: Connection,
    /// The URL of the connection, which may contain the voice.
    target: String,
    used: Instant,
    /// The times of the latest texts.
    texts: VecDeque<Instant>,
}

/// The end of a text.
enum End {
    Spoken,
    /// Nobody waits for the audio. The flag says whether the connection can be used again.
    Cancelled(bool),
    /// The field `sounded` says whether there was audio.
    Failed {
        why: String,
        sounded: bool,
    },
}

impl Line<'_> {
    async fn open(&mut self, voice: &str) -> Result<(), String> {
        let target = self.engine.protocol.target(voice);
        let headers = self.engine.protocol.headers();
        let opening = websocket::connect(&self.engine.client, &target, headers);
        let opened = timeout(self.engine.time, opening).await.map_err(|_| "the handshake timed out".to_owned())?;
        let socket = opened.map_err(|why| super::without_query(why.detail, &target))?;
        self.connection = Some(Open { socket, target, used: Instant::now(), texts: VecDeque::new() });
        Ok(())
    }

    async fn speak(&mut self, job: &Job) -> Result<(), String> {
        let protocol = &self.engine.protocol;
        loop {
            let target = protocol.target(&job.voice);
            let is_usable =
                self.connection.as_mut().is_some_and(|open| open.target == target && open.has_room(protocol));
            if !is_usable {
                self.close().await;
                tokio::select! {
                    opened = self.open(&job.voice) => opened?,
                    () = job.chunks.closed() => return Ok(()),
                }
            }
            self.contexts += 1;
            let context = format!("tandem-{}", self.contexts);
            let Some(open) = &mut self.connection else { return Err("there is no connection".to_owned()) };
            let end = open.speak(protocol, &context, job).await;
            open.used = Instant::now();
            match end {
                End::Spoken => {
                    if !protocol.keeps_connection() {
                        self.close().await;
                    }
                    return Ok(());
                }
                End::Cancelled(true) => return Ok(()),
                End::Cancelled(false) => {
                    self.connection = None;
                    return Ok(());
                }
                End::Failed { why, sounded } => {
                    self.connection = None;
                    // An engine may close a connection that was not used for some time.
                    if !is_usable || sounded {
                        return Err(why);
                    }
                }
            }
        }
    }

    /// Completes when the connection was not used for too long, or when the engine has closed it. Without a connection, the
    /// future never completes. Cancel-safe.
    async fn is_unused(&mut self) {
        let Some(open) = &mut self.connection else { return std::future::pending().await };
        let limit = open.used + self.engine.protocol.idle();
        loop {
            tokio::select! {
                message = open.socket.next() => match message {
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                    // Late audio of a cancelled text.
                    Some(Ok(_)) => {}
                },
                () = sleep_until(limit) => return,
            }
        }
    }

    async fn close(&mut self) {
        if let Some(mut open) = self.connection.take() {
            // The connection ends even if the engine does not answer.
            let _ = timeout(CLOSED, open.socket.close(None)).await;
        }
    }
}

impl Open {
    /// Whether the engine accepts another text on this connection now.
    fn has_room(&mut self, protocol: &Protocol) -> bool {
        let minute = Duration::from_secs(60);
        self.texts.retain(|at| at.elapsed() < minute);
        protocol.texts_in_a_minute().is_none_or(|limit| self.texts.len() < limit)
    }

    async fn speak(&mut self, protocol: &Protocol, context: &str, job: &Job) -> End {
        self.texts.push_back(Instant::now());
        let mut sounded = false;
        for message in protocol.request(context, &job.voice, job.language.as_deref(), &job.text) {
            if let Err(why) = self.send(message).await {
                return End::Failed { why, sounded };
            }
        }
        let mut left = super::longest_audio(&job.text);
        loop {
            let answer = tokio::select! {
                message = self.socket.next() => match message {
                    Some(Ok(Message::Text(text))) => protocol.read(&text, context),
                    Some(Ok(Message::Binary(octets))) => protocol.read_binary(&octets),
                    Some(Ok(Message::Close(frame))) => closed(frame, sounded && !protocol.keeps_connection()),
                    None => Answer::Failed("the engine closed the connection".to_owned()),
                    Some(Ok(_)) => Answer::Nothing,
                    Some(Err(error)) => Answer::Failed(error.to_string()),
                },
                () = job.chunks.closed() => return End::Cancelled(self.cancel(protocol, context).await),
            };
            match answer {
                Answer::Samples(samples) => {
                    sounded = true;
                    match left.checked_sub(samples.len()) {
                        Some(rest) => left = rest,
                        None => return End::Failed { why: TOO_LONG.to_owned(), sounded },
                    }
                    // An error means that the text is cancelled, which the next turn of the loop notices.
                    let _ = job.chunks.send(samples).await;
                }
                Answer::Done => return End::Spoken,
                Answer::Last(samples) => {
                    if samples.len() > left {
                        return End::Failed { why: TOO_LONG.to_owned(), sounded: true };
                    }
                    let _ = job.chunks.send(samples).await;
                    return End::Spoken;
                }
                Answer::Failed(why) => return End::Failed { why, sounded },
                Answer::Cleared | Answer::Nothing => {}
            }
        }
    }

    /// Cancels the current text. Returns whether the connection can be used again.
    async fn cancel(&mut self, protocol: &Protocol, context: &str) -> bool {
        let Some(message) = protocol.cancel(context) else { return false };
        if self.send(message).await.is_err() {
            return false;
        }
        if !protocol.confirms_cancel() {
            return true;
        }
        let confirmed = async {
            while let Some(Ok(message)) = self.socket.next().await {
                if let Message::Text(text) = message
                    && protocol.read(&text, context) == Answer::Cleared
                {
                    return true;
                }
            }
            false
        };
        timeout(CANCELLED, confirmed).await.unwrap_or(false)
    }

    async fn send(&mut self, message: String) -> Result<(), String> {
        match timeout(STALLED, self.socket.send(Message::text(message))).await {
            Ok(sent) => sent.map_err(|error| error.to_string()),
            Err(_) => Err("the engine's socket accepts no data".to_owned()),
        }
    }
}

/// The meaning of a close frame. `is_end` says whether the engine closes the connection after the last audio of a text.
fn closed(frame: Option<CloseFrame>, is_end: bool) -> Answer {
    match frame {
        Some(frame) if is_end && frame.code == CloseCode::Normal => Answer::Done,
        Some(frame) => Answer::Failed(format!("the engine closed the connection: {} {}", frame.code, frame.reason)),
        None => Answer::Failed("the engine closed the connection".to_owned()),
    }
}

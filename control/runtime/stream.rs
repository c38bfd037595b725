//! One stream to a WebSocket application: the socket, the tap that feeds it and the source that it feeds.
//!
//! A stream is a task of its own. It asks its call for the media ([`Ready`]), sends what the tap gives, takes what the
//! application says, and tells the call how it ended. Audio to the application is dropped when the socket is slow (the
//! tap's ring), audio from it is refused when it is too far ahead (the source's bound); both are counted and said.

mod container;
mod fork;
mod tally;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tandem_call::id::{LegId, OpId, StreamId};
use tandem_call::leg::Hearers;
use tandem_call::output::{Invite, LegEvent};
use tandem_call::program::instruction::Warning;
use tandem_call::stream::{
    ByteOrder, Form, Opens, Playout, SampleRate, StreamCodec, StreamFailure, StreamFault, StreamSpec, StreamStatus,
};
use tandem_clock as clock;
use tandem_dialect::{MediaFrame, StreamMessage, StreamProblem, StreamWire, Unplayable};
use tandem_history::event_log::Line;
use tandem_http::Client;
use tandem_http::websocket::{Socket, Word};
use tandem_media as media;
use tandem_metrics::timings::{Timing, Timings};
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, oneshot};

use crate::inbox::{Inbox, Message as CallMessage};
use container::container;
use tally::{Carried, Noted, Tally};

/// Least time between two audio files of an application: one may come in a second, and networks are not punctual.
const BETWEEN_FILES: Duration = Duration::from_millis(800);
/// Set in the operation of a stream's source on the leg that its own is joined to, for that one counts its own ones.
const AT_PEER: u64 = 1 << 63;
/// Audio to the application that may wait for a slow socket: two seconds of both directions.
pub const TAP_FRAMES: usize = 200;
/// Notes to a stream that may wait.
const NOTES: usize = 1024;
/// Code of an ordinary end (RFC 6455 §7.4.1).
pub const NORMAL: u16 = 1000;

/// A running stream, from its call's side.
pub struct StreamHandle {
    notes: mpsc::Sender<Note>,
    /// Its operation on the media.
    pub op: OpId,
    /// Whether the application may speak.
    pub plays: bool,
    /// Directions it hears.
    pub tracks: media::Tracks,
    /// Its socket is open and its leg's audio flows.
    pub attached: bool,
    hearers: Hearers,
    codec: media::SourceCodec,
    buffer: Duration,
    /// Its leg is not answered: what it needs to go on when it is.
    waiting: Option<Waiting>,
    /// The INVITE of its leg, which waits until the socket is open or cannot be.
    pub held: Option<Box<Invite>>,
    /// Such an INVITE is to wait.
    pub holds_call: bool,
}

struct Waiting {
    begin: oneshot::Sender<Begin>,
    spec: StreamSpec,
}

/// What a stream that has waited for the answer goes on with.
struct Begin {
    wire: Box<dyn StreamWire>,
    law: media::g711::Law,
}

/// What a call tells a stream.
#[derive(Debug)]
enum Note {
    Mark(Arc<str>),
    Dtmf(char),
    /// Plays to the leg that its own has just been joined to; none if it is alone again.
    Peer(Option<media::StreamWriter>),
    Stop,
}

/// The media a stream needs, handed to its call once the socket is open.
pub struct Ready {
    /// Copies the leg's audio.
    pub sink: media::TapSink,
    /// Plays the application's audio.
    pub source: Option<media::StreamSource>,
}

/// What a stream is made of.
pub struct NewStream {
    /// Its leg.
    pub leg: LegId,
    /// Its id.
    pub id: StreamId,
    /// Its operation on the media.
    pub op: OpId,
    /// As asked for.
    pub spec: StreamSpec,
    /// Its wire form.
    pub wire: Box<dyn StreamWire>,
    /// Of the leg itself.
    pub law: media::g711::Law,
    /// Longest that its application's audio may wait to be played.
    pub buffer: Duration,
    /// Longest without a sign of life of its application.
    pub idle: Option<Duration>,
    /// Its leg is not answered yet: the socket opens, and the rest waits for [`StreamHandle::begin`].
    pub waits: bool,
    /// Its id as the application knows it.
    pub name: String,
    /// Where its times and counts go.
    pub timings: Arc<Timings>,
    /// Where its messages go instead of its URL: to a part of this server.
    pub local: Option<DuplexStream>,
}

impl StreamHandle {
    /// Starts a stream. It reports to `inbox`.
    pub fn start(client: Client, inbox: Inbox, new: NewStream) -> Self {
        let (notes, heard) = mpsc::channel(NOTES);
        let codec = plays(&new.spec, new.law);
        let (begin, begun) = new.waits.then(oneshot::channel).unzip();
        let waiting = begin.map(|begin| Waiting { begin, spec: new.spec.clone() });
        let handle = Self {
            holds_call: waiting.is_some() && new.spec.opens == Opens::BeforeCalling,
            waiting,
            held: None,
            notes,
            op: new.op,
            plays: new.spec.playout.is_some(),
            tracks: crate::leg::tracks(new.spec.track),
            attached: false,
            hearers: new.spec.hearers,
            codec,
            buffer: new.buffer,
        };
        tokio::spawn(async move {
            let (leg, id) = (new.leg, new.id);
            let status = match run(&client, &inbox, new, begun, heard).await {
                Ok(()) => StreamStatus::Stopped,
                Err(why) => StreamStatus::Failed(why),
            };
            // Its call may be over.
            let _ = inbox.post(CallMessage::Stream { leg, id, status });
        });
        handle
    }

    /// Its leg is answered: it goes on, if it has waited for that. `wire` makes its wire form, now that the leg's codec is known.
    pub fn begin(&mut self, law: media::g711::Law, wire: impl FnOnce(&StreamSpec) -> Box<dyn StreamWire>) {
        let Some(Waiting { begin, spec }) = self.waiting.take() else { return };
        self.codec = plays(&spec, law);
        // It may be over.
        let _ = begin.send(Begin { wire: wire(&spec), law });
    }

    /// Its audio has been played up to this mark.
    pub fn mark(&self, name: Arc<str>) {
        self.note(Note::Mark(name));
    }

    /// A key was pressed.
    pub fn dtmf(&self, digit: char) {
        self.note(Note::Dtmf(digit));
    }

    /// Its leg has been joined to another one: what plays to that one, if the application is to be heard there.
    pub fn join(&self) -> Option<media::StreamSource> {
        if !self.plays || self.hearers == Hearers::Own {
            return None;
        }
        let (source, writer) = media::source(self.codec, self.buffer);
        self.note(Note::Peer(Some(writer)));
        Some(source)
    }

    /// Its leg is alone again.
    pub fn part(&self) {
        if self.plays && self.hearers != Hearers::Own {
            self.note(Note::Peer(None));
        }
    }

    /// Its operation on the media of the leg that its own is joined to.
    pub fn peer_op(&self) -> OpId {
        OpId(self.op.0 | AT_PEER)
    }

    /// Ends it.
    pub fn stop(&self) {
        self.note(Note::Stop);
    }

    fn note(&self, note: Note) {
        // Full means that the socket has taken nothing for long: the stream is about to be given up anyway, and a handle
        // that is dropped stops it too.
        if let Err(error) = self.notes.try_send(note) {
            tracing::debug!(%error, "stream takes no note");
        }
    }
}

async fn run(
    client: &Client,
    inbox: &Inbox,
    new: NewStream,
    begun: Option<oneshot::Receiver<Begin>>,
    mut notes: mpsc::Receiver<Note>,
) -> Result<(), StreamFailure> {
    let NewStream { leg, id, spec, mut wire, mut law, buffer, idle, name, timings, local, .. } = new;
    if spec.form != Form::Messages {
        return fork::run(client, inbox, (leg, id), &spec, (idle, local), &mut notes).await;
    }
    let began = clock::now().instant;
    let mut socket = tokio::select! {
        opened = open(client, &spec.url, wire.handshake(), idle, local) => opened?,
        () = stopped(&mut notes) => return Ok(()),
    };
    timings.took(Timing::StreamConnect, clock::now().instant.saturating_duration_since(began));
    socket.send(wire.connected()).await?;
    if let Some(begun) = begun {
        inbox
            .post(CallMessage::StreamOpen { leg, id })
            .map_err(|_| StreamFault::Internal.because("the call is over"))?;
        let Some(begin) = answered(&mut socket, &mut notes, begun).await? else {
            socket.close(NORMAL, "").await;
            return Ok(());
        };
        (wire, law) = (begin.wire, begin.law);
    }
    let plays = plays(&spec, law);
    let now = clock::now().instant;
    let codec = tap_codec(spec.codec);
    let (sink, mut tap) = media::tap(TAP_FRAMES, codec);
    let (source, own) = spec.playout.map(|_| media::source(plays, buffer)).unzip();
    let note = |(text, data): Noted| {
        let line = Line { at: clock::time(), leg: Some(leg), kind: "stream".into(), text, data: Some(Box::new(data)) };
        inbox.log().push_line(line);
    };
    let mut speech = Speech {
        own,
        peer: None,
        hearers: spec.hearers,
        files: spec.playout == Some(Playout::Files),
        law,
        last_file: None,
        octets_a_second: octets_a_second(spec.playout),
        tally: Tally::new(now, codec, spec.playout.is_some()),
        timings,
        gaps: media::Underruns::default(),
    };
    let ready = Ready { sink, source };
    let outcome =
        carry(&mut socket, wire.as_mut(), &mut tap, &mut speech, &mut notes, (inbox, leg, id), ready, note).await;
    let carried = Carried { dropped: tap.dropped(), underruns: speech.underruns() };
    note(speech.tally.end(clock::now().instant, &name, carried, &speech.timings));
    match outcome? {
        End::Closed => Ok(()),
        End::Stopped => {
            socket.send(wire.stop()).await?;
            socket.close(NORMAL, "").await;
            Ok(())
        }
    }
}

/// Connects to the application, wherever it is.
async fn open(
    client: &Client,
    url: &str,
    headers: Vec<(String, String)>,
    idle: Option<Duration>,
    local: Option<DuplexStream>,
) -> Result<Socket, StreamFailure> {
    match local {
        Some(pipe) => Ok(Socket::within(pipe, idle).await),
        None => Socket::open(client, url, headers, idle).await,
    }
}

/// How a stream ended, if not by a failure.
enum End {
    /// By the application.
    Closed,
    /// By the call.
    Stopped,
}

/// Carries audio both ways until somebody ends it.
#[expect(clippy::too_many_arguments, reason = "the parts of one stream, which its end needs again")]
async fn carry(
    socket: &mut Socket,
    wire: &mut dyn StreamWire,
    tap: &mut media::TapReader,
    speech: &mut Speech,
    notes: &mut mpsc::Receiver<Note>,
    (inbox, leg, id): (&Inbox, LegId, StreamId),
    ready: Ready,
    note: impl Fn(Noted),
) -> Result<End, StreamFailure> {
    socket.send(wire.start()).await?;
    let ready = CallMessage::StreamReady { leg, id, ready: Box::new(ready) };
    inbox.post(ready).map_err(|_| StreamFault::Internal.because("the call is over"))?;

    let mut complaints = Complaints::default();
    loop {
        tokio::select! {
            frame = tap.next() => {
                let Some(mut frame) = frame else { break };
                let now = clock::now().instant;
                // Both tracks have a frame in every tick: they leave together.
                loop {
                    speech.tally.sent(now, &frame);
                    socket.feed(written(wire, &frame)).await?;
                    let Some(another) = tap.pop() else { break };
                    frame = another;
                }
                socket.flush().await?;
            }
            note = notes.recv() => match note {
                Some(Note::Mark(name)) => socket.send(wire.mark(&name)).await?,
                Some(Note::Dtmf(digit)) => {
                    if let Some(text) = wire.dtmf(digit, clock::time()) {
                        socket.send(text).await?;
                    }
                }
                Some(Note::Peer(writer)) => speech.join(writer),
                Some(Note::Stop) | None => break,
            },
            word = socket.next() => {
                let problem = match word {
                    Word::Closed(how) => return how.map(|()| End::Closed),
                    Word::Binary => wire.binary(),
                    Word::Text(text) => match wire.decode(&text) {
                        Ok(StreamMessage::Press(digits)) => {
                            // Its call may be over.
                            let _ = inbox.post(CallMessage::StreamPress { leg, id, digits });
                            None
                        }
                        Ok(message) => {
                            let taken = speech.take(message, clock::now().instant, &note).await;
                            taken.err().map(|why| wire.unplayable(why))
                        }
                        Err(problem) => Some(problem),
                    },
                };
                let Some(problem) = problem else { continue };
                if let Some(answer) = problem.answer.clone() {
                    socket.send(answer).await?;
                }
                if let Some(warning) = complaints.first(problem) {
                    // Its call may be over.
                    let _ = inbox.post(CallMessage::Own(leg, LegEvent::Warned(warning)));
                }
            }
        }
    }
    Ok(End::Stopped)
}

/// Waits for the leg's answer; `None` if the stream is stopped before.
async fn answered(
    socket: &mut Socket,
    notes: &mut mpsc::Receiver<Note>,
    mut begun: oneshot::Receiver<Begin>,
) -> Result<Option<Begin>, StreamFailure> {
    loop {
        tokio::select! {
            begin = &mut begun => return Ok(begin.ok()),
            note = notes.recv() => if let Some(Note::Stop) | None = note {
                return Ok(None);
            },
            // There is nobody yet who could hear what the application says.
            word = socket.next() => if let Word::Closed(how) = word {
                return how.map(|()| None);
            },
        }
    }
}

/// What an application's audio is.
fn plays(spec: &StreamSpec, law: media::g711::Law) -> media::SourceCodec {
    match spec.playout {
        Some(Playout::Payload(codec)) => source_codec(codec),
        Some(Playout::Files) | None => law.into(),
    }
}

/// A frame as a message.
pub fn written(wire: &mut dyn StreamWire, frame: &media::TapFrame) -> String {
    let track = match frame.track {
        media::Track::Inbound => tandem_call::recording::Track::Inbound,
        media::Track::Outbound => tandem_call::recording::Track::Outbound,
    };
    let frame = MediaFrame {
        track,
        timestamp_ms: frame.timestamp_ms,
        rtp_timestamp: frame.rtp_timestamp,
        payload: frame.audio(),
    };
    let mut text = String::with_capacity(512);
    wire.media(&frame, &mut text);
    text
}

/// What an application has been reproached with: each number once a stream. The numbers are the dialect's own, a handful.
#[derive(Default)]
struct Complaints(Vec<u32>);

impl Complaints {
    fn first(&mut self, problem: StreamProblem) -> Option<Warning> {
        if self.0.contains(&problem.code) {
            return None;
        }
        self.0.push(problem.code);
        Some(Warning { code: problem.code, message: format!("stream: {}", problem.detail) })
    }
}

/// The application's side of a stream: how it speaks, and to whom.
struct Speech {
    /// Plays to the leg itself; none if the application may not speak.
    own: Option<media::StreamWriter>,
    /// Plays to the leg that it is joined to.
    peer: Option<media::StreamWriter>,
    hearers: Hearers,
    /// Whole files instead of payload, and what they become.
    files: bool,
    law: media::g711::Law,
    /// When the last file was taken.
    last_file: Option<Instant>,
    /// Of the audio that is played.
    octets_a_second: u32,
    tally: Tally,
    timings: Arc<Timings>,
    /// Of writers that are gone.
    gaps: media::Underruns,
}

impl Speech {
    /// Where audio goes now: without a peer always to the leg itself.
    fn writers(&self) -> impl Iterator<Item = &media::StreamWriter> {
        let (own, peer) = match (self.hearers, &self.peer) {
            (Hearers::Own, _) | (_, None) => (true, false),
            (Hearers::Peer, Some(_)) => (false, true),
            (Hearers::Both, Some(_)) => (true, true),
        };
        self.own.iter().filter(move |_| own).chain(self.peer.iter().filter(move |_| peer))
    }

    /// The leg has been joined to one that hears through this writer, or is alone again: what waits is for others.
    fn join(&mut self, peer: Option<media::StreamWriter>) {
        if self.hearers == Hearers::Peer {
            self.writers().for_each(media::StreamWriter::clear);
        }
        self.gaps = self.underruns_of(self.peer.iter());
        self.peer = peer;
    }

    /// Gaps in what the application said, whoever heard it.
    fn underruns(&self) -> media::Underruns {
        self.underruns_of(self.own.iter().chain(&self.peer))
    }

    fn underruns_of<'a>(&self, writers: impl Iterator<Item = &'a media::StreamWriter>) -> media::Underruns {
        writers.map(media::StreamWriter::underruns).fold(self.gaps, |sum, one| media::Underruns {
            count: sum.count + one.count,
            silence: sum.silence + one.silence,
        })
    }

    /// Does what the application says.
    async fn take(&mut self, message: StreamMessage, now: Instant, note: &impl Fn(Noted)) -> Result<(), Unplayable> {
        match message {
            StreamMessage::Media(bytes) if self.own.is_some() => {
                let container = if self.files { None } else { container(&bytes) };
                let octets = if self.files { self.file(bytes, now).await? } else { bytes };
                let mut refused = false;
                for writer in self.writers() {
                    refused |= writer.audio(octets.clone()).is_err();
                }
                if refused {
                    self.tally.refused();
                    return Err(Unplayable::TooFarAhead);
                }
                let length = octets.len() as u64 * 1_000_000 / u64::from(self.octets_a_second);
                self.tally.spoken(now, Duration::from_micros(length), &self.timings).into_iter().for_each(note);
                if let Some(container) = container {
                    return Err(Unplayable::Container(container));
                }
            }
            // Reached once, whoever hears it.
            StreamMessage::Mark(name) => {
                self.tally.marked();
                self.writers().take(1).for_each(|writer| writer.mark(name.as_str().into()));
            }
            StreamMessage::Clear => {
                self.tally.cleared(now, &self.timings);
                self.writers().for_each(media::StreamWriter::clear);
            }
            StreamMessage::Media(_) | StreamMessage::Press(_) | StreamMessage::Ignored => {}
        }
        Ok(())
    }

    async fn file(&mut self, bytes: Bytes, now: Instant) -> Result<Bytes, Unplayable> {
        if self.last_file.is_some_and(|last| now.saturating_duration_since(last) < BETWEEN_FILES) {
            return Err(Unplayable::TooSoon);
        }
        self.last_file = Some(now);
        let law = self.law;
        let decoded = tokio::task::spawn_blocking(move || {
            let audio = media::decode(&bytes, None)?;
            let mut octets = vec![0; audio.samples().len()];
            law.encode(audio.samples(), &mut octets);
            Ok::<_, media::AudioError>(octets)
        });
        match decoded.await {
            Ok(Ok(octets)) => Ok(octets.into()),
            Ok(Err(error)) => Err(Unplayable::Undecodable(error.to_string())),
            Err(_) => Err(Unplayable::Undecodable("the audio could not be decoded".to_owned())),
        }
    }
}

/// Of the audio that an application's becomes; never 0.
fn octets_a_second(playout: Option<Playout>) -> u32 {
    match playout {
        Some(Playout::Payload(codec)) => codec.hertz() * codec.sample_octets(),
        Some(Playout::Files) | None => 8_000,
    }
}

fn source_codec(codec: StreamCodec) -> media::SourceCodec {
    match codec {
        StreamCodec::Pcmu => media::g711::Law::Mu.into(),
        StreamCodec::Pcma => media::g711::Law::A.into(),
        StreamCodec::L16(rate, order) => {
            let rate = match rate {
                SampleRate::Hz8000 => media::SourceRate::Hz8000,
                SampleRate::Hz16000 => media::SourceRate::Hz16000,
                SampleRate::Hz24000 => media::SourceRate::Hz24000,
            };
            media::SourceCodec::L16(rate, byte_order(order))
        }
    }
}

/// The codec that the application hears.
pub fn tap_codec(codec: Option<StreamCodec>) -> media::TapCodec {
    match codec {
        None => media::TapCodec::Native,
        Some(StreamCodec::Pcmu) => media::TapCodec::Pcmu,
        Some(StreamCodec::Pcma) => media::TapCodec::Pcma,
        Some(StreamCodec::L16(SampleRate::Hz8000, order)) => media::TapCodec::L16(byte_order(order)),
        Some(StreamCodec::L16(SampleRate::Hz16000 | SampleRate::Hz24000, order)) => {
            media::TapCodec::L16Wide(byte_order(order))
        }
    }
}

fn byte_order(order: ByteOrder) -> media::ByteOrder {
    match order {
        ByteOrder::Big => media::ByteOrder::Big,
        ByteOrder::Little => media::ByteOrder::Little,
    }
}

async fn stopped(notes: &mut mpsc::Receiver<Note>) {
    loop {
        if let Some(Note::Stop) | None = notes.recv().await {
            return;
        }
    }
}

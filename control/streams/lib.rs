//! A media stream to a WebSocket application. It consists of the socket, the tap that provides the leg's audio, and the
//! source that plays the application's audio.
//!
//! Each stream is a task. The task asks its call to attach the media ([`Ready`]), sends the audio of the tap, handles
//! the messages of the application, and reports the end of the stream to the call. If the socket is slow, the tap's
//! ring buffer drops audio to the application. If too much audio waits for playback, the source refuses audio from the
//! application. Both losses are counted and reported.
#![forbid(unsafe_code)]

mod container;
mod figures;
mod fork;
mod frames;
pub mod local;
mod stats;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tandem_call::leg::TargetLegs;
use tandem_call::program::instruction::Warning;
use tandem_call::recording::Track;
use tandem_call::stream::{
    BidirectionalMode, ConnectTiming, SampleRate, StreamCodec, StreamFailure, StreamSpec, StreamStatus, StreamTransport,
};
use tandem_dialect::{StreamMessage, StreamProblem, StreamWire, Unplayable};
use tandem_history::call_port::CallPort;
use tandem_history::event_log::Line;
use tandem_host::clock;
use tandem_http::Client;
use tandem_http::websocket::SocketMessage;
use tandem_id::{AccountName, LegId, OpId};
use tandem_media as media;
use tandem_metrics::timings::{Timing, Timings};
use tandem_settings::{ByteOrder, StreamsConfig};
use tokio::sync::{mpsc, oneshot};

use container::container;
pub use figures::{StreamCounts, StreamFigures};
pub use frames::FrameEncoder;
use local::{Channel, LocalStreams, Pipe};
use stats::{EngineCounts, LogLine, StreamStats};

/// Minimum time between two audio files from an application. An application may send one file per second. This minimum
/// is shorter than one second, because the delay of the network varies.
const BETWEEN_FILES: Duration = Duration::from_millis(800);
/// This bit is set in the id of a stream's media operation on the bridged leg. The bit distinguishes this id from the
/// ids of the bridged leg's own operations.
const BRIDGED_LEG_BIT: u64 = 1 << 63;
/// Maximum number of frames that wait for a slow socket: two seconds of audio in both directions.
pub const TAP_FRAMES: usize = 200;
/// Maximum number of inputs from the call that wait until the stream's task reads them.
const MAX_INPUTS: usize = 1024;

/// The streams of the server: their settings, and the data that all streams share.
pub struct Streams {
    client: Client,
    timings: Arc<Timings>,
    /// Maximum duration of the application's audio that may wait for playback.
    buffer: Duration,
    /// Maximum time without any message from the application. `None` means no limit.
    idle: Option<Duration>,
    /// Byte order of linear samples, in both directions.
    byte_order: media::ByteOrder,
    local: LocalStreams,
}

/// The handle of a running stream. The stream's call keeps this handle.
pub struct StreamHandle {
    inputs: mpsc::Sender<StreamInput>,
    /// Id of the stream's media operation.
    pub op: OpId,
    /// Whether the application may send audio.
    pub plays: bool,
    /// The directions of the leg's audio that the application receives.
    pub track: Track,
    /// Whether the socket is open and receives the leg's audio.
    pub attached: bool,
    target_legs: TargetLegs,
    codec: media::SourceCodec,
    byte_order: media::ByteOrder,
    buffer: Duration,
    /// The state of a stream that waits for the answer of its leg. `None` if the stream does not wait.
    waiting: Option<PendingStream>,
    /// Whether the INVITE of the leg must wait for the socket.
    pub delays_invite: bool,
    /// The figures of the stream, for people who watch it.
    pub figures: Arc<StreamFigures>,
}

struct PendingStream {
    begin: oneshot::Sender<Begin>,
    spec: StreamSpec,
}

/// The data that a waiting stream receives when its leg is answered.
struct Begin {
    wire: Box<dyn StreamWire>,
    law: media::g711::Law,
}

#[derive(Debug)]
enum StreamInput {
    Mark(Arc<str>),
    Dtmf(char),
    /// The writer that plays to the new bridged leg. `None` if the leg is no longer bridged.
    Bridged(Option<media::StreamWriter>),
    Stop,
}

/// A report of a stream to its call.
pub enum StreamUpdate {
    /// The socket is open, but the leg is not answered yet.
    Open,
    /// The socket is open, and the stream starts. The call must attach this media.
    Ready(Box<Ready>),
    /// The application wants to send these DTMF digits: `0-9 A-D * #`.
    Press(String),
    /// The server could not use a message of the application.
    Warned(Warning),
    /// The stream has ended.
    Over(StreamStatus),
}

/// The media of a stream. The task passes this value to the call when the socket is open.
pub struct Ready {
    /// The sink that receives the leg's audio.
    pub sink: media::TapSink,
    /// The source that plays the application's audio. `None` if the application may not send audio.
    pub source: Option<media::StreamSource>,
}

/// The parameters of a new stream.
pub struct NewStream {
    pub leg: LegId,
    /// The account of the leg.
    pub account: AccountName,
    /// Id of the stream's media operation.
    pub op: OpId,
    /// The settings from the request that starts the stream.
    pub spec: StreamSpec,
    /// The wire format of the messages.
    pub wire: Box<dyn StreamWire>,
    /// The G.711 law of the leg.
    pub law: media::g711::Law,
    /// Whether the leg is not answered yet. If so, the stream opens the socket and then waits for
    /// [`StreamHandle::begin`].
    pub waits: bool,
    /// The id of the stream in the provider's form.
    pub name: String,
}

/// The resources of the server that a stream's task uses.
struct Resources {
    client: Client,
    buffer: Duration,
    idle: Option<Duration>,
    byte_order: media::ByteOrder,
    timings: Arc<Timings>,
    /// A pipe to a component of this server. If there is a pipe, the stream uses it and does not connect to the URL.
    local: Option<Pipe>,
}

impl Streams {
    /// Creates the streams of a server. `timings` receives the times and counters of the streams.
    pub fn new(client: Client, timings: Arc<Timings>, config: &StreamsConfig) -> Self {
        Self {
            client,
            timings,
            buffer: Duration::from_secs(config.buffer_seconds.into()),
            idle: config.idle(),
            byte_order: byte_order(config),
            local: LocalStreams::default(),
        }
    }

    /// The components of this server that wait for the stream of a leg.
    pub fn local(&self) -> &LocalStreams {
        &self.local
    }

    /// Starts a stream. The stream reports to `call`.
    pub fn start(&self, call: Box<dyn CallPort<StreamUpdate>>, new: NewStream) -> StreamHandle {
        let resources = Resources {
            client: self.client.of_account(&new.account),
            buffer: self.buffer,
            idle: self.idle,
            byte_order: self.byte_order,
            timings: Arc::clone(&self.timings),
            local: self.local.take(new.leg),
        };
        StreamHandle::start(resources, call, new)
    }
}

impl StreamHandle {
    fn start(resources: Resources, call: Box<dyn CallPort<StreamUpdate>>, new: NewStream) -> Self {
        let (inputs, heard) = mpsc::channel(MAX_INPUTS);
        let codec = plays(&new.spec, new.law, resources.byte_order);
        let (begin, begun) = new.waits.then(oneshot::channel).unzip();
        let waiting = begin.map(|begin| PendingStream { begin, spec: new.spec.clone() });
        let figures = Arc::new(StreamFigures::new(&new.name, &new.spec));
        let handle = Self {
            delays_invite: waiting.is_some() && new.spec.connect_timing == ConnectTiming::BeforeCalling,
            waiting,
            inputs,
            op: new.op,
            plays: new.spec.bidirectional_mode.is_some(),
            track: new.spec.track,
            attached: false,
            target_legs: new.spec.target_legs,
            codec,
            byte_order: resources.byte_order,
            buffer: resources.buffer,
            figures: Arc::clone(&figures),
        };
        tokio::spawn(async move {
            let status = match run(resources, &*call, new, begun, heard, figures).await {
                Ok(()) => StreamStatus::Stopped,
                Err(why) => StreamStatus::Failed(why),
            };
            // The call may have ended.
            let _ = call.report(StreamUpdate::Over(status));
        });
        handle
    }

    /// Continues a stream that waited for the answer of its leg. `wire` creates the wire format, which depends on the
    /// codec of the answered leg.
    pub fn begin(&mut self, law: media::g711::Law, wire: impl FnOnce(&StreamSpec) -> Box<dyn StreamWire>) {
        let Some(PendingStream { begin, spec }) = self.waiting.take() else { return };
        self.codec = plays(&spec, law, self.byte_order);
        // The stream may have ended, so an error is ignored.
        let _ = begin.send(Begin { wire: wire(&spec), law });
    }

    /// Reports to the stream that the playback of the application's audio has reached the mark `name`.
    pub fn mark(&self, name: Arc<str>) {
        self.send_input(StreamInput::Mark(name));
    }

    /// Passes a DTMF digit of the leg to the stream.
    pub fn dtmf(&self, digit: char) {
        self.send_input(StreamInput::Dtmf(digit));
    }

    /// Handles a new bridge of the leg. If the bridged leg hears the application, the function returns the source that
    /// the call must attach to the bridged leg.
    pub fn join(&self) -> Option<media::StreamSource> {
        if !self.plays || self.target_legs == TargetLegs::Own {
            return None;
        }
        let (source, writer) = media::source(self.codec, self.buffer);
        self.send_input(StreamInput::Bridged(Some(writer)));
        Some(source)
    }

    /// Handles the end of the leg's bridge.
    pub fn part(&self) {
        if self.plays && self.target_legs != TargetLegs::Own {
            self.send_input(StreamInput::Bridged(None));
        }
    }

    /// Returns the id of the stream's media operation on the bridged leg.
    pub fn bridged_op(&self) -> OpId {
        OpId(self.op.0 | BRIDGED_LEG_BIT)
    }

    pub fn stop(&self) {
        self.send_input(StreamInput::Stop);
    }

    fn send_input(&self, note: StreamInput) {
        // The queue becomes full if the socket accepts no data for a long time. The stream then fails soon. The end of
        // the handle also stops the stream.
        if let Err(error) = self.inputs.try_send(note) {
            tracing::debug!(%error, "the stream's queue of notes is full");
        }
    }
}

async fn run(
    resources: Resources,
    call: &dyn CallPort<StreamUpdate>,
    new: NewStream,
    begun: Option<oneshot::Receiver<Begin>>,
    mut inputs: mpsc::Receiver<StreamInput>,
    figures: Arc<StreamFigures>,
) -> Result<(), StreamFailure> {
    let NewStream { leg, spec, mut wire, mut law, name, .. } = new;
    let Resources { client, buffer, idle, byte_order, timings, local } = resources;
    if spec.transport != StreamTransport::Messages {
        return fork::run(&client, call, &spec, (idle, local), &mut inputs, &figures).await;
    }
    let began = clock::now().instant;
    let mut socket = tokio::select! {
        opened = Channel::open(&client, &spec.url, wire.handshake(), idle, local) => opened?,
        () = stopped(&mut inputs) => return Ok(()),
    };
    timings.took(Timing::StreamConnect, clock::now().instant.saturating_duration_since(began));
    socket.send(wire.connected()).await?;
    if let Some(begun) = begun {
        call.report(StreamUpdate::Open)?;
        let Some(begin) = answered(&mut socket, &mut inputs, begun).await? else {
            socket.close().await;
            return Ok(());
        };
        (wire, law) = (begin.wire, begin.law);
    }
    let plays = plays(&spec, law, byte_order);
    let now = clock::now().instant;
    let mut frames = FrameEncoder::new(spec.codec, byte_order);
    let codec = frames.tap_codec();
    let (sink, mut tap) = media::tap(TAP_FRAMES, codec);
    let (source, own) = spec.bidirectional_mode.map(|_| media::source(plays, buffer)).unzip();
    let note = |(text, data): LogLine| {
        let line = Line { at: clock::time(), leg: Some(leg), kind: "stream".into(), text, data: Some(Box::new(data)) };
        call.log(line);
    };
    let mut playback = StreamPlayback {
        own,
        bridged: None,
        target_legs: spec.target_legs,
        files: spec.bidirectional_mode == Some(BidirectionalMode::Files),
        law,
        last_file: None,
        octets_a_second: octets_a_second(spec.bidirectional_mode),
        stats: StreamStats::new(now, codec, spec.bidirectional_mode.is_some()),
        timings,
        gaps: media::Underruns::default(),
        figures,
    };
    let ready = Ready { sink, source };
    let outcome =
        carry(&mut socket, wire.as_mut(), &mut tap, &mut frames, &mut playback, &mut inputs, call, ready, note).await;
    let carried = EngineCounts { dropped: tap.dropped(), underruns: playback.underruns() };
    note(playback.stats.end(clock::now().instant, &name, carried, &playback.timings));
    match outcome? {
        End::Closed => Ok(()),
        End::Stopped => {
            socket.send(wire.stop()).await?;
            socket.close().await;
            Ok(())
        }
    }
}

/// The reason why a stream ended without a failure.
enum End {
    /// The application closed the socket.
    Closed,
    /// The call stopped the stream.
    Stopped,
}

/// Transports audio in both directions until one side ends the stream.
#[expect(clippy::too_many_arguments, reason = "the parts of one stream, which its end needs again")]
async fn carry(
    socket: &mut Channel,
    wire: &mut dyn StreamWire,
    tap: &mut media::TapReader,
    frames: &mut FrameEncoder,
    playback: &mut StreamPlayback,
    inputs: &mut mpsc::Receiver<StreamInput>,
    call: &dyn CallPort<StreamUpdate>,
    ready: Ready,
    note: impl Fn(LogLine),
) -> Result<End, StreamFailure> {
    socket.send(wire.start()).await?;
    call.report(StreamUpdate::Ready(Box::new(ready)))?;

    let mut reported = ReportedErrors::default();
    loop {
        tokio::select! {
            frame = tap.next() => {
                let Some(mut frame) = frame else { break };
                let now = clock::now().instant;
                // Both tracks have a frame in every tick. The two frames are sent together.
                loop {
                    playback.stats.sent(now, &frame);
                    playback.figures.sent(frame.audio().len(), tap.dropped());
                    socket.feed(frames.encode(wire, &frame)).await?;
                    let Some(another) = tap.pop() else { break };
                    frame = another;
                }
                socket.flush().await?;
            }
            note = inputs.recv() => match note {
                Some(StreamInput::Mark(name)) => socket.send(wire.mark(&name)).await?,
                Some(StreamInput::Dtmf(digit)) => {
                    if let Some(text) = wire.dtmf(digit, clock::time()) {
                        socket.send(text).await?;
                    }
                }
                Some(StreamInput::Bridged(writer)) => playback.join(writer),
                Some(StreamInput::Stop) | None => break,
            },
            word = socket.next() => {
                let problem = match word {
                    SocketMessage::Closed(how) => return how.map(|()| End::Closed),
                    SocketMessage::Binary => wire.binary(),
                    SocketMessage::Text(text) => match wire.decode(&text) {
                        Ok(StreamMessage::Dtmf(digits)) => {
                            // The call may have ended.
                            let _ = call.report(StreamUpdate::Press(digits));
                            None
                        }
                        Ok(message) => {
                            let taken = playback.take(message, clock::now().instant, &note).await;
                            taken.err().map(|why| wire.unplayable(why))
                        }
                        Err(problem) => Some(problem),
                    },
                };
                let Some(problem) = problem else { continue };
                if let Some(answer) = problem.answer.clone() {
                    socket.send(answer).await?;
                }
                if let Some(warning) = reported.first(problem) {
                    // The call may have ended.
                    let _ = call.report(StreamUpdate::Warned(warning));
                }
            }
        }
    }
    Ok(End::Stopped)
}

/// Waits until the leg is answered. Returns `None` if the stream is stopped before the answer.
async fn answered(
    socket: &mut Channel,
    inputs: &mut mpsc::Receiver<StreamInput>,
    mut begun: oneshot::Receiver<Begin>,
) -> Result<Option<Begin>, StreamFailure> {
    loop {
        tokio::select! {
            begin = &mut begun => return Ok(begin.ok()),
            note = inputs.recv() => if let Some(StreamInput::Stop) | None = note {
                return Ok(None);
            },
            // Messages that the application sends before the answer of the leg are ignored.
            word = socket.next() => if let SocketMessage::Closed(how) = word {
                return how.map(|()| None);
            },
        }
    }
}

/// Returns the codec of the application's audio.
fn plays(spec: &StreamSpec, law: media::g711::Law, order: media::ByteOrder) -> media::SourceCodec {
    match spec.bidirectional_mode {
        Some(BidirectionalMode::Payload(codec)) => source_codec(codec, order),
        Some(BidirectionalMode::Files) | None => law.into(),
    }
}

/// The error numbers that this stream has already reported. A stream reports each number only once. The list stays
/// short, because a dialect has only a few numbers.
#[derive(Default)]
struct ReportedErrors(Vec<u32>);

impl ReportedErrors {
    fn first(&mut self, problem: StreamProblem) -> Option<Warning> {
        if self.0.contains(&problem.code) {
            return None;
        }
        self.0.push(problem.code);
        Some(Warning { code: problem.code, message: format!("stream: {}", problem.detail) })
    }
}

/// The playback of the application's audio. It has the format of the audio, and the writers to the legs that hear the
/// audio.
struct StreamPlayback {
    /// The writer to the stream's own leg. `None` if the application may not send audio.
    own: Option<media::StreamWriter>,
    /// The writer to the bridged leg. `None` if the leg is not bridged.
    bridged: Option<media::StreamWriter>,
    target_legs: TargetLegs,
    /// Whether the application sends audio files instead of raw payload. The server converts files to the G.711 law in
    /// `law`.
    files: bool,
    law: media::g711::Law,
    last_file: Option<Instant>,
    /// Number of octets that one second of the played audio has.
    octets_a_second: u32,
    stats: StreamStats,
    timings: Arc<Timings>,
    /// The gaps that the writers to earlier bridged legs have counted.
    gaps: media::Underruns,
    figures: Arc<StreamFigures>,
}

impl StreamPlayback {
    /// Returns the writers that play now. If the leg is not bridged, this is always the writer to the stream's own leg.
    fn writers(&self) -> impl Iterator<Item = &media::StreamWriter> {
        let (own, bridged) = match (self.target_legs, &self.bridged) {
            (TargetLegs::Own, _) | (_, None) => (true, false),
            (TargetLegs::Bridged, Some(_)) => (false, true),
            (TargetLegs::Both, Some(_)) => (true, true),
        };
        self.own.iter().filter(move |_| own).chain(self.bridged.iter().filter(move |_| bridged))
    }

    /// Sets the writer to the bridged leg. `None` removes the writer when the bridge ends. If only the bridged leg
    /// hears the application, the function also drops the queued audio.
    fn join(&mut self, bridged: Option<media::StreamWriter>) {
        if self.target_legs == TargetLegs::Bridged {
            self.writers().for_each(media::StreamWriter::clear);
        }
        self.gaps = self.underruns_of(self.bridged.iter());
        self.bridged = bridged;
    }

    /// Returns the sum of the gaps in the application's audio on all legs.
    fn underruns(&self) -> media::Underruns {
        self.underruns_of(self.own.iter().chain(&self.bridged))
    }

    fn underruns_of<'a>(&self, writers: impl Iterator<Item = &'a media::StreamWriter>) -> media::Underruns {
        writers.map(media::StreamWriter::underruns).fold(self.gaps, |sum, one| media::Underruns {
            count: sum.count + one.count,
            silence: sum.silence + one.silence,
        })
    }

    /// Handles a message from the application.
    async fn take(&mut self, message: StreamMessage, now: Instant, note: &impl Fn(LogLine)) -> Result<(), Unplayable> {
        match message {
            StreamMessage::Media(bytes) if self.own.is_some() => {
                let container = if self.files { None } else { container(&bytes) };
                let octets = if self.files { self.file(bytes, now).await? } else { bytes };
                self.figures.received(octets.len());
                let mut refused = false;
                for writer in self.writers() {
                    refused |= writer.audio(octets.clone()).is_err();
                }
                if refused {
                    self.stats.refused();
                    return Err(Unplayable::TooFarAhead);
                }
                let length = octets.len() as u64 * 1_000_000 / u64::from(self.octets_a_second);
                self.stats.spoken(now, Duration::from_micros(length), &self.timings).into_iter().for_each(note);
                if let Some(container) = container {
                    return Err(Unplayable::Container(container));
                }
            }
            // Only one writer gets the mark, so that a mark is reported once even if two legs hear the audio.
            StreamMessage::Mark(name) => {
                self.stats.marked();
                self.writers().take(1).for_each(|writer| writer.mark(name.as_str().into()));
            }
            StreamMessage::Clear => {
                self.stats.cleared(now, &self.timings);
                self.writers().for_each(media::StreamWriter::clear);
            }
            StreamMessage::Media(_) | StreamMessage::Dtmf(_) | StreamMessage::Ignored => {}
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

/// Returns the number of octets that one second of the played audio has. The result is never 0.
fn octets_a_second(bidirectional_mode: Option<BidirectionalMode>) -> u32 {
    match bidirectional_mode {
        Some(BidirectionalMode::Payload(codec)) => codec.hertz() * codec.sample_octets(),
        Some(BidirectionalMode::Files) | None => 8_000,
    }
}

fn source_codec(codec: StreamCodec, order: media::ByteOrder) -> media::SourceCodec {
    match codec {
        StreamCodec::Pcmu => media::g711::Law::Mu.into(),
        StreamCodec::Pcma => media::g711::Law::A.into(),
        StreamCodec::L16(rate) => {
            let rate = match rate {
                SampleRate::Hz8000 => media::SourceRate::Hz8000,
                SampleRate::Hz16000 => media::SourceRate::Hz16000,
                SampleRate::Hz22050 => media::SourceRate::Hz22050,
                SampleRate::Hz24000 => media::SourceRate::Hz24000,
                SampleRate::Hz48000 => media::SourceRate::Hz48000,
            };
            media::SourceCodec::L16(rate, order)
        }
    }
}

/// Returns the byte order of the linear samples in streams.
pub fn byte_order(config: &StreamsConfig) -> media::ByteOrder {
    match config.l16_byte_order {
        ByteOrder::Little => media::ByteOrder::Little,
        ByteOrder::Big => media::ByteOrder::Big,
    }
}

async fn stopped(inputs: &mut mpsc::Receiver<StreamInput>) {
    loop {
        if let Some(StreamInput::Stop) | None = inputs.recv().await {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l16_audio_to_the_call_is_little_endian_unless_the_setting_says_big() {
        for (config, order) in [
            (StreamsConfig::default(), media::ByteOrder::Little),
            (StreamsConfig { l16_byte_order: ByteOrder::Big, ..StreamsConfig::default() }, media::ByteOrder::Big),
        ] {
            let configured = byte_order(&config);
            for (rate, source) in [
                (SampleRate::Hz8000, media::SourceRate::Hz8000),
                (SampleRate::Hz16000, media::SourceRate::Hz16000),
                (SampleRate::Hz22050, media::SourceRate::Hz22050),
                (SampleRate::Hz24000, media::SourceRate::Hz24000),
                (SampleRate::Hz48000, media::SourceRate::Hz48000),
            ] {
                let codec = source_codec(StreamCodec::L16(rate), configured);
                assert_eq!(codec, media::SourceCodec::L16(source, order));
            }
        }
    }
}

//! The HTTP API and the WebSocket, for the server on the same computer.
//!
//! ```text
//!   GET  /health                     the program runs
//!   GET  /v1/models                  the models, in OpenAI's form
//!   POST /v1/audio/transcriptions    words of a recording (transcriptions.rs)
//!   POST /v1/audio/speech            audio of a text (synthesis.rs)
//!   GET  /v1/listen                  a WebSocket: words of a live call (listen.rs, utterances.rs)
//! ```
//!
//! Each connection has a thread, which waits for the models' threads (jobs.rs).

pub mod engines;
mod incoming;
pub mod jobs;
mod listen;
mod message;
mod multipart;
mod synthesis;
mod transcriptions;
mod utterances;

use std::io::{self, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use serde_json::json;

use self::engines::Engines;
use self::incoming::{Incoming, drain, is_gone};
use self::jobs::{Full, Jobs, Kind};
use self::message::{ReadError, Request, Response};

/// Maximum number of connections. Further ones are closed.
const MAX_CONNECTIONS: usize = 512;
/// Maximum size of a recording, in octets: one hour at 16 kHz with 16 bits.
const MAX_RECORDING: usize = 120 << 20;
/// Maximum size of all recordings that are in memory, in octets. The samples of a recording take at most twice its size.
const MAX_RECORDINGS: usize = 360 << 20;
/// Maximum number of recordings, and of texts, that are in work or wait. The limit is for whole requests, so that none is
/// refused when a part of its work is done. The server has at most 32 texts at a time; those that it has cancelled end a moment later.
const MAX_TRANSCRIPTIONS: usize = 64;
const MAX_TEXTS: usize = 64;
/// Maximum size of a body with a text.
const MAX_TEXT: usize = 128 << 10;
/// Maximum number of hints, and the longest hint in characters.
const MAX_HINTS: usize = 100;
const MAX_HINT: usize = 100;
/// A connection without a request, or whose client sends or reads nothing, is closed after this time.
const STALLED: Duration = Duration::from_secs(30);
/// Time limits for a whole header and for a whole body.
const HEAD: Duration = Duration::from_secs(60);
const BODY: Duration = Duration::from_secs(300);
/// How often a connection that waits for a result looks whether its client is still there.
const GLANCE: Duration = Duration::from_millis(100);

/// The data that the connections share.
pub(crate) struct Service {
    pub(crate) engines: Engines,
    pub(crate) jobs: Jobs,
    /// Requests need this key, if there is one.
    key: Option<String>,
    connections: AtomicUsize,
    /// Octets of recordings in memory.
    recordings: AtomicUsize,
    /// Recordings, and texts, that are in work or wait.
    transcriptions: AtomicUsize,
    texts: AtomicUsize,
}

/// The reason why a computation has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failed {
    /// Too many computations wait.
    Busy,
    /// The model has panicked.
    Broken,
    /// The client has left.
    Gone,
}

/// A status and the text of an error.
pub(crate) type Refusal = (u16, String);

impl Failed {
    /// The answer to the client. `engine` is the subject of the sentence.
    ///
    /// # Errors
    /// The client has left.
    pub(crate) fn refusal(self, engine: &str) -> io::Result<Refusal> {
        match self {
            Self::Busy => Ok((429, "too much work waits".to_owned())),
            Self::Broken => Ok((500, format!("{engine} has failed"))),
            Self::Gone => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }
}

impl Service {
    fn new(engines: Engines, jobs: Jobs, key: Option<String>) -> Self {
        let [connections, recordings, transcriptions, texts] = [const { AtomicUsize::new(0) }; 4];
        Self { engines, jobs, key, connections, recordings, transcriptions, texts }
    }

    /// Computes on a thread of the models, and waits for the result. If the client leaves first, a computation that has not begun
    /// is not made.
    pub(crate) fn compute<T: Send + 'static>(
        &self,
        kind: Kind,
        client: &TcpStream,
        computation: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failed> {
        if is_gone(client) {
            return Err(Failed::Gone);
        }
        let wanted = Arc::new(());
        let is_wanted = Arc::downgrade(&wanted);
        let (sender, result) = mpsc::channel();
        let job = move || {
            if is_wanted.strong_count() > 0 {
                // The connection may have ended in the meantime.
                let _ = sender.send(computation());
            }
        };
        self.jobs.add(kind, job).map_err(|Full| Failed::Busy)?;
        loop {
            match result.recv_timeout(GLANCE) {
                Ok(result) => return Ok(result),
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(Failed::Broken),
                Err(mpsc::RecvTimeoutError::Timeout) if is_gone(client) => return Err(Failed::Gone),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

/// Writes a line to standard error, which may be closed.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "tandem-speech: {text}");
}

/// The server.
pub struct Server {
    listener: TcpListener,
    service: Arc<Service>,
}

impl Server {
    /// Opens the listener. `threads` is the number of threads for the models. With `key`, each request needs the header field
    /// `Authorization: Bearer KEY` or `Token KEY`.
    ///
    /// # Errors
    /// The address is not a loopback address or is in use, or no thread can be started.
    pub fn bind(address: SocketAddr, engines: Engines, threads: usize, key: Option<String>) -> io::Result<Self> {
        if !address.ip().is_loopback() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{address} is not a loopback address")));
        }
        let listener = TcpListener::bind(address)?;
        let jobs = Jobs::start(threads)?;
        Ok(Self { listener, service: Arc::new(Service::new(engines, jobs, key)) })
    }

    /// The address of the listener.
    ///
    /// # Errors
    /// The system does not know it.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves connections for ever.
    pub fn run(self) {
        for stream in self.listener.incoming() {
            let Ok(stream) = stream else {
                // Too many open files, for example. Connections that end make it better.
                thread::sleep(Duration::from_millis(50));
                continue;
            };
            let service = Arc::clone(&self.service);
            let Some(guard) = Guard::take(&service, |service| &service.connections, 1, MAX_CONNECTIONS) else {
                continue;
            };
            let spawned = thread::Builder::new().name("connection".to_owned()).spawn(move || {
                // A connection that fails concerns only its client.
                let _ = serve(&guard.service, stream);
            });
            if spawned.is_err() {
                complain("no thread for a connection");
            }
        }
    }
}

/// A part of a limit, until the value is dropped.
struct Guard {
    service: Arc<Service>,
    counter: fn(&Service) -> &AtomicUsize,
    count: usize,
}

impl Guard {
    fn take(service: &Arc<Service>, counter: fn(&Service) -> &AtomicUsize, count: usize, limit: usize) -> Option<Self> {
        let before = counter(service).fetch_add(count, Ordering::Relaxed);
        let guard = Self { service: Arc::clone(service), counter, count };
        (before + count <= limit).then_some(guard)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        (self.counter)(&self.service).fetch_sub(self.count, Ordering::Relaxed);
    }
}

/// Serves the requests of a connection.
fn serve(service: &Arc<Service>, stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(STALLED))?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(Incoming::new(stream));
    loop {
        reader.get_mut().limit(HEAD);
        let request = match Request::read(&mut reader) {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(()),
            Err(error) => return refuse(error, &mut reader, &mut writer),
        };
        if let Some(refusal) = refusal(service, &request) {
            return finish(&refusal, &mut reader, &mut writer);
        }
        if (request.method.as_str(), request.path.as_str()) == ("GET", "/v1/listen") {
            return upgrade(service, &request, reader, &mut writer);
        }
        if request.field("expect").is_some_and(|expected| expected.eq_ignore_ascii_case("100-continue")) {
            writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        reader.get_mut().limit(BODY);
        match answer(service, &request, &mut reader, &mut writer) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => return refuse(error, &mut reader, &mut writer),
        }
    }
}

/// Answers a request. Returns whether the connection can be used again.
fn answer(
    service: &Arc<Service>,
    request: &Request,
    reader: &mut BufReader<Incoming>,
    writer: &mut TcpStream,
) -> Result<bool, ReadError> {
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", path @ ("/health" | "/v1/models")) => {
            let response =
                if path == "/health" { Response::json(200, &json!({"status": "ok"})) } else { models(service) };
            // Nobody reads the body of such a request, so it would be taken for the next request.
            let keeps = request.keeps && request.length()?.unwrap_or(0) == 0 && !request.is_chunked();
            response.write(writer, keeps)?;
            Ok(keeps)
        }
        ("POST", "/v1/audio/transcriptions") => {
            let response = transcribe(service, request, reader, writer)?;
            response.write(writer, request.keeps)?;
            Ok(request.keeps)
        }
        ("POST", "/v1/audio/speech") => {
            let body = request.body(reader, MAX_TEXT)?;
            Ok(synthesis::answer(service, &body, request, writer)?)
        }
        (_, "/health" | "/v1/models" | "/v1/audio/transcriptions" | "/v1/audio/speech" | "/v1/listen") => {
            Err(ReadError::Bad(405, "the method is not known for this path"))
        }
        _ => Err(ReadError::Bad(404, "there is no such path")),
    }
}

fn transcribe(
    service: &Arc<Service>,
    request: &Request,
    reader: &mut BufReader<Incoming>,
    client: &TcpStream,
) -> Result<Response, ReadError> {
    const FULL: ReadError = ReadError::Bad(429, "too many recordings are in work");
    let _place = Guard::take(service, |service| &service.transcriptions, 1, MAX_TRANSCRIPTIONS).ok_or(FULL)?;
    // The whole length is reserved before a body is read. A body in chunks can have any length.
    let size = request.length()?.unwrap_or(MAX_RECORDING).min(MAX_RECORDING);
    let _memory = Guard::take(service, |service| &service.recordings, size, MAX_RECORDINGS).ok_or(FULL)?;
    let body = request.body(reader, MAX_RECORDING)?;
    let kind = request.field("content-type").unwrap_or_default();
    Ok(transcriptions::answer(service, kind, body, client)?)
}

fn refuse(error: ReadError, reader: &mut BufReader<Incoming>, writer: &mut TcpStream) -> io::Result<()> {
    match error {
        ReadError::Io(error) => Err(error),
        ReadError::Bad(status, message) => finish(&Response::error(status, message), reader, writer),
    }
}

/// Sends a response and ends the connection.
fn finish(response: &Response, reader: &mut BufReader<Incoming>, writer: &mut TcpStream) -> io::Result<()> {
    response.write(writer, false)?;
    writer.shutdown(std::net::Shutdown::Write)?;
    drain(reader.get_mut())
}

/// Returns the response for a request that this program does not take.
fn refusal(service: &Service, request: &Request) -> Option<Response> {
    // A page in a browser on this computer could otherwise use a program without a key.
    if request.field("origin").is_some() {
        return Some(Response::error(403, "requests of web pages are refused"));
    }
    let key = service.key.as_deref()?;
    let given = request.field("authorization").and_then(|value| value.split_once(' '));
    let is_right = given.is_some_and(|(scheme, given)| {
        let is_known = scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token");
        is_known && is_equal(given.trim(), key)
    });
    (!is_right).then(|| Response::error(401, "the key is missing or wrong"))
}

/// Compares in a time that does not depend on the place of the first difference.
fn is_equal(one: &str, other: &str) -> bool {
    let different = one.bytes().zip(other.bytes()).fold(0, |different, (one, other)| different | (one ^ other));
    one.len() == other.len() && different == 0
}

fn models(service: &Service) -> Response {
    let recognition = service.engines.recogniser.names();
    let recognition = recognition.iter().map(|name| json!({"id": name, "object": "model", "owned_by": "tandem"}));
    let voices =
        service.engines.voices.iter().map(|voice| json!({"id": voice.name(), "object": "voice", "owned_by": "tandem"}));
    let data: Vec<_> = recognition.chain(voices).collect();
    Response::json(200, &json!({"object": "list", "data": data}))
}

/// Makes a WebSocket of a connection (RFC 6455 §4.2).
fn upgrade(
    service: &Arc<Service>,
    request: &Request,
    mut reader: BufReader<Incoming>,
    writer: &mut TcpStream,
) -> io::Result<()> {
    let is =
        |name: &str, value: &str| request.field(name).is_some_and(|field| field.to_ascii_lowercase().contains(value));
    let key = request.field("sec-websocket-key").filter(|_| is("upgrade", "websocket") && is("connection", "upgrade"));
    let Some(key) = key else {
        return finish(&Response::error(400, "this path is a WebSocket"), &mut reader, writer);
    };
    let parameters = match listen::Parameters::read(&request.query) {
        Ok(parameters) => parameters,
        Err(error) => return finish(&Response::error(400, &error), &mut reader, writer),
    };
    if let Err(error) = service.engines.recogniser.can(parameters.language()) {
        return finish(&Response::error(400, &error.to_string()), &mut reader, writer);
    }
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    write!(
        writer,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )?;
    let early = reader.buffer().to_vec();
    listen::serve(service, reader.into_inner().into_stream(), early, parameters)
}

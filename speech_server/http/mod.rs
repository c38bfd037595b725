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
pub mod jobs;
mod listen;
mod message;
mod multipart;
mod synthesis;
mod transcriptions;
mod utterances;

use std::io::{self, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;

use self::engines::Engines;
use self::jobs::Jobs;
use self::message::{ReadError, Request, Response};

/// Maximum number of connections. Further ones are closed.
const MAX_CONNECTIONS: usize = 512;
/// Maximum size of a recording, in octets: one hour at 16 kHz with 16 bits.
const MAX_RECORDING: usize = 120 << 20;
/// Maximum size of all recordings that are in memory, in octets.
const MAX_RECORDINGS: usize = 360 << 20;
/// Maximum size of a body with a text.
const MAX_TEXT: usize = 128 << 10;
/// Maximum number of hints, and the longest hint in characters.
const MAX_HINTS: usize = 100;
const MAX_HINT: usize = 100;
/// A connection without a request, or whose client sends or reads nothing, is closed after this time.
const STALLED: Duration = Duration::from_secs(30);

/// The data that the connections share.
pub(crate) struct Service {
    pub(crate) engines: Engines,
    pub(crate) jobs: Jobs,
    /// Requests need this key, if there is one.
    key: Option<String>,
    connections: AtomicUsize,
    /// Octets of recordings in memory.
    recordings: AtomicUsize,
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
        let service = Service { engines, jobs, key, connections: AtomicUsize::new(0), recordings: AtomicUsize::new(0) };
        Ok(Self { listener, service: Arc::new(service) })
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
                eprintln!("tandem-speech: no thread for a connection");
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
    stream.set_read_timeout(Some(STALLED))?;
    stream.set_write_timeout(Some(STALLED))?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let request = match Request::read(&mut reader) {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(()),
            Err(error) => return refuse(error, &mut reader, &mut writer),
        };
        if let Some(refusal) = refusal(service, &request) {
            return finish(&refusal, &mut reader, &mut writer);
        }
        if request.field("expect").is_some_and(|expected| expected.eq_ignore_ascii_case("100-continue")) {
            writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let keeps = match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/health") => respond(&Response::json(200, &json!({"status": "ok"})), &request, &mut writer)?,
            ("GET", "/v1/models") => respond(&models(service), &request, &mut writer)?,
            ("POST", "/v1/audio/transcriptions") => {
                // The whole length is reserved before a body is read. A body in chunks can have any length.
                let size = match request.length() {
                    Ok(length) => length.unwrap_or(MAX_RECORDING),
                    Err(error) => return refuse(error, &mut reader, &mut writer),
                };
                let Some(_guard) =
                    Guard::take(service, |service| &service.recordings, size.min(MAX_RECORDING), MAX_RECORDINGS)
                else {
                    let full = Response::error(429, "too many recordings are in memory");
                    return finish(&full, &mut reader, &mut writer);
                };
                let body = match request.body(&mut reader, MAX_RECORDING) {
                    Ok(body) => body,
                    Err(error) => return refuse(error, &mut reader, &mut writer),
                };
                let kind = request.field("content-type").unwrap_or_default();
                respond(&transcriptions::answer(service, kind, &body), &request, &mut writer)?
            }
            ("POST", "/v1/audio/speech") => {
                let body = match request.body(&mut reader, MAX_TEXT) {
                    Ok(body) => body,
                    Err(error) => return refuse(error, &mut reader, &mut writer),
                };
                synthesis::answer(service, &body, &mut writer, request.keeps)?
            }
            ("GET", "/v1/listen") => return upgrade(service, &request, reader, &mut writer),
            (_, "/health" | "/v1/models" | "/v1/audio/transcriptions" | "/v1/audio/speech" | "/v1/listen") => {
                let wrong = Response::error(405, "the method is not known for this path");
                return finish(&wrong, &mut reader, &mut writer);
            }
            (_, path) => {
                return finish(&Response::error(404, &format!("there is no {path}")), &mut reader, &mut writer);
            }
        };
        if !keeps {
            return Ok(());
        }
    }
}

fn respond(response: &Response, request: &Request, writer: &mut TcpStream) -> io::Result<bool> {
    response.write(writer, request.keeps)?;
    Ok(request.keeps)
}

fn refuse(error: ReadError, reader: &mut BufReader<TcpStream>, writer: &mut TcpStream) -> io::Result<()> {
    match error {
        ReadError::Io(error) => Err(error),
        ReadError::Bad(status, message) => finish(&Response::error(status, message), reader, writer),
    }
}

/// Sends a response and ends the connection. What the client still sends is read for a moment: otherwise the system would reset the
/// connection, and the client would not see the response.
fn finish(response: &Response, reader: &mut BufReader<TcpStream>, writer: &mut TcpStream) -> io::Result<()> {
    response.write(writer, false)?;
    writer.shutdown(std::net::Shutdown::Write)?;
    reader.get_ref().set_read_timeout(Some(Duration::from_secs(1)))?;
    io::copy(&mut reader.take(MAX_RECORDING as u64), &mut io::sink())?;
    Ok(())
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
    mut reader: BufReader<TcpStream>,
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
    listen::serve(service, reader.into_inner(), early, parameters)
}

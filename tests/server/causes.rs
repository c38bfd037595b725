//! Provokes the causes of the table of causes, and checks that each is in the list of errors with its advice and in the
//! metrics. A problem of a call is also in the report of its call. [`provocation`] says for each cause what provokes the
//! cause. `every_cause_names_the_way_to_provoke_it` prints this table: `cargo test --test server every_cause -- --nocapture`.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use serde_json::{Value, json};
use tandem_causes::Cause;
use tandem_test_support::{try_wait_for, wait_until};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::app::App;
use crate::browser::{ALICE, Browser};
use crate::log::PATIENCE;
use crate::phone::{Phone, SipEvent};
use crate::test_server::{ACCOUNT_SID, API_KEY, Api, TestServer, basic, inline};

/// The address of the callers that reach the numbers of every account.
const CALLERS: &str = "127.0.17.6";
/// Maximum number of calls that meet a cause at the same time.
const CALLS_AT_A_TIME: usize = 12;
/// The causes that [`act_on_another`] provokes.
const OF_THE_OTHER_SERVER: [Cause; 6] = [
    Cause::Stranger,
    Cause::NoAudio,
    Cause::AudioStopped,
    Cause::SpeechToTextFailed,
    Cause::FarEndLost,
    Cause::DatabaseAway,
];
/// The number whose account is removed while a call is live.
const GONE: &str = "110";
/// The number of a connection whose channel limit is 0.
const LIMITED: &str = "+15557770001";

/// The way in which a cause is provoked.
enum Provocation {
    /// A call to a number of this server whose document has this URL.
    Voice(String),
    /// A call to a number of this server with this document.
    Document(String),
    /// A call to a number with these other settings of the number.
    Number(String),
    /// Something else that this walk does. The text says in words what the walk does.
    Act(&'static str),
    /// Another test provokes the cause, because no call to a server could, or not soon enough. The first text is the file,
    /// the second the test.
    Test(&'static str, &'static str),
}

use Provocation::{Act, Document, Number, Test, Voice};

/// The far ends that misbehave.
#[derive(Clone, Copy)]
struct Stage {
    /// An HTTP and WebSocket server. The path says how it misbehaves.
    bad: SocketAddr,
    /// An address where nothing listens.
    closed: SocketAddr,
    /// An address where connections are not accepted.
    full: SocketAddr,
    /// A server that refuses every TLS handshake.
    tls: SocketAddr,
    /// An HTTPS server whose certificate no authority has signed.
    self_signed: SocketAddr,
    /// The far ends of trunks. The called number says with which status a call is refused.
    carrier: SocketAddr,
    /// A phone that refuses calls. The user of its URI says with which status.
    callee: SocketAddr,
}

fn provocation(cause: Cause, stage: &Stage) -> Provocation {
    let Stage { bad, closed, full, tls, self_signed, callee, .. } = stage;
    let voice = |path: &str| Voice(format!("http://{bad}/{path}"));
    let document = |text: &str| Document(format!("<Response>{text}</Response>"));
    let stream = |url: String| Document(format!("<Response><Connect><Stream url=\"{url}\"/></Connect></Response>"));
    let dial =
        |number: &str| Document(format!("<Response><Dial callerId=\"{}\">{number}</Dial></Response>", number_of(0)));
    let script =
        |path: &str| Number(format!("account = \"acme\"\nprovider = \"swml\"\nvoice_url = \"http://{bad}/{path}\"\n"));
    match cause {
        Cause::ConnectionRefused => Voice(format!("http://{closed}/")),
        Cause::ConnectTimeout => Voice(format!("http://{full}/#ct=200")),
        Cause::NameNotResolved => Voice("http://nobody.invalid/".to_owned()),
        Cause::PrivateAddress => voice("private"),
        Cause::BadUrl => document("<Redirect>ftp://files.example/x</Redirect>"),
        Cause::Timeout => voice("silent#rt=200"),
        Cause::ConnectionLost => voice("lost"),
        Cause::TooManyRedirects => voice("around"),
        Cause::NotHttp => voice("no-http"),
        Cause::TlsToPlainHttp => Voice(format!("https://{bad}/")),
        Cause::TlsUnknownIssuer => Voice(format!("https://{self_signed}/")),
        Cause::TlsFailed => Voice(format!("https://{tls}/")),
        Cause::Status400 => voice("400"),
        Cause::Status401 => voice("401"),
        Cause::Status403 => voice("403"),
        Cause::Status404 => voice("404"),
        Cause::Status405 => voice("405"),
        Cause::Status415 => voice("415"),
        Cause::RedirectedToGet => voice("to-get"),
        Cause::Status5xx => voice("500"),
        Cause::StatusOther => voice("418"),
        Cause::EmptyAnswer => voice("empty"),
        Cause::HtmlAnswer => voice("html"),
        Cause::JsonAnswer => voice("json"),
        Cause::ContentType => voice("png"),
        Cause::NotXml => voice("not-xml"),
        Cause::WrongRoot => voice("root"),
        Cause::OtherProvider => voice("script-step"),
        Cause::TooLarge => voice("large"),
        Cause::DocumentLoop => voice("again"),
        Cause::ScriptWork => script("script-work"),
        Cause::ScriptStep => script("script-step"),
        Cause::ScriptSyntax => script("script-syntax"),
        Cause::ScriptInvalid => script("script-invalid"),
        Cause::ScriptUnanswered => script("script-unanswered"),
        Cause::UnknownMarkup => document("<Sing/><Hangup/>"),
        Cause::NotServed => document("<Pay/><Hangup/>"),
        Cause::MediaMissing => document(&format!("<Play>http://{bad}/404</Play>")),
        Cause::MediaUnusable => document(&format!("<Play>http://{bad}/500</Play>")),
        Cause::NoVoice => document("<Say>Hello.</Say>"),
        Cause::SpeechToTextOff => document("<Gather input=\"speech\" timeout=\"1\"/>"),
        Cause::SpeechNotInstalled => {
            Test("tests/server/speech.rs", "the_first_use_of_a_missing_local_engine_names_the_command_that_installs_it")
        }
        Cause::LocalSpeechBusy => Test(
            "control/speech/local_tests.rs",
            "espeak_speaks_other_languages_and_the_texts_that_a_busy_program_refuses",
        ),
        Cause::LocalSpeechDown => {
            Test("tests/server/speech.rs", "the_local_engine_recognises_a_caller_and_its_death_ends_no_call")
        }
        Cause::VoiceReplaced => {
            Test("tests/server/speech.rs", "espeak_speaks_and_the_cause_is_known_if_the_program_of_the_voice_fails")
        }
        Cause::SpeechToTextFailed => Act("a server whose speech engine is down recognises speech"),
        Cause::ModelFailed => Number("account = \"acme\"\nagent = \"dead\"\n".to_owned()),
        Cause::ToolFailed => Test("control/agent/responder_tests.rs", "a_failed_tool_is_reported_to_the_call"),
        Cause::AgentInvalid => {
            Test("control/causes/tests.rs", "an_agent_that_no_entry_names_and_an_invalid_definition_have_their_causes")
        }
        Cause::AgentUnknown => document("<Connect><Agent name=\"nobody\"/></Connect>"),
        Cause::RecordingFailed => Act("the folder of recordings is away, and a call records"),
        Cause::CodecUnknown => document(&format!("<Dial><Sip>sip:488@{callee}</Sip></Dial>")),
        Cause::AddressFamily => Act("an INVITE has an IPv6 address for its audio, and the server has IPv4 only"),
        Cause::SrtpMismatch => Act("an INVITE demands SRTP, which is off"),
        Cause::NoAudio => Act("a phone sends no RTP"),
        Cause::AudioStopped => Act("a phone stops sending RTP"),
        Cause::MediaAddressRefused => {
            Test("media/engine/tests.rs", "a_remote_far_end_cannot_direct_our_audio_to_this_host")
        }
        Cause::AudioFromElsewhere => {
            Test("control/metrics/quality.rs", "missing_audio_and_audio_from_another_address_are_reported")
        }
        Cause::StreamRefused => stream(format!("ws://{closed}/")),
        Cause::StreamTimeout => stream(format!("ws://{bad}/silent")),
        Cause::StreamHandshake => stream(format!("ws://{bad}/404")),
        Cause::StreamProtocol => stream(format!("ws://{bad}/ws-garbage")),
        Cause::StreamBroken => stream(format!("ws://{bad}/ws-reset")),
        Cause::StreamClosed => stream(format!("ws://{bad}/ws-close")),
        Cause::StreamScheme => stream(format!("http://{bad}/")),
        Cause::StreamMessage => stream(format!("ws://{bad}/ws-nonsense")),
        Cause::StreamInternal => Act("an account is removed from the configuration, and then its call opens a stream"),
        Cause::UnknownNumber => Act("a call to a number that no account has"),
        Cause::WrongSipPassword => Act("a REGISTER with a wrong password"),
        Cause::AccessToken => Act("a page sends an access token with a wrong signature"),
        Cause::Stranger => Act("a call from an address that belongs to no trunk"),
        Cause::NoTrunk => document("<Dial>+44201</Dial>"),
        Cause::TrunkSilent => document("<Dial timeout=\"1\" callerId=\"+15550200000\">+36201</Dial>"),
        Cause::TrunkRefused => dial("+39404"),
        Cause::TrunkUnreachable => dial("+33201"),
        Cause::TrunkTls => dial("+37201"),
        Cause::TrunkDown => Act("a trunk answers OPTIONS with 503"),
        Cause::RegistrarSilent => Act("nothing listens at the registrar of a trunk"),
        Cause::TrunkNotRegistered => Act("the registrar of a trunk answers 403"),
        Cause::TrunkFull => dial("<Number>+34180</Number><Number>+34181</Number>"),
        Cause::CertificateExpires => Act("the server's certificate expires in 5 days"),
        Cause::SigningCertificate => Act("nothing listens at the URL of the certificate of the key that signs calls"),
        Cause::NotRegistered => document("<Dial><Client>ghost</Client></Dial>"),
        Cause::CalleeRefused => document(&format!("<Dial><Sip>sip:403@{callee}</Sip></Dial>")),
        Cause::ForeignCallerId => document("<Dial callerId=\"+18885550000\">+33201</Dial>"),
        Cause::NotVerified => Act("a call without an Identity header from a trunk that must sign its calls"),
        Cause::CallLimit => Act("a call to a connection whose channel limit is 0"),
        Cause::TransferFailed => document("<Refer><Sip>sip:other@127.0.0.1</Sip></Refer>"),
        Cause::FarEndLost => Act("a phone never acknowledges the answer to its call"),
        Cause::MediaConnection => Test("media/engine/tests/webrtc.rs", "a_browser_that_never_comes_is_reported"),
        Cause::SiprecFailed => document("<Start><Siprec connectorName=\"nobody\"/></Start><Pause length=\"1\"/>"),
        Cause::ConferenceRefused => Act("three callers enter a conference of two"),
        Cause::QueueRefused => Act("two callers enter a queue of one"),
        Cause::CallFailed => Act("a call with a broken SDP"),
        Cause::WrongCredentials => Act("a REST request with a wrong password"),
        Cause::RequestRefused => Act("a REST request without its parameters"),
        Cause::DatabaseAway => Act("the file of the database is moved away"),
        Cause::DatabaseLockLost => {
            Test("control/store/health.rs", "each_new_reason_is_reported_once_with_the_cause_of_its_check")
        }
        Cause::BusAway => {
            Test("tests/server/cluster.rs", "without_the_bus_a_node_takes_calls_and_answers_503_for_calls_of_others")
        }
        Cause::NodeDied => Test(
            "tests/server/cluster.rs",
            "any_node_answers_requests_about_a_call_and_the_living_nodes_end_the_calls_of_a_dead_node",
        ),
        Cause::BucketAway => {
            Test("tests/server/recordings.rs", "a_recording_waits_on_the_disk_and_is_served_while_its_bucket_is_away")
        }
        Cause::DiskFull => Act("the folder of recordings is away"),
        Cause::MediaFull => {
            Test("tests/server/overload.rs", "an_overloaded_media_thread_refuses_new_calls_until_its_load_falls")
        }
        Cause::UnusedParameter => Test("tests/server/providers.rs", "an_unused_parameter_causes_a_note"),
        Cause::ReadLimit => {
            Test("control/store/tests/limits.rs", "slow_lists_of_sqlite_end_and_do_not_delay_other_queries")
        }
        Cause::DiskSlow => Test(
            "media/writer/tests.rs",
            "blocked_files_do_not_delay_other_recordings_and_their_lost_audio_is_counted_silence",
        ),
        Cause::Shutdown => Act("the server hangs up its calls"),
        Cause::Crash => {
            Test("tests/server/crash.rs", "a_killed_recorded_call_ends_with_its_real_times_and_one_webhook")
        }
    }
}

/// Serves the misbehaving paths. Each connection gets one answer. The answer for `/gate` waits for a permit.
async fn misbehave(listener: TcpListener, gate: Arc<Semaphore>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer(stream, Arc::clone(&gate)));
    }
}

async fn answer(mut stream: TcpStream, gate: Arc<Semaphore>) {
    let mut head = Vec::new();
    let mut octet = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut octet).await.is_ok() {
        head.push(octet[0]);
        if head == [0x16] {
            // A TLS handshake. A server of plain HTTP answers in HTTP.
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
            return;
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let field = |name: &str| {
        let mut fields = head.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
    };
    // A connection that is closed before its request was read would be reset.
    let mut body = vec![0; field("Content-Length").map_or(0, |length| length.parse().unwrap())];
    let _ = stream.read_exact(&mut body).await;
    let path = head.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    if let Some(how) = path.strip_prefix("ws-") {
        let key = derive_accept_key(field("Sec-WebSocket-Key").unwrap().as_bytes());
        return upgrade(stream, &key, how).await;
    }
    let raw = match path.as_str() {
        "silent" => return std::future::pending().await,
        "gate" => {
            gate.acquire().await.unwrap().forget();
            "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n".to_owned()
        }
        "no-http" => "220 mail.example ESMTP\r\n".to_owned(),
        "lost" => "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n<Resp".to_owned(),
        "around" => "HTTP/1.1 302 Found\r\nLocation: /around\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "to-get" => "HTTP/1.1 302 Found\r\nLocation: /405\r\nContent-Length: 0\r\n\r\n".to_owned(),
        path => document(path),
    };
    let _ = stream.write_all(raw.as_bytes()).await;
}

/// Returns the response with the document at a path, or with the status that the path names.
fn document(path: &str) -> String {
    let xml = |body: &str| ("200 OK", "text/xml", body.to_owned());
    let script = |steps: &str| ("200 OK", "application/json", format!("{{\"sections\":{{\"main\":[{steps}]}}}}"));
    let (status, kind, body) = match path {
        "empty" => xml(""),
        "html" => ("200 OK", "text/html", "<!DOCTYPE html><html><body>Log in</body></html>".to_owned()),
        "json" => ("200 OK", "application/json", "{\"a\": 1}".to_owned()),
        "png" => ("200 OK", "image/png", "PNG".to_owned()),
        "not-xml" => xml("<Response><Say>Hello</Response>"),
        "root" => xml("<Answer/>"),
        "large" => xml(&format!("<Response><!-- {} --></Response>", "x".repeat(70_000))),
        "private" => xml("<Response><Redirect>http://10.0.0.1/</Redirect></Response>"),
        "again" => xml("<Response><Redirect>/again</Redirect></Response>"),
        "script-work" => script(&format!("{{\"play\":{{\"urls\":[{}\"x\"]}}}}", "\"a\",".repeat(40_000))),
        "script-step" => script("{\"set\":{\"x\":\"${1 +}\"}},\"hangup\""),
        "script-syntax" => script("\"hangup\",,"),
        "script-invalid" => script("{\"nonsense\":{}}"),
        "script-unanswered" => script("{\"set\":{\"x\":1}}"),
        path => (path, "text/plain", "no".to_owned()),
    };
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

/// Completes the handshake of a WebSocket, and then misbehaves.
async fn upgrade(mut stream: TcpStream, key: &str, how: &str) {
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {key}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let wrong: &[u8] = match how {
        // A text message that is no JSON (RFC 6455 §5.2: FIN, text, the length).
        "nonsense" => b"\x81\x08nonsense",
        // A close frame with code 1011 (internal error).
        "close" => b"\x88\x02\x03\xf3",
        // The reserved bits must be 0.
        "garbage" => &[0xff; 16],
        // The connection ends with RST instead of FIN, after the first message of the server.
        "reset" => {
            stream.read_exact(&mut [0]).await.unwrap();
            return stream.set_zero_linger().unwrap();
        }
        how => panic!("{how}"),
    };
    stream.write_all(wrong).await.unwrap();
    let mut rest = [0; 4_096];
    while stream.read(&mut rest).await.is_ok_and(|length| length > 0) {}
}

/// Refuses every TLS handshake with a fatal alert: handshake_failure.
async fn refuse_tls(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut hello = [0; 64];
        let _ = stream.read(&mut hello).await;
        let _ = stream.write_all(&[0x15, 3, 3, 0, 2, 2, 40]).await;
    }
}

/// Makes TLS handshakes with a certificate that no authority has signed.
async fn sign_oneself(listener: TcpListener) {
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["127.0.17.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(vec![own.der().clone()], key).unwrap()));
    while let Ok((stream, _)) = listener.accept().await {
        let _ = acceptor.accept(stream).await;
    }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.17.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Starts a far end at this address that refuses every SIP request. The last three digits of the called user are the
/// status, or 403 if the request names no user. OPTIONS gets 503. A call to a user that ends in 180 rings until the
/// server cancels the call. A call to a user that ends in 201 gets no answer.
async fn far_end(address: &str) -> SocketAddr {
    let socket = UdpSocket::bind(address).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut datagram = [0; 8_192];
        while let Ok((length, from)) = socket.recv_from(&mut datagram).await {
            for answer in refusals(&String::from_utf8_lossy(&datagram[..length])) {
                let _ = socket.send_to(answer.as_bytes(), from).await;
            }
        }
    });
    address
}

/// The answers of a [`far_end`] to a request.
fn refusals(request: &str) -> Vec<String> {
    let mut words = request.split(' ');
    let (method, uri) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let user = uri.split_once(':').and_then(|(_, rest)| rest.split_once('@')).map(|(user, _)| user);
    let answer = |status: &str, method: &str| {
        let lines =
            request.lines().take_while(|line| !line.is_empty()).filter_map(|line| match line.split_once(':')? {
                ("CSeq", value) => Some(format!("CSeq: {} {method}\r\n", value.split_whitespace().next()?)),
                ("To", value) if !value.contains(";tag=") => Some(format!("To:{value};tag=t\r\n")),
                ("Via" | "From" | "To" | "Call-ID", _) => Some(format!("{line}\r\n")),
                _ => None,
            });
        format!("SIP/2.0 {status} No\r\n{}Content-Length: 0\r\n\r\n", lines.collect::<String>())
    };
    match (method, user.and_then(|user| user.get(user.len().checked_sub(3)?..))) {
        ("ACK", _) | (_, Some("201")) => Vec::new(),
        ("CANCEL", _) => vec![answer("200", "CANCEL"), answer("487", "INVITE")],
        ("OPTIONS", _) => vec![answer("503", method)],
        (_, status) => vec![answer(status.unwrap_or("403"), method)],
    }
}

/// Sends a REGISTER with a wrong password for the user alice.
async fn register_wrongly(server: SocketAddr) {
    let socket = UdpSocket::bind("127.0.17.3:0").await.unwrap();
    let own = socket.local_addr().unwrap();
    let send = |cseq: u8, more: String| {
        let text = format!(
            "REGISTER sip:{server} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKw{cseq}\r\nMax-Forwards: 70\r\n\
             From: <sip:alice@{server}>;tag=1\r\nTo: <sip:alice@{server}>\r\nCall-ID: w@{own}\r\n\
             CSeq: {cseq} REGISTER\r\nContact: <sip:alice@{own}>\r\n{more}Content-Length: 0\r\n\r\n"
        );
        let socket = &socket;
        async move { socket.send_to(text.as_bytes(), server).await.unwrap() }
    };
    send(1, String::new()).await;
    let mut datagram = [0; 4_096];
    let length = tokio::time::timeout(PATIENCE, socket.recv(&mut datagram)).await.unwrap().unwrap();
    let challenge = String::from_utf8_lossy(&datagram[..length]).into_owned();
    let value =
        |name: &str| challenge.split(&format!("{name}=\"")).nth(1).unwrap().split('"').next().unwrap().to_owned();
    let (realm, nonce) = (value("realm"), value("nonce"));
    let digest = format!(
        "Authorization: Digest username=\"alice\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"sip:{server}\", \
         response=\"{}\", qop=auth, nc=00000001, cnonce=\"c\"\r\n",
        "0".repeat(32)
    );
    send(2, digest).await;
}

/// Sends the token of a page, which no key has signed.
async fn log_in_wrongly(server: SocketAddr) {
    let stream = TcpStream::connect(server).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(format!("ws://{server}/signal"), stream).await.unwrap();
    let listen = r#"{"type":"listen","payload":{"token":"e30.e30.e30"}}"#;
    futures_util::SinkExt::send(&mut socket, listen.into()).await.unwrap();
    // The socket stays open until the server has read the frame.
    tokio::spawn(
        async move { while futures_util::StreamExt::next(&mut socket).await.is_some_and(|read| read.is_ok()) {} },
    );
}

/// Sends an INVITE with this SDP, and nothing after the INVITE: no ACK and no RTP.
async fn invite_only(server: SocketAddr, number: &str, sdp: &str) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let own = socket.local_addr().unwrap();
    let text = format!(
        "INVITE sip:{number}@{server} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKonly\r\nMax-Forwards: 70\r\n\
         From: <sip:+15550001111@{own}>;tag=1\r\nTo: <sip:{number}@{server}>\r\nCall-ID: only@{own}\r\n\
         CSeq: 1 INVITE\r\nContact: <sip:phone@{own}>\r\nContent-Type: application/sdp\r\n\
         Content-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    );
    socket.send_to(text.as_bytes(), server).await.unwrap();
    // The socket stays open, because the server would learn from ICMP that the socket is closed.
    tokio::spawn(async move { while socket.recv(&mut [0; 4_096]).await.is_ok() {} });
}

/// Waits until the list of errors has an error with this cause, and returns the error.
async fn error(api: Api, cause: Cause) -> Value {
    let found = find_error(api, cause).await;
    found.unwrap_or_else(|| panic!("{cause} is not in the list of errors"))
}

async fn find_error(api: Api, cause: Cause) -> Option<Value> {
    let path = format!("/console/errors?limit=100&cause={cause}");
    let first = async || {
        let reply = api.get(&path).await;
        let is_found = reply.status == 200;
        is_found.then(|| reply.json()["errors"].as_array()?.first().cloned()).flatten()
    };
    let error = try_wait_for(PATIENCE, first).await?;
    assert!(error["advice"].as_str().is_some_and(|advice| !advice.is_empty()), "{error}");
    Some(error)
}

/// The number whose calls meet the cause at this place of the table.
fn number_of(place: usize) -> String {
    format!("+1555020{place:04}")
}

/// Returns the settings of the numbers whose calls meet a cause, and each cause with its number.
fn numbers(stage: &Stage) -> (String, Vec<(Cause, String)>) {
    let (mut settings, mut called) = (String::new(), Vec::new());
    for (place, cause) in Cause::ALL.into_iter().enumerate() {
        let more = match provocation(cause, stage) {
            Voice(url) => format!("account = \"acme\"\nvoice_url = \"{url}\"\n"),
            Document(text) => format!("account = \"acme\"\ntwiml = '''{text}'''\n"),
            Number(more) => more,
            Act(_) | Test(..) => continue,
        };
        settings.push_str(&format!("[[numbers]]\nnumber = \"{}\"\n{more}", number_of(place)));
        called.push((cause, number_of(place)));
    }
    (settings, called)
}

/// The other settings of the server whose calls meet the causes. `folder` gets the files that the settings name.
fn settings(stage: &Stage, folder: &Path) -> String {
    let Stage { closed, tls, carrier, .. } = stage;
    let file = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    // The certificate is its own authority, and expires in 5 days.
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let end = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC) + 5 * jiff::Span::new().days(1);
    let (month, day) = (end.month().try_into().unwrap(), end.day().try_into().unwrap());
    params.not_after = rcgen::date_time_ymd(end.year().into(), month, day);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = file("own.pem", params.self_signed(&key).unwrap().pem());
    let key = file("own.key", key.serialize_pem());
    let numbers = [
        inline("100", "<Response><Gather timeout=\"60\"/></Response>"),
        inline("101", "<Response><Record playBeep=\"false\"/></Response>"),
        inline("102", "<Response><Dial><Conference maxParticipants=\"2\">small</Conference></Dial></Response>"),
        inline("103", "<Response><Enqueue>full</Enqueue></Response>"),
    ]
    .concat();
    format!(
        "[speech]\ntts = \"off\"\nstt = \"off\"\n[twilio]\nstrict_caller_id = true\n\
         [stir]\ntrust = \"{certificate}\"\nkey = \"{key}\"\ncertificate_url = \"https://{closed}/c.pem\"\n\
         [[sip.certificates]]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n\
         [[trunks]]\nname = \"away\"\nuri = \"sip:{closed};transport=tcp\"\nprefixes = [\"+33\"]\n\
         username = \"u\"\npassword = \"secret of the trunk\"\nregister = true\n\
         [[trunks]]\nname = \"carrier\"\nuri = \"sip:{carrier}\"\nprefixes = [\"+36\", \"+39\"]\n\
         inbound_from = [\"{CALLERS}/32\"]\n\
         [[trunks]]\nname = \"narrow\"\nuri = \"sip:{carrier}\"\nprefixes = [\"+34\"]\nmax_calls = 1\n\
         [[trunks]]\nname = \"down\"\nuri = \"sip:{carrier}\"\nprefixes = [\"+35\"]\noptions_interval = 1\n\
         username = \"u\"\npassword = \"secret of the trunk\"\nregister = true\n\
         [[trunks]]\nname = \"tls\"\nuri = \"sip:{tls};transport=tls\"\nprefixes = [\"+37\"]\n\
         [[trunks]]\nname = \"signed\"\ninbound_from = [\"127.0.17.4/32\"]\nstir = {{ verify = \"require\" }}\n\
         [[endpoints]]\naccount = \"acme\"\nusername = \"alice\"\npassword = \"secret of alice\"\n\
         [[agents]]\nname = \"dead\"\nprompt = \"Be kind.\"\nmodel = {{ url = \"ws://{closed}/v1/realtime\" }}\n\
         [[number_pool]]\nnumber = \"{LIMITED}\"\n\
         {numbers}"
    )
}

/// The settings of the account that is removed while a call of the account is live.
fn of_gone(stage: &Stage) -> String {
    let Stage { bad, closed, .. } = stage;
    format!(
        "[[accounts]]\nname = \"gone\"\n\
         twilio = {{ account_sid = \"AC00000000000000000000000000000002\", auth_token = \"of the gone account\" }}\n\
         [[numbers]]\nnumber = \"{GONE}\"\naccount = \"gone\"\n\
         twiml = '''<Response><Play>http://{bad}/gate</Play><Connect><Stream url=\"ws://{closed}/\"/></Connect>\
         </Response>'''\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_cause_appears_with_advice_in_the_errors_the_call_and_the_metrics() {
    let gate = Arc::new(Semaphore::new(0));
    let ((misbehaving, bad), (refusing, tls)) = (listener().await, listener().await);
    let ((alone, self_signed), closed) = (listener().await, listener().await.1);
    tokio::spawn(misbehave(misbehaving, Arc::clone(&gate)));
    tokio::spawn(refuse_tls(refusing));
    tokio::spawn(sign_oneself(alone));
    // The queue of this socket is full after two connections, and nobody accepts them.
    let full = TcpSocket::new_v4().unwrap();
    full.bind("127.0.17.1:0".parse().unwrap()).unwrap();
    let listening = full.listen(1).unwrap();
    let full = listening.local_addr().unwrap();
    let mut filling = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(full)).await {
        filling.push(stream);
    }
    let (carrier, callee) = (far_end("127.0.17.1:0").await, far_end("127.0.17.5:0").await);
    let stage = Stage { bad, closed, full, tls, self_signed, carrier, callee };
    let folder = TempDir::new().unwrap();
    let (numbers, called) = numbers(&stage);
    let more = [settings(&stage, folder.path()), numbers].concat();
    let sockets = "udp://127.0.0.1:0, tcp://127.0.0.1:0, tls://127.0.0.1:0";
    // Only an operator's account sees the errors of the other accounts.
    let all = [&*more, &of_gone(&stage)].concat();
    let test_server =
        TestServer::start_as(&[("TANDEM_SIP__LISTEN", sockets)], &all, |config| config.accounts[0].operator = true)
            .await;

    let acts = Cause::ALL.into_iter().filter(|cause| matches!(provocation(*cause, &stage), Act(_)));
    let (here, there): (Vec<Cause>, Vec<Cause>) = acts.partition(|cause| !OF_THE_OTHER_SERVER.contains(cause));
    let acts = async {
        let phones = act(&test_server, &more, &all, &gate).await;
        for cause in here.iter().filter(|cause| **cause != Cause::Shutdown) {
            error(test_server.api, *cause).await;
        }
        drop(phones);
    };
    tokio::join!(meet(&test_server, &called), acts, act_on_another(closed, &there));
    test_server.calls().hangup_all();
    error(test_server.api, Cause::Shutdown).await;
    counted(test_server.api, called.iter().map(|(cause, _)| *cause).chain(here)).await;
    test_server.end().await;
}

/// Waits until this cause is in the metrics.
async fn until_counted(api: Api, cause: Cause) {
    let none = format!("\ntandem_problems_total{{cause=\"{cause}\"}} 0\n");
    let is_counted = async || !String::from_utf8(api.get("/metrics").await.body).unwrap().contains(&none);
    wait_until(PATIENCE, &format!("{cause} is counted"), is_counted).await;
}

/// Checks that these causes are in the metrics.
async fn counted(api: Api, causes: impl IntoIterator<Item = Cause>) {
    let metrics = String::from_utf8(api.get("/metrics").await.body).unwrap();
    for cause in causes {
        let (line, none) = (format!("\ntandem_problems_total{{cause=\"{cause}\"}} "), format!("\"{cause}\"}} 0\n"));
        assert!(metrics.contains(&line) && !metrics.contains(&none), "{cause} is not counted");
    }
}

/// Calls the numbers. Each call must meet its cause, and the report of the call must have the cause.
async fn meet(test_server: &TestServer, called: &[(Cause, String)]) {
    let (api, server) = (test_server.api, test_server.udp);
    let (turns, mut calls, local) = (Arc::new(Semaphore::new(CALLS_AT_A_TIME)), JoinSet::new(), LocalSet::new());
    for (cause, number) in called.iter().cloned() {
        let turns = Arc::clone(&turns);
        let call = async move {
            let _turn = turns.acquire().await.unwrap();
            let phone = Phone::at(CALLERS).await;
            phone.invite(server, &number).await;
            let Some(error) = find_error(api, cause).await else {
                let calls = api.get(&format!("/console/calls?to={}", number.replace('+', "%2B"))).await.json();
                let errors = api.get("/console/errors?limit=100").await.json();
                panic!("{cause} is not in the list of errors. The call: {calls}. The errors: {errors}");
            };
            let call = error["session"].as_str().unwrap_or_else(|| panic!("{cause} belongs to no call: {error}"));
            let story = api.get(&format!("/console/calls/{call}")).await.json();
            let has = |list: &str| story[list].as_array().unwrap().iter().any(|row| row["cause"] == cause.id());
            assert!(has("errors") && has("timeline"), "{cause} is not in the report of its call: {story}");
        };
        calls.spawn_local_on(call, &local);
    }
    let mut failed = 0;
    while let Some(met) = local.run_until(calls.join_next()).await {
        failed += usize::from(met.is_err());
    }
    assert_eq!(failed, 0, "calls did not meet their causes");
}

/// Provokes the causes that need more than a call to a number. Returns the phones, which must live until the causes are
/// in the list of errors.
async fn act(test_server: &TestServer, more: &str, all: &str, gate: &Semaphore) -> Vec<Phone> {
    let api = test_server.api;
    assert_eq!(api.get_as(&basic("nobody", "x"), "/2010-04-01/Accounts.json").await.status, 401);
    assert_eq!(api.post("/Calls.json", "To=%2B15550000001").await.status, 400);
    register_wrongly(test_server.udp).await;
    log_in_wrongly(test_server.api.0).await;
    invite_only(test_server.udp, "100", "nonsense").await;
    let sdp = |family: &str, host: &str, profile: &str| {
        format!(
            "v=0\r\no=- 1 1 IN {family} {host}\r\ns=-\r\nc=IN {family} {host}\r\nt=0 0\r\nm=audio 4000 {profile} 0\r\n"
        )
    };
    invite_only(test_server.udp, "100", &sdp("IP6", "::1", "RTP/AVP")).await;
    invite_only(test_server.udp, "100", &sdp("IP4", "127.0.0.1", "RTP/SAVP")).await;
    let mut phones = Vec::new();
    for (number, status) in [("999999", 404), (limited(api).await, 486)] {
        let mut phone = Phone::new().await;
        phone.invite(test_server.udp, number).await;
        assert_eq!(phone.outcome().await, status, "{number}");
    }
    let mut unsigned = Phone::at("127.0.17.4").await;
    unsigned.invite(test_server.udp, "100").await;
    assert_eq!(unsigned.outcome().await, 428);
    assert_eq!(api.post("/Queues.json", "FriendlyName=full&MaxSize=1").await.status, 201);
    take_recordings_away(test_server);
    for number in ["101", "102", "102", "102", "103", "103"] {
        let mut phone = Phone::new().await;
        phone.call(test_server.udp, number).await;
        phones.push(phone);
    }
    let mut gone = Phone::at(CALLERS).await;
    gone.call(test_server.udp, GONE).await;
    test_server.reload(more).await;
    gate.add_permits(1);
    until_counted(api, Cause::StreamInternal).await;
    // The lists have only the errors of accounts that exist.
    test_server.reload(all).await;
    phones
}

/// Puts a link that leads nowhere in place of the folder of recordings. The server would make a missing folder again.
fn take_recordings_away(test_server: &TestServer) {
    let folder = test_server.data().join("recordings");
    std::fs::remove_dir_all(&folder).unwrap();
    std::os::unix::fs::symlink(test_server.data().join("nowhere"), folder).unwrap();
}

/// Makes a connection whose channel limit is 0, and returns its number.
async fn limited(api: Api) -> &'static str {
    let inbound = json!({ "channel_limit": 0 });
    let body = json!({ "application_name": "limited", "webhook_event_url": "http://127.0.0.1:9/", "inbound": inbound });
    let key = format!("Bearer {API_KEY}");
    let connection = api.post_as(&key, "/v2/call_control_applications", &body.to_string()).await.json();
    let form = format!("PhoneNumber={}", LIMITED.replace('+', "%2B"));
    assert_eq!(api.post("/IncomingPhoneNumbers.json", &form).await.status, 201);
    let found = format!("/v2/phone_numbers?filter%5Bphone_number%5D={}", LIMITED.replace('+', "%2B"));
    let found = api.get_as(&key, &found).await.json();
    let path = format!("/v2/phone_numbers/{}", found["data"][0]["id"].as_str().unwrap());
    let body = json!({ "connection_id": connection["data"]["id"] }).to_string();
    assert_eq!(api.request("PATCH", &path, &key, "application/json", &body).await.status, 200);
    LIMITED
}

/// Waits until the server has received RTP of the call to this number.
async fn is_heard(api: Api, number: &str) {
    let is_heard = async || {
        let live = api.get("/console/calls?status=live").await.json();
        let call = live["calls"].as_array().unwrap().iter().find(|call| call["to"] == number).unwrap().clone();
        let story = api.get(&format!("/console/calls/{}", call["session"].as_str().unwrap())).await.json();
        story["timeline"].to_string().contains("first packet came")
    };
    wait_until(PATIENCE, "the first packet of the call", is_heard).await;
}

/// Provokes the causes that need another server: without phones, with ports of its own, with a speech engine that is down,
/// with short timers of SIP, and without its database.
async fn act_on_another(closed: SocketAddr, causes: &[Cause]) {
    let more = format!(
        "[speech]\ntts = \"off\"\nstt = \"ws://{closed}/v1/listen\"\n{}{}{}",
        inline("100", "<Response><Gather input=\"speech\" timeout=\"1\"/></Response>"),
        inline("101", "<Response><Gather timeout=\"60\"/></Response>"),
        inline("102", "<Response><Gather timeout=\"60\"/></Response>")
    );
    // Late packets of a call of the first server must not reach a call of this server, so the ports differ.
    let ports = [("TANDEM_MEDIA__PORTS", "30000-31999")];
    let test_server =
        TestServer::start_as(&ports, &more, |config| config.sip.timers.t1 = Duration::from_millis(50)).await;
    let (mut dumb, mut mute) = (Phone::new().await, Phone::new().await);
    dumb.send_no_audio();
    dumb.call(test_server.udp, "101").await;
    mute.call(test_server.udp, "102").await;
    is_heard(test_server.api, "102").await;
    mute.audio.pause();
    error(test_server.api, Cause::NoAudio).await;
    error(test_server.api, Cause::AudioStopped).await;
    // A server with phones asks an unknown caller for a password instead.
    let stranger = Phone::at("127.0.17.2").await;
    stranger.invite(test_server.udp, "100").await;
    let mut phone = Phone::new().await;
    phone.call(test_server.udp, "100").await;
    let failed = error(test_server.api, Cause::SpeechToTextFailed).await;
    assert!(failed["advice"].as_str().unwrap().starts_with("Check that the engine runs"), "{failed}");
    let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n";
    invite_only(test_server.udp, "101", sdp).await;
    error(test_server.api, Cause::FarEndLost).await;
    let (database, away) = (test_server.data().join("tandem.db"), test_server.data().join("away.db"));
    std::fs::rename(&database, &away).unwrap();
    // Without its database, the server serves no list of errors.
    until_counted(test_server.api, Cause::DatabaseAway).await;
    std::fs::rename(&away, &database).unwrap();
    for cause in causes {
        error(test_server.api, *cause).await;
    }
    counted(test_server.api, causes.iter().copied()).await;
    test_server.calls().hangup_all();
    test_server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_challenged_call_without_credentials_is_an_error_and_a_login_is_none() {
    let server = TestServer::start_as(&[], ALICE, |config| config.sip.timers.t1 = Duration::from_millis(50)).await;
    // The phone is challenged first, so the server would report the phone first.
    let mut phone = Browser::desk_phone(&server).await;
    phone.register().await;
    let mut pbx = Phone::at("127.0.17.31").await;
    pbx.invite(server.udp, "804").await;
    assert_eq!(pbx.outcome().await, 401);
    let found = error(server.api, Cause::Stranger).await;
    let text = format!(
        "INVITE for \"804\" from \"+15550001111\" at {} UDP was challenged (401), and no credentials came: its address is in \
         inbound_from of no trunk, and no phone has logged in from there",
        pbx.address
    );
    assert_eq!(found["message"], text);
    let request = &found["request"];
    assert_eq!((&request["method"], &request["to"]), (&json!("INVITE"), &json!("804")), "{found}");
    // `tandem trace` has the messages of the Call-ID.
    let trace = format!("/console/calls/{}/trace", request["sip_call_id"].as_str().unwrap());
    let trace = server.api.get(&trace).await.json();
    let shown: Vec<_> = trace["messages"].as_array().unwrap().iter().map(|message| &message["summary"]).collect();
    assert_eq!(shown[1], "401 Unauthorized (INVITE)", "{trace}");
    let errors = server.api.get("/console/errors?limit=100").await.json();
    assert_eq!(errors["errors"].as_array().unwrap().len(), 1, "{errors}");
    server.end().await;
}

#[test]
fn every_cause_names_the_way_to_provoke_it() {
    let nowhere: SocketAddr = "127.0.17.1:1".parse().unwrap();
    let [bad, closed, full, tls, self_signed, carrier, callee] = [nowhere; 7];
    let stage = Stage { bad, closed, full, tls, self_signed, carrier, callee };
    for cause in Cause::ALL {
        let how = match provocation(cause, &stage) {
            Voice(url) => format!("a call whose document is at {url}"),
            Document(text) => format!("a call with {text}"),
            Number(more) => format!("a call to a number with {more:?}"),
            Act(what) => what.to_owned(),
            Test(file, name) => {
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
                let text = std::fs::read_to_string(path).unwrap();
                let before = text.split(&format!("fn {name}(")).next().filter(|before| *before != text);
                let before = before.unwrap_or_else(|| panic!("{cause}: no test {name} in {file}"));
                let attributes = before.rsplit("\n\n").next().unwrap();
                assert!(attributes.contains("test") && !attributes.contains("#[ignore"), "{name} in {file} is no test");
                format!("{file}: {name}")
            }
        };
        println!("{cause:24} {how}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_shows_its_commands_and_lists_refused_commands_as_errors() {
    let app = App::start(|_| String::new()).await;
    let more = format!(
        "[[applications]]\nid = \"1000000000000000001\"\naccount = \"acme\"\nprovider = \"telnyx\"\n\
         webhook_url = \"{}\"\n[[numbers]]\nnumber = \"200\"\naccount = \"acme\"\napplication = \"1000000000000000001\"\n",
        app.url("/telnyx")
    );
    let test_server = TestServer::start(&more).await;
    let mut phone = Phone::new().await;
    phone.invite(test_server.udp, "200").await;
    let call = app.event("call.initiated").await;
    let id = call["call_control_id"].as_str().unwrap().to_owned();
    test_server.api.command(&id, "answer", &json!({ "client_state": "aGVsbG8=" })).await;
    phone.outcome().await;
    let key = format!("Bearer {API_KEY}");
    let path = format!("/v2/calls/{}/actions/transfer", id.replace(':', "%3A"));
    let body = json!({ "sip_auth_password": "a secret" }).to_string();
    let refused = test_server.api.post_as(&key, &path, &body).await;
    assert_eq!(refused.status, 422);
    test_server.api.command(&id, "hangup", &json!({})).await;
    phone.until(SipEvent::Bye).await;
    test_server.quiet().await;

    let story = test_server.api.get("/console/calls/last").await.json();
    let requests: Vec<&Value> = story["requests"].as_array().unwrap().iter().collect();
    let received: Vec<&&Value> = requests.iter().filter(|request| request["direction"] == "received").collect();
    let shown: Vec<(&str, u64)> = received
        .iter()
        .map(|request| {
            let action = request["url"].as_str().unwrap().rsplit('/').next().unwrap();
            (action, request["answer"]["status"].as_u64().unwrap())
        })
        .collect();
    assert_eq!(shown, [("answer", 200), ("transfer", 422), ("hangup", 200)], "{story}");
    assert!(received[0]["body"].as_str().unwrap().contains("aGVsbG8="), "{story}");
    assert!(requests.iter().any(|request| request["direction"] == "sent"), "the webhooks are beside them");
    assert!(!story.to_string().contains("a secret"), "{story}");
    let error = &story["errors"][0];
    assert_eq!((&error["cause"], &error["call"]), (&"api-request-refused".into(), &story["calls"][0]["id"]), "{story}");
    let lines = story["timeline"].as_array().unwrap();
    assert!(
        lines
            .iter()
            .any(|line| line["kind"] == "request" && line["text"].as_str().unwrap().contains("/actions/answer 200"))
    );
    test_server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_last_request_of_an_ended_call_is_an_error_of_the_call() {
    let gate = Arc::new(Semaphore::new(0));
    let (misbehaving, bad) = listener().await;
    tokio::spawn(misbehave(misbehaving, Arc::clone(&gate)));
    let record = |path: &str| format!("<Response><Record action=\"http://{bad}/{path}\"/></Response>");
    let test_server =
        TestServer::start(&[inline("100", &record("gate")), inline("101", &record("empty"))].concat()).await;
    for number in ["101", "100"] {
        let mut phone = Phone::new().await;
        phone.call(test_server.udp, number).await;
        phone.hangup().await;
        test_server.quiet().await;
    }
    gate.add_permits(1);
    let error = error(test_server.api, Cause::Status404).await;
    let story = test_server.api.get(&format!("/console/calls/{}", error["session"].as_str().unwrap())).await.json();
    let rows = |list: &str| story[list].as_array().unwrap().clone();
    assert_eq!((&rows("calls")[0]["to"], rows("errors").len()), (&json!("100"), 1), "{story}");
    assert!(rows("timeline").iter().any(|line| line["cause"] == "answered-404"), "{story}");
    assert_eq!(rows("requests")[0]["answer"]["status"], 404, "{story}");
    // An application that has nothing to say about the recording answers without a document.
    let errors = test_server.api.get("/console/errors").await.json();
    assert_eq!(errors["errors"].as_array().unwrap().len(), 1, "{errors}");
    test_server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_recording_of_a_conference_is_an_error_of_its_account() {
    let document = "<Response><Dial><Conference record=\"record-from-start\">hall</Conference></Dial></Response>";
    let test_server = TestServer::start(&inline("100", document)).await;
    take_recordings_away(&test_server);
    let (mut one, mut other) = (Phone::new().await, Phone::new().await);
    one.call(test_server.udp, "100").await;
    other.call(test_server.udp, "100").await;
    // A call is answered before it is in the conference.
    let path = format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Conferences.json?Status=in-progress");
    let has_begun = async || test_server.api.get(&path).await.json()["conferences"] != json!([]);
    wait_until(PATIENCE, "the conference has begun", has_begun).await;
    one.hangup().await;
    other.hangup().await;
    let error = error(test_server.api, Cause::RecordingFailed).await;
    assert!(error["message"].as_str().unwrap().starts_with("conference hall: recording "), "{error}");
    assert_eq!(error["account"], "acme", "{error}");
    test_server.end().await;
}

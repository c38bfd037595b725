//! The server under test, which runs in the test's process, and a plain HTTP client for the server's APIs.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tandem_app::{Server, Signals};
use tandem_config::Config;
use tandem_id::AccountName;
use tandem_runtime::Calls;
use tandem_sip::Transport;
use tandem_softphone::{Dialled, Key};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::log::PATIENCE;

pub(crate) const ACCOUNT_SID: &str = "AC00000000000000000000000000000001";
pub(crate) const AUTH_TOKEN: &str = "secret of the tests";
pub(crate) const PROJECT_ID: &str = "00000000-0000-4000-8000-000000000001";
pub(crate) const PROJECT_TOKEN: &str = "PT0123456789";
pub(crate) const API_KEY: &str = "KEYtests";

/// The text of a configuration file. The system chooses all ports except the RTP ports. The servers of all tests share
/// the range of RTP ports, and each server takes free ones. A server with default settings uses another range. The
/// configuration has one account and one trunk for 127.0.0.1, followed by `more`.
pub(crate) fn settings(folder: &Path, more: &str) -> String {
    format!(
        r#"
data_dir = "{}"
drain_timeout = 20
[sip]
listen = ["udp://127.0.0.1:0", "tcp://127.0.0.1:0"]
[media]
ports = "10000-19999"
[http]
listen = "127.0.0.1:0"
[[accounts]]
name = "acme"
twilio = {{ account_sid = "{ACCOUNT_SID}", auth_token = "{AUTH_TOKEN}" }}
telnyx = {{ api_key = "{API_KEY}", signing_seed = "Y2hhbmdlLW1lLWNoYW5nZS1tZS1jaGFuZ2UtbWUhISE=" }}
signalwire = {{ project_id = "{PROJECT_ID}", api_token = "{PROJECT_TOKEN}", signing_key = "PSK_0123456789" }}
[[trunks]]
name = "here"
account = "acme"
uri = "sip:127.0.0.1:9"
inbound_from = ["127.0.0.1/32"]
{more}
"#,
        folder.join("data").display(),
    )
}

/// The configuration of a number with an inline document.
pub(crate) fn inline(number: &str, document: &str) -> String {
    format!("[[numbers]]\nnumber = \"{number}\"\naccount = \"acme\"\ntwiml = '{document}'\n")
}

/// The configuration of a number whose calls an application controls with commands. `url` gets the webhooks.
pub(crate) fn commanded(number: &str, url: &str) -> String {
    format!(
        "[[applications]]\nid = \"1000000000000000001\"\naccount = \"acme\"\nprovider = \"telnyx\"\nwebhook_url = \"{url}\"\n\
         [[numbers]]\nnumber = \"{number}\"\naccount = \"acme\"\napplication = \"1000000000000000001\"\n"
    )
}

/// The configuration of a number. The document for this number comes from an application.
pub(crate) fn asks(number: &str, app: SocketAddr) -> String {
    format!(
        "[[numbers]]\nnumber = \"{number}\"\naccount = \"acme\"\nprovider = \"twilio\"\nvoice_url = \"http://{app}/voice\"\n\
         status_callback = \"http://{app}/status\"\n"
    )
}

/// A running server with its addresses.
pub(crate) struct TestServer {
    server: Server,
    pub(crate) udp: SocketAddr,
    pub(crate) tcp: SocketAddr,
    pub(crate) api: Api,
    /// The address of the page `/dev/phone`, key included.
    pub(crate) phone: Option<String>,
    folder: TempDir,
    environment: Vec<(String, String)>,
    change: fn(&mut Config),
}

impl TestServer {
    /// Starts a server with `more` in its configuration.
    pub(crate) async fn start(more: &str) -> Self {
        Self::start_under(&[], more).await
    }

    /// Starts a server with these environment variables and with `more` in its configuration.
    pub(crate) async fn start_under(environment: &[(&str, &str)], more: &str) -> Self {
        Self::start_as(environment, more, |_| {}).await
    }

    /// Starts a server with `more` in its configuration, and with the page `/dev/phone` for this number.
    pub(crate) async fn start_with_softphone(more: &str, number: &str) -> Self {
        let key = Key::random();
        let dialled = Dialled { account: AccountName::new("acme"), number: number.to_owned(), key };
        // As `tandem dev` has it.
        Self::start_with(&[], more, |config| config.drain_timeout = Duration::ZERO, Some(dialled)).await
    }

    /// Does the same as [`Self::start_under`], and changes the configuration after each reading.
    pub(crate) async fn start_as(environment: &[(&str, &str)], more: &str, change: fn(&mut Config)) -> Self {
        Self::start_with(environment, more, change, None).await
    }

    async fn start_with(
        environment: &[(&str, &str)],
        more: &str,
        change: fn(&mut Config),
        softphone: Option<Dialled>,
    ) -> Self {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("tandem.toml");
        std::fs::write(&file, settings(folder.path(), more)).unwrap();
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let environment: Vec<_> = environment.collect();
        let mut config = Config::load(Some(&file), environment.clone()).unwrap_or_else(|errors| panic!("{errors}"));
        change(&mut config);
        let key = softphone.as_ref().map(|dialled| dialled.key.clone());
        let server = Server::start_with(config, softphone).await.unwrap();
        let address = |which| server.sip_addrs().iter().find(|(transport, _)| *transport == which).unwrap().1;
        let (udp, tcp) = (address(Transport::Udp), address(Transport::Tcp));
        let api = Api(server.http_addr());
        let phone = key.map(|key| key.address(server.http_addr()));
        Self { server, udp, tcp, api, phone, folder, environment, change }
    }

    /// Reloads the configuration. `more` replaces the additional text of the earlier configuration. Returns the changed
    /// settings that need a restart.
    pub(crate) async fn reload(&self, more: &str) -> Vec<String> {
        let file = self.folder.path().join("tandem.toml");
        std::fs::write(&file, settings(self.folder.path(), more)).unwrap();
        let mut config =
            Config::load(Some(&file), self.environment.clone()).unwrap_or_else(|errors| panic!("{errors}"));
        (self.change)(&mut config);
        self.server.reload(config).await.unwrap()
    }

    /// Waits until the server has no calls and no media sessions.
    pub(crate) async fn quiet(&self) {
        let idle = tokio::time::timeout(PATIENCE, self.server.calls().idle()).await;
        assert!(idle.is_ok(), "{} legs live on", self.server.calls().live_legs());
        // The engine publishes its totals every 5 ms.
        let none = async || self.server.calls().live_legs() == 0;
        tandem_test_support::wait_until(PATIENCE, "no media session is left", none).await;
    }

    /// The folder of the server's data.
    pub(crate) fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    /// The server's registry of calls.
    pub(crate) fn calls(&self) -> &Calls {
        self.server.calls()
    }

    /// The number of legs with a media session, as the engine published it up to 5 ms ago. Wait for a number.
    pub(crate) fn live_legs(&self) -> u64 {
        self.server.calls().live_legs()
    }

    /// Shuts the server down.
    pub(crate) async fn end(self) {
        self.server.shutdown(Signals::none()).await;
    }
}

/// A client of the server's HTTP listener at this address.
#[derive(Clone, Copy)]
pub(crate) struct Api(pub(crate) SocketAddr);

/// An HTTP response.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&self.body)))
    }
}

impl Api {
    /// The calls of the account. The newest call comes first.
    pub(crate) async fn calls(self) -> Vec<Value> {
        let path = format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Calls.json");
        let reply = self.get(&path).await;
        assert_eq!(reply.status, 200);
        reply.json()["calls"].as_array().unwrap().clone()
    }

    /// The recordings of the account. The newest recording comes first.
    pub(crate) async fn recordings(self) -> Vec<Value> {
        let reply = self.get(&format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Recordings.json")).await;
        assert_eq!(reply.status, 200);
        reply.json()["recordings"].as_array().unwrap().clone()
    }

    /// The WAV file of a recording.
    pub(crate) async fn wav(self, sid: &str) -> Vec<u8> {
        let reply = self.get(&format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Recordings/{sid}.wav")).await;
        assert_eq!(reply.status, 200);
        reply.body
    }

    /// Sends a GET with the Twilio credentials of the account.
    pub(crate) async fn get(self, path: &str) -> Reply {
        self.get_as(&basic(ACCOUNT_SID, AUTH_TOKEN), path).await
    }

    /// Sends a GET with this value of the `Authorization` header. If the value is empty, the request has no such
    /// header.
    pub(crate) async fn get_as(self, authorization: &str, path: &str) -> Reply {
        self.request("GET", path, authorization, "application/json", "").await
    }

    /// Sends a Telnyx command to a leg. The command must succeed.
    pub(crate) async fn command(self, call_control_id: &str, action: &str, body: &Value) {
        let path = format!("/calls/{}/actions/{action}", call_control_id.replace(':', "%3A"));
        self.telnyx(&path, body).await;
    }

    /// Sends a Telnyx dial request. The request must succeed.
    pub(crate) async fn dial(self, body: &Value) {
        self.telnyx("/calls", body).await;
    }

    /// Sends a POST with the Telnyx API key of the account. The request must succeed. Returns `data` from the answer.
    pub(crate) async fn telnyx(self, path: &str, body: &Value) -> Value {
        let key = format!("Bearer {API_KEY}");
        let reply = self.request("POST", &format!("/v2{path}"), &key, "application/json", &body.to_string()).await;
        assert_eq!(reply.status, 200, "{path}: {}", String::from_utf8_lossy(&reply.body));
        reply.json()["data"].take()
    }

    /// Makes the server read its configuration again.
    pub(crate) async fn reload(self) -> Reply {
        self.request("POST", "/console/reload", &basic(ACCOUNT_SID, AUTH_TOKEN), "text/plain", "").await
    }

    /// Sends a POST of JSON to a path under `/console`, with the credentials of an operator.
    pub(crate) async fn console(self, path: &str, body: &Value) -> Reply {
        let login = basic(ACCOUNT_SID, AUTH_TOKEN);
        self.request("POST", &format!("/console{path}"), &login, "application/json", &body.to_string()).await
    }

    /// Sends a DELETE with the Twilio credentials of the account.
    pub(crate) async fn delete(self, path: &str) -> Reply {
        self.send_as(&basic(ACCOUNT_SID, AUTH_TOKEN), "DELETE", path).await
    }

    /// Sends a request without a body. The `Authorization` header has this value.
    pub(crate) async fn send_as(self, authorization: &str, method: &str, path: &str) -> Reply {
        self.request(method, path, authorization, "application/json", "").await
    }

    /// Sends a POST of a form to a path under the account, with the Twilio credentials of the account.
    pub(crate) async fn post(self, path: &str, form: &str) -> Reply {
        let path = format!("/2010-04-01/Accounts/{ACCOUNT_SID}{path}");
        self.request("POST", &path, &basic(ACCOUNT_SID, AUTH_TOKEN), "application/x-www-form-urlencoded", form).await
    }

    /// Sends a POST of JSON. The `Authorization` header has this value.
    pub(crate) async fn post_as(self, authorization: &str, path: &str, json: &str) -> Reply {
        self.request("POST", path, authorization, "application/json", json).await
    }

    pub(crate) async fn request(self, method: &str, path: &str, authorization: &str, kind: &str, body: &str) -> Reply {
        let authorization =
            if authorization.is_empty() { String::new() } else { format!("Authorization: {authorization}\r\n") };
        let text = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{authorization}\
             Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
            self.0,
            body.len()
        );
        let exchange = async {
            let mut stream = TcpStream::connect(self.0).await.unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            answer
        };
        let answer = tokio::time::timeout(PATIENCE, exchange).await.expect("an HTTP answer in time");
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("an HTTP head") + 4;
        let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer[end..].to_vec();
        Reply { status, body: if head.contains("transfer-encoding: chunked") { unchunked(&body) } else { body } }
    }
}

/// The header value of Basic authentication (RFC 7617).
pub(crate) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(line) = body.windows(2).position(|two| two == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&body[..line]).unwrap().trim(), 16).unwrap();
        if length == 0 {
            break;
        }
        whole.extend(&body[line + 2..line + 2 + length]);
        body = &body[line + 4 + length..];
    }
    whole
}

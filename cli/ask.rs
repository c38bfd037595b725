//! Requests of commands to the running server. This module finds the server's address and the credentials, and
//! interprets the responses.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::anyhow;
use serde_json::Value;
use tandem_accounts::Account;
use tandem_http::{Client, FetchError, NetworkPolicy, Request, StreamingResponse, Timeouts};
use tokio::time::{Instant, timeout, timeout_at};

use super::{Failure, Source};

/// Time limit for a response of the server.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Time after the first received octets in which further lines are shown together with the first line.
const TOGETHER: Duration = Duration::from_millis(50);
/// Maximum time without a piece of a followed list. The server sends an empty line after 15 s without another line.
const SILENCE: Duration = Duration::from_secs(45);
/// Maximum size of a response, in octets.
const MAX_BODY: usize = 256 * 1024 * 1024;

/// The arguments that select the server and the account.
#[derive(clap::Args)]
pub(crate) struct Server {
    /// Configuration file of the server (default: tandem.toml in this directory, otherwise /etc/tandem/tandem.toml of the
    /// installed service, otherwise the default settings)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Account whose credentials are used (default: the first account that has credentials)
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// URL of the server (default: the address of the server that runs on this data_dir, otherwise `http.listen`)
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

/// An HTTP client for the running server.
pub struct Console {
    base: String,
    source: Source,
    authorization: String,
    client: Client,
}

impl Server {
    /// Creates the client. This function sends no request.
    pub(crate) fn console(&self) -> Result<Console, Failure> {
        let (config, source) = super::client_config(self.config.as_deref())?;
        let accounts = super::accounts(&config, source)?;
        let base = self.url.clone().unwrap_or_else(|| format!("http://{}", super::reachable(config.http.listen)));
        Console::new(&base, source, &accounts, self.account.as_deref())
    }
}

impl Console {
    /// Creates a client for the server at the URL `base`. The client uses the credentials of the account `name`. Without
    /// a name, the client uses the credentials of the first account that has some.
    pub fn new(base: &str, source: Source, accounts: &[Account], name: Option<&str>) -> Result<Self, Failure> {
        let authorization = authorization(accounts, name)?;
        let client =
            Client::new(NetworkPolicy::everywhere(), TIMEOUT).map_err(|error| Failure::Environment(error.into()))?;
        Ok(Self { base: base.trim_end_matches('/').to_owned(), source, authorization, client })
    }

    /// Returns the body of the response to `GET path`.
    pub async fn get(&self, path: &str) -> Result<Vec<u8>, Failure> {
        let missing = |message: String| Failure::Input(anyhow!(message));
        self.request(path).await?.map_err(missing)
    }

    /// Returns the body of the response to `GET path`. If the server has no such resource (404), the inner error is the
    /// text of the response.
    async fn request(&self, path: &str) -> Result<Result<Vec<u8>, String>, Failure> {
        let response = self.client.send(&self.get_request(path)?).await.map_err(|error| self.unreachable(&error))?;
        match response.status {
            200 => Ok(Ok(response.body.to_vec())),
            404 => Ok(Err(String::from_utf8_lossy(&response.body).trim().to_owned())),
            status => Err(self.refused(status, &response.body)),
        }
    }

    /// Returns the lines of the response to `GET path`, which does not end by itself.
    pub(crate) async fn follow(&self, path: &str) -> Result<Lines, Failure> {
        let mut response =
            self.client.open(&self.get_request(path)?).await.map_err(|error| self.unreachable(&error))?;
        match response.status() {
            200 => Ok(Lines { response, waiting: Vec::new() }),
            status => {
                let body = response.piece().await.ok().flatten().unwrap_or_default();
                Err(self.refused(status, &body))
            }
        }
    }

    /// Writes the body of the response to `GET path` to a file. Returns the number of octets. If the response is not complete,
    /// the file is removed.
    pub(crate) async fn download(&self, path: &str, file: &Path) -> Result<u64, Failure> {
        let mut response =
            self.client.open(&self.get_request(path)?).await.map_err(|error| self.unreachable(&error))?;
        if response.status() != 200 {
            let body = response.piece().await.ok().flatten().unwrap_or_default();
            return Err(self.refused(response.status(), &body));
        }
        let unwritten = |error: io::Error| Failure::Environment(anyhow!("cannot write {}: {error}", file.display()));
        let mut output = File::create(file).map_err(unwritten)?;
        let mut octets = 0;
        loop {
            let lost = match timeout(SILENCE, response.piece()).await {
                Ok(Ok(Some(piece))) => {
                    octets += piece.len() as u64;
                    output.write_all(&piece).map_err(unwritten)?;
                    continue;
                }
                Ok(Ok(None)) => return Ok(octets),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("nothing came for {} s", SILENCE.as_secs()),
            };
            let _ = std::fs::remove_file(file);
            return Err(Failure::Environment(anyhow!("the response of the server broke off: {lost}")));
        }
    }

    /// Sends a request without a body, and without a body in its response.
    pub(crate) async fn send(&self, method: &str, path: &str) -> Result<(), Failure> {
        let response =
            self.client.send(&self.request_of(method, path)?).await.map_err(|error| self.unreachable(&error))?;
        if (200..300).contains(&response.status) { Ok(()) } else { Err(self.refused(response.status, &response.body)) }
    }

    fn get_request(&self, path: &str) -> Result<Request, Failure> {
        self.request_of("GET", path)
    }

    fn request_of(&self, method: &str, path: &str) -> Result<Request, Failure> {
        Ok(Request {
            method: method.parse().map_err(|_| Failure::Input(anyhow!("{method} is no method")))?,
            url: format!("{}{path}", self.base),
            headers: vec![("Authorization".to_owned(), self.authorization.clone())],
            body: Vec::new().into(),
            timeouts: Timeouts { connect: None, total: TIMEOUT },
            max_body: MAX_BODY,
        })
    }

    fn unreachable(&self, error: &FetchError) -> Failure {
        let (base, note) = (&self.base, self.source.note());
        Failure::Environment(anyhow!(
            "no server answers at {base}: {error}. Is `tandem serve` running with this configuration?{note}"
        ))
    }

    /// Returns the failure of a response with this status and body.
    fn refused(&self, status: u16, body: &[u8]) -> Failure {
        let (base, note) = (&self.base, self.source.note());
        let text = String::from_utf8_lossy(body).trim().to_owned();
        match status {
            401 => Failure::Input(anyhow!(
                "the server at {base} does not know these credentials: it is another one, or it was started with another --config, \
                 or before this one was changed; --url names the right one{note}"
            )),
            400 | 403 | 404 => Failure::Input(anyhow!("{text}")),
            status => Failure::Environment(anyhow!("the server at {base} answered {status}: {text}")),
        }
    }

    /// Returns the response to `GET path` as JSON.
    pub async fn json(&self, path: &str) -> Result<Value, Failure> {
        self.value(&self.get(path).await?)
    }

    /// Returns the response to `GET path` as JSON, or `None` if the server has no such resource (404).
    pub async fn find(&self, path: &str) -> Result<Option<Value>, Failure> {
        self.request(path).await?.ok().map(|body| self.value(&body)).transpose()
    }

    /// Returns the URL of the server.
    pub fn base(&self) -> &str {
        &self.base
    }

    fn value(&self, body: &[u8]) -> Result<Value, Failure> {
        serde_json::from_slice(body).map_err(|error| {
            Failure::Environment(anyhow!("the answer of the server at {} is not JSON: {error}", self.base))
        })
    }
}

/// The lines of a response that does not end by itself. Each line is a JSON value.
pub(crate) struct Lines {
    response: StreamingResponse,
    /// The received octets after the last complete line.
    waiting: Vec<u8>,
}

impl Lines {
    /// Waits for the next values. Returns `None` at the end of the response, if the connection failed, or if the server
    /// sent nothing for [`SILENCE`].
    pub(crate) async fn next(&mut self) -> Option<Vec<Value>> {
        loop {
            let piece = timeout(SILENCE, self.response.piece()).await.ok()?.ok()??;
            self.waiting.extend_from_slice(&piece);
            // The server sends lines that belong together at the same time.
            let until = Instant::now() + TOGETHER;
            while let Ok(more) = timeout_at(until, self.response.piece()).await {
                match more {
                    Ok(Some(piece)) => self.waiting.extend_from_slice(&piece),
                    Ok(None) | Err(_) => break,
                }
            }
            let end = self.waiting.iter().rposition(|octet| *octet == b'\n').map_or(0, |end| end + 1);
            let lines: Vec<u8> = self.waiting.drain(..end).collect();
            let values = lines.split(|octet| *octet == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
            let values: Vec<_> = values.collect();
            if !values.is_empty() {
                return Some(values);
            }
        }
    }
}

/// Returns the Authorization header for the account with this name. If there is no name, returns the header for the
/// first account that has credentials.
fn authorization(accounts: &[Account], name: Option<&str>) -> Result<String, Failure> {
    let mut asked = accounts.iter().filter(|account| name.is_none_or(|name| account.name == name));
    asked.find_map(header).ok_or_else(|| {
        let names: Vec<&str> = accounts.iter().map(|account| account.name.as_str()).collect();
        Failure::Input(match name {
            Some(name) => anyhow!("no account {name:?} has credentials; the accounts are: {}", names.join(", ")),
            None => anyhow!("no account has credentials to log in with"),
        })
    })
}

fn header(account: &Account) -> Option<String> {
    let basic = |(name, password): (&str, &str)| {
        use base64::Engine as _;
        format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(format!("{name}:{password}")))
    };
    let twilio = account.twilio.as_ref().map(|keys| (&*keys.account_sid, &*keys.auth_token));
    let signalwire = account.signalwire.as_ref().map(|keys| (&*keys.project_id, &*keys.api_token));
    let telnyx = account.telnyx.as_ref().map(|keys| format!("Bearer {}", keys.api_key));
    twilio.or(signalwire).map(basic).or(telnyx)
}

/// Percent-encodes a text for a path or a query. An id may contain a colon, and a Call-ID may contain any character.
pub fn escaped(id: &str) -> String {
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-_.~".contains(&octet);
    id.bytes().map(|octet| if plain(octet) { char::from(octet).to_string() } else { format!("%{octet:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// The head of a response without an end.
    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

    /// Follows a list of a server. Returns the lines and the server's end of the connection, after the head.
    async fn followed() -> (Lines, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let account: Account = toml::from_str(
            "name = \"acme\"\nsignalwire = { project_id = \"p\", api_token = \"t\", signing_key = \"k\" }",
        )
        .unwrap();
        let console = Console::new(&base, Source::Defaults, &[account], None).ok().unwrap();
        let accepted = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 4_096]).await.unwrap() > 0);
            stream.write_all(HEAD).await.unwrap();
            stream
        };
        let (lines, stream) = tokio::join!(console.follow("/console/calls?follow=true"), accepted);
        (lines.ok().unwrap(), stream)
    }

    #[tokio::test]
    async fn a_server_that_always_sends_lines_does_not_delay_the_first_line() {
        let (mut lines, mut stream) = followed().await;
        let sending = async {
            while stream.write_all(b"3\r\n{}\n\r\n").await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        let received = timeout(Duration::from_secs(20), async {
            tokio::select! {
                values = lines.next() => values,
                () = sending => None,
            }
        });
        assert_eq!(received.await.expect("a line in time").unwrap().first(), Some(&serde_json::json!({})));
    }

    #[tokio::test]
    async fn a_server_that_sends_nothing_for_45_seconds_has_gone() {
        let (mut lines, _stream) = followed().await;
        tokio::time::pause();
        assert!(lines.next().await.is_none());
    }

    #[test]
    fn the_credentials_of_every_provider_authenticate_at_the_console() {
        let account = |table: &str| -> Account { toml::from_str(&format!("name = \"acme\"\n{table}")).unwrap() };
        let signalwire = account("signalwire = { project_id = \"p\", api_token = \"t\", signing_key = \"k\" }");
        assert_eq!(header(&signalwire).as_deref(), Some("Basic cDp0"));
        assert_eq!(header(&account("")), None);
    }

    #[test]
    fn an_id_of_every_form_is_escaped_in_a_path() {
        assert_eq!(escaped("v3:a-b_c"), "v3%3Aa-b_c");
        assert_eq!(escaped("4/x?@10.0.0.1"), "4%2Fx%3F%4010.0.0.1");
    }
}

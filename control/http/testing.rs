//! A loopback web server for tests. A closure answers the requests, and the test reads the received requests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "for tests only")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// A request that the server received.
#[derive(Debug, Clone)]
pub struct Received {
    /// The number of earlier requests on the connection of this request.
    pub before: usize,
    pub method: String,
    /// The path and the query.
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// The server's reaction to a request.
#[derive(Debug, Clone)]
pub enum Answer {
    Reply {
        status: u16,
        headers: Vec<(String, String)>,
        body: String,
    },
    /// A body that has no length and never ends.
    Endless,
    /// No answer. The connection stays open.
    Silence,
    /// No answer. The server closes the connection.
    HangUp,
}

impl Answer {
    pub fn status(status: u16) -> Answer {
        Answer::Reply { status, headers: Vec::new(), body: String::new() }
    }

    pub fn body(body: impl Into<String>) -> Answer {
        Answer::Reply { status: 200, headers: Vec::new(), body: body.into() }
    }

    pub fn redirect(status: u16, location: impl Into<String>) -> Answer {
        Answer::status(status).with("Location", location)
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Answer {
        if let Answer::Reply { headers, .. } = &mut self {
            headers.push((name.into(), value.into()));
        }
        self
    }
}

/// The server. It stops when this value is dropped.
pub struct WebServer {
    pub address: SocketAddr,
    received: mpsc::UnboundedReceiver<Received>,
    _tasks: JoinSet<()>,
}

impl WebServer {
    pub async fn start(answer: impl Fn(&Received) -> Answer + Send + Sync + 'static) -> WebServer {
        WebServer::start_with(None, answer).await
    }

    /// Starts a server. With a TLS configuration, the server uses TLS.
    pub async fn start_with(
        tls: Option<Arc<rustls::ServerConfig>>,
        answer: impl Fn(&Received) -> Answer + Send + Sync + 'static,
    ) -> WebServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, received) = mpsc::unbounded_channel();
        let answer = Arc::new(answer);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (sender, answer, tls) = (sender.clone(), answer.clone(), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, &sender, &*answer).await,
                        Some(tls) => {
                            if let Ok(stream) = tokio_rustls::TlsAcceptor::from(tls).accept(stream).await {
                                serve(stream, &sender, &*answer).await;
                            }
                        }
                    }
                });
            }
        });
        WebServer { address, received, _tasks: tasks }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Waits for the next request. Returns the requests in the order of their arrival.
    pub async fn next(&mut self) -> Received {
        // The time limit is in real time, so that it also works with a paused test clock.
        let next = tokio::time::timeout(Duration::from_secs(20), self.received.recv());
        next.await.expect("a request in time").expect("the server runs")
    }

    /// The requests that have arrived and have not been read.
    pub fn rest(&mut self) -> Vec<Received> {
        std::iter::from_fn(|| self.received.try_recv().ok()).collect()
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    sender: &mpsc::UnboundedSender<Received>,
    answer: &(dyn Fn(&Received) -> Answer + Send + Sync),
) {
    let mut stream = BufReader::new(stream);
    let mut before = 0;
    while let Some(mut request) = read(&mut stream).await {
        request.before = before;
        before += 1;
        let answer = answer(&request);
        let _ = sender.send(request);
        match answer {
            Answer::Reply { status, headers, body } => {
                let mut text = format!("HTTP/1.1 {status} Status\r\nContent-Length: {}\r\n", body.len());
                for (name, value) in headers {
                    text.push_str(&format!("{name}: {value}\r\n"));
                }
                let text = format!("{text}\r\n{body}");
                if stream.write_all(text.as_bytes()).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
            }
            Answer::Endless => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
                while stream.write_all(b"5\r\nmore \r\n").await.is_ok() && stream.flush().await.is_ok() {
                    tokio::task::yield_now().await;
                }
                return;
            }
            Answer::Silence => std::future::pending().await,
            Answer::HangUp => return,
        }
    }
}

async fn read(stream: &mut BufReader<impl AsyncRead + Unpin>) -> Option<Received> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|length| *length > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok().filter(|length| *length > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut request = Received { before: 0, method, target, headers, body: String::new() };
    let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    request.body = String::from_utf8_lossy(&body).into_owned();
    Some(request)
}

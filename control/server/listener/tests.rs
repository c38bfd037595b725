use std::net::SocketAddr;

use axum::extract::FromRequest;
use axum::extract::ws::WebSocketUpgrade;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;

use super::*;

/// A time limit in real time. The limit is only for safety, because everything that the tests wait for happens at once.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Returns a connection in memory. These tests have no socket, so their paused clock advances only for timers.
fn connected() -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(1_024);
    let slowly = || {
        let parts = stream::unfold(0, |sent| async move {
            tokio::time::sleep(STALL).await;
            (sent < 20).then(|| (Ok::<_, Box<dyn Error + Send + Sync>>("part "), sent + 1))
        });
        async { Body::from_stream(parts) }
    };
    let refuse = || async { "refused" };
    let read = |body: Result<Bytes, axum::extract::rejection::BytesRejection>| async move {
        body.map_or_else(|_| "late".to_owned(), |body| format!("{} octets", body.len()))
    };
    let router = Router::new().route("/slow", get(slowly)).route("/refuse", post(refuse)).route("/read", post(read));
    let router = router.layer(middleware::from_fn(bounded_body));
    let (end, ending) = watch::channel(false);
    tokio::spawn(async move {
        connection(theirs, ([127, 0, 0, 1], 1).into(), HeldSlot::default(), router, ending).await;
        drop(end);
    });
    ours
}

async fn everything(mut stream: impl AsyncRead + Unpin) -> String {
    let mut heard = Vec::new();
    let _ = stream.read_to_end(&mut heard).await;
    String::from_utf8_lossy(&heard).into_owned()
}

#[tokio::test(start_paused = true)]
async fn a_client_without_a_complete_request_head_is_closed_at_the_deadline() {
    for sent in ["", "GET / HTTP/1.1\r\nHost: a\r\n", "GET /none HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let begun = Instant::now();
        let mut stream = connected();
        stream.write_all(sent.as_bytes()).await.unwrap();
        everything(stream).await;
        assert_eq!(begun.elapsed().as_secs(), HEAD.as_secs(), "{sent:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slowly_sent_head_or_body_has_one_deadline() {
    for (head, limit) in [("GET / HTTP/1.1\r\n", HEAD), ("POST /read HTTP/1.1\r\nContent-Length: 9999\r\n\r\n", BODY)] {
        let begun = Instant::now();
        let (read, mut write) = tokio::io::split(connected());
        write.write_all(head.as_bytes()).await.unwrap();
        let drip = async {
            while write.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let heard = tokio::select! { heard = everything(read) => heard, () = drip => String::new() };
        assert!(begun.elapsed() <= limit + Duration::from_secs(2), "{head:?} {:?}", begun.elapsed());
        assert!(limit == HEAD || heard.contains("late"), "{heard}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_download_is_not_interrupted() {
    let mut stream = connected();
    stream.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    assert_eq!(everything(stream).await.matches("part ").count(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_client_refused_by_its_head_may_send_its_body_and_gets_the_response() {
    for (length, path) in [(5, "/refuse"), (100_000, "/refuse"), (100_000, "/read")] {
        let (read, mut write) = tokio::io::split(connected());
        let head = format!("POST {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
        let say = async {
            write.write_all(head.as_bytes()).await.unwrap();
            write.write_all(&vec![b'x'; length]).await.expect("all of it is taken");
        };
        let (heard, ()) = tokio::join!(everything(read), say);
        let expected = if path == "/refuse" { "refused".to_owned() } else { format!("{length} octets") };
        assert!(heard.starts_with("HTTP/1.1 200") && heard.ends_with(&expected), "{heard}");
    }
}

struct Listening {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

async fn listening(max_connections: usize) -> Listening {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let open = |upgrade: WebSocketUpgrade| async {
        upgrade.on_upgrade(|mut socket| async move { while let Some(Ok(_)) = socket.recv().await {} })
    };
    let phone = move |request: Request| async move {
        request.extensions().get::<HeldSlot>().expect("a slot").give_back();
        open(WebSocketUpgrade::from_request(request, &()).await.expect("a handshake")).await
    };
    let router =
        Router::new().route("/", get(|| async { "here" })).route("/events", get(open)).route("/sip", get(phone));
    let task = tokio::spawn(async move {
        let stop = async {
            let _ = stopped.await;
        };
        serve(listener, router, max_connections, stop).await;
    });
    Listening { address, stop, task }
}

async fn connect(from: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
    socket.connect(to).await.unwrap()
}

/// Whether a request on the connection receives a response.
async fn is_served(stream: &mut TcpStream) -> bool {
    let exchange = async {
        let mut heard = [0; 1_024];
        let sent = stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        sent.is_ok() && stream.read(&mut heard).await.is_ok_and(|length| heard[..length].ends_with(b"here"))
    };
    tokio::time::timeout(TIMEOUT, exchange).await.expect("an answer or the end")
}

#[tokio::test]
async fn one_source_gets_at_most_half_of_the_connections() {
    let server = listening(4).await;
    let mut first = connect("127.0.0.1", server.address).await;
    let mut second = connect("127.0.0.1", server.address).await;
    assert!(is_served(&mut first).await && is_served(&mut second).await);
    assert!(!is_served(&mut connect("127.0.0.1", server.address).await).await);
    assert!(is_served(&mut connect("127.0.0.2", server.address).await).await);
    // When the connection closes, its slot becomes free after a moment that the test cannot observe.
    drop(first);
    let room = async { while !is_served(&mut connect("127.0.0.1", server.address).await).await {} };
    tokio::time::timeout(TIMEOUT, room).await.expect("room again");
}

#[tokio::test]
async fn a_websocket_counts_as_a_connection_unless_another_limit_counts_it() {
    let server = listening(4).await;
    let open = async |path: &str| {
        let mut stream = connect("127.0.0.1", server.address).await;
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut heard = [0; 1_024];
        let length = stream.read(&mut heard).await.unwrap_or_default();
        heard[..length].starts_with(b"HTTP/1.1 101").then_some(stream)
    };
    let mut phones = Vec::new();
    for _ in 0..6 {
        phones.push(open("/sip").await.expect("the SIP stack counts phones"));
    }
    let first = open("/events").await.expect("room");
    let _second = open("/events").await.expect("room");
    assert!(open("/events").await.is_none(), "one source has half of the connections");
    assert!(!is_served(&mut connect("127.0.0.1", server.address).await).await);
    assert!(is_served(&mut connect("127.0.0.2", server.address).await).await);
    drop(first);
    let room = async { while open("/events").await.is_none() {} };
    tokio::time::timeout(TIMEOUT, room).await.expect("room again");
}

#[tokio::test]
async fn a_waiting_connection_is_served_after_another_closes() {
    let server = listening(2).await;
    let mut first = connect("127.0.0.1", server.address).await;
    let mut second = connect("127.0.0.2", server.address).await;
    assert!(is_served(&mut first).await && is_served(&mut second).await);
    let mut third = connect("127.0.0.3", server.address).await;
    drop(first);
    assert!(is_served(&mut third).await);
}

#[tokio::test]
async fn stopping_closes_connections_that_wait() {
    let server = listening(4).await;
    let mut kept = connect("127.0.0.1", server.address).await;
    let silent = connect("127.0.0.1", server.address).await;
    assert!(is_served(&mut kept).await);
    server.stop.send(()).unwrap();
    tokio::time::timeout(TIMEOUT, server.task).await.expect("the end").unwrap();
    assert_eq!(everything(kept).await, "");
    drop(silent);
}

#[test]
fn a_network_of_ipv6_counts_as_one_source() {
    let of = |text: &str| network(text.parse().unwrap());
    assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
    assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
}

//! Tests of the queues with a loopback web server and a real store.

use bytes::Bytes;
use tandem_call::Method;
use tandem_http::NetworkPolicy;
use tandem_http::testing::{Answer, Received, WebServer};
use tandem_id::AccountName;
use tandem_store::OwnedBy;
use tandem_store::deliveries::DeliveryProgress;
use tokio::sync::mpsc;

use super::*;

/// The senders of a server that is alone: it sends all deliveries.
struct Alone;

impl Senders for Alone {
    fn is_own(&self, _queue: &str) -> bool {
        true
    }

    fn tell(&self, _queue: &str) {}
}

#[tokio::test]
async fn deliveries_of_one_queue_arrive_in_order() {
    let mut server = WebServer::start(|_| Answer::status(200)).await;
    let mut bench = Bench::new().await;
    for id in 1..=100 {
        bench.enqueue(delivery(id, "call", &server.url("/"))).await;
    }
    bench.settle().await;
    let bodies: Vec<String> = server.rest().into_iter().map(|request| request.body).collect();
    let expected: Vec<String> = (1..=100).map(|id| format!("id={id}&attempt=1")).collect();
    assert_eq!(bodies, expected);
    let reports = bench.reports();
    assert!(reports.iter().all(|(_, report)| report.state == DeliveryState::Delivered && report.next == Next::Done));
    assert_eq!(bench.deliveries.counts(), DeliveryCounts { delivered: 100, ..Default::default() });
}

#[tokio::test]
async fn the_next_delivery_waits_for_the_retries_of_the_previous_delivery() {
    let mut server = WebServer::start(answers_by_attempt(|id, attempt| match (id, attempt) {
        (1, 1) => Answer::status(503),
        (1, 2) => Answer::HangUp,
        _ => Answer::status(204),
    }))
    .await;
    let mut bench = Bench::new().await;
    for id in [1, 2] {
        bench.enqueue(retried(delivery(id, "call", &server.url("/")), &[5, 10])).await;
    }
    bench.settle().await;
    // The second attempt reuses the connection of the first attempt. The server has closed this connection, so the
    // client repeats the request on a new connection.
    assert_eq!(attempts(server.rest()), ["1.1", "1.2", "1.2", "1.3", "2.1"]);
    let reports = bench.reports();
    let first = &reports[0].1;
    assert_eq!(first.attempt.status, Some(503));
    assert_eq!(first.next, Next::Retry { after: Duration::from_millis(5) });
    assert_eq!((reports[1].1.attempt.status, reports[1].1.state), (None, DeliveryState::Pending));
    assert_eq!((reports[2].1.attempt.number, reports[2].1.state), (3, DeliveryState::Delivered));
    let rows = deliveries::list(&bench.store, 40).await.unwrap();
    assert_eq!((rows[0].state, rows[0].attempts, rows[0].last_status), (DeliveryState::Delivered, 3, Some(204)));
    assert!(rows[0].done_at.is_some());
}

#[tokio::test]
async fn queues_do_not_wait_for_each_other() {
    let mut server = WebServer::start(|request| match request.target.as_str() {
        "/slow" => Answer::Silence,
        _ => Answer::status(200),
    })
    .await;
    let mut bench = Bench::new().await;
    bench.enqueue(delivery(1, "slow", &server.url("/slow"))).await;
    server.next().await;
    bench.enqueue(delivery(2, "quick", &server.url("/quick"))).await;
    let (delivery, report) = bench.report().await;
    assert_eq!((delivery.id, report.state), (2, DeliveryState::Delivered));
}

#[tokio::test]
async fn an_unresponsive_receiver_does_not_delay_others() {
    let dead = WebServer::start(|_| Answer::Silence).await;
    let alive = WebServer::start(|_| Answer::status(200)).await;
    let mut bench = Bench::new().await;
    for id in 1..=200 {
        bench.enqueue(delivery(id, &format!("call {id}"), &dead.url("/"))).await;
    }
    bench.enqueue(delivery(999, "call 999", &format!("http://user:secret@{}/", alive.address))).await;
    let (delivery, report) = bench.report().await;
    assert_eq!((delivery.id, report.state), (999, DeliveryState::Delivered));
    assert_eq!(report.attempt.url, alive.url("/"));
}

#[tokio::test]
async fn all_attempts_of_a_delivery_share_one_time_limit() {
    let mut server = WebServer::start(|_| Answer::Silence).await;
    let mut bench = Bench::new().await;
    let mut delivery = retried(delivery(1, "call", &server.url("/")), &[1, 1, 1]);
    delivery.policy.total = Duration::from_secs(60);
    delivery.policy.retries.overall = Some(Duration::from_millis(100));
    bench.enqueue(delivery).await;
    let (_, report) = bench.report().await;
    assert_eq!((report.state, report.next), (DeliveryState::Failed, Next::Done));
    assert_eq!(server.rest().len(), 1);
}

#[tokio::test]
async fn the_failover_url_is_tried_after_the_last_attempt() {
    let mut first = WebServer::start(|_| Answer::status(500)).await;
    let mut second = WebServer::start(|_| Answer::status(200)).await;
    let mut bench = Bench::new().await;
    let delivery = Delivery { failover_url: Some(second.url("/b")), ..delivery(1, "call", &first.url("/a")) };
    bench.enqueue(retried(delivery, &[1])).await;
    bench.settle().await;
    assert_eq!(attempts(first.rest()), ["1.1", "1.2"]);
    assert_eq!(attempts(second.rest()), ["1.3"]);
    let steps: Vec<(bool, Next)> =
        bench.reports().into_iter().map(|(_, report)| (report.attempt.failover, report.next)).collect();
    let again = Next::Retry { after: Duration::from_millis(1) };
    assert_eq!(steps, [(false, again), (false, Next::Failover), (true, Next::Done)]);
}

#[tokio::test]
async fn a_status_outside_of_the_retry_policy_is_not_retried_and_the_queue_continues() {
    let mut server =
        WebServer::start(answers_by_attempt(|id, _| Answer::status(if id == 1 { 404 } else { 200 }))).await;
    let mut bench = Bench::new().await;
    for id in [1, 2] {
        bench.enqueue(retried(delivery(id, "call", &server.url("/")), &[1, 1])).await;
    }
    bench.settle().await;
    assert_eq!(attempts(server.rest()), ["1.1", "2.1"]);
    let reports = bench.reports();
    assert_eq!((reports[0].1.state, reports[0].1.attempt.status), (DeliveryState::Failed, Some(404)));
    let rows = deliveries::list(&bench.store, 40).await.unwrap();
    assert_eq!((rows[0].state, rows[0].last_error.as_deref()), (DeliveryState::Failed, Some("status 404")));
}

#[tokio::test]
async fn a_restart_continues_the_queue_with_the_counted_attempts() {
    let mut server =
        WebServer::start(answers_by_attempt(|_, attempt| Answer::status(if attempt == 1 { 503 } else { 200 }))).await;
    let mut bench = Bench::new().await;
    for id in 1..=20 {
        bench.enqueue(retried(delivery(id, "call", &server.url("/")), &[60_000])).await;
    }
    // The first attempt has failed, and the next attempt is due in 1 minute. The server is killed before this time.
    assert_eq!(bench.report().await.1.next, Next::Retry { after: Duration::from_secs(60) });
    server.rest();
    let mut bench = bench.killed_and_restarted(Some("the minute has passed")).await;
    let seen = attempts(vec![server.next().await, server.next().await]);
    assert_eq!(seen, ["1.2", "2.1"]);
    let (first, report) = bench.report().await;
    assert_eq!((first.id, report.attempt.number, report.state), (1, 2, DeliveryState::Delivered));
}

#[tokio::test]
async fn many_queues_left_by_an_earlier_process_are_all_resumed() {
    let mut server = WebServer::start(|_| Answer::status(200)).await;
    let bench = Bench::stopped().await;
    for id in 0..1500 {
        bench.enqueue(delivery(id, &format!("call {}", id % 500), &server.url("/"))).await;
    }
    assert_eq!(server.rest().len(), 0);
    let mut bench = bench.killed_and_restarted(None).await;
    bench.settle().await;
    assert_eq!(server.rest().len(), 1500);
    let mut last = HashMap::new();
    for (delivery, _) in bench.reports() {
        let before = last.insert(delivery.queue, delivery.id);
        assert!(before.is_none_or(|before| before < delivery.id), "order within a queue");
    }
    assert_eq!(deliveries::pending(&bench.store, 10).await.unwrap(), []);
}

#[tokio::test]
async fn a_private_target_is_refused_and_reported() {
    let mut bench = Bench::new().await;
    bench.enqueue(retried(delivery(1, "call", "http://10.0.0.1/"), &[1, 1])).await;
    let (_, report) = bench.report().await;
    assert_eq!((report.state, report.attempt.number, report.next), (DeliveryState::Failed, 1, Next::Done));
    assert!(report.attempt.error.unwrap().contains("allow_networks"));
}

#[tokio::test]
async fn a_slow_receiver_times_out_and_an_endless_answer_has_the_result_of_its_status() {
    let server = WebServer::start(|request| match request.target.as_str() {
        "/silence" => Answer::Silence,
        _ => Answer::Endless,
    })
    .await;
    let mut bench = Bench::new().await;
    let mut unanswered = delivery(1, "a", &server.url("/silence"));
    unanswered.policy.total = Duration::from_millis(100);
    bench.enqueue(unanswered).await;
    let (_, report) = bench.report().await;
    assert_eq!((report.state, report.attempt.status), (DeliveryState::Failed, None));
    assert!(report.attempt.error.unwrap().contains("timeout"));
    bench.enqueue(delivery(2, "b", &server.url("/endless"))).await;
    let (_, report) = bench.report().await;
    assert_eq!((report.state, report.attempt.status), (DeliveryState::Delivered, Some(200)));
}

#[tokio::test]
async fn redirects_are_followed_only_on_request_and_signed_again() {
    let mut server = WebServer::start(|request| match request.target.as_str() {
        "/first" => Answer::redirect(302, "/second"),
        _ => Answer::status(200),
    })
    .await;
    let mut bench = Bench::new().await;
    bench.enqueue(delivery(1, "call", &server.url("/first"))).await;
    let mut redirected = delivery(2, "call", &server.url("/first"));
    redirected.policy.redirects = true;
    bench.enqueue(redirected).await;
    bench.settle().await;
    let states: Vec<DeliveryState> = bench.reports().iter().map(|(_, report)| report.state).collect();
    assert_eq!(states, [DeliveryState::Failed, DeliveryState::Delivered]);
    let last = server.rest().pop().unwrap();
    assert_eq!((last.method.as_str(), last.target.as_str(), last.body.as_str()), ("GET", "/second", ""));
    assert_eq!(last.header("x-signature"), Some(server.url("/second").as_str()));
}

#[tokio::test]
async fn draining_sends_due_deliveries_and_keeps_the_others() {
    let mut server =
        WebServer::start(answers_by_attempt(|id, _| Answer::status(if id == 1 { 503 } else { 200 }))).await;
    let mut bench = Bench::new().await;
    bench.enqueue(retried(delivery(1, "retrying", &server.url("/")), &[60_000])).await;
    bench.report().await;
    bench.enqueue(retried(delivery(2, "retrying", &server.url("/")), &[60_000])).await;
    for id in 3..50 {
        bench.enqueue(delivery(id, "due", &server.url("/"))).await;
    }
    assert!(bench.deliveries.drain(Duration::from_secs(20)).await);
    assert_eq!(server.rest().len(), 48);
    let left: Vec<u128> = deliveries::pending(&bench.store, 10).await.unwrap().iter().map(|row| row.id).collect();
    assert_eq!(left, [1, 2]);
    bench.enqueue(delivery(99, "late", &server.url("/"))).await;
    assert_eq!(deliveries::pending(&bench.store, 10).await.unwrap().len(), 3);
}

#[tokio::test]
async fn draining_cancels_a_request_without_an_answer() {
    let mut server = WebServer::start(|_| Answer::Silence).await;
    let bench = Bench::new().await;
    bench.enqueue(delivery(1, "call", &server.url("/"))).await;
    server.next().await;
    assert!(!bench.deliveries.drain(Duration::from_millis(50)).await);
    assert_eq!(deliveries::pending(&bench.store, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_id_is_accepted_once() {
    let server = WebServer::start(|_| Answer::status(200)).await;
    let mut bench = Bench::new().await;
    bench.enqueue(delivery(1, "call", &server.url("/"))).await;
    assert!(bench.deliveries.enqueue(delivery(1, "other", &server.url("/"))).await.is_err());
    assert!(bench.deliveries.enqueue(delivery(2, "", &server.url("/"))).await.is_err());
    bench.settle().await;
    assert_eq!(bench.reports().len(), 1);
}

struct Bench {
    directory: tempfile::TempDir,
    store: Store,
    deliveries: Deliveries,
    heard: mpsc::UnboundedReceiver<(Delivery, AttemptReport)>,
}

impl Bench {
    async fn new() -> Bench {
        Bench::at(tempfile::tempdir().unwrap()).await
    }

    /// Queues that accept deliveries but send no delivery, like a server during its shutdown.
    async fn stopped() -> Bench {
        let bench = Bench::new().await;
        assert!(bench.deliveries.drain(Duration::ZERO).await || bench.deliveries.counts().queues == 0);
        bench
    }

    async fn at(directory: tempfile::TempDir) -> Bench {
        let store = Store::open(&format!("sqlite:{}/tandem.db", directory.path().display())).await.unwrap();
        let policy = NetworkPolicy { allow_networks: vec!["127.0.0.0/8".parse().unwrap()] };
        let client = Client::new(policy, Duration::from_secs(5)).unwrap();
        let (sender, heard) = mpsc::unbounded_channel();
        let sink: Sink = Arc::new(move |delivery: &Delivery, report: &AttemptReport| {
            let _ = sender.send((delivery.clone(), report.clone()));
        });
        let deliveries = Deliveries::new(store.clone(), client, Arc::new(PlainSigner), 64);
        deliveries.start(sink, Arc::new(Alone));
        deliveries.resume(OwnedBy::Anybody);
        Bench { directory, store, deliveries, heard }
    }

    /// Restarts without a drain, as after `kill -9`. If `time_passes` is set, all pending retries are due at the
    /// restart.
    async fn killed_and_restarted(self, time_passes: Option<&str>) -> Bench {
        let Bench { directory, store, deliveries, .. } = self;
        drop(deliveries);
        if time_passes.is_some() {
            for row in deliveries::pending(&store, 1000).await.unwrap() {
                let (id, state, attempts) = (row.id, row.state, row.attempts);
                let (done_at, last_status, last_error) = (row.done_at, row.last_status, row.last_error);
                let progress =
                    DeliveryProgress { id, state, attempts, next_at: None, done_at, last_status, last_error };
                deliveries::update(&store, progress).await.unwrap();
            }
        }
        store.close().await;
        Bench::at(directory).await
    }

    async fn enqueue(&self, delivery: Delivery) {
        self.deliveries.enqueue(delivery).await.unwrap();
    }

    async fn report(&mut self) -> (Delivery, AttemptReport) {
        let next = tokio::time::timeout(Duration::from_secs(20), self.heard.recv());
        next.await.expect("a report in time").expect("the queues run")
    }

    async fn settle(&mut self) {
        tokio::time::timeout(Duration::from_secs(30), self.deliveries.idle()).await.expect("all sent in time");
    }

    fn reports(&mut self) -> Vec<(Delivery, AttemptReport)> {
        std::iter::from_fn(|| self.heard.try_recv().ok()).collect()
    }
}

/// A signer that writes the delivery's id and the attempt number into the body. It writes the URL into the signature.
struct PlainSigner;

impl DeliverySigner for PlainSigner {
    fn sign(&self, _account: &AccountName, _dialect: &str, input: &SignInput<'_>) -> SignedRequest {
        let SignInput { url, attempt, .. } = *input;
        let body = match input.body {
            Body::Form(fields) => {
                let mut pairs: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
                if !pairs.is_empty() {
                    pairs.push(format!("attempt={attempt}"));
                }
                pairs.join("&")
            }
            Body::Json(value) => value.to_string(),
        };
        SignedRequest { url: url.into(), headers: vec![("X-Signature".into(), url.into())], body: Bytes::from(body) }
    }
}

fn delivery(id: u128, queue: &str, url: &str) -> Delivery {
    Delivery {
        id,
        queue: queue.into(),
        session: 40,
        account: AccountName::new("acme"),
        dialect: "first".into(),
        event: "answered".into(),
        url: url.into(),
        failover_url: None,
        method: Method::Post,
        body: Body::Form(vec![("id".into(), id.to_string())]),
        policy: RetryPolicy {
            connect: Duration::from_secs(5),
            total: Duration::from_secs(10),
            retries: Retries::default(),
            redirects: false,
        },
        numbered: None,
        leg: None,
        replay_of: None,
    }
}

fn retried(mut delivery: Delivery, delays_ms: &[u64]) -> Delivery {
    let statuses = vec![StatusRange { first: 500, last: 599 }];
    let on = RetryOn { connect: true, response: true, statuses };
    let pauses = delays_ms.iter().copied().map(Duration::from_millis).collect();
    delivery.policy.retries = Retries { pauses, on, overall: None };
    delivery
}

/// Answers a request according to the id and the attempt that [`PlainSigner`] wrote.
fn answers_by_attempt(answer: impl Fn(u128, u32) -> Answer + Send + Sync + 'static) -> impl Fn(&Received) -> Answer {
    move |request| {
        let (id, attempt) = spelled(request);
        answer(id, attempt)
    }
}

fn spelled(request: &Received) -> (u128, u32) {
    let (id, attempt) = request.body.split_once('&').unwrap();
    (id.trim_start_matches("id=").parse().unwrap(), attempt.trim_start_matches("attempt=").parse().unwrap())
}

/// Returns `id.attempt` for each request.
fn attempts(requests: Vec<Received>) -> Vec<String> {
    requests.iter().map(spelled).map(|(id, attempt)| format!("{id}.{attempt}")).collect()
}

//! Tests of the client against a loopback web server.

use std::collections::HashMap;
use std::sync::Mutex;

use tandem_id::AccountName;

use super::testing::{Answer, WebServer};
use super::*;

#[tokio::test]
async fn a_post_arrives_with_its_headers_and_body() {
    let mut server = WebServer::start(|_| Answer::body("<Response/>").with("X-App", "yes")).await;
    let mut request = post(server.url("/voice?a=b#rc=2"), "x=1");
    request.headers.push(("X-Signature".into(), "abc".into()));
    let response = client().send(&request).await.unwrap();
    assert_eq!(
        (response.status, &response.body[..], response.header("x-app")),
        (200, &b"<Response/>"[..], Some("yes"))
    );
    assert_eq!(response.final_url, server.url("/voice?a=b"));
    let received = server.next().await;
    assert_eq!(
        (received.method.as_str(), received.target.as_str(), received.body.as_str()),
        ("POST", "/voice?a=b", "x=1")
    );
    assert_eq!(received.header("x-signature"), Some("abc"));
    assert_eq!(received.header("authorization"), None);
}

#[tokio::test]
async fn credentials_in_the_url_become_basic_authentication() {
    let mut server = WebServer::start(|_| Answer::status(204)).await;
    let url = format!("http://al%69ce:p%40ss@{}/", server.address);
    let response = client().send(&get(url)).await.unwrap();
    assert_eq!(response.final_url, server.url("/"));
    assert_eq!(server.next().await.header("authorization"), Some("Basic YWxpY2U6cEBzcw=="));
}

#[tokio::test]
async fn a_digest_challenge_is_answered_with_the_credentials_in_the_url() {
    let challenge = "Digest realm=\"app\", nonce=\"n1\", qop=\"auth\", algorithm=SHA-256";
    let mut server = WebServer::start(move |received| match received.header("authorization") {
        Some(value) if value.starts_with("Digest ") => Answer::body("in"),
        _ => Answer::status(401).with("WWW-Authenticate", challenge),
    })
    .await;
    let url = format!("http://alice:s%20ecret@{}/voice?a=b", server.address);
    let response = client().send(&post(url, "x=1")).await.unwrap();
    assert_eq!((response.status, &response.body[..]), (200, &b"in"[..]));
    let requests = server.rest();
    assert_eq!(requests.iter().map(|one| one.body.as_str()).collect::<Vec<_>>(), ["x=1", "x=1"]);
    let value = requests[1].header("authorization").unwrap();
    let field = |name: &str| {
        let at = value.find(&format!("{name}=")).unwrap() + name.len() + 1;
        value[at..].trim_start_matches('"').split(['"', ',']).next().unwrap().to_owned()
    };
    assert_eq!([field("username"), field("uri"), field("nonce")], ["alice", "/voice?a=b", "n1"]);
    let hash = |text: String| tandem_host::hash::hex(&tandem_host::hash::sha256([text.as_bytes()]));
    let (ha1, ha2) = (hash("alice:app:s ecret".into()), hash("POST:/voice?a=b".into()));
    assert_eq!(field("response"), hash(format!("{ha1}:n1:{}:{}:auth:{ha2}", field("nc"), field("cnonce"))));
}

#[tokio::test]
async fn a_digest_challenge_is_answered_with_the_credentials_of_a_basic_header() {
    let challenge = "Digest realm=\"app\", nonce=\"n1\", qop=\"auth\"";
    let mut server = WebServer::start(move |received| match received.header("authorization") {
        Some(value) if value.starts_with("Digest ") => Answer::body("in"),
        _ => Answer::status(401).with("WWW-Authenticate", challenge),
    })
    .await;
    let mut request = post(server.url("/voice"), "x=1");
    request.headers.push(("Authorization".to_owned(), format!("Basic {}", BASE64_STANDARD.encode("joe:a:b"))));
    assert_eq!(client().send(&request).await.unwrap().status, 200);
    assert!(server.rest()[1].header("authorization").unwrap().contains("username=\"joe\""));
}

#[tokio::test]
async fn a_challenge_is_returned_without_credentials_or_after_a_second_401() {
    let challenge = "Digest realm=\"app\", nonce=\"n1\", qop=\"auth\"";
    let mut server = WebServer::start(move |_| Answer::status(401).with("WWW-Authenticate", challenge)).await;
    assert_eq!(client().send(&get(server.url("/"))).await.unwrap().status, 401);
    assert_eq!(server.rest().len(), 1);
    let wrong = format!("http://alice:wrong@{}/", server.address);
    assert_eq!(client().send(&get(wrong)).await.unwrap().status, 401);
    assert_eq!(server.rest().len(), 2);
}

#[tokio::test]
async fn private_targets_are_refused_in_every_spelling() {
    let server = WebServer::start(|_| Answer::status(200)).await;
    let names = Names::of(&[
        ("inside.example", "10.0.0.1"),
        ("mapped.example", "::ffff:127.0.0.1"),
        ("public.example", "8.8.8.8"),
    ]);
    let strict = with(NetworkPolicy::default(), names);
    let port = server.address.port();
    let hosts =
        "127.0.0.1 0x7f.1 2130706433 127.0.0.1. [::1] [::ffff:7f00:1] inside.example mapped.example 10.9.9.9 0.0.0.0";
    for host in hosts.split(' ') {
        let outcome = strict.send(&get(format!("http://{host}:{port}/"))).await;
        assert!(matches!(outcome, Err(FetchError::Refused(_))), "{host}: {outcome:?}");
        let outcome = strict.connect(host, port, None).await;
        assert!(matches!(outcome, Err(FetchError::Refused(_))), "{host}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_connection_goes_to_the_checked_address() {
    let mut server = WebServer::start(|_| Answer::status(200)).await;
    // A second lookup would return another address. The client must not look up the name a second time.
    let names = Names::of(&[("app.example", "127.0.0.1"), ("app.example", "10.0.0.1")]);
    let client = with(loopback(), names.clone());
    let url = format!("http://app.example:{}/", server.address.port());
    client.send(&get(url.clone())).await.unwrap();
    assert_eq!(server.next().await.header("host"), Some(url.trim_start_matches("http://").trim_end_matches('/')));
    assert_eq!(names.lookups(), 1);
}

#[tokio::test]
async fn each_failure_has_its_own_kind() {
    let server = WebServer::start(|request| match request.target.as_str() {
        "/silence" => Answer::Silence,
        "/endless" => Answer::Endless,
        "/long" => Answer::body("x".repeat(2000)),
        _ => Answer::HangUp,
    })
    .await;
    let unused = TcpListenerPort::unused().await;
    let client = with(loopback(), Names::of(&[]));
    let kinds = [
        (server.url("/silence"), "timeout"),
        (server.url("/endless"), "too_large"),
        (server.url("/long"), "too_large"),
        (server.url("/hang-up"), "broken"),
        (format!("http://127.0.0.1:{unused}/"), "connect_refused"),
        ("http://nowhere.example/".into(), "dns"),
        (format!("https://{}/", server.address), "tls"),
        ("ftp://127.0.0.1/".into(), "url"),
        ("/relative".into(), "url"),
    ];
    for (url, kind) in kinds {
        let mut request = get(url.clone());
        request.max_body = 1000;
        request.timeouts.total = Duration::from_millis(500);
        let error = client.send(&request).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{url}: {error}");
    }
    let mut request = get(server.url("/"));
    request.headers.push(("bad name".into(), "line\r\nbreak".into()));
    assert_eq!(client.send(&request).await.unwrap_err().kind(), "protocol");
}

#[tokio::test]
async fn an_unanswered_connection_attempt_is_a_connect_timeout() {
    // A listener with a full queue does not answer further SYNs.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut filling = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        filling.push(stream);
    }
    let mut request = get(format!("http://{address}/"));
    request.timeouts.connect = Some(Duration::from_millis(100));
    let error = client().send(&request).await.unwrap_err();
    assert_eq!(error.kind(), "connect_timeout", "{error}");
    let error = client().connect("127.0.0.1", address.port(), Some(Duration::from_millis(100))).await.unwrap_err();
    assert_eq!(error.kind(), "connect_timeout", "{error}");
}

#[tokio::test]
async fn the_status_of_a_redirect_decides_its_method() {
    for (status, method, body) in
        [(301, "GET", ""), (302, "GET", ""), (303, "GET", ""), (307, "POST", "x=1"), (308, "POST", "x=1")]
    {
        let mut server = WebServer::start(move |request| match request.target.as_str() {
            "/a/first" => Answer::redirect(status, "../b?c=d"),
            _ => Answer::body("done"),
        })
        .await;
        let mut request = post(server.url("/a/first"), "x=1");
        request.headers.push(("Content-Type".into(), "application/x-www-form-urlencoded".into()));
        let plain = client().send(&request).await.unwrap();
        assert_eq!(plain.status, status, "not followed unless asked to");
        server.next().await;
        let response = client().send_following(request, RedirectRules::PROVIDER, None, None).await.unwrap();
        assert_eq!((response.status, response.final_url.as_str()), (200, server.url("/b?c=d").as_str()));
        server.next().await;
        let second = server.next().await;
        assert_eq!((second.method.as_str(), second.body.as_str()), (method, body));
        assert_eq!(second.header("content-type").is_some(), method == "POST");
    }
}

#[tokio::test]
async fn the_eleventh_redirect_fails() {
    let mut server = WebServer::start(|request| {
        let number: u32 = request.target.trim_start_matches('/').parse().unwrap();
        if number == 0 { Answer::body("end") } else { Answer::redirect(302, format!("/{}", number - 1)) }
    })
    .await;
    let response = client().send_following(get(server.url("/10")), RedirectRules::PROVIDER, None, None).await.unwrap();
    assert_eq!(&response.body[..], b"end");
    assert_eq!(server.rest().len(), 11);
    let outcome = client().send_following(get(server.url("/11")), RedirectRules::PROVIDER, None, None).await;
    assert_eq!(outcome.unwrap_err(), FetchError::TooManyRedirects(10));
}

#[tokio::test]
async fn the_network_policy_checks_each_redirect() {
    let server = WebServer::start(|_| Answer::redirect(302, "http://10.0.0.1/admin")).await;
    let outcome = client().send_following(get(server.url("/")), RedirectRules::PROVIDER, None, None).await;
    assert!(matches!(outcome, Err(FetchError::Refused(_))), "{outcome:?}");
    let server = WebServer::start(|_| Answer::redirect(302, "file:///etc/passwd")).await;
    let outcome = client().send_following(get(server.url("/")), RedirectRules::PROVIDER, None, None).await;
    assert!(matches!(outcome, Err(FetchError::Url(_))), "{outcome:?}");
}

#[tokio::test]
async fn a_redirect_to_another_origin_drops_credentials_and_is_signed_again() {
    let mut second = WebServer::start(|_| Answer::status(200)).await;
    let target = second.url("/there");
    let mut first = WebServer::start(move |_| Answer::redirect(307, target.clone())).await;
    let mut request = post(format!("http://user:secret@{}/", first.address), "x=1");
    request.headers.push(("Authorization".into(), "Bearer secret".into()));
    let mut sign_redirect = |request: &mut Request| request.headers.push(("X-Signature".into(), request.url.clone()));
    client().send_following(request, RedirectRules::PROVIDER, None, Some(&mut sign_redirect)).await.unwrap();
    assert!(first.next().await.header("authorization").is_some());
    let received = second.next().await;
    assert_eq!(received.header("authorization"), None);
    assert_eq!(received.header("x-signature"), Some(second.url("/there").as_str()));
}

#[tokio::test]
async fn a_cookie_jar_keeps_cookies_over_redirects_and_requests() {
    let mut server = WebServer::start(|request| match request.target.as_str() {
        "/login" => Answer::redirect(303, "/voice").with("Set-Cookie", "state=1; Path=/").with("Set-Cookie", "b=2"),
        _ => Answer::status(200).with("Set-Cookie", "state=2; Path=/"),
    })
    .await;
    let jar = CookieJar::new();
    for path in ["/login", "/next"] {
        client().send_following(get(server.url(path)), RedirectRules::PROVIDER, Some(&jar), None).await.unwrap();
    }
    let cookies: Vec<Vec<String>> = server
        .rest()
        .iter()
        .map(|request| {
            let mut cookies: Vec<String> =
                request.header("cookie").unwrap_or("").split("; ").map(str::to_owned).collect();
            cookies.sort();
            cookies
        })
        .collect();
    assert_eq!(cookies, [vec![""], vec!["b=2", "state=1"], vec!["b=2", "state=2"]]);
}

#[tokio::test]
async fn the_total_timeout_covers_all_redirects() {
    let server = WebServer::start(|request| match request.target.as_str() {
        "/first" => Answer::redirect(302, "/silence"),
        _ => Answer::Silence,
    })
    .await;
    let mut request = get(server.url("/first"));
    request.timeouts.total = Duration::from_millis(300);
    let began = Instant::now();
    let outcome = client().send_following(request, RedirectRules::PROVIDER, None, None).await;
    assert_eq!(outcome.unwrap_err().kind(), "timeout");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_private_ca_is_trusted_through_its_configured_file() {
    let certified = rcgen::generate_simple_self_signed(vec!["app.example".into()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server_tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let server = WebServer::start_with(Some(Arc::new(server_tls)), |_| Answer::body("secure")).await;
    let url = format!("https://app.example:{}/", server.address.port());
    let names = || Names::of(&[("app.example", "127.0.0.1")]);
    let untrusting = with(loopback(), names()).send(&get(url.clone())).await;
    assert_eq!(untrusting.unwrap_err().kind(), "tls");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    std::fs::write(&file, certified.cert.pem()).unwrap();
    let tls = tls_config(Some(&file)).unwrap();
    let trusting = Client::with(loopback(), Duration::from_secs(5), tls, names()).unwrap();
    assert_eq!(&trusting.send(&get(url.clone())).await.unwrap().body[..], b"secure");
    // A client that runs takes over the authority of a file that has changed, and so do its clones.
    let running = with(loopback(), names());
    let clone = running.of_account(&AccountName::new("acme"));
    assert_eq!(clone.send(&get(url.clone())).await.unwrap_err().kind(), "tls");
    running.set_tls(tls_config(Some(&file)).unwrap());
    assert_eq!(&clone.send(&get(url.clone())).await.unwrap().body[..], b"secure");
    running.set_tls(tls_config(None).unwrap());
    assert_eq!(clone.send(&get(url)).await.unwrap_err().kind(), "tls");
    std::fs::write(&file, "no certificate").unwrap();
    assert!(tls_config(Some(&file)).is_err());
    assert!(tls_config(Some(&directory.path().join("absent"))).is_err());
}

#[tokio::test]
async fn a_request_goes_to_the_address_of_its_origin_with_the_public_host() {
    let mut server = WebServer::start(|received| match received.target.as_str() {
        "/old" => Answer::redirect(307, "https://app.test/new?a=b"),
        _ => Answer::body("here"),
    })
    .await;
    let client = client();
    client.set_origins(Origins::new(vec![origin("https://app.test", &server.url(""), None)]));
    let request = post("https://me:pw@app.test/old#frag".into(), "x=1");
    let mut signed = Vec::new();
    let mut sign_redirect = |request: &mut Request| signed.push(request.url.clone());
    let response =
        client.send_following(request, RedirectRules::PROVIDER, None, Some(&mut sign_redirect)).await.unwrap();
    assert_eq!((&response.body[..], response.final_url.as_str()), (&b"here"[..], "https://app.test/new?a=b"));
    assert_eq!(signed, ["https://app.test/new?a=b#frag"]);
    for target in ["/old", "/new?a=b"] {
        let received = server.next().await;
        assert_eq!((received.target.as_str(), received.body.as_str()), (target, "x=1"));
        assert_eq!(received.header("host"), Some("app.test"));
        assert_eq!(received.header("x-forwarded-proto"), Some("https"));
        assert_eq!(received.header("x-forwarded-host"), Some("app.test"));
        let authorization = (target == "/old").then_some("Basic bWU6cHc=");
        assert_eq!(received.header("authorization"), authorization);
    }
}

#[tokio::test]
async fn the_origin_of_an_account_serves_only_this_account_and_changes_apply_immediately() {
    let acme = WebServer::start(|_| Answer::body("acme")).await;
    let all = WebServer::start(|_| Answer::body("all")).await;
    let client = client();
    let ask = async |client: &Client| {
        let response = client.send(&get("https://app.test:8443/".into())).await?;
        Ok::<_, FetchError>(String::from_utf8_lossy(&response.body).into_owned())
    };
    let (of_acme, of_other) =
        (client.of_account(&AccountName::new("acme")), client.of_account(&AccountName::new("other")));
    client.set_origins(Origins::new(vec![
        origin("https://app.test:8443", &all.url(""), None),
        origin("https://app.test:8443", &acme.url(""), Some("acme")),
    ]));
    assert_eq!(ask(&of_acme).await.unwrap(), "acme");
    assert_eq!(ask(&of_other).await.unwrap(), "all");
    assert_eq!(
        (of_acme.account_with_origins(), of_other.account_with_origins()),
        (Some(AccountName::new("acme")), None)
    );
    client.set_origins(Origins::new(vec![origin("https://app.test:8443", &acme.url(""), Some("acme"))]));
    assert_eq!(ask(&of_acme).await.unwrap(), "acme");
    assert_eq!(ask(&of_other).await.unwrap_err().kind(), "dns");
}

#[tokio::test]
async fn the_network_policy_checks_the_address_of_an_origin() {
    let server = WebServer::start(|_| Answer::status(200)).await;
    let strict = with(NetworkPolicy::default(), Names::of(&[("inside.example", "10.0.0.1")]));
    for to in [server.url(""), "http://inside.example".into()] {
        strict.set_origins(Origins::new(vec![origin("https://app.test", &to, None)]));
        let error = strict.send(&get("https://app.test/".into())).await.unwrap_err();
        assert_eq!(error.kind(), "refused", "{error}");
        assert!(error.to_string().ends_with(&format!("(origins lead to {to})")), "{error}");
    }
}

#[tokio::test]
async fn a_request_on_a_closed_kept_alive_connection_is_repeated_once() {
    let mut server = WebServer::start(|received| match received.before {
        0 => Answer::body(received.body.clone()),
        _ => Answer::HangUp,
    })
    .await;
    let client = client();
    for body in ["first", "second", "third"] {
        let response = client.send(&post(server.url("/"), body)).await.unwrap();
        assert_eq!(&response.body[..], body.as_bytes());
    }
    let bodies: Vec<String> = server.rest().into_iter().map(|received| received.body).collect();
    assert_eq!(bodies, ["first", "second", "second", "third"], "each fresh connection gives one answer");
}

#[tokio::test]
async fn a_request_on_a_closed_new_connection_is_not_repeated() {
    let mut server = WebServer::start(|_| Answer::HangUp).await;
    let error = client().send(&post(server.url("/"), "once")).await.unwrap_err();
    assert_eq!(error.kind(), "broken", "{error}");
    assert_eq!(server.rest().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn responses_wait_for_their_memory_budget_and_return_it_when_dropped() {
    let budget = Budget::new(192 * 1024);
    let mut first = Share::of(Some(budget.clone()));
    first.reserve(100_000).await.unwrap();
    assert_eq!(budget.free(), 64 * 1024);
    let mut second = Share::of(Some(budget.clone()));
    let began = Instant::now();
    let error = second.reserve(65_537).await.unwrap_err();
    assert_eq!((error.kind(), began.elapsed().as_secs()), ("timeout", 25));
    assert_eq!(budget.free(), 64 * 1024, "who waits holds nothing");
    let body = first.into_body(BytesMut::from(&b"audio"[..]));
    let clone = body.clone();
    drop(body);
    assert_eq!(budget.free(), 64 * 1024, "somebody still has it");
    drop(clone);
    second.reserve(65_537).await.unwrap();
    assert_eq!(budget.free(), 64 * 1024);
}

#[tokio::test(start_paused = true)]
async fn one_of_several_responses_of_unknown_length_always_continues() {
    let budget = Budget::new(128 * 1024);
    let mut shares = [Share::of(Some(budget.clone())), Share::of(Some(budget.clone()))];
    for share in &mut shares {
        share.grow(60_000).await.unwrap();
    }
    assert_eq!(budget.free(), 0);
    let [mut first, mut second] = shares;
    first.grow(10_000_000).await.unwrap();
    let began = Instant::now();
    let (done, ended) = tokio::join!(second.grow(70_000), async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        drop(first.into_body(BytesMut::from(&b"audio"[..])));
    });
    done.unwrap();
    assert_eq!((began.elapsed().as_secs(), ended), (3, ()));
}

#[tokio::test]
async fn all_responses_of_a_client_stay_within_its_memory_budget() {
    let server = WebServer::start(|_| Answer::body("x".repeat(60_000))).await;
    let budget = Budget::new(128 * 1024);
    let client = client().with_budget(budget.clone());
    let held = [client.send(&get(server.url("/a"))).await.unwrap(), client.send(&get(server.url("/b"))).await.unwrap()];
    assert_eq!(budget.free(), 0);
    let request = get(server.url("/c"));
    let mut third = Box::pin(client.send(&request));
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut third).await.is_err(), "there is no room for it");
    drop(held);
    assert_eq!(third.await.unwrap().body.len(), 60_000);
}

#[tokio::test(start_paused = true)]
async fn the_responses_of_one_account_leave_memory_for_another_account() {
    let unit = 64 * 1024;
    let (whole, accounts) = (Budget::new(6 * unit), [Budget::new(unit), Budget::new(unit)]);
    let [mut greedy, mut more, mut third] = std::array::from_fn(|_| Share::of(Some(whole.with_part(&accounts[0]))));
    // One answer is longer than the part. Another answer exceeds the part, and a third answer waits.
    greedy.reserve(2 * unit).await.unwrap();
    more.grow(2 * unit).await.unwrap();
    assert_eq!(third.grow(1).await.unwrap_err().kind(), "timeout");
    assert_eq!(third.reserve(1).await.unwrap_err().kind(), "timeout");
    assert_eq!(whole.free(), 2 * unit, "an answer that waits for its part takes nothing");
    let mut modest = Share::of(Some(whole.with_part(&accounts[1])));
    let began = Instant::now();
    modest.reserve(unit).await.unwrap();
    modest.grow(2 * unit).await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 0);
    drop((more, modest));
    third.grow(1).await.unwrap();
    drop((greedy, third));
    assert_eq!((whole.free(), accounts[0].free()), (6 * unit, unit));
}

#[tokio::test(start_paused = true)]
async fn a_response_continues_although_every_memory_budget_is_used() {
    let unit = 64 * 1024;
    let (whole, part) = (Budget::new(2 * unit), Budget::new(unit));
    let mut shares: [Share; 3] = std::array::from_fn(|_| Share::of(Some(whole.with_part(&part))));
    shares[0].grow(unit).await.unwrap();
    shares[1].grow(unit).await.unwrap();
    assert_eq!(whole.free(), 0);
    shares[1].grow(9 * unit).await.unwrap();
    let [first, second, mut third] = shares;
    drop((first, second));
    third.grow(unit).await.unwrap();
}

fn origin(from: &str, to: &str, account: Option<&str>) -> OriginConfig {
    let origin = |text: &str| Origin::try_from(text.to_owned()).unwrap();
    OriginConfig { from: origin(from), to: origin(to), account: account.map(AccountName::new) }
}

/// A resolver with scripted addresses. If a name has several addresses, each lookup returns the next address.
struct Names {
    answers: Mutex<HashMap<String, Vec<IpAddr>>>,
    lookups: Mutex<usize>,
}

impl Names {
    fn of(lines: &[(&str, &str)]) -> Arc<Names> {
        let mut answers: HashMap<String, Vec<IpAddr>> = HashMap::new();
        for (name, address) in lines.iter().rev() {
            answers.entry((*name).to_owned()).or_default().push(address.parse().unwrap());
        }
        Arc::new(Names { answers: Mutex::new(answers), lookups: Mutex::new(0) })
    }

    fn lookups(&self) -> usize {
        *self.lookups.lock().unwrap()
    }
}

impl Lookup for Names {
    fn lookup(&self, host: &str) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
        *self.lookups.lock().unwrap() += 1;
        let mut answers = self.answers.lock().unwrap();
        let answer = answers
            .get_mut(host)
            .and_then(|answers| if answers.len() > 1 { answers.pop() } else { answers.last().copied() });
        Box::pin(std::future::ready(
            answer.map(|address| vec![address]).ok_or_else(|| io::Error::other("no such name")),
        ))
    }
}

struct TcpListenerPort;

impl TcpListenerPort {
    /// A port without a listener.
    async fn unused() -> u16 {
        tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
    }
}

fn loopback() -> NetworkPolicy {
    NetworkPolicy { allow_networks: vec!["127.0.0.0/8".parse().unwrap()] }
}

fn client() -> Client {
    Client::new(loopback(), Duration::from_secs(5)).unwrap()
}

fn with(policy: NetworkPolicy, names: Arc<Names>) -> Client {
    Client::with(policy, Duration::from_secs(5), tls_config(None).unwrap(), names).unwrap()
}

fn get(url: String) -> Request {
    let timeouts = Timeouts { connect: None, total: Duration::from_secs(10) };
    Request { method: Method::GET, url, headers: Vec::new(), body: Bytes::new(), timeouts, max_body: 64 * 1024 }
}

fn post(url: String, body: &str) -> Request {
    Request { method: Method::POST, body: Bytes::copy_from_slice(body.as_bytes()), ..get(url) }
}

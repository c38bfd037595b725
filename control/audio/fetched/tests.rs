#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "for tests only")]

use std::sync::atomic::{AtomicUsize, Ordering};

use tandem_http::NetworkPolicy;
use tandem_http::testing::{Answer, Received, WebServer};
use tandem_id::AccountName;

use super::*;

fn files() -> FetchedAudio {
    let policy = NetworkPolicy { allow_networks: vec!["127.0.0.0/8".parse().unwrap()] };
    FetchedAudio::new(Client::new(policy, Duration::from_secs(5)).unwrap())
}

/// A WAV file of 100 mu-law samples. All samples have this code, so the audio of different codes differs.
fn wav(code: char) -> String {
    let head = "RIFF\u{74}\0\0\0WAVEfmt \u{10}\0\0\0\u{7}\0\u{1}\0\u{40}\u{1f}\0\0\u{40}\u{1f}\0\0\u{1}\0\u{8}\0";
    format!("{head}data\u{64}\0\0\0{}", code.to_string().repeat(100))
}

fn answer(code: char, headers: &[(&str, &str)]) -> Answer {
    headers.iter().fold(Answer::body(wav(code)).with("Content-Type", "audio/wav"), |answer, (name, value)| {
        answer.with(name, *value)
    })
}

/// A server whose first answer has the audio `a` and these headers. Later answers have the audio `b`.
async fn changing(headers: &'static [(&'static str, &'static str)]) -> WebServer {
    let count = AtomicUsize::new(0);
    WebServer::start(move |_| {
        let first = count.fetch_add(1, Ordering::Relaxed) == 0;
        answer(if first { 'a' } else { 'b' }, headers)
    })
    .await
}

/// Whether the second use of a file has the audio of the first use, and the number of requests.
async fn two_uses(files: &FetchedAudio, server: &mut WebServer, path: &str) -> (bool, usize) {
    let url = server.url(path);
    let first = files.get(&url, &AccountName::new("acme")).await.unwrap();
    let second = files.get(&url, &AccountName::new("acme")).await.unwrap();
    (first.samples() == second.samples(), server.rest().len())
}

#[tokio::test]
async fn a_file_is_used_again_exactly_if_its_headers_permit_it() {
    let reused: [&[(&str, &str)]; 6] = [
        &[("Cache-Control", "max-age=60")],
        &[("Cache-Control", "max-age=0, s-maxage=60")],
        &[("Cache-Control", "Max-Age=60")],
        &[("Cache-Control", "public, max-age=60, must-revalidate")],
        &[("Date", "Tue, 01 Jan 2030 00:00:00 GMT"), ("Expires", "Tue, 01 Jan 2030 00:01:00 GMT")],
        &[("Cache-Control", "max-age=60"), ("Vary", "Accept, Accept-Encoding")],
    ];
    let asked_again: [&[(&str, &str)]; 17] = [
        &[],
        &[("Cache-Control", "no-store")],
        &[("Cache-Control", "no-store, max-age=60")],
        &[("Cache-Control", "NO-STORE, max-age=60")],
        &[("cache-control", "No-Cache, Max-Age=60")],
        &[("Cache-Control", "Private, max-age=60")],
        &[("Cache-Control", "max-age=60, S-MaxAge=0")],
        &[("Cache-Control", "immutable")],
        &[("Cache-Control", "no-cache")],
        &[("Cache-Control", "no-cache, max-age=60")],
        &[("Cache-Control", "private, max-age=60")],
        &[("Cache-Control", "max-age=0")],
        &[("Cache-Control", "max-age=60, s-maxage=0")],
        &[("Expires", "0")],
        &[("Pragma", "no-cache")],
        &[("Cache-Control", "max-age=60"), ("Age", "60")],
        &[("Cache-Control", "max-age=60"), ("Vary", "*")],
    ];
    for headers in reused {
        let headers: &'static [(&str, &str)] = headers.to_vec().leak();
        let mut server = changing(headers).await;
        assert_eq!(two_uses(&files(), &mut server, "/a.wav").await, (true, 1), "{headers:?}");
    }
    for headers in asked_again {
        let headers: &'static [(&str, &str)] = headers.to_vec().leak();
        let mut server = changing(headers).await;
        assert_eq!(two_uses(&files(), &mut server, "/a.wav").await, (false, 2), "{headers:?}");
    }
}

/// Answers 304 if the request has this header, and otherwise sends the audio with the headers.
fn validated(
    request: &Received,
    header: &str,
    value: &str,
    headers: &[(&str, &str)],
    on_304: &[(&str, &str)],
) -> Answer {
    if request.header(header) == Some(value) {
        return on_304.iter().fold(Answer::status(304), |answer, (name, value)| answer.with(name, *value));
    }
    answer('a', headers)
}

#[tokio::test]
async fn a_stale_file_is_validated_and_its_audio_is_used_after_a_304() {
    const DATE: &str = "Mon, 01 Jan 2024 00:00:00 GMT";
    type Headers = &'static [(&'static str, &'static str)];
    let cases: [(&str, &str, Headers, Headers); 5] = [
        ("if-none-match", "\"1\"", &[("ETag", "\"1\"")], &[("ETag", "\"1\"")]),
        ("if-none-match", "\"1\"", &[("ETag", "\"1\""), ("Cache-Control", "no-cache")], &[]),
        ("if-none-match", "W/\"1\"", &[("ETag", "W/\"1\""), ("Cache-Control", "max-age=0")], &[]),
        ("if-modified-since", DATE, &[("Last-Modified", DATE)], &[("Last-Modified", DATE)]),
        ("if-modified-since", DATE, &[("Last-Modified", DATE)], &[]),
    ];
    for (header, value, headers, on_304) in cases {
        let (headers, on_304) = (headers.to_vec(), on_304.to_vec());
        let mut server = WebServer::start(move |request| validated(request, header, value, &headers, &on_304)).await;
        let files = files();
        assert_eq!(two_uses(&files, &mut server, "/a.wav").await, (true, 2), "{header}: {value}");
        files.get(&server.url("/a.wav"), &AccountName::new("acme")).await.unwrap();
        assert_eq!(server.rest().len(), 1, "the new headers permit no use without a request either");
    }
    // The 304 may have a new lifetime.
    let mut server = WebServer::start(|request| {
        validated(
            request,
            "if-none-match",
            "\"1\"",
            &[("ETag", "\"1\"")],
            &[("ETag", "\"1\""), ("Cache-Control", "max-age=60")],
        )
    })
    .await;
    let files = files();
    assert_eq!(two_uses(&files, &mut server, "/a.wav").await, (true, 2));
    files.get(&server.url("/a.wav"), &AccountName::new("acme")).await.unwrap();
    // A stored response takes over only headers that it has (RFC 9111 §3.2 permits more).
    assert!(server.rest().len() <= 1);
}

#[tokio::test]
async fn a_changed_file_replaces_the_stored_file() {
    let count = AtomicUsize::new(0);
    let mut server = WebServer::start(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => answer('a', &[("ETag", "\"1\"")]),
        _ => answer('b', &[("ETag", "\"2\""), ("Cache-Control", "max-age=60")]),
    })
    .await;
    let files = files();
    assert_eq!(two_uses(&files, &mut server, "/a.wav").await, (false, 2));
    files.get(&server.url("/a.wav"), &AccountName::new("acme")).await.unwrap();
    assert!(server.rest().is_empty());
}

#[tokio::test]
async fn credentials_and_queries_belong_to_the_identity_of_a_file() {
    let mut server = changing(&[("Cache-Control", "max-age=60")]).await;
    let files = files();
    let plain = server.url("/a.wav");
    let with = plain.replace("http://", "http://user:one@");
    let other = plain.replace("http://", "http://user:two@");
    for url in [&plain, &with, &other, &format!("{plain}?v=2"), &with] {
        files.get(url, &AccountName::new("acme")).await.unwrap();
    }
    let requests = server.rest();
    assert_eq!(requests.len(), 4);
    assert_eq!(requests.iter().filter(|request| request.header("authorization").is_some()).count(), 2);
}

#[tokio::test]
async fn a_redirect_is_requested_each_time_and_its_target_is_cached() {
    let mut server = WebServer::start(|request| match request.target.as_str() {
        "/latest" => Answer::redirect(302, "/1.wav"),
        _ => answer('a', &[("Cache-Control", "max-age=60")]),
    })
    .await;
    assert_eq!(two_uses(&files(), &mut server, "/latest").await, (true, 3));
    let mut server = WebServer::start(|_| Answer::redirect(302, "/again")).await;
    assert!(files().get(&server.url("/"), &AccountName::new("acme")).await.is_err());
    assert_eq!(server.rest().len(), 11);
}

#[tokio::test]
async fn an_uncached_use_sends_a_request_and_keeps_the_stored_audio() {
    let mut server = changing(&[("Cache-Control", "max-age=60")]).await;
    let (files, url) = (files(), server.url("/a.wav"));
    let first = files.get(&url, &AccountName::new("acme")).await.unwrap();
    let uncached = files.get_uncached(&url, &AccountName::new("acme")).await.unwrap();
    assert_ne!(first.samples(), uncached.samples());
    assert_eq!(files.get(&url, &AccountName::new("acme")).await.unwrap().samples(), first.samples());
    assert_eq!(server.rest().len(), 2);
}

#[tokio::test]
async fn calls_that_wait_for_one_file_share_a_request_if_the_file_may_be_shared() {
    for (cache_control, requests) in [("max-age=60", 1), ("no-store", 8)] {
        let mut server = WebServer::start(move |_| answer('a', &[("Cache-Control", cache_control)])).await;
        let (files, url) = (files(), server.url("/a.wav"));
        let account = AccountName::new("acme");
        let uses = (0..8).map(|_| files.get(&url, &account));
        for audio in futures_util::future::join_all(uses).await {
            assert_eq!(audio.unwrap().samples().len(), 100);
        }
        assert_eq!(server.rest().len(), requests, "{cache_control}");
    }
}

#[tokio::test]
async fn a_missing_file_is_requested_again() {
    let count = AtomicUsize::new(0);
    let server = WebServer::start(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => Answer::status(404).with("Cache-Control", "max-age=60"),
        _ => answer('a', &[]),
    })
    .await;
    let (files, url) = (files(), server.url("/a.wav"));
    assert!(matches!(files.get(&url, &AccountName::new("acme")).await, Err(AudioError::Missing(_))));
    assert!(files.get(&url, &AccountName::new("acme")).await.is_ok());
}

//! Conferences of phones in different calls.

use std::time::Duration;

use serde_json::json;

use crate::app::{App, AppRequest};
use crate::audio::{FRAME, holds, noise};
use crate::phone::{Phone, SipEvent};
use crate::test_server::{ACCOUNT_SID, TestServer, commanded, inline};

const TRIES: u64 = 4;

fn conference(number: &str, attributes: &str) -> String {
    inline(
        number,
        &format!(
            "<Response><Dial><Conference beep=\"false\" waitUrl=\"\" {attributes}>room</Conference></Dial></Response>"
        ),
    )
}

/// The number of audible frames that a phone has received so far.
fn loud(phone: &Phone) -> usize {
    phone.audio.heard().all().iter().filter(|packet| packet.is_loud()).count()
}

/// Asserts that all hearers hear the speaker in at least one of four attempts. A busy computer is sometimes late, but a
/// wrong program fails in every attempt.
async fn hear(speaker: &Phone, hearers: &[&Phone], seed: u64) {
    for turn in 0..TRIES {
        let audio = noise(1_000, 100 * seed + turn);
        speaker.audio.say(&audio);
        for hearer in hearers {
            listen(hearer, audio.len() / FRAME + 50).await;
        }
        if hearers.iter().all(|hearer| holds(&audio, &hearer.audio.samples())) {
            return;
        }
    }
    panic!("not heard");
}

/// Waits until the phone has received this number of further packets.
async fn listen(phone: &Phone, frames: usize) {
    phone.audio.heard().reach(phone.audio.heard().len() + frames, "RTP from the conference").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_participants_hear_each_other_except_muted_ones_until_the_host_leaves() {
    let numbers =
        [conference("900", ""), conference("901", "muted=\"true\""), conference("902", "endConferenceOnExit=\"true\"")];
    let server = TestServer::start(&numbers.concat()).await;
    let (mut guest, mut muted, mut host) = (Phone::new().await, Phone::new().await, Phone::new().await);
    guest.call(server.udp, "900").await;
    muted.call(server.udp, "901").await;
    host.call(server.udp, "902").await;
    for phone in [&guest, &muted, &host] {
        listen(phone, 25).await;
    }
    hear(&guest, &[&muted, &host], 1).await;
    assert_eq!(loud(&guest), 0, "it hears itself");
    let before = (loud(&guest), loud(&host));
    muted.audio.say(&noise(1_000, 32));
    listen(&host, 75).await;
    assert_eq!((loud(&guest), loud(&host)), before, "the muted one is heard");
    // The conference ends when its host leaves. The documents of the other participants have no further verb, so their
    // calls end too.
    host.hangup().await;
    guest.until(SipEvent::Bye).await;
    muted.until(SipEvent::Bye).await;
    server.quiet().await;
    assert!(server.calls().services().conferences.is_empty());
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_participant_who_rejoins_is_heard_and_the_last_participant_ends_the_conference() {
    let server = TestServer::start(&conference("900", "")).await;
    let (mut one, mut other) = (Phone::new().await, Phone::new().await);
    one.call(server.udp, "900").await;
    for seed in [2, 3] {
        other.call(server.udp, "900").await;
        listen(&other, 25).await;
        hear(&other, &[&one], seed).await;
        other.hangup().await;
        other = Phone::new().await;
    }
    one.hangup().await;
    server.quiet().await;
    assert!(server.calls().services().conferences.is_empty());
    tokio::time::timeout(Duration::from_secs(5), server.end()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_events_of_a_conference_arrive_in_order_and_are_stored() {
    let app = App::start(|_| String::new()).await;
    let events = "start end join leave mute hold modify";
    let callback = format!("statusCallback=\"{}\" statusCallbackEvent=\"{events}\"", app.url("/told"));
    let server = TestServer::start(&(conference("900", &callback) + &conference("901", ""))).await;
    let (mut one, mut other) = (Phone::new().await, Phone::new().await);
    let is = |name: &'static str| move |request: &AppRequest| request.field("StatusCallbackEvent") == name;
    one.call(server.udp, "900").await;
    app.requests.find("participant-join", is("participant-join")).await;
    other.call(server.udp, "901").await;
    let sid = app.requests.find("conference-start", is("conference-start")).await.field("ConferenceSid");
    let path = |rest: &str| format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Conferences{rest}");
    let there = server.api.get(&path("/room/Participants.json")).await.json();
    let (newest, oldest) = (&there["participants"][0]["call_sid"], &there["participants"][1]["call_sid"]);
    let call = oldest.as_str().unwrap();
    let muted = server.api.post(&format!("/Conferences/{sid}/Participants/{call}.json"), "Muted=true").await.json();
    assert_eq!((&muted["muted"], &muted["status"]), (&json!(true), &json!("connected")));
    assert_eq!(
        server.api.post(&format!("/Conferences/{sid}.json"), "Status=completed").await.json()["status"],
        "completed"
    );
    one.until(SipEvent::Bye).await;
    other.until(SipEvent::Bye).await;
    let ended = app.requests.find("conference-end", is("conference-end")).await;
    assert_eq!(ended.field("ReasonConferenceEnded"), "conference-ended-via-api");
    let all = app.requests.all();
    let events: Vec<_> =
        all.iter().map(|request| (request.field("StatusCallbackEvent"), request.field("CallSid"))).collect();
    let (newest, nobody) = (newest.as_str().unwrap(), "");
    let expected = [
        ("participant-join", call),
        ("participant-join", newest),
        ("conference-start", nobody),
        ("participant-mute", call),
        ("participant-leave", call),
        ("participant-leave", newest),
        ("conference-end", nobody),
    ];
    assert_eq!(events, expected.map(|(name, call)| (name.to_owned(), call.to_owned())));
    let numbers: Vec<_> = all.iter().map(|request| request.field("SequenceNumber")).collect();
    assert_eq!(numbers, ["1", "2", "3", "4", "5", "6", "7"]);
    assert!(all.iter().all(AppRequest::is_signed));
    server.quiet().await;
    let list = server.api.get(&path(".json?Status=completed&FriendlyName=room")).await.json();
    assert_eq!((list["conferences"].as_array().unwrap().len(), &list["conferences"][0]["sid"]), (1, &json!(sid)));
    let past = server.api.get(&path(&format!("/{sid}/Participants.json?Status=completed"))).await.json();
    assert_eq!(past["participants"].as_array().unwrap().len(), 2);
    assert_eq!(server.api.get(&path("/nobody.json")).await.status, 404);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_join_mute_and_remove_participants() {
    let app = App::start(|_| String::new()).await;
    let application = commanded("2*", &app.url("/telnyx"));
    let server = TestServer::start(&application).await;
    let (mut one, mut other) = (Phone::new().await, Phone::new().await);
    let mut legs = Vec::new();
    for (phone, number) in [(&mut one, "201"), (&mut other, "202")] {
        phone.invite(server.udp, number).await;
        let rings = |request: &AppRequest| {
            let data = &request.json()["data"];
            data["event_type"] == "call.initiated" && data["payload"]["to"] == number
        };
        let request = app.requests.find("call.initiated", rings).await.json();
        legs.push(request["data"]["payload"]["call_control_id"].as_str().unwrap().to_owned());
        server.api.command(legs.last().unwrap(), "answer", &json!({})).await;
        assert_eq!(phone.outcome().await, 200);
    }
    let opened = server.api.telnyx("/conferences", &json!({ "call_control_id": legs[0], "name": "room" })).await;
    let path = |action: &str| format!("/conferences/{}/actions/{action}", opened["id"].as_str().unwrap());
    server.api.telnyx(&path("join"), &json!({ "call_control_id": legs[1] })).await;
    listen(&one, 25).await;
    hear(&other, &[&one], 4).await;
    server.api.telnyx(&path("mute"), &json!({ "call_control_ids": [legs[1]] })).await;
    listen(&one, 10).await;
    let before = loud(&one);
    other.audio.say(&noise(1_000, 52));
    listen(&one, 75).await;
    assert_eq!(loud(&one), before, "the muted one is heard");
    server.api.telnyx(&path("leave"), &json!({ "call_control_id": legs[1] })).await;
    server.api.telnyx(&path("leave"), &json!({ "call_control_id": legs[0] })).await;
    assert!(server.calls().services().conferences.is_empty());
    for phone in [&mut one, &mut other] {
        phone.hangup().await;
    }
    server.quiet().await;
    server.end().await;
}

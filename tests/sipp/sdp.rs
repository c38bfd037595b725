//! Offer and answer: hold, late offers, early media of several phones, and session descriptions of all kinds.

use crate::sipp::{Sipp, is_missing};
use crate::straight::straight_through;
use crate::test_server::{TestServer, inline};

const ECHO: &str = "<Response><Echo/></Response>";

/// Returns a session description. `media` has the lines from the first `m=` line on.
pub(crate) fn description(address: &str, media: &str) -> String {
    let lines = format!("v=0\no=caller 1 1 IN IP4 {address}\ns=-\nc=IN IP4 {address}\nt=0 0\n{media}");
    lines.replace('\n', "\r\n")
}

/// Returns the `m=` lines and attributes of the first answer in the log of SIPp.
pub(crate) fn answer(messages: &str) -> Vec<String> {
    let answer = messages.split("SIP/2.0 200").nth(1).unwrap_or_default();
    let body = answer.split("v=0").nth(1).unwrap_or_default();
    body.lines().map(str::trim_end).take_while(|line| !line.starts_with('-')).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_held_and_resumed_in_every_form() {
    if is_missing() {
        return;
    }
    let caller = Sipp::new("hold");
    let server = TestServer::start(&(caller.trunk("caller", "") + &inline("100", ECHO))).await;
    caller.to("100").call(server.udp).succeed().await;
    server.quiet().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_without_an_offer_gets_the_offer_and_its_answer_is_in_the_ack() {
    if is_missing() {
        return;
    }
    straight_through((Sipp::new("late_offer"), ""), (Sipp::new("answer"), "")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forked_call_continues_with_the_phone_that_answers() {
    if is_missing() {
        return;
    }
    straight_through((Sipp::new("call"), ""), (Sipp::new("forks"), "")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_offer_is_answered_line_by_line_or_refused_with_a_warning() {
    if is_missing() {
        return;
    }
    let v6 = "c=IN IP6 2001:db8::1\n";
    for (media, expected) in [
        ("m=audio 4000 RTP/AVP 0\nm=video 4002 RTP/AVP 31\n", Ok(vec!["m=audio * RTP/AVP 0", "m=video 0 RTP/AVP 31"])),
        ("m=video 4002 RTP/AVP 31\nm=audio 4000 RTP/AVP 8\n", Ok(vec!["m=video 0 RTP/AVP 31", "m=audio * RTP/AVP 8"])),
        ("m=audio 0 RTP/AVP 0\nm=audio 4000 RTP/AVP 0\n", Ok(vec!["m=audio 0 RTP/AVP 0", "m=audio * RTP/AVP 0"])),
        (
            "m=audio 4000 RTP/AVP 0\na=rtcp-mux\na=ssrc:1 cname:x\na=x-unknown:1\nb=AS:64\n",
            Ok(vec!["m=audio * RTP/AVP 0"]),
        ),
        (
            "m=audio 4000 RTP/AVP 0\nm=image 0 udptl t38\nm=application 9 TCP/BFCP *\n",
            Ok(vec!["m=audio * RTP/AVP 0", "m=image 0 udptl t38", "m=application 0 TCP/BFCP *"]),
        ),
        ("m=audio 0 RTP/AVP 0\n", Ok(vec!["m=audio 0 RTP/AVP 0"])),
        ("m=audio 4000 RTP/AVP 18\n", Err(())),
        ("m=video 4002 RTP/AVP 31\n", Err(())),
        ("m=audio 4000 RTP/SAVP 0\n", Err(())),
        (&format!("m=audio 4000 RTP/AVP 0\n{v6}"), Err(())),
    ] {
        let caller = Sipp::new(if expected.is_ok() { "offer" } else { "offer_refused" });
        let server = TestServer::start(&(caller.trunk("caller", "") + &inline("100", ECHO))).await;
        let sdp = description(&caller.address().ip().to_string(), media);
        let messages = caller.to("100").key("sdp", &sdp).call(server.udp).succeed().await;
        if let Ok(expected) = expected {
            let answer = answer(&messages);
            let lines: Vec<&String> = answer.iter().filter(|line| line.starts_with("m=")).collect();
            assert_eq!(lines.len(), expected.len(), "{media}: {answer:?}");
            for (line, expected) in lines.iter().zip(&expected) {
                let (before, after) = expected.split_once('*').unwrap_or((expected, ""));
                let fits = if expected.starts_with("m=audio *") {
                    line.starts_with(before) && line.ends_with(after)
                } else {
                    line == expected
                };
                assert!(fits, "{media}: {answer:?}");
            }
        }
        server.quiet().await;
        server.end().await;
    }
}

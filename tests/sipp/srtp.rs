//! SRTP keys in the SDP (RFC 4568), in both directions. The setting `srtp` of the trunk says whether keys are required.

use crate::sdp::{answer, description};
use crate::sipp::{Sipp, is_missing};
use crate::straight::through;
use crate::test_server::{TestServer, inline};

const ECHO: &str = "<Response><Echo/></Response>";
const KEY: &str = "AES_CM_128_HMAC_SHA1_80 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR";

fn media(profile: &str, key: &str) -> String {
    let key = if key.is_empty() { String::new() } else { format!("a=crypto:{key}\n") };
    format!("m=audio 4000 {profile} 0 101\na=rtpmap:101 telephone-event/8000\n{key}")
}

fn crypto(lines: &[String]) -> Vec<&str> {
    lines.iter().filter_map(|line| line.strip_prefix("a=crypto:")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn srtp_offers_are_answered_according_to_the_trunk_or_refused_with_a_warning() {
    if is_missing() {
        return;
    }
    let tagged = format!("3 {KEY}|2^31|1:4");
    for (srtp, profile, key, expected) in [
        ("off", "RTP/AVP", &*tagged, Some(false)),
        ("off", "RTP/SAVP", &*tagged, None),
        ("optional", "RTP/AVP", "", Some(false)),
        ("optional", "RTP/AVP", &*tagged, Some(true)),
        ("optional", "RTP/SAVP", &*tagged, Some(true)),
        ("required", "RTP/AVP", "", None),
        ("required", "RTP/SAVP", &*tagged, Some(true)),
        ("required", "RTP/SAVP", "1 F8_128_HMAC_SHA1_80 inline:AAAA", None),
    ] {
        let caller = Sipp::new(if expected.is_some() { "offer" } else { "offer_refused" });
        let trunk = caller.trunk("caller", &format!("srtp = \"{srtp}\""));
        let server = TestServer::start(&(trunk + &inline("100", ECHO))).await;
        let sdp = description(&caller.address().ip().to_string(), &media(profile, key));
        let messages = caller.to("100").key("sdp", &sdp).call(server.udp).succeed().await;
        match expected {
            None => assert!(messages.contains("SRTP"), "{srtp} {profile}: {messages}"),
            Some(encrypted) => {
                let answer = answer(&messages);
                assert!(answer.iter().any(|line| line.starts_with("m=audio") && line.contains(profile)), "{answer:?}");
                let ours = crypto(&answer);
                assert_eq!(ours.len(), usize::from(encrypted), "{srtp} {profile}: {answer:?}");
                assert!(ours.iter().all(|line| line.starts_with("3 AES_CM_128_HMAC_SHA1_80 inline:")), "{ours:?}");
            }
        }
        server.quiet().await;
        server.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn srtp_is_offered_according_to_the_trunk_and_a_plain_answer_is_accepted_only_if_srtp_is_optional() {
    if is_missing() {
        return;
    }
    let tagged = format!("1 {KEY}");
    for (srtp, offered, profile, key, keeps) in [
        ("off", "RTP/AVP", "RTP/AVP", "", true),
        ("optional", "RTP/AVP", "RTP/AVP", "", true),
        ("optional", "RTP/AVP", "RTP/AVP", &*tagged, true),
        ("required", "RTP/SAVP", "RTP/SAVP", &*tagged, true),
        ("required", "RTP/SAVP", "RTP/AVP", "", false),
    ] {
        // If the call fails, the caller receives 4xx or 5xx. The scenario "call" does not expect this.
        let (caller, answerer) = (Sipp::new("call"), Sipp::new("answer_sdp"));
        let trunks = caller.trunk("caller", "") + &answerer.trunk("answerer", &format!("srtp = \"{srtp}\""));
        let server = TestServer::start(&(trunks + &through("1", "answerer"))).await;
        let sdp = description(&answerer.address().ip().to_string(), &media(profile, key));
        let answerer = answerer.key("sdp", &sdp).answer().await;
        let caller = caller.to("1234").call(server.udp);
        if keeps {
            caller.succeed().await;
        }
        let messages = answerer.succeed().await;
        let offer: Vec<String> = messages.lines().map(|line| line.trim_end().to_owned()).collect();
        assert!(offer.iter().any(|line| line.starts_with("m=audio") && line.contains(offered)), "{messages}");
        let ours = messages.matches("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:").count();
        let theirs = messages.matches(KEY).count();
        assert_eq!(ours > theirs, srtp != "off", "{srtp}: {messages}");
        server.quiet().await;
        server.end().await;
    }
}

use super::super::{MediaPlan, Negotiation};
use super::*;
use crate::sdp::Local;
use crate::testing::ice_setup;

const FINGERPRINT: &str =
    "sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF";

fn negotiation() -> Negotiation {
    let mut negotiation = Negotiation::new(Local { address: "192.0.2.1".parse().unwrap(), port: 20_000, id: 7 });
    negotiation.set_ice(ice_setup(), 1);
    negotiation
}

/// The description of a browser whose user name is four times `ufrag`.
fn description(ufrag: &str, setup: &str) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE sound\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 0\r\nc=IN IP4 0.0.0.0\r\na=mid:sound\r\na=rtcp-mux\r\na=ice-ufrag:{}\r\n\
         a=ice-pwd:{}\r\na=fingerprint:{FINGERPRINT}\r\na=setup:{setup}\r\n\
         a=candidate:1 1 udp 2113937151 198.51.100.1 5000 typ host\r\n",
        ufrag.repeat(4),
        "p".repeat(24)
    )
}

fn answer(negotiation: &mut Negotiation, offer: &str) -> String {
    String::from_utf8(negotiation.answer(offer.as_bytes()).unwrap().to_vec()).unwrap()
}

fn ice_plan(negotiation: &Negotiation) -> IcePlan {
    let MediaPlan { transport, .. } = negotiation.plan().unwrap();
    (**transport.ice.as_ref().unwrap()).clone()
}

#[test]
fn an_offer_without_a_necessary_line_is_refused_with_the_name_of_the_line() {
    let whole = description("a", "actpass");
    for (missing, named) in [
        ("a=ice-ufrag:aaaa\r\n", "a=ice-ufrag"),
        (&*format!("a=ice-pwd:{}\r\n", "p".repeat(24)), "a=ice-pwd"),
        (&format!("a=fingerprint:{FINGERPRINT}\r\n"), "a=fingerprint"),
        ("a=rtcp-mux\r\n", "a=rtcp-mux"),
    ] {
        let offer = whole.replace(missing, "");
        assert_ne!(offer, whole);
        let error = negotiation().answer(offer.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(named), "{missing}: {error}");
    }
    // The lines before the first m-line count for each m-line.
    let lines = whole.lines().filter(|line| line.starts_with("a=ice-") || line.starts_with("a=fingerprint"));
    let moved: String = lines.map(|line| format!("{line}\r\n")).collect();
    let rest = moved.lines().fold(whole.clone(), |text, line| text.replace(&format!("{line}\r\n"), ""));
    answer(&mut negotiation(), &rest.replace("t=0 0\r\n", &format!("t=0 0\r\n{moved}")));
}

#[test]
fn a_description_without_trickle_is_that_of_a_phone() {
    let phone = description("a", "actpass");
    let line = "a=rtcp-mux\r\na=ice-options:trickle renomination\r\n";
    for (offer, kind) in [
        (phone.clone(), FarEnd::Phone),
        (phone.replace("a=rtcp-mux\r\n", line), FarEnd::Browser),
        (phone.replace("t=0 0\r\n", "t=0 0\r\na=ice-options:trickle\r\n"), FarEnd::Browser),
        (phone.replace("a=rtcp-mux\r\n", "a=rtcp-mux\r\na=ice-options:ice2\r\n"), FarEnd::Phone),
    ] {
        let mut negotiation = negotiation();
        answer(&mut negotiation, &offer);
        assert_eq!(ice_plan(&negotiation).remote.unwrap().far_end, kind, "{offer}");
    }
}

#[test]
fn an_ice_restart_changes_our_credentials_and_keeps_the_dtls_role() {
    for (setup, ours) in [("actpass", "passive"), ("active", "passive"), ("passive", "active")] {
        let mut negotiation = negotiation();
        let first = answer(&mut negotiation, &description("a", setup));
        let before = ice_plan(&negotiation);
        assert!(first.contains(&format!("a=setup:{ours}\r\n")) && !before.controlling, "{first}");
        assert_eq!(answer(&mut negotiation, &description("a", setup)), first);
        assert_eq!(ice_plan(&negotiation), before);
        negotiation.add_candidate("candidate:2 1 udp 1 198.51.100.2 5001 typ host");
        let second = answer(&mut negotiation, &description("b", "actpass"));
        let after = ice_plan(&negotiation);
        assert!(second.contains(&format!("a=setup:{ours}\r\n")), "{setup}: {second}");
        assert_ne!(after.credentials, before.credentials);
        assert_eq!(after.remote.as_ref().unwrap().role, before.remote.unwrap().role);
        assert_eq!(after.candidates, before.candidates, "the trickled candidate belonged to the old credentials");
    }
}

#[test]
fn a_trickled_candidate_changes_the_plan_once_and_the_number_is_limited() {
    let mut negotiation = negotiation();
    negotiation.set_sip_source(Some("198.51.100.1".parse().unwrap()));
    assert!(!negotiation.add_candidate("candidate:2 1 udp 1 198.51.100.2 5001 typ host"), "before ICE is in use");
    answer(&mut negotiation, &description("a", "actpass"));
    let candidate = "candidate:2 1 udp 1 198.51.100.2 5001 typ host";
    assert!(negotiation.add_candidate(candidate) && !negotiation.add_candidate(candidate));
    assert_eq!(ice_plan(&negotiation).candidates.last().map(String::as_str), Some(candidate));
    // A far end on another host cannot make us send to our own addresses.
    negotiation.add_candidate("candidate:3 1 udp 1 127.0.0.1 22 typ host");
    assert_eq!(ice_plan(&negotiation).candidates.len(), 2);
    for port in 1..=100 {
        negotiation.add_candidate(&format!("candidate:4 1 udp 1 198.51.100.3 {port} typ host"));
    }
    assert_eq!(ice_plan(&negotiation).candidates.len(), MAX_CANDIDATES - 1);
}

#[test]
fn an_offer_without_ice_ends_ice_for_our_offers_too() {
    let mut negotiation = negotiation();
    negotiation.offer_ice();
    let offer = String::from_utf8(negotiation.offer().to_vec()).unwrap();
    assert!(offer.contains(" UDP/TLS/RTP/SAVPF ") && offer.contains("a=setup:actpass\r\n"), "{offer}");
    assert!(ice_plan(&negotiation).controlling && ice_plan(&negotiation).remote.is_none());
    negotiation.accept(description("a", "active").as_bytes()).unwrap();
    assert_eq!(ice_plan(&negotiation).remote.unwrap().role, Role::Server);
    let plain =
        "v=0\r\no=- 1 2 IN IP4 198.51.100.1\r\ns=-\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
    assert!(answer(&mut negotiation, plain).contains("m=audio 20000 RTP/AVP 0"));
    assert_eq!(negotiation.plan().unwrap().transport.ice, None);
    let offer = String::from_utf8(negotiation.offer().to_vec()).unwrap();
    assert!(offer.contains("m=audio 20000 RTP/AVP 0") && !offer.contains("a=fingerprint"), "{offer}");
    assert!(negotiation.accept(description("a", "active").as_bytes()).is_err());
}

#[test]
fn a_refused_stream_keeps_its_mid_and_ice_lite_is_a_line_of_the_session() {
    let setup = IceSetup { lite: true, ..(*ice_setup()).clone() };
    let mut negotiation = negotiation();
    negotiation.set_ice(std::sync::Arc::new(setup), 1);
    let video = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:picture\r\na=rtpmap:96 VP8/90000\r\n";
    let answer = answer(&mut negotiation, &(description("a", "actpass") + video));
    let (head, streams) = answer.split_at(answer.find("m=").unwrap());
    assert!(head.contains("a=group:BUNDLE sound\r\n") && head.contains("a=ice-lite\r\n"), "{head}");
    assert!(streams.ends_with("m=video 0 UDP/TLS/RTP/SAVPF 96\r\na=mid:picture\r\n"), "{streams}");
    assert!(streams.contains("a=candidate:") && streams.contains(" 192.0.2.1 20000 typ host\r\n"), "{streams}");
}

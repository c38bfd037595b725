use super::*;

fn local() -> Local {
    Local { address: "127.0.0.1".parse().unwrap(), port: 20_000, id: 7 }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn offer(media: &str) -> String {
    format!("v=0\r\no=- 1 1 IN IP4 127.0.0.2\r\ns=-\r\nc=IN IP4 127.0.0.2\r\nt=0 0\r\n{media}")
}

fn answered(media: &str) -> (MediaPlan, String) {
    let mut negotiation = Negotiation::new(local());
    let answer = negotiation.answer(offer(media).as_bytes()).unwrap();
    (negotiation.plan().unwrap().clone(), text(&answer))
}

#[test]
fn the_peers_first_known_codec_and_its_event_number_are_taken() {
    let (plan, answer) = answered(
        "m=audio 4000 RTP/AVP 9 8 0 96\r\na=rtpmap:9 G722/8000\r\na=rtpmap:96 telephone-event/8000\r\na=ptime:20\r\n",
    );
    assert_eq!((plan.codec, plan.payload_type, plan.events), (Codec::Pcma, 8, Some(96)));
    assert_eq!(plan.remote, Some("127.0.0.2:4000".parse().unwrap()));
    assert_eq!(plan.remote_rtcp, Some("127.0.0.2:4001".parse().unwrap()));
    assert!(answer.contains("m=audio 20000 RTP/AVP 8 96\r\n"), "{answer}");
    assert!(answer.contains("a=rtpmap:96 telephone-event/8000\r\na=fmtp:96 0-16\r\n"), "{answer}");
    assert!(answer.contains("a=sendrecv"), "{answer}");
}

#[test]
fn a_dynamic_number_for_pcmu_is_used_as_given() {
    let (plan, answer) = answered("m=audio 4000 RTP/AVP 97\r\na=rtpmap:97 pcmu/8000/1\r\n");
    assert_eq!((plan.codec, plan.payload_type, plan.pcmu, plan.events), (Codec::Pcmu, 97, Some(97), None));
    assert!(!answer.contains("telephone-event"), "{answer}");
}

#[test]
fn events_at_another_clock_rate_are_not_taken() {
    let (plan, _) = answered("m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/48000\r\n");
    assert_eq!(plan.events, None);
}

#[test]
fn hold_is_answered_by_its_mirror() {
    for (said, answer, sends, receives) in [
        ("a=sendonly", "a=recvonly", false, true),
        ("a=recvonly", "a=sendonly", true, false),
        ("a=inactive", "a=inactive", false, false),
        ("a=sendrecv", "a=sendrecv", true, true),
    ] {
        let (plan, body) = answered(&format!("m=audio 4000 RTP/AVP 0\r\n{said}\r\n"));
        assert!(body.contains(answer), "{said}: {body}");
        assert_eq!((plan.sends, plan.receives), (sends, receives), "{said}");
    }
    let (plan, body) = answered("m=audio 4000 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\n");
    assert!(!plan.sends && plan.remote.is_none());
    assert!(body.contains("a=recvonly"));
}

#[test]
fn direction_at_session_level_counts_until_the_media_says_otherwise() {
    let mut negotiation = Negotiation::new(local());
    let body = "v=0\r\no=- 1 1 IN IP4 127.0.0.2\r\ns=-\r\nc=IN IP4 127.0.0.2\r\nt=0 0\r\na=sendonly\r\nm=audio 4000 RTP/AVP 0\r\n";
    negotiation.answer(body.as_bytes()).unwrap();
    assert!(!negotiation.plan().unwrap().sends);
}

#[test]
fn other_lines_are_refused_in_their_place_and_stay_in_a_reoffer() {
    let mut negotiation = Negotiation::new(local());
    let media = "m=image 5000 udptl t38\r\nm=audio 5002 RTP/SAVP 0\r\nm=audio 5004 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\nm=video 5006 RTP/AVP 31\r\n";
    let answer = text(&negotiation.answer(offer(media).as_bytes()).unwrap());
    let lines: Vec<&str> = answer.lines().filter(|line| line.starts_with("m=")).collect();
    assert_eq!(
        lines,
        ["m=image 0 udptl t38", "m=audio 0 RTP/SAVP 0", "m=audio 20000 RTP/AVP 0 101", "m=video 0 RTP/AVP 31"]
    );
    let again = text(&negotiation.offer());
    assert_eq!(again.lines().filter(|line| line.starts_with("m=")).count(), 4);
    assert!(again.contains("m=audio 20000 RTP/AVP 0 8 101\r\n"), "{again}");
}

#[test]
fn the_version_rises_only_when_the_description_changes() {
    let version = |body: &[u8]| text(body).lines().nth(1).unwrap().split(' ').nth(2).unwrap().to_owned();
    let mut negotiation = Negotiation::new(local());
    let first = negotiation.offer();
    assert_eq!(version(&negotiation.offer()), version(&first));
    let answer = negotiation.answer(offer("m=audio 4000 RTP/AVP 0\r\na=sendonly\r\n").as_bytes()).unwrap();
    assert_ne!(version(&answer), version(&first));
}

#[test]
fn an_answer_to_our_offer_is_taken_twice() {
    let mut negotiation = Negotiation::new(local());
    let ours = text(&negotiation.offer());
    assert!(ours.contains("m=audio 20000 RTP/AVP 0 8 101\r\n"), "{ours}");
    assert!(ours.contains("a=ptime:20\r\n"));
    assert!(negotiation.plan().unwrap().remote.is_none());
    let answer = offer("m=audio 4000 RTP/AVP 8 101\r\na=rtpmap:101 telephone-event/8000\r\n");
    negotiation.accept(answer.as_bytes()).unwrap();
    let first = negotiation.plan().unwrap().clone();
    negotiation.accept(answer.as_bytes()).unwrap();
    assert_eq!(*negotiation.plan().unwrap(), first);
    assert_eq!(first.codec, Codec::Pcma);
}

#[test]
fn an_answer_that_refuses_audio_is_incompatible_and_changes_nothing() {
    let mut negotiation = Negotiation::new(local());
    let _ = negotiation.offer();
    for media in ["m=audio 0 RTP/AVP 0\r\n", "m=audio 4000 RTP/AVP 18\r\n", "m=audio 4000 RTP/SAVP 0\r\n"] {
        let result = negotiation.accept(offer(media).as_bytes());
        assert!(matches!(result, Err(SdpError::Incompatible(_))), "{media}: {result:?}");
    }
    assert!(negotiation.plan().unwrap().remote.is_none());
}

#[test]
fn packet_times_are_kept_to_what_we_can_send() {
    for (attributes, frames) in [
        ("", 1),
        ("a=ptime:10\r\n", 1),
        ("a=ptime:20\r\n", 1),
        ("a=ptime:30\r\n", 1),
        ("a=ptime:40\r\n", 2),
        ("a=ptime:60\r\n", 3),
        ("a=ptime:60\r\na=maxptime:40\r\n", 2),
        ("a=ptime:1000\r\n", 3),
        ("a=ptime:nonsense\r\n", 1),
        ("a=ptime:-20\r\n", 1),
    ] {
        let (plan, _) = answered(&format!("m=audio 4000 RTP/AVP 0\r\n{attributes}"));
        assert_eq!(plan.frames, frames, "{attributes}");
    }
}

#[test]
fn rtcp_goes_where_rfc_3605_says() {
    let (plan, _) = answered("m=audio 4000 RTP/AVP 0\r\na=rtcp:53020\r\n");
    assert_eq!(plan.remote_rtcp, Some("127.0.0.2:53020".parse().unwrap()));
    let (plan, _) = answered("m=audio 4000 RTP/AVP 0\r\na=rtcp:53020 IN IP4 127.0.0.9\r\n");
    assert_eq!(plan.remote_rtcp, Some("127.0.0.9:53020".parse().unwrap()));
}

#[test]
fn ipv6_is_spoken_between_ipv6_ends_only() {
    let media = "v=0\no=- 1 1 IN IP6 ::1\ns=-\nc=IN IP6 ::1\nt=0 0\nm=audio 4000 RTP/AVP 0\n";
    let mut six = Negotiation::new(Local { address: "::1".parse().unwrap(), ..local() });
    assert!(text(&six.answer(media.as_bytes()).unwrap()).contains("c=IN IP6 ::1\r\n"));
    assert!(matches!(Negotiation::new(local()).answer(media.as_bytes()), Err(SdpError::Incompatible(_))));
}

#[test]
fn what_carriers_break_is_put_right() {
    for body in [
        // LF only
        "v=0\no=- 1 1 IN IP4 127.0.0.2\ns=-\nc=IN IP4 127.0.0.2\nt=0 0\nm=audio 4000 RTP/AVP 0\n",
        // short o=, no s=, no t=
        "v=0\r\no=- 1 IN IP4\r\nc=IN IP4 127.0.0.2\r\nm=audio 4000 RTP/AVP 0\r\n",
        // no o= at all, blank lines, trailing NUL and spaces
        "v=0\r\ns= \r\n\r\nc=IN IP4 127.0.0.2  \r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 \r\n\0",
        // version beyond 64 bits
        "v=0\r\no=x 99999999999999999999999 99999999999999999999999 IN IP4 h\r\ns=-\r\nc=IN IP4 127.0.0.2\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n",
        // c= after a=, an s= of Latin-1, unknown lines
        "v=0\r\no=- 1 1 IN IP4 127.0.0.2\r\ns=caf\u{e9}\r\nt=0 0\r\nz=what\r\nm=audio 4000 RTP/AVP 0\r\na=ptime:20\r\nc=IN IP4 127.0.0.2\r\n",
        // a TTL on a unicast address
        "v=0\r\no=- 1 1 IN IP4 127.0.0.2\r\ns=-\r\nc=IN IP4 127.0.0.2/127\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n",
    ] {
        let mut negotiation = Negotiation::new(local());
        negotiation.answer(body.as_bytes()).unwrap_or_else(|error| panic!("{body}: {error}"));
        assert_eq!(negotiation.plan().unwrap().remote, Some("127.0.0.2:4000".parse().unwrap()), "{body}");
    }
}

#[test]
fn everything_that_was_offered_is_named_but_signals_and_noise() {
    let media = "m=audio 4000 RTP/AVP 111 9 0 8 18 13 101\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:101 telephone-event/8000\r\na=rtpmap:13 CN/8000\r\n";
    assert_eq!(offered_codecs(offer(media).as_bytes()), ["opus", "G722", "PCMU", "PCMA", "G729"]);
    assert_eq!(offered_codecs(offer("m=video 4000 RTP/AVP 31\r\n").as_bytes()), [""; 0]);
    assert_eq!(offered_codecs(b"hello"), [""; 0]);
}

#[test]
fn what_is_not_sdp_is_malformed_and_sdp_without_our_audio_is_incompatible() {
    let mut negotiation = Negotiation::new(local());
    for body in ["", "hello", "<xml/>", "m=audio\r\n", "v=0\r\nm=audio 99999 RTP/AVP 0\r\n"] {
        let result = negotiation.answer(body.as_bytes());
        assert!(matches!(result, Err(SdpError::Malformed(_))), "{body}: {result:?}");
    }
    for media in ["", "m=video 4000 RTP/AVP 31\r\n", "m=audio 4000 RTP/AVP 18 101\r\n", "m=audio 0 RTP/AVP 0\r\n"] {
        let result = negotiation.answer(offer(media).as_bytes());
        assert!(matches!(result, Err(SdpError::Incompatible(_))), "{media}: {result:?}");
    }
    assert!(matches!(negotiation.answer(&vec![b'a'; 100_000]), Err(SdpError::Malformed(_))));
}

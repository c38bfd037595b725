use super::*;
use crate::codec::SampleRate;

fn local() -> Local {
    Local { address: "127.0.0.1".parse().unwrap(), port: 20_000, id: 7 }
}

fn events(payload_type: u8, clock_rate: u32) -> Option<Events> {
    Some(Events { payload_type, clock_rate })
}

/// A negotiation with every codec, in the order of [`CODECS`].
fn polyglot() -> Negotiation {
    let mut negotiation = Negotiation::new(local());
    negotiation.set_codecs(&CODECS);
    negotiation
}

/// Returns the plan and the answer of a negotiation with every codec.
fn answered_by_all(media: &str) -> (MediaPlan, String) {
    let mut negotiation = polyglot();
    let answer = negotiation.answer(offer(media).as_bytes()).unwrap();
    (negotiation.plan().unwrap().clone(), text(&answer))
}

/// Returns the plan after an offer with every codec and this answer.
fn accepted(media: &str) -> MediaPlan {
    let mut negotiation = polyglot();
    let _ = negotiation.offer();
    negotiation.accept(offer(media).as_bytes()).unwrap();
    negotiation.plan().unwrap().clone()
}

fn prefer(codecs: &[Codec]) -> Preference {
    Preference { codecs: codecs.to_vec(), comfort_noise: false }
}

fn audio_line(body: &[u8]) -> String {
    text(body).lines().find(|line| line.starts_with("m=audio")).unwrap().to_owned()
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
fn the_first_supported_codec_of_an_offer_and_its_events_are_selected() {
    let (plan, answer) = answered(
        "m=audio 4000 RTP/AVP 9 8 0 96\r\na=rtpmap:9 G722/8000\r\na=rtpmap:96 telephone-event/8000\r\na=ptime:20\r\n",
    );
    assert_eq!((plan.audio.codec, plan.audio.payload_type, plan.audio.events), (Codec::Pcma, 8, events(96, 8_000)));
    assert_eq!(plan.transport.remote, Some("127.0.0.2:4000".parse().unwrap()));
    assert_eq!(plan.transport.remote_rtcp, Some("127.0.0.2:4001".parse().unwrap()));
    assert!(answer.contains("m=audio 20000 RTP/AVP 8 96\r\n"), "{answer}");
    assert!(answer.contains("a=rtpmap:96 telephone-event/8000\r\na=fmtp:96 0-16\r\n"), "{answer}");
    assert!(answer.contains("a=sendrecv"), "{answer}");
}

#[test]
fn a_dynamic_payload_type_for_pcmu_is_used() {
    let (plan, answer) = answered("m=audio 4000 RTP/AVP 97\r\na=rtpmap:97 pcmu/8000/1\r\n");
    assert_eq!(
        (plan.audio.codec, plan.audio.payload_type, plan.audio.codec_of(97), plan.audio.events),
        (Codec::Pcmu, 97, Some(Codec::Pcmu), None)
    );
    assert!(!answer.contains("telephone-event"), "{answer}");
}

#[test]
fn events_at_another_clock_rate_are_not_accepted() {
    let (plan, _) = answered("m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/48000\r\n");
    assert_eq!(plan.audio.events, None);
}

#[test]
fn a_hold_is_answered_with_the_mirrored_direction() {
    for (attribute, answer, sends, receives) in [
        ("a=sendonly", "a=recvonly", false, true),
        ("a=recvonly", "a=sendonly", true, false),
        ("a=inactive", "a=inactive", false, false),
        ("a=sendrecv", "a=sendrecv", true, true),
    ] {
        let (plan, body) = answered(&format!("m=audio 4000 RTP/AVP 0\r\n{attribute}\r\n"));
        assert!(body.contains(answer), "{attribute}: {body}");
        assert_eq!((plan.audio.sends, plan.audio.receives), (sends, receives), "{attribute}");
    }
    let (plan, body) = answered("m=audio 4000 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\n");
    assert!(!plan.audio.sends && plan.transport.remote.is_none());
    assert!(body.contains("a=recvonly"));
}

#[test]
fn a_media_level_direction_overrides_the_session_level() {
    let mut negotiation = Negotiation::new(local());
    let body = "v=0\r\no=- 1 1 IN IP4 127.0.0.2\r\ns=-\r\nc=IN IP4 127.0.0.2\r\nt=0 0\r\na=sendonly\r\nm=audio 4000 RTP/AVP 0\r\n";
    negotiation.answer(body.as_bytes()).unwrap();
    assert!(!negotiation.plan().unwrap().audio.sends);
}

#[test]
fn other_m_lines_are_refused_at_their_position_and_stay_in_a_re_offer() {
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
fn a_repeated_answer_to_our_offer_changes_nothing() {
    let mut negotiation = Negotiation::new(local());
    let ours = text(&negotiation.offer());
    assert!(ours.contains("m=audio 20000 RTP/AVP 0 8 101\r\n"), "{ours}");
    assert!(ours.contains("a=ptime:20\r\n"));
    assert!(negotiation.plan().unwrap().transport.remote.is_none());
    let answer = offer("m=audio 4000 RTP/AVP 8 101\r\na=rtpmap:101 telephone-event/8000\r\n");
    negotiation.accept(answer.as_bytes()).unwrap();
    let first = negotiation.plan().unwrap().clone();
    negotiation.accept(answer.as_bytes()).unwrap();
    assert_eq!(*negotiation.plan().unwrap(), first);
    assert_eq!(first.audio.codec, Codec::Pcma);
}

#[test]
fn without_telephone_events_none_are_offered_or_accepted() {
    let mut negotiation = Negotiation::new(local());
    negotiation.set_events(false);
    assert!(!text(&negotiation.offer()).contains("telephone-event"));
    let theirs = offer("m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n");
    negotiation.accept(theirs.as_bytes()).unwrap();
    let plan = negotiation.plan().unwrap();
    assert_eq!((plan.audio.events, plan.audio.receive_events.iter().flatten().count()), (None, 0));
    assert!(!text(&negotiation.answer(theirs.as_bytes()).unwrap()).contains("101"));
    let plan = negotiation.plan().unwrap();
    assert_eq!((plan.audio.events, plan.audio.receive_events.iter().flatten().count()), (None, 0));
}

#[test]
fn a_declined_offer_has_port_0_in_each_m_line() {
    let mut negotiation = Negotiation::new(local());
    let declined =
        negotiation.decline(offer("m=video 4002 RTP/AVP 31\r\nm=audio 4000 RTP/AVP 18\r\n").as_bytes()).unwrap();
    let declined = text(&declined);
    let lines: Vec<&str> = declined.lines().filter(|line| line.starts_with("m=")).collect();
    assert_eq!(lines, ["m=video 0 RTP/AVP 31", "m=audio 0 RTP/AVP 18"]);
    assert!(
        declined.starts_with("v=0\r\no=- 7 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"),
        "{declined}"
    );
    assert!(negotiation.plan().is_none() && negotiation.decline(b"noise").is_none());
}

#[test]
fn an_answer_that_refuses_audio_is_incompatible_and_changes_nothing() {
    let mut negotiation = Negotiation::new(local());
    let _ = negotiation.offer();
    for media in ["m=audio 0 RTP/AVP 0\r\n", "m=audio 4000 RTP/AVP 18\r\n"] {
        let result = negotiation.accept(offer(media).as_bytes());
        assert!(matches!(result, Err(SdpError::Incompatible(_))), "{media}: {result:?}");
    }
    let result = negotiation.accept(offer("m=audio 4000 RTP/SAVP 0\r\n").as_bytes());
    assert!(matches!(result, Err(SdpError::Srtp(_))), "{result:?}");
    let other_family = offer("m=audio 4000 RTP/AVP 0\r\n").replace("IP4 127.0.0.2", "IP6 ::1");
    let result = negotiation.accept(other_family.as_bytes());
    assert!(matches!(result, Err(SdpError::AddressFamily { theirs: "IPv6", .. })), "{other_family}: {result:?}");
    assert!(negotiation.plan().unwrap().transport.remote.is_none());
}

#[test]
fn an_offer_without_a_common_codec_is_refused_with_the_codecs_of_both_sides() {
    let mut negotiation = Negotiation::new(local());
    negotiation.set_codecs(&[Codec::Opus, Codec::Pcma]);
    for (media, offered) in [
        ("m=audio 4000 RTP/AVP 18 101\r\na=rtpmap:101 telephone-event/8000\r\n", "G729"),
        ("m=audio 4000 RTP/AVP 97 0\r\na=rtpmap:97 iLBC/8000\r\n", "iLBC, PCMU"),
    ] {
        let refusal = negotiation.answer(offer(media).as_bytes()).unwrap_err().to_string();
        let wanted = format!("the offer has {offered}, and this side allows opus, PCMA");
        assert!(refusal.ends_with(&wanted), "{refusal}");
    }
    // A video offer has no codec to name.
    let refusal = negotiation.answer(offer("m=video 4000 RTP/AVP 31\r\n").as_bytes()).unwrap_err().to_string();
    assert!(refusal.contains("no audio stream"), "{refusal}");
}

#[test]
fn packet_times_are_limited_to_the_lengths_that_we_send() {
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
        assert_eq!(plan.audio.frames, frames, "{attributes}");
    }
}

#[test]
fn rtcp_uses_the_address_of_rfc_3605() {
    let (plan, _) = answered("m=audio 4000 RTP/AVP 0\r\na=rtcp:53020\r\n");
    assert_eq!(plan.transport.remote_rtcp, Some("127.0.0.2:53020".parse().unwrap()));
    let (plan, _) = answered("m=audio 4000 RTP/AVP 0\r\na=rtcp:53020 IN IP4 127.0.0.9\r\n");
    assert_eq!(plan.transport.remote_rtcp, Some("127.0.0.9:53020".parse().unwrap()));
}

#[test]
fn ipv6_is_used_only_between_ipv6_addresses() {
    let media = "v=0\no=- 1 1 IN IP6 ::1\ns=-\nc=IN IP6 ::1\nt=0 0\nm=audio 4000 RTP/AVP 0\n";
    let mut six = Negotiation::new(Local { address: "::1".parse().unwrap(), ..local() });
    assert!(text(&six.answer(media.as_bytes()).unwrap()).contains("c=IN IP6 ::1\r\n"));
    let refused = Negotiation::new(local()).answer(media.as_bytes());
    assert_eq!(refused, Err(SdpError::AddressFamily { theirs: "IPv6", ours: "IPv4" }));
}

#[test]
fn known_sdp_errors_of_carriers_are_tolerated() {
    for body in [
        // LF only
        "v=0\no=- 1 1 IN IP4 127.0.0.2\ns=-\nc=IN IP4 127.0.0.2\nt=0 0\nm=audio 4000 RTP/AVP 0\n",
        // short o=, no s=, no t=
        "v=0\r\no=- 1 IN IP4\r\nc=IN IP4 127.0.0.2\r\nm=audio 4000 RTP/AVP 0\r\n",
        // no o=, blank lines, trailing NUL and spaces
        "v=0\r\ns= \r\n\r\nc=IN IP4 127.0.0.2  \r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 \r\n\0",
        // version beyond 64 bits
        "v=0\r\no=x 99999999999999999999999 99999999999999999999999 IN IP4 h\r\ns=-\r\nc=IN IP4 127.0.0.2\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n",
        // c= after a=, an s= in Latin-1, unknown lines
        "v=0\r\no=- 1 1 IN IP4 127.0.0.2\r\ns=caf\u{e9}\r\nt=0 0\r\nz=what\r\nm=audio 4000 RTP/AVP 0\r\na=ptime:20\r\nc=IN IP4 127.0.0.2\r\n",
        // a TTL on a unicast address
        "v=0\r\no=- 1 1 IN IP4 127.0.0.2\r\ns=-\r\nc=IN IP4 127.0.0.2/127\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n",
    ] {
        let mut negotiation = Negotiation::new(local());
        negotiation.answer(body.as_bytes()).unwrap_or_else(|error| panic!("{body}: {error}"));
        assert_eq!(negotiation.plan().unwrap().transport.remote, Some("127.0.0.2:4000".parse().unwrap()), "{body}");
    }
}

#[test]
fn offered_codec_names_exclude_events_and_comfort_noise() {
    let media = "m=audio 4000 RTP/AVP 111 9 0 8 18 13 101\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:101 telephone-event/8000\r\na=rtpmap:13 CN/8000\r\n";
    assert_eq!(offered_codecs(offer(media).as_bytes()), ["opus", "G722", "PCMU", "PCMA", "G729"]);
    assert_eq!(offered_codecs(offer("m=video 4000 RTP/AVP 31\r\n").as_bytes()), [""; 0]);
    assert_eq!(offered_codecs(b"hello"), [""; 0]);
}

#[test]
fn text_that_is_not_sdp_is_malformed_and_sdp_without_usable_audio_is_incompatible() {
    let mut negotiation = Negotiation::new(local());
    for body in ["", "hello", "<xml/>", "m=audio\r\n", "v=0\r\nm=audio 99999 RTP/AVP 0\r\n"] {
        let result = negotiation.answer(body.as_bytes());
        assert!(matches!(result, Err(SdpError::Malformed(_))), "{body}: {result:?}");
    }
    for media in ["", "m=video 4000 RTP/AVP 31\r\n", "m=audio 4000 RTP/AVP 18 101\r\n"] {
        let result = negotiation.answer(offer(media).as_bytes());
        assert!(matches!(result, Err(SdpError::Incompatible(_))), "{media}: {result:?}");
    }
    assert!(matches!(negotiation.answer(&vec![b'a'; 100_000]), Err(SdpError::Malformed(_))));
}

const L16: Codec = Codec::L16(SampleRate::Hz16000);

#[test]
fn an_offer_of_all_codecs_has_events_at_each_clock_rate() {
    let ours = text(&polyglot().offer());
    assert!(ours.contains("m=audio 20000 RTP/AVP 0 8 9 111 118 119 101 110 102\r\n"), "{ours}");
    for line in [
        "a=rtpmap:9 G722/8000",
        "a=rtpmap:111 opus/48000/2",
        "a=fmtp:111 useinbandfec=1",
        "a=rtpmap:118 L16/16000",
        "a=rtpmap:119 L16/8000",
        "a=rtpmap:101 telephone-event/8000",
        "a=rtpmap:110 telephone-event/48000",
        "a=rtpmap:102 telephone-event/16000",
    ] {
        assert!(ours.lines().any(|one| one == line), "{line}: {ours}");
    }
    assert!(!ours.contains(" CN/"), "{ours}");
}

#[test]
fn every_offered_codec_is_accepted_with_the_events_of_its_clock_rate() {
    for (formats, maps, codec, payload_type, event) in [
        ("9 101", "a=rtpmap:101 telephone-event/8000\r\n", Codec::G722, 9, events(101, 8_000)),
        ("9", "a=rtpmap:9 G722/16000\r\n", Codec::G722, 9, None),
        (
            "96 97 98",
            "a=rtpmap:96 OPUS/48000/2\r\na=rtpmap:97 telephone-event/8000\r\na=rtpmap:98 telephone-event/48000\r\n",
            Codec::Opus,
            96,
            events(98, 48_000),
        ),
        ("96 97", "a=rtpmap:96 opus/48000\r\na=rtpmap:97 telephone-event/8000\r\n", Codec::Opus, 96, events(97, 8_000)),
        (
            "120 121",
            "a=rtpmap:120 L16/16000/1\r\na=rtpmap:121 telephone-event/16000\r\n",
            L16,
            120,
            events(121, 16_000),
        ),
        ("120", "a=rtpmap:120 L16/8000\r\n", Codec::L16(SampleRate::Hz8000), 120, None),
    ] {
        let (plan, answer) = answered_by_all(&format!("m=audio 4000 RTP/AVP {formats}\r\n{maps}"));
        assert_eq!(
            (plan.audio.codec, plan.audio.payload_type, plan.audio.events),
            (codec, payload_type, event),
            "{formats}"
        );
        assert_eq!(plan.audio.codec_of(payload_type), Some(codec));
        let events = event.map_or(String::new(), |event| format!(" {}", event.payload_type));
        assert!(answer.contains(&format!("m=audio 20000 RTP/AVP {payload_type}{events}\r\n")), "{answer}");
    }
    for unknown in ["L16/44100/2", "L16/16000/2", "opus/16000/2", "G722/32000", "PCMU/16000"] {
        let media = format!("m=audio 4000 RTP/AVP 120\r\na=rtpmap:120 {unknown}\r\n");
        assert!(polyglot().answer(offer(&media).as_bytes()).is_err(), "{unknown}");
    }
}

#[test]
fn codecs_outside_the_setting_are_neither_offered_nor_accepted() {
    let mut negotiation = Negotiation::new(local());
    negotiation.set_codecs(&[Codec::Pcma, Codec::G722, Codec::Pcma]);
    assert_eq!(audio_line(&negotiation.offer()), "m=audio 20000 RTP/AVP 8 9 101");
    assert!(negotiation.accept(offer("m=audio 4000 RTP/AVP 0\r\n").as_bytes()).is_err());
    let answer = negotiation.answer(offer("m=audio 4000 RTP/AVP 0 9 8\r\n").as_bytes()).unwrap();
    assert_eq!(audio_line(&answer), "m=audio 20000 RTP/AVP 9");
    let plan = negotiation.plan().unwrap();
    assert_eq!((plan.audio.codec_of(0), plan.audio.codec_of(8)), (None, Some(Codec::Pcma)));
    negotiation.set_codecs(&[]);
    assert!(negotiation.answer(offer("m=audio 4000 RTP/AVP 0\r\n").as_bytes()).is_err());
}

#[test]
fn the_codec_of_the_other_leg_is_first_in_an_offer_and_selected_in_an_answer() {
    let mut negotiation = polyglot();
    let offered = negotiation.offer_preferring(&prefer(&[Codec::Opus, Codec::Pcma]));
    assert_eq!(audio_line(&offered), "m=audio 20000 RTP/AVP 111 8 0 9 118 119 110 101 102");
    let media = "m=audio 4000 RTP/AVP 0 8 9\r\n";
    let answer = polyglot().answer_preferring(offer(media).as_bytes(), &prefer(&[Codec::Opus, Codec::G722])).unwrap();
    assert_eq!(audio_line(&answer), "m=audio 20000 RTP/AVP 9");
    let answer = polyglot().answer_preferring(offer(media).as_bytes(), &prefer(&[Codec::Opus])).unwrap();
    assert_eq!(audio_line(&answer), "m=audio 20000 RTP/AVP 0");

    let mut narrow = Negotiation::new(local());
    let offered = narrow.offer_preferring(&prefer(&[Codec::Opus, Codec::Pcma]));
    assert_eq!(audio_line(&offered), "m=audio 20000 RTP/AVP 8 0 101");
}

#[test]
fn an_offer_can_be_answered_again_for_the_codec_of_the_other_leg() {
    let (mut caller, mut called) = (polyglot(), polyglot());
    let theirs = offer("m=audio 4000 RTP/AVP 0 9 96\r\na=rtpmap:96 telephone-event/8000\r\n");
    assert_eq!(audio_line(&caller.answer(theirs.as_bytes()).unwrap()), "m=audio 20000 RTP/AVP 0 96");
    assert_eq!(caller.preference().codecs, [Codec::Pcmu, Codec::G722]);
    let offered = called.offer_preferring(&caller.preference());
    assert!(audio_line(&offered).starts_with("m=audio 20000 RTP/AVP 0 9 8 "));
    called.accept(offer("m=audio 5000 RTP/AVP 9\r\n").as_bytes()).unwrap();
    let answer = caller.answer_preferring(theirs.as_bytes(), &called.preference()).unwrap();
    assert_eq!(audio_line(&answer), "m=audio 20000 RTP/AVP 9 96");
    assert_eq!(caller.plan().unwrap().audio.codec, called.plan().unwrap().audio.codec);
}

#[test]
fn of_several_codecs_in_an_answer_the_first_is_sent_and_all_are_accepted() {
    let plan = accepted("m=audio 4000 RTP/AVP 9 0 18\r\n");
    assert_eq!((plan.audio.codec, plan.audio.payload_type), (Codec::G722, 9));
    assert_eq!(
        [0, 8, 9, 18].map(|number| plan.audio.codec_of(number)),
        [Some(Codec::Pcmu), None, Some(Codec::G722), None]
    );
}

#[test]
fn each_direction_has_its_own_payload_types() {
    let plan =
        accepted("m=audio 4000 RTP/AVP 96 97\r\na=rtpmap:96 opus/48000/2\r\na=rtpmap:97 telephone-event/48000\r\n");
    assert_eq!((plan.audio.codec, plan.audio.payload_type, plan.audio.events), (Codec::Opus, 96, events(97, 48_000)));
    assert_eq!(
        [111, 96].map(|number| plan.audio.codec_of(number)),
        [Some(Codec::Opus); 2],
        "ours, and its own all the same"
    );
    assert_eq!([110, 97, 101].map(|number| plan.audio.events_of(number)), [Some(48_000), Some(48_000), None]);

    // In this answer the far end's number for Opus is our number for telephone-events. Packets with this number count
    // as telephone-events.
    let plan = accepted("m=audio 4000 RTP/AVP 101\r\na=rtpmap:101 opus/48000/2\r\n");
    assert_eq!(
        (plan.audio.payload_type, plan.audio.codec_of(101), plan.audio.codec_of(111)),
        (101, None, Some(Codec::Opus))
    );
}

#[test]
fn payload_types_do_not_change_within_a_session() {
    let mut negotiation = polyglot();
    let theirs = "m=audio 4000 RTP/AVP 111 101\r\na=rtpmap:111 L16/16000\r\na=rtpmap:101 opus/48000/2\r\n";
    negotiation.answer(offer(theirs).as_bytes()).unwrap();
    let again = negotiation.offer();
    assert_eq!(audio_line(&again), "m=audio 20000 RTP/AVP 111 0 8 9 101 119 102 103 110", "{}", text(&again));
    assert!(text(&again).contains("a=rtpmap:103 telephone-event/8000\r\n"));
    assert_eq!(audio_line(&negotiation.offer()), audio_line(&again));
}

#[test]
fn comfort_noise_is_accepted_in_an_offer_and_offered_if_the_other_leg_has_it() {
    for media in ["m=audio 4000 RTP/AVP 0 13\r\n", "m=audio 4000 RTP/AVP 0 13\r\na=rtpmap:13 cn/8000\r\n"] {
        let mut negotiation = polyglot();
        let answer = negotiation.answer(offer(media).as_bytes()).unwrap();
        assert_eq!(audio_line(&answer), "m=audio 20000 RTP/AVP 0 13");
        assert_eq!(negotiation.plan().unwrap().audio.comfort_noise, Some(13));
        let mut other = Negotiation::new(local());
        assert_eq!(audio_line(&other.offer_preferring(&negotiation.preference())), "m=audio 20000 RTP/AVP 0 8 13 101");
        other.accept(offer(media).as_bytes()).unwrap();
        assert_eq!(other.plan().unwrap().audio.comfort_noise, Some(13));
    }
    assert_eq!(accepted("m=audio 4000 RTP/AVP 0 13\r\n").audio.comfort_noise, None, "not offered by us");
    assert_eq!(answered("m=audio 4000 RTP/AVP 0\r\n").0.audio.comfort_noise, None);
}

#[test]
fn comfort_noise_is_neither_accepted_from_nor_offered_to_a_browser() {
    let setup = crate::testing::ice_setup();
    let fingerprint = &setup.fingerprint;
    let browser = || {
        let mut negotiation = polyglot();
        negotiation.set_ice(std::sync::Arc::clone(&setup), 1);
        negotiation
    };
    let media = format!(
        "m=audio 4000 UDP/TLS/RTP/SAVPF 0 13\r\na=rtcp-mux\r\na=ice-ufrag:abcd\r\na=ice-pwd:{}\r\na=fingerprint:{fingerprint}\r\na=setup:actpass\r\n",
        "p".repeat(24)
    );
    let mut negotiation = browser();
    let answer = negotiation.answer(offer(&media).as_bytes()).unwrap();
    assert_eq!(audio_line(&answer), "m=audio 20000 UDP/TLS/RTP/SAVPF 0");
    assert_eq!(negotiation.plan().unwrap().audio.comfort_noise, None);
    assert!(!negotiation.preference().comfort_noise);
    assert!(!text(&negotiation.offer()).contains(" CN/"));
    let mut other = browser();
    other.offer_ice();
    let offer = other.offer_preferring(&Preference { codecs: vec![Codec::Pcmu], comfort_noise: true });
    assert!(!text(&offer).contains(" CN/"), "{}", text(&offer));
}

#[test]
fn packet_times_are_limited_by_the_codec() {
    for (media, frames) in [
        ("9\r\n", 3),
        ("96\r\na=rtpmap:96 opus/48000/2\r\n", 1),
        ("96\r\na=rtpmap:96 L16/16000\r\n", 2),
        ("96\r\na=rtpmap:96 L16/8000\r\n", 3),
    ] {
        let (plan, _) = answered_by_all(&format!("m=audio 4000 RTP/AVP {media}a=ptime:60\r\n"));
        assert_eq!(plan.audio.frames, frames, "{media}");
    }
}

#[test]
fn opus_parameters_are_read_or_ignored() {
    for (parameters, fec) in [
        ("useinbandfec=1", true),
        ("minptime=10;useinbandfec=1; stereo=1; sprop-stereo=1;maxaveragebitrate=999999999999", true),
        ("stereo=0; USEINBANDFEC = 1 ;", true),
        ("useinbandfec=0", false),
        ("maxaveragebitrate=;;=;useinbandfec", false),
        ("", false),
    ] {
        let fmtp = format!("a=rtpmap:96 opus/48000/2\r\na=fmtp:96 {parameters}\r\na=fmtp:97 useinbandfec=1\r\n");
        let (plan, answer) = answered_by_all(&format!("m=audio 4000 RTP/AVP 96 97\r\n{fmtp}"));
        assert_eq!((plan.audio.codec, plan.audio.opus_fec), (Codec::Opus, fec), "{parameters}");
        assert!(answer.contains("a=fmtp:96 useinbandfec=1\r\n"), "{answer}");
    }
}

#[test]
fn rtcp_mux_is_declined_silently() {
    let (plan, answer) = answered("m=audio 4000 RTP/AVP 0\r\na=rtcp-mux\r\na=rtcp:4000\r\n");
    assert!(!answer.contains("rtcp"), "{answer}");
    assert_eq!(plan.transport.remote_rtcp, Some("127.0.0.2:4000".parse().unwrap()));
}

#[test]
fn formats_beyond_the_capacity_of_a_plan_are_ignored() {
    let formats: Vec<String> = (0..=127).map(|number: u8| number.to_string()).collect();
    let maps: String = (96..=127).map(|number| format!("a=rtpmap:{number} PCMU/8000\r\n")).collect();
    let (plan, _) = answered_by_all(&format!("m=audio 4000 RTP/AVP {}\r\n{maps}", formats.join(" ")));
    assert_eq!(
        [0, 8, 9, 13, 96, 127].map(|number| plan.audio.codec_of(number).is_some()),
        [true, true, false, false, false, false]
    );
}

#[test]
fn unknown_lines_are_ignored() {
    for media in [
        "m=audio 4000/1 RTP/AVP 0\r\n",
        "m=audio 4000 RTP/AVP 0 0 0\r\n",
        "m=audio 4000 RTP/AVP 300 x 0\r\n",
        "m=audio 4000 rtp/avp 0\r\n",
        "m=audio 4000 RTP/AVPF 0\r\na=rtcp-fb:0 nack\r\n",
        "m=audio 4000 RTP/AVP 0\r\nb=AS:64\r\nb=TIAS:64000\r\ni=a title\r\nk=prompt\r\n",
        "m=audio 4000 RTP/AVP 0\r\na=rtcp-mux\r\na=ice-ufrag:x\r\na=candidate:1 1 UDP 1 10.0.0.1 9 typ host\r\na=setup:actpass\r\n",
        "m=audio 4000 RTP/AVP 0\r\na=crypto\r\na=crypto:\r\na=crypto:1 x y\r\na=rtpmap:0\r\na=fmtp:0\r\na=ptime\r\n",
        "m=audio 4000 RTP/AVP 0\r\na=sendrecv\r\na=inactive\r\n",
    ] {
        let (plan, answer) = answered(media);
        assert_eq!((plan.audio.codec, plan.audio.sends, plan.audio.receives), (Codec::Pcmu, true, true), "{media}");
        assert_eq!(plan.transport.remote, Some("127.0.0.2:4000".parse().unwrap()), "{media}");
        assert_eq!(answer.matches("m=").count(), 1, "{answer}");
    }
}

#[test]
fn of_two_address_families_the_reachable_m_line_is_selected() {
    let offer = "v=0\r\no=- 1 1 IN IP6 ::1\r\ns=-\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\nc=IN IP6 ::1\r\nm=audio 4002 RTP/AVP 8\r\nc=IN IP4 127.0.0.2\r\n";
    for (address, lines) in [
        ("127.0.0.1", ["m=audio 0 RTP/AVP 0", "m=audio 20000 RTP/AVP 8"]),
        ("::1", ["m=audio 20000 RTP/AVP 0", "m=audio 0 RTP/AVP 8"]),
    ] {
        let mut negotiation = Negotiation::new(Local { address: address.parse().unwrap(), ..local() });
        let answer = text(&negotiation.answer(offer.as_bytes()).unwrap());
        assert_eq!(answer.lines().filter(|line| line.starts_with("m=")).collect::<Vec<_>>(), lines);
    }
}

#[test]
fn a_labelled_copy_only_sends_and_pauses_when_the_far_end_requests_it() {
    let mut copy = Negotiation::new(local());
    copy.set_label(2);
    let offered = text(&copy.offer());
    assert!(offered.ends_with("a=ptime:20\r\na=sendonly\r\na=label:2\r\n"), "{offered}");
    assert!(!offered.contains("telephone-event"), "keys are not copied: {offered}");
    copy.accept(offer("m=audio 4000 RTP/AVP 8\r\na=recvonly\r\na=label:2\r\n").as_bytes()).unwrap();
    let plan = copy.plan().unwrap();
    assert_eq!((plan.audio.codec, plan.audio.sends, plan.audio.receives), (Codec::Pcma, true, false));
    for (direction, answered, sends) in [
        ("inactive", "inactive", false),
        ("sendonly", "inactive", false),
        ("recvonly", "sendonly", true),
        ("sendrecv", "sendonly", true),
    ] {
        let answer = copy.answer(offer(&format!("m=audio 4000 RTP/AVP 8\r\na={direction}\r\n")).as_bytes()).unwrap();
        assert!(text(&answer).contains(&format!("a={answered}\r\na=label:2\r\n")), "{direction}: {}", text(&answer));
        let plan = copy.plan().unwrap();
        assert_eq!((plan.audio.sends, plan.audio.receives), (sends, false), "{direction}");
    }
}

#[test]
fn an_offer_that_disables_its_audio_is_answered_and_a_later_offer_enables_the_audio() {
    let disabled = offer("m=audio 0 RTP/AVP 0 8\r\nm=video 5000 RTP/AVP 96\r\n");
    let enabled = offer("m=audio 4000 RTP/AVP 0 8\r\nm=video 0 RTP/AVP 96\r\n");
    for before in [None, Some(&enabled)] {
        let mut negotiation = Negotiation::new(local());
        if let Some(offer) = before {
            negotiation.answer(offer.as_bytes()).unwrap();
        }
        let answer = text(&negotiation.answer(disabled.as_bytes()).unwrap());
        assert!(answer.ends_with("m=audio 0 RTP/AVP 0 8\r\nm=video 0 RTP/AVP 96\r\n"), "{answer}");
        let plan = negotiation.plan().unwrap();
        assert_eq!((plan.transport.remote, plan.audio.sends, plan.audio.receives), (None, false, false));
        let answer = text(&negotiation.answer(enabled.as_bytes()).unwrap());
        assert!(answer.contains("m=audio 20000 RTP/AVP 0\r\n"), "{answer}");
        assert!(negotiation.plan().unwrap().audio.sends);
    }
    // A second audio line that we cannot use is no reason to take the call.
    let mut negotiation = Negotiation::new(local());
    let other = offer("m=audio 0 RTP/AVP 0\r\nm=audio 4000 RTP/AVP 18\r\n");
    assert!(matches!(negotiation.answer(other.as_bytes()), Err(SdpError::Incompatible(_))));
}

#[test]
fn several_spaces_between_the_fields_of_an_m_line_count_as_one_space() {
    for line in
        ["m=audio  4000 RTP/AVP 0", "m=audio 4000  RTP/AVP 0", "m=audio 4000 RTP/AVP  0  8", "m= audio\t4000 RTP/AVP 0"]
    {
        let (plan, answer) = answered(&format!("{line}\r\n"));
        assert_eq!(plan.transport.remote, Some("127.0.0.2:4000".parse().unwrap()), "{line}");
        assert!(answer.contains("m=audio 20000 RTP/AVP 0\r\n"), "{line}: {answer}");
    }
}

#[test]
fn the_longest_packet_of_the_far_end_is_at_least_our_shortest() {
    for (attributes, longest) in [
        ("", None),
        ("a=maxptime:40\r\n", Some(40)),
        ("a=maxptime:10\r\n", Some(10)),
        ("a=maxptime:2\r\n", Some(5)),
        ("a=maxptime:9999\r\n", Some(255)),
        ("a=maxptime:-1\r\n", None),
        ("a=maxptime:x\r\n", None),
    ] {
        let (plan, _) = answered(&format!("m=audio 4000 RTP/AVP 0\r\n{attributes}"));
        assert_eq!(plan.audio.max_packet_ms, longest, "{attributes}");
    }
    let plan = accepted("m=audio 4000 RTP/AVP 111\r\na=rtpmap:111 opus/48000/2\r\na=maxptime:10\r\n");
    assert_eq!((plan.audio.max_packet_ms, plan.audio.packets_per_frame()), (Some(20), 1));
}

/// A session of this server at a public address, whose far end has sent SIP from `sip_source`.
fn public_plan(sip_source: Option<&str>, media: &str) -> MediaPlan {
    let mut negotiation = Negotiation::new(Local { address: "198.51.100.9".parse().unwrap(), ..local() });
    negotiation.set_sip_source(sip_source.map(|sip_source| sip_source.parse().unwrap()));
    negotiation.answer(format!("v=0\r\no=- 1 1 IN IP4 x\r\ns=-\r\nt=0 0\r\n{media}").as_bytes()).unwrap();
    negotiation.plan().unwrap().clone()
}

#[test]
fn the_sdp_of_a_remote_far_end_cannot_name_hosts_of_our_own_link() {
    for (sip_source, address, waits) in [
        (Some("203.0.113.7"), "127.0.0.1", true),
        (Some("203.0.113.7"), "127.8.9.1", true),
        (Some("203.0.113.7"), "169.254.169.254", true),
        (Some("203.0.113.7"), "255.255.255.255", true),
        (None, "127.0.0.1", true),
        (Some("169.254.3.4"), "127.0.0.1", true),
        (Some("127.0.0.1"), "169.254.169.254", true),
        (Some("127.0.0.5"), "127.0.0.1", false),
        (Some("::ffff:127.0.0.1"), "127.0.0.1", false),
        (Some("169.254.3.4"), "169.254.3.5", false),
        // A phone behind a NAT names its private address, and a carrier may send media from another host.
        (Some("203.0.113.7"), "192.168.1.20", false),
        (Some("203.0.113.7"), "198.51.100.7", false),
    ] {
        let plan = public_plan(sip_source, &format!("c=IN IP4 {address}\r\nm=audio 6000 RTP/AVP 0\r\n"));
        assert_eq!(plan.transport.remote, Some(format!("{address}:6000").parse().unwrap()), "the latch still knows it");
        assert_eq!(
            (plan.transport.waits, plan.transport.remote_rtcp.is_none()),
            (waits, waits),
            "{address} for {sip_source:?}"
        );
    }
    let rtcp = "c=IN IP4 203.0.113.7\r\nm=audio 6000 RTP/AVP 0\r\na=rtcp:6001 IN IP4 127.0.0.1\r\n";
    let plan = public_plan(Some("203.0.113.7"), rtcp);
    assert_eq!((plan.transport.waits, plan.transport.remote_rtcp), (false, None), "the address of RTCP alone");
}

#[test]
fn a_session_with_a_loopback_address_may_send_to_loopback() {
    let mut negotiation = Negotiation::new(local());
    negotiation.set_sip_source(None);
    negotiation.answer(offer("m=audio 6000 RTP/AVP 0\r\n").as_bytes()).unwrap();
    assert!(!negotiation.plan().unwrap().transport.waits);
}

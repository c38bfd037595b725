//! Tests of sessions with a recording server (RFC 7866).

use super::*;

const LEG: LegId = LegId(1);
const METADATA: &str = "<recording xmlns='urn:ietf:params:xml:ns:recording:1'/>";

fn recording_session() -> (Bench, String) {
    let mut bench = Bench::with(|_| {});
    let invite = crate::Outgoing {
        recording: Some(Bytes::from_static(METADATA.as_bytes())),
        ..*outgoing("sip:recorder@127.0.0.2")
    };
    bench.command(Command::Invite { leg: LEG, invite: Box::new(invite) });
    let invite = bench.expect("INVITE ");
    (bench, invite)
}

/// Returns the head and the content of each part in a multipart body.
fn parts(message: &str) -> Vec<(String, String)> {
    let boundary = parameter(field(message, "Content-Type"), "boundary").to_owned();
    let body = message.split_once("\r\n\r\n").unwrap().1;
    let end = format!("--{boundary}--\r\n");
    let (body, nothing) = body.split_once(&end).expect("an end");
    assert_eq!(nothing, "");
    let begin = format!("--{boundary}\r\n");
    let parts = body.split(&begin).skip(1);
    parts
        .map(|part| part.strip_suffix("\r\n").unwrap().split_once("\r\n\r\n").unwrap())
        .map(|(head, content)| (head.to_owned(), content.to_owned()))
        .collect()
}

#[test]
fn an_invite_to_a_recording_server_has_the_siprec_marks_and_the_metadata() {
    let (mut bench, invite) = recording_session();
    assert_eq!(field(&invite, "Require"), "siprec");
    assert!(field(&invite, "Contact").ends_with(">;+sip.src"), "{invite}");
    assert!(field(&invite, "Content-Type").starts_with("multipart/mixed;boundary="), "{invite}");
    let found = parts(&invite);
    assert_eq!(found.len(), 2, "{invite}");
    assert_eq!(found[0].0, "Content-Type: application/sdp\r\nContent-Disposition: session;handling=required");
    assert_eq!(found[0].1.as_bytes(), SDP);
    assert_eq!(found[1].0, "Content-Type: application/rs-metadata+xml\r\nContent-Disposition: recording-session");
    assert_eq!(found[1].1, METADATA);
    bench.receive(response_to(&invite, 200, "them", WITH_SDP));
    assert_eq!(bench.expect("ACK ").matches("sip.src").count(), 0);
    assert!(matches!(bench.event(), Event::Answered { sdp: Some(_), .. }));
}

#[test]
fn a_change_of_a_recorded_session_is_sent_with_an_offer() {
    let (mut bench, invite) = recording_session();
    bench.receive(response_to(&invite, 200, "them", WITH_SDP));
    bench.expect("ACK ");
    bench.event();
    let metadata = Bytes::from_static(b"<recording>more</recording>");
    bench.command(Command::OfferRecording { leg: LEG, sdp: Bytes::from_static(SDP), metadata });
    let again = bench.expect("INVITE ");
    assert!(field(&again, "Contact").ends_with(">;+sip.src"), "{again}");
    assert_eq!(parts(&again)[1].1, "<recording>more</recording>");
    bench.receive(response_to(&again, 200, "them", WITH_SDP));
    bench.expect("ACK ");
    assert!(matches!(bench.event(), Event::OfferAnswered { .. }));
    bench.command(Command::Offer { leg: LEG, sdp: Bytes::from_static(SDP) });
    let plain = bench.expect("INVITE ");
    assert_eq!(field(&plain, "Content-Type"), "application/sdp");
    assert!(field(&plain, "Contact").ends_with(">;+sip.src"), "{plain}");
}

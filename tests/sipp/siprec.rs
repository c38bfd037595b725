//! A session with a recording server (SIPREC, RFC 7866). SIPp is the recording server.

use crate::sipp::{Sipp, is_missing};
use crate::test_server::{TestServer, inline};

/// Returns the parts of a multipart body, without the boundaries.
fn parts(message: &str) -> Vec<&str> {
    let boundary = message.split("boundary=").nth(1).and_then(|rest| rest.lines().next()).unwrap_or_default();
    message.split(boundary).skip(2).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_server_gets_both_streams_and_metadata_until_the_bye() {
    if is_missing() {
        return;
    }
    for transport in ["u1", "t1"] {
        let (caller, recorder) = (Sipp::new("call_two_seconds"), Sipp::new("recorder").over(transport));
        let parameter = if transport == "t1" { ";transport=tcp" } else { "" };
        let recording_server =
            format!("[[siprec]]\nname = \"r\"\nuri = \"sip:srs@{}{parameter}\"\n", recorder.address());
        let document = "<Response><Start><Siprec connectorName=\"r\"><Parameter name=\"k\" value=\"v\"/></Siprec></Start>\
                        <Echo/></Response>";
        let server =
            TestServer::start(&(caller.trunk("caller", "") + &recording_server + &inline("100", document))).await;
        let recorder = recorder.answer().await;
        caller.to("100").call(server.udp).succeed().await;
        let messages = recorder.succeed().await;
        server.quiet().await;
        server.end().await;

        let invite = messages.split("INVITE sip:srs@").nth(1).unwrap();
        let parts = parts(invite);
        let (sdp, metadata) = (parts[0], parts[1]);
        assert!(sdp.contains("Content-Disposition: session;handling=required"), "{sdp}");
        assert_eq!(sdp.matches("m=audio").count(), 2, "{sdp}");
        for label in ["a=sendonly\r\na=label:1\r\n", "a=sendonly\r\na=label:2\r\n"] {
            assert!(sdp.contains(label), "{sdp}");
        }
        assert!(metadata.contains("<datamode>complete</datamode>"), "{metadata}");
        assert!(metadata.contains("name=\"k\">v</parameter>"), "{metadata}");
        assert_eq!(metadata.matches("<participant ").count(), 2, "{metadata}");
        for label in 1..=2 {
            assert!(metadata.contains(&format!("<label>{label}</label>")), "{metadata}");
        }
    }
}

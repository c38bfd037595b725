//! Places calls, and hangs up each call after the far end has answered. The example is run with `cargo run --example
//! uac -- sip:x@127.0.0.1:5060 20`.

use bytes::Bytes;
use tandem_sip::{Command, Config, Event, LegId, Outgoing, transport};
use tokio::sync::mpsc;

const SDP: &str =
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\n";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let uri = arguments.next().unwrap_or_else(|| "sip:x@127.0.0.1:5060".to_owned());
    let calls: u128 = arguments.next().map_or(Ok(1), |calls| calls.parse())?;
    let listen = vec!["udp://127.0.0.1:0".to_owned(), "tcp://127.0.0.1:0".to_owned()];
    let (sender, mut events) = mpsc::unbounded_channel();
    let config = Config { listen, trace: calls == 1, ..Config::default() };
    let handle = transport::start(config, move |event| drop(sender.send(event))).await?;
    for call in 0..calls {
        let invite = Box::new(Outgoing {
            request_uri: uri.clone(),
            from_user: "uac".to_owned(),
            sdp: Bytes::from_static(SDP.as_bytes()),
            ..Outgoing::default()
        });
        handle.send(Command::Invite { leg: LegId(call), invite })?;
    }
    let (mut answered, mut ended) = (0, 0);
    while ended < calls {
        match events.recv().await {
            Some(Event::Answered { leg, .. }) => {
                answered += 1;
                handle.send(Command::Hangup { leg, status: 480, reason: None, headers: Vec::new() })?;
            }
            Some(Event::Ended { cause, status, .. }) => {
                ended += 1;
                if calls == 1 {
                    println!("ended: {cause:?} {status:?}");
                }
            }
            Some(event) if calls == 1 => println!("{event:?}"),
            Some(_) => {}
            None => break,
        }
    }
    println!("{answered} answered, {ended} ended, {:?}", handle.statistics());
    handle.shutdown().await;
    Ok(())
}

//! Answers every call with a fixed SDP. The example is run with `cargo run --release --example uas --
//! udp://127.0.0.1:5060 tcp://127.0.0.1:5060`.
//!
//! The example ends on Ctrl-D (end of standard input) and then prints its counters.

use std::io::Read as _;

use bytes::Bytes;
use tandem_sip::{Command, Config, Event, TrunkAcl, transport};
use tokio::sync::mpsc;

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listen: Vec<String> = std::env::args().skip(1).collect();
    let trunk = TrunkAcl { name: "anyone".into(), networks: vec!["127.0.0.0/8".parse()?, "::1/128".parse()?] };
    let mut config = Config { trunks: vec![trunk], trace: std::env::var_os("TRACE").is_some(), ..Config::default() };
    if !listen.is_empty() {
        config.listen = listen;
    }
    let (sender, mut events) = mpsc::unbounded_channel();
    let handle = transport::start(config, move |event| drop(sender.send(event))).await?;
    println!("listening on {:?}", handle.local_addrs());

    let answering = handle.clone();
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            match event {
                Event::Incoming { leg, .. } => {
                    let answer = Command::Answer { leg, sdp: Bytes::from_static(SDP.as_bytes()), headers: Vec::new() };
                    if answering.send(answer).is_err() {
                        eprintln!("busy");
                    }
                }
                Event::Offered { leg, .. } => {
                    let _ = answering.send(Command::AnswerOffer { leg, sdp: Bytes::from_static(SDP.as_bytes()) });
                }
                Event::Trace { .. } => println!("{event:?}"),
                _ => {}
            }
        }
    });
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    println!("{:?}", handle.statistics());
    handle.shutdown().await;
    Ok(())
}

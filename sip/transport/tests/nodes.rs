//! A call of one node to a phone that has its connection to another node. All sockets have the same IP address.

use std::sync::Arc;

use super::*;
use crate::directory::Directory;
use crate::endpoint::tests::edge::{credentials, inside, response, user, with_sdp};
use crate::registrar::{BindingRef, Change};
use crate::{Binding, Outgoing};

async fn node() -> (Handle, UnboundedReceiver<Event>) {
    driver(|config| {
        config.trunks.clear();
        config.directory = Arc::new(Directory::new("tandem", [user("alice", None)], []));
    })
    .await
}

async fn binding(events: &mut UnboundedReceiver<Event>) -> (&'static str, Box<Binding>) {
    match event(events).await {
        Event::Binding(Change::Bound(binding)) => ("bound", binding),
        Event::Binding(Change::Learned(binding)) => ("learned", binding),
        other => panic!("no binding, but {other:?}"),
    }
}

async fn register(phone: &mut TcpStream, cseq: u32, lines: &str) -> String {
    let request = format!(
        "REGISTER sip:tandem SIP/2.0\r\nVia: SIP/2.0/TCP 192.168.1.5;rport;branch=z9hG4bKr{cseq}\r\n\
         From: <sip:alice@tandem>;tag=f\r\nTo: <sip:alice@tandem>\r\nCall-ID: r\r\nCSeq: {cseq} REGISTER\r\n\
         Contact: <sip:alice@192.168.1.5:5060;transport=tcp>\r\n{lines}Content-Length: 0\r\n\r\n"
    );
    phone.write_all(request.as_bytes()).await.unwrap();
    read_until(phone, &format!("CSeq: {cseq} REGISTER")).await
}

#[tokio::test]
async fn a_node_calls_a_phone_over_the_connection_of_another_node() {
    let ((a, mut events_of_a), (b, mut events_of_b)) = (node().await, node().await);
    a.send(Command::Nodes(b.node_addresses().to_vec())).unwrap();
    b.send(Command::Nodes(a.node_addresses().to_vec())).unwrap();
    let mut phone = TcpStream::connect(address(&a, Transport::Tcp)).await.unwrap();
    let challenge = register(&mut phone, 1, "").await;
    register(&mut phone, 2, &credentials(&challenge, "REGISTER", "sip:tandem", "alice", "secret")).await;
    let (change, bound) = binding(&mut events_of_a).await;
    assert_eq!(change, "bound");
    let node = format!("sip:{};transport=tcp", address(&a, Transport::Tcp));
    b.send(Command::Learn { binding: bound.clone(), node }).unwrap();
    let (change, learned) = binding(&mut events_of_b).await;
    assert_eq!((change, learned.id), ("learned", bound.id));

    let called = Some(BindingRef { aor: bound.aor.clone(), id: bound.id });
    let invite = Box::new(Outgoing { binding: called, ..*outgoing("sip:alice@tandem") });
    b.send(Command::Invite { leg: LegId(1), invite }).unwrap();
    let mut invite = Vec::new();
    timeout(DEADLINE, async {
        while !invite.ends_with(crate::testing::SDP) {
            assert_ne!(phone.read_buf(&mut invite).await.unwrap(), 0, "closed before the INVITE");
        }
    })
    .await
    .expect("an INVITE in time");
    let invite = String::from_utf8(invite).unwrap();
    let answer = response(&invite, 200, &with_sdp("sip:alice@192.168.1.5:5060;transport=tcp"));
    phone.write_all(answer.as_bytes()).await.unwrap();
    assert!(read_until(&mut phone, " ACK\r\n").await.starts_with("ACK sip:alice@192.168.1.5:5060;transport=tcp "));
    assert!(matches!(event(&mut events_of_b).await, Event::Answered { .. }));
    phone.write_all(inside(&invite, "BYE", 2, "").as_bytes()).await.unwrap();
    assert!(read_until(&mut phone, "CSeq: 2 BYE").await.starts_with("SIP/2.0 200 "));
    assert!(matches!(event(&mut events_of_b).await, Event::Ended { cause: EndCause::Bye, .. }));
    a.shutdown().await;
    b.shutdown().await;
}

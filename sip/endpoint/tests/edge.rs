//! Calls of one node to a phone that has its flow to another node.

use crate::directory::Directory;
pub(crate) use crate::endpoint::phones::tests::{answer as credentials, user};
use crate::leg::Outgoing;
use crate::registrar::{Binding, BindingRef, Change};
use crate::testing::change_name;

use super::*;

const PHONE: &str = "192.0.2.1:40000";
const CONTACT: &str = "sip:alice@192.168.1.5:5060";
/// The port from which a node opens its TCP connections to the other node.
const EPHEMERAL: u16 = 33_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    A,
    B,
}

use Node::{A, B};

impl Node {
    fn address(self) -> SocketAddr {
        match self {
            A => "10.0.0.1:5060".parse().unwrap(),
            B => "10.0.0.2:5060".parse().unwrap(),
        }
    }

    fn other(self) -> Self {
        match self {
            A => B,
            B => A,
        }
    }
}

/// A message to something that is no node: a phone as a rule.
struct Outside {
    from: Node,
    to: String,
    connection: Option<ConnectionId>,
    text: String,
}

/// Two nodes, and a shell that tells each node the bindings of the other. The test acts as the phone.
struct Cluster {
    now: Instant,
    a: Endpoint,
    b: Endpoint,
    transport: Transport,
    outside: VecDeque<Outside>,
    events: VecDeque<(Node, Event)>,
    changes: Vec<(Node, &'static str)>,
    binding: Option<Binding>,
    /// Whether the shell passes the bindings on.
    told: bool,
    number: u32,
}

impl Cluster {
    fn new(transport: Transport) -> Self {
        Self::with(transport, |_| {})
    }

    fn with(transport: Transport, change: fn(&mut Config)) -> Self {
        let endpoint = |node: Node, seed| {
            let mut endpoint = testing::endpoint(&node.address().to_string(), seed, |config| {
                config.listen.push(format!("ws://{}:5080", node.address().ip()));
                config.trunks.clear();
                change(config);
            });
            endpoint.set_directory(Arc::new(Directory::new("tandem", [user("alice", None)], [])));
            endpoint.handle_command(instant(), Command::Nodes(vec![node.other().address()]));
            endpoint
        };
        Self {
            now: instant(),
            a: endpoint(A, 1),
            b: endpoint(B, 2),
            transport,
            outside: VecDeque::new(),
            events: VecDeque::new(),
            changes: Vec::new(),
            binding: None,
            told: true,
            number: 0,
        }
    }

    fn node(&mut self, node: Node) -> &mut Endpoint {
        match node {
            A => &mut self.a,
            B => &mut self.b,
        }
    }

    /// Executes the outputs of both nodes until there are none.
    fn pump(&mut self) {
        loop {
            let output = self.a.poll_output().map(|output| (A, output));
            let Some((node, output)) = output.or_else(|| self.b.poll_output().map(|output| (B, output))) else {
                return;
            };
            match output {
                Output::Transmit { destination, transport, connection, data, .. }
                    if destination.ip() == node.other().address().ip() && data.len() > 4 =>
                {
                    assert!(connection.is_some() || destination == node.other().address(), "no one listens there");
                    let is_stream = transport.is_reliable();
                    let port = if is_stream { EPHEMERAL } else { node.address().port() };
                    let source = SocketAddr::new(node.address().ip(), port);
                    self.deliver(node.other(), source, transport, is_stream.then_some(ConnectionId(1_000)), data);
                }
                Output::Transmit { destination, connection, data, .. } => {
                    let text = String::from_utf8(data.to_vec()).unwrap();
                    self.outside.push_back(Outside { from: node, to: destination.to_string(), connection, text });
                }
                Output::Event(Event::Binding(change)) => self.tell(node, change),
                Output::Event(event) => self.events.push_back((node, event)),
                Output::Trust(_) | Output::Alias { .. } => {}
                Output::Resolve { .. } => panic!("no name is looked up"),
            }
        }
    }

    fn deliver(
        &mut self,
        to: Node,
        source: SocketAddr,
        transport: Transport,
        connection: Option<ConnectionId>,
        data: Bytes,
    ) {
        let (now, mut local) = (self.now, to.address());
        if transport.is_websocket() {
            local.set_port(5080);
        }
        let arrival = Arrival { source, local, transport, connection, certified_trunk: None, from_page: false, data };
        self.node(to).handle_datagram(now, arrival);
    }

    /// Does what the shell does: it passes a change of a binding to the other node.
    fn tell(&mut self, node: Node, change: Change) {
        let transport = if self.transport.is_reliable() { "tcp" } else { "udp" };
        let command = match &change {
            Change::Bound(binding) | Change::Refreshed(binding) => {
                self.binding = Some((**binding).clone());
                let node = format!("sip:{};transport={transport}", node.address());
                Some(Command::Learn { binding: binding.clone(), node })
            }
            Change::Unbound(binding) => Some(Command::Forget(binding.id)),
            _ => None,
        };
        let name = change_name(&change);
        self.changes.push((node, name));
        if let Some(command) = command.filter(|_| self.told) {
            let now = self.now;
            self.node(node.other()).handle_command(now, command);
        }
    }

    fn command(&mut self, node: Node, command: Command) {
        let now = self.now;
        self.node(node).handle_command(now, command);
        self.pump();
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = [self.a.poll_timeout(), self.b.poll_timeout()].into_iter().flatten().min() {
            if at > end {
                break;
            }
            self.now = self.now.max(at);
            let now = self.now;
            self.a.handle_timeout(now);
            self.b.handle_timeout(now);
            self.pump();
        }
        self.now = end;
    }

    /// Sends a message from this address to a node, over the transport of the phone.
    fn send_from(&mut self, source: &str, to: Node, text: &str) {
        let connection = self.transport.is_reliable().then_some(ConnectionId(5));
        self.deliver(to, source.parse().unwrap(), self.transport, connection, Bytes::copy_from_slice(text.as_bytes()));
        self.pump();
    }

    fn send(&mut self, to: Node, text: &str) {
        self.send_from(PHONE, to, text);
    }

    /// Returns the oldest message to the phone that the test has not read yet. It must begin with `start`.
    #[track_caller]
    fn expect(&mut self, start: &str) -> Outside {
        let message = self.outside.pop_front().unwrap_or_else(|| panic!("nothing was sent, expected {start}"));
        assert!(message.text.starts_with(start), "expected {start}, sent:\n{}", message.text);
        message
    }

    #[track_caller]
    fn silent(&self) {
        assert!(self.outside.is_empty(), "sent:\n{}", self.outside.iter().map(|one| &*one.text).collect::<String>());
    }

    /// Returns the events of a node that the test has not read yet.
    fn events_of(&mut self, node: Node) -> Vec<Event> {
        self.events.drain(..).filter(|(of, _)| *of == node).map(|(_, event)| event).collect()
    }

    fn take_changes(&mut self) -> Vec<(Node, &'static str)> {
        std::mem::take(&mut self.changes)
    }

    fn register(&mut self, node: Node, lines: &str) {
        let mut authorization = String::new();
        for _ in 0..2 {
            self.number += 1;
            let (number, transport) = (self.number, self.transport.token());
            self.send(
                node,
                &format!(
                    "REGISTER sip:tandem SIP/2.0\r\nVia: SIP/2.0/{transport} 192.168.1.5;rport;branch=z9hG4bK{number}\r\n\
                     From: <sip:alice@tandem>;tag=f\r\nTo: <sip:alice@tandem>\r\nCall-ID: registration\r\n\
                     CSeq: {number} REGISTER\r\n{lines}{authorization}Content-Length: 0\r\n\r\n"
                ),
            );
            let response = self.expect("SIP/2.0 ").text;
            if response.starts_with("SIP/2.0 200 ") {
                return;
            }
            authorization = credentials(&response, "REGISTER", "sip:tandem", "alice", "secret");
        }
        panic!("the phone has not registered");
    }

    /// Makes a node call the phone. Returns the INVITE as the phone gets it.
    fn call(&mut self, node: Node) -> Outside {
        let binding = self.binding.as_ref().expect("the phone has registered");
        let binding = Some(BindingRef { aor: binding.aor.clone(), id: binding.id });
        let invite = Box::new(Outgoing { binding, ..*outgoing("sip:alice@tandem") });
        self.command(node, Command::Invite { leg: LegId(1), invite });
        self.expect("INVITE ")
    }

    /// Returns an answered call of node B to the phone at node A: its INVITE as the phone has got it.
    fn answered_call(&mut self) -> Outside {
        self.register(A, &format!("Contact: <{CONTACT}>\r\n"));
        let invite = self.call(B);
        self.send(A, &response(&invite.text, 200, &with_sdp(CONTACT)));
        self.expect("ACK ");
        assert!(matches!(self.events_of(B)[..], [Event::Answered { .. }]));
        invite
    }

    #[track_caller]
    fn assert_no_calls(&mut self) {
        self.wait(Duration::from_secs(100));
        for endpoint in [&self.a, &self.b] {
            assert_eq!((endpoint.legs(), endpoint.table_sizes()), (0, [0; 7]));
        }
    }
}

pub(crate) fn with_sdp(contact: &str) -> String {
    format!("Contact: <{contact}>\r\nContent-Type: application/sdp\r\n\r\n{}", std::str::from_utf8(SDP).unwrap())
}

/// Returns all values of a header field, one value per line.
fn fields<'a>(message: &'a str, name: &str) -> Vec<&'a str> {
    let prefix = format!("{name}: ");
    message.split("\r\n").filter_map(|line| line.strip_prefix(&prefix)).collect()
}

/// Returns a response of the phone, with all Via and Record-Route values of the request.
pub(crate) fn response(request: &str, status: u16, more: &str) -> String {
    let copied =
        |name| fields(request, name).into_iter().map(|value| format!("{name}: {value}\r\n")).collect::<String>();
    let vias = copied("Via") + &copied("Record-Route");
    response_to(request, status, "phone", more).replacen(&format!("Via: {}\r\n", field(request, "Via")), &vias, 1)
}

/// Returns a request of the phone in the dialog of an INVITE that it has got.
pub(crate) fn inside(invite: &str, method: &str, cseq: u32, more: &str) -> String {
    let routes: String = fields(invite, "Record-Route").iter().map(|route| format!("Route: {route}\r\n")).collect();
    let uri = field(invite, "Contact").trim_matches(['<', '>']);
    let transport = field(invite, "Via").split(['/', ' ']).nth(2).unwrap();
    let (lines, body) =
        more.split_once("\r\n\r\n").map_or((more.to_owned(), ""), |(lines, body)| (format!("{lines}\r\n"), body));
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/{transport} 192.168.1.5:5060;rport;branch=z9hG4bKphone{cseq}{method}\r\n\
         Max-Forwards: 70\r\n{routes}From: {};tag=phone\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {cseq} {method}\r\n{lines}\
         Content-Length: {}\r\n\r\n{body}",
        field(invite, "To"),
        field(invite, "From"),
        field(invite, "Call-ID"),
        body.len()
    )
}

fn flow_of(cluster: &Cluster) -> String {
    cluster.binding.as_ref().unwrap().id.flow_user()
}

/// Makes a call with a re-INVITE and a BYE of the phone.
fn whole_call(transport: Transport, contact: &str) {
    let mut cluster = Cluster::new(transport);
    cluster.register(A, &format!("Contact: <{contact}>\r\n"));
    assert_eq!(cluster.take_changes(), [(A, "bound"), (B, "learned")]);
    let before = cluster.a.transactions();
    let invite = cluster.call(B);
    assert_eq!((invite.from, &*invite.to), (A, PHONE));
    assert_eq!(invite.connection, transport.is_reliable().then_some(ConnectionId(5)));
    assert!(invite.text.starts_with(&format!("INVITE {contact} SIP/2.0\r\n")), "{}", invite.text);
    assert_eq!((fields(&invite.text, "Via").len(), fields(&invite.text, "Route").len()), (2, 0), "{}", invite.text);
    assert_eq!(field(&invite.text, "Max-Forwards"), "69");
    for (status, more) in [(100, String::new()), (180, with_sdp(contact)), (200, with_sdp(contact))] {
        cluster.send(A, &response(&invite.text, status, &more));
    }
    assert!(matches!(cluster.events_of(B)[..], [Event::Provisional { .. }, Event::Answered { .. }]));
    let ack = cluster.expect("ACK ");
    assert_eq!((&*ack.to, fields(&ack.text, "Route").len()), (PHONE, 0), "{}", ack.text);

    let again = inside(&invite.text, "INVITE", 7, &with_sdp(contact));
    cluster.send(A, &again);
    assert!(matches!(cluster.events_of(B)[..], [Event::Offered { .. }]));
    cluster.expect("SIP/2.0 100 ");
    let sdp = Bytes::from_static(SDP);
    cluster.command(B, Command::AnswerOffer { leg: LegId(1), sdp });
    let ok = cluster.expect("SIP/2.0 200 ");
    assert_eq!((&*ok.to, ok.from, ok.connection), (PHONE, A, invite.connection));
    assert_eq!(fields(&ok.text, "Via").len(), 1, "{}", ok.text);
    cluster.send(A, &inside(&invite.text, "ACK", 7, ""));
    cluster.silent();
    assert!(matches!(cluster.events_of(B)[..], [Event::Acknowledged { .. }]));

    let info = Command::Info { leg: LegId(1), content_type: "x/y".to_owned(), body: Bytes::from_static(b"z") };
    cluster.command(B, info);
    let info = cluster.expect("INFO ");
    assert!(info.to == PHONE && info.text.ends_with("\r\n\r\nz"), "{}", info.text);
    cluster.send(A, &response(&info.text, 200, ""));

    cluster.send(A, &inside(&invite.text, "BYE", 8, ""));
    cluster.expect("SIP/2.0 200 ");
    cluster.silent();
    assert!(matches!(cluster.events_of(B)[..], [Event::Ended { cause: EndCause::Bye, .. }]));
    assert_eq!((cluster.a.legs(), cluster.a.transactions()), (0, before), "A has no state of the call");
}

#[test]
fn a_node_calls_a_phone_with_a_udp_flow_to_another_node() {
    whole_call(Transport::Udp, CONTACT);
}

#[test]
fn a_node_calls_a_phone_with_a_connection_to_another_node() {
    whole_call(Transport::Tcp, "sip:alice@192.168.1.5:5060;transport=tcp");
    whole_call(Transport::Ws, "sip:alice@page.invalid;transport=ws");
}

#[test]
fn the_phone_and_the_node_each_get_a_record_route_for_their_side() {
    for (transport, expected) in [
        (Transport::Udp, vec!["<sip:F@10.0.0.1:5060;transport=udp;lr>"]),
        (Transport::Tcp, vec!["<sip:F@10.0.0.1:5060;transport=tcp;lr>"]),
        (Transport::Ws, vec!["<sip:F@10.0.0.1:5080;transport=ws;lr>", "<sip:F@10.0.0.1:5060;transport=tcp;lr>"]),
    ] {
        let mut cluster = Cluster::new(transport);
        cluster.register(A, &format!("Contact: <{CONTACT}>\r\n"));
        let invite = cluster.call(B).text.replace(&flow_of(&cluster), "F");
        assert_eq!(fields(&invite, "Record-Route"), expected);
        assert!(field(&invite, "Contact").contains("10.0.0.2:5060"), "{invite}");
    }
}

#[test]
fn a_prack_takes_the_way_of_its_invite() {
    let mut cluster = Cluster::new(Transport::Udp);
    cluster.register(A, &format!("Contact: <{CONTACT}>\r\n"));
    let invite = cluster.call(B);
    let reliable = format!("Require: 100rel\r\nRSeq: 1\r\n{}", with_sdp(CONTACT));
    cluster.send(A, &response(&invite.text, 183, &reliable));
    let prack = cluster.expect("PRACK ");
    assert_eq!((&*prack.to, prack.from, fields(&prack.text, "Via").len()), (PHONE, A, 2));
}

#[test]
fn a_hang_up_of_the_node_reaches_the_phone() {
    let mut cluster = Cluster::new(Transport::Udp);
    cluster.answered_call();
    cluster.command(B, hangup(LegId(1)));
    let bye = cluster.expect(&format!("BYE {CONTACT} "));
    assert_eq!((&*bye.to, bye.from), (PHONE, A));
    cluster.send(A, &response(&bye.text, 200, ""));
    assert!(matches!(cluster.events_of(B)[..], [Event::Ended { cause: EndCause::LocalHangup, .. }]));
    cluster.outside.clear();
    cluster.assert_no_calls();
}

#[test]
fn a_retransmission_a_cancel_and_the_ack_of_a_refusal_have_the_branch_of_their_invite() {
    let mut cluster = Cluster::new(Transport::Udp);
    cluster.register(A, &format!("Contact: <{CONTACT}>\r\n"));
    let invite = cluster.call(B);
    cluster.wait(Duration::from_millis(600));
    let again = cluster.expect("INVITE ");
    assert_eq!(again.text, invite.text);
    cluster.send(A, &response(&invite.text, 180, ""));
    cluster.command(B, hangup(LegId(1)));
    let cancel = cluster.expect("CANCEL ");
    assert_eq!(field(&cancel.text, "Via"), field(&invite.text, "Via"));
    cluster.send(A, &response(&cancel.text, 200, ""));
    cluster.send(A, &response(&invite.text, 487, ""));
    let ack = cluster.expect("ACK ");
    assert_eq!(field(&ack.text, "Via"), field(&invite.text, "Via"));
    let events = cluster.events_of(B);
    assert!(
        matches!(events[..], [Event::Provisional { .. }, Event::Ended { cause: EndCause::LocalHangup, .. }]),
        "{events:?}"
    );
    cluster.outside.clear();
    cluster.assert_no_calls();
}

#[test]
fn a_registration_that_moves_to_another_node_stays_one_binding_and_never_ends() {
    let mut cluster = Cluster::new(Transport::Udp);
    let contact = format!("Contact: <{CONTACT}>\r\n");
    cluster.register(A, &contact);
    let first = cluster.binding.clone().unwrap();
    assert_eq!((cluster.a.bindings(), cluster.b.bindings()), (1, 0));
    cluster.take_changes();
    cluster.register(B, &contact);
    assert_eq!(cluster.take_changes(), [(B, "refreshed"), (A, "learned")]);
    assert_eq!((cluster.a.bindings(), cluster.b.bindings()), (0, 1));
    assert_eq!(cluster.binding.as_ref().map(|binding| binding.id), Some(first.id));
    let invite = cluster.call(A);
    assert_eq!((invite.from, &*invite.to), (B, PHONE));
    // The news of the old registration comes late.
    let node = "sip:10.0.0.1:5060;transport=udp".to_owned();
    cluster.command(B, Command::Learn { binding: Box::new(first), node });
    assert!(cluster.take_changes().is_empty());
}

#[test]
fn a_phone_that_unregisters_at_another_node_ends_its_binding_at_both() {
    for contact in [format!("<{CONTACT}>"), "*".to_owned()] {
        let mut cluster = Cluster::new(Transport::Udp);
        cluster.register(A, &format!("Contact: <{CONTACT}>\r\n"));
        cluster.take_changes();
        cluster.register(B, &format!("Contact: {contact}\r\nExpires: 0\r\n"));
        let expected = [(B, "refreshed"), (A, "learned"), (B, "unbound"), (A, "forgotten")];
        assert_eq!(cluster.take_changes(), expected, "{contact}");
    }
}

#[test]
fn a_foreign_binding_gets_no_keep_alive_and_ends_by_itself() {
    let mut cluster = Cluster::new(Transport::Udp);
    cluster.register(A, &format!("Contact: <{CONTACT}>\r\nExpires: 120\r\n"));
    cluster.take_changes();
    cluster.told = false;
    cluster.wait(Duration::from_secs(119));
    assert!(!cluster.outside.is_empty() && cluster.outside.iter().all(|sent| sent.from == A), "only A keeps the flow");
    cluster.wait(Duration::from_secs(1));
    assert_eq!(cluster.take_changes(), [(A, "unbound"), (B, "forgotten")]);
    let binding = cluster.binding.clone().unwrap();
    let invite = Outgoing { binding: Some(BindingRef { aor: binding.aor, id: binding.id }), ..*outgoing("sip:a@b") };
    cluster.command(B, Command::Invite { leg: LegId(1), invite: Box::new(invite) });
    assert!(matches!(cluster.events_of(B)[..], [Event::Ended { status: Some(480), .. }]));
}

#[test]
fn a_foreign_binding_is_a_contact_of_its_user() {
    let mut cluster = Cluster::new(Transport::Udp);
    cluster.register(A, &format!("Contact: <{CONTACT}>\r\nExpires: 120\r\n"));
    // The phone asks the other node for its contacts.
    let ask = |authorization: &str| {
        format!(
            "REGISTER sip:tandem SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;rport;branch=z9hG4bKf{}\r\n\
             From: <sip:alice@tandem>;tag=f\r\nTo: <sip:alice@tandem>\r\nCall-ID: fetch\r\n\
             CSeq: 1 REGISTER\r\n{authorization}Content-Length: 0\r\n\r\n",
            authorization.len()
        )
    };
    cluster.send(B, &ask(""));
    let challenge = cluster.expect("SIP/2.0 401 ").text;
    cluster.send(B, &ask(&credentials(&challenge, "REGISTER", "sip:tandem", "alice", "secret")));
    let contacts = cluster.expect("SIP/2.0 200 ").text;
    assert_eq!(field(&contacts, "Contact"), format!("<{CONTACT}>;expires=120"));
}

#[test]
fn a_stranger_gets_no_relay_to_a_phone_or_to_a_node() {
    let mut cluster = Cluster::new(Transport::Udp);
    let invite = cluster.answered_call();
    let flow = flow_of(&cluster);
    for (method, uri) in [("INVITE", CONTACT), ("BYE", CONTACT), ("BYE", "sip:10.0.0.2:5060"), ("ACK", CONTACT)] {
        for tag in ["", ";tag=x"] {
            let request = format!(
                "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.1;branch=z9hG4bK1\r\n\
                 Route: <sip:{flow}@10.0.0.1:5060;lr>\r\nFrom: <sip:x@y>;tag=s\r\nTo: <sip:y@z>{tag}\r\nCall-ID: s\r\n\
                 CSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
            );
            cluster.send_from("198.51.100.1:5060", A, &request);
        }
    }
    assert!(cluster.outside.drain(..).all(|sent| sent.to == "198.51.100.1:5060" && sent.text.starts_with("SIP/2.0 4")));
    // The response belongs to no request that A has forwarded.
    let forged = response(&invite.text, 200, "").replace("received=10.0.0.2", "received=198.51.100.2");
    cluster.send_from("198.51.100.1:5060", A, &forged);
    cluster.silent();
    assert!(cluster.events.is_empty());
}

#[test]
fn a_server_without_other_nodes_forwards_nothing() {
    let mut cluster = Cluster::new(Transport::Udp);
    let invite = cluster.answered_call();
    cluster.command(A, Command::Nodes(Vec::new()));
    cluster.send(A, &inside(&invite.text, "BYE", 2, ""));
    cluster.expect("SIP/2.0 481 ");
    cluster.command(B, hangup(LegId(1)));
    cluster.silent();
}

#[test]
fn a_phone_reaches_no_address_but_the_sip_address_of_a_node() {
    let mut cluster = Cluster::new(Transport::Udp);
    let invite = cluster.answered_call();
    let bye = inside(&invite.text, "BYE", 2, "");
    for uri in [
        "sip:198.51.100.7:5060",
        "sip:10.0.0.2:5432",
        "sip:10.0.0.2:5060;transport=ws",
        "sips:10.0.0.2:5060",
        "sip:node-b.example",
        "sip:10.0.0.3",
    ] {
        cluster.send(A, &bye.replacen("sip:10.0.0.2:5060", uri, 1));
        cluster.expect("SIP/2.0 403 ");
    }
    let detour = bye.replacen("From: ", "Route: <sip:198.51.100.7;lr>\r\nFrom: ", 1);
    cluster.send(A, &detour);
    cluster.expect("SIP/2.0 403 ");
    cluster.send(A, &bye.replacen(";tag=", ";gone=", 2).replace("BYE", "ACK"));
    cluster.silent();
    // Outside a dialog, and with a REGISTER, the phone means A.
    cluster.send(A, &bye.replace("BYE", "OPTIONS").replace(field(&bye, "To"), "<sip:10.0.0.1>"));
    assert!(cluster.expect("SIP/2.0 200 ").text.contains("Allow: "));
    cluster.send(A, &bye.replace("BYE", "REGISTER"));
    cluster.expect("SIP/2.0 401 ");
    cluster.silent();
    assert!(cluster.events.is_empty() && cluster.b.transactions() == 1, "B has only its INVITE");
}

#[test]
fn a_request_to_a_phone_whose_flow_is_gone_gets_430() {
    let mut cluster = Cluster::new(Transport::Ws);
    cluster.register(A, "Contact: <sip:alice@page.invalid;transport=ws>\r\n");
    cluster.told = false;
    let now = cluster.now;
    cluster.a.handle_transport_error(now, Transport::Ws, PHONE.parse().unwrap(), ErrorKind::ConnectionReset);
    let binding = cluster.binding.clone().unwrap();
    let invite = Outgoing { binding: Some(BindingRef { aor: binding.aor, id: binding.id }), ..*outgoing("sip:a@b") };
    cluster.command(B, Command::Invite { leg: LegId(1), invite: Box::new(invite) });
    let events = cluster.events_of(B);
    assert!(
        matches!(&events[..], [Event::Ended { status: Some(430), reason: Some(reason), .. }] if reason == "Flow Failed"),
        "{events:?}"
    );
    cluster.silent();
}

#[test]
fn a_request_without_hops_left_gets_483() {
    let mut cluster = Cluster::new(Transport::Udp);
    let invite = cluster.answered_call();
    for method in ["INFO", "ACK"] {
        cluster.send(A, &inside(&invite.text, method, 2, "").replace("Max-Forwards: 70", "Max-Forwards: 0"));
    }
    cluster.expect("SIP/2.0 483 ");
    cluster.silent();
}

#[test]
fn a_phone_whose_nat_changes_its_port_still_reaches_the_node() {
    let mut cluster = Cluster::new(Transport::Udp);
    let invite = cluster.answered_call();
    cluster.send_from("192.0.2.1:50000", A, &inside(&invite.text, "BYE", 2, ""));
    assert_eq!(cluster.expect("SIP/2.0 200 ").to, "192.0.2.1:50000");
}

#[test]
fn a_phone_that_moves_to_the_calling_node_continues_its_call_there() {
    let mut cluster = Cluster::new(Transport::Udp);
    let invite = cluster.answered_call();
    cluster.register(B, &format!("Contact: <{CONTACT}>\r\n"));
    cluster.send(B, &inside(&invite.text, "INFO", 2, "Content-Type: application/dtmf\r\n\r\n5"));
    cluster.expect("SIP/2.0 200 ");
    assert!(matches!(cluster.events_of(B)[..], [Event::Info { digit: _, .. }]));
    // B still sends its requests to A, which has no flow to the phone any more.
    cluster.send(B, &inside(&invite.text, "BYE", 3, ""));
    cluster.expect("SIP/2.0 200 ");
    cluster.silent();
}

#[test]
fn a_phone_behind_an_outbound_proxy_is_called_through_this_proxy() {
    let mut cluster = Cluster::new(Transport::Udp);
    cluster.register(A, &format!("Contact: <{CONTACT}>\r\nPath: <sip:198.51.100.9:5070;lr>\r\nSupported: path\r\n"));
    let invite = cluster.call(B);
    assert_eq!((invite.from, &*invite.to), (B, "198.51.100.9:5070"));
    assert_eq!(fields(&invite.text, "Route"), ["<sip:198.51.100.9:5070;lr>"]);
}

#[test]
fn requests_to_the_gruu_of_a_foreign_phone_have_its_contact() {
    let mut cluster = Cluster::new(Transport::Udp);
    cluster.register(A, &format!("Contact: <{CONTACT}>;+sip.instance=\"<urn:x>\"\r\nSupported: gruu\r\n"));
    let invite = cluster.call(B);
    cluster.send(A, &response(&invite.text, 200, &with_sdp("sip:alice@tandem;gr=urn:x")));
    cluster.expect(&format!("ACK {CONTACT} "));
}

#[test]
fn a_large_request_between_nodes_stays_on_the_transport_of_the_flow() {
    let mut cluster = Cluster::with(Transport::Udp, |config| config.udp_max_request = 100);
    cluster.register(A, &format!("Contact: <{CONTACT}>\r\n"));
    let invite = cluster.call(B);
    assert!(fields(&invite.text, "Via").iter().all(|via| via.starts_with("SIP/2.0/UDP ")), "{}", invite.text);
}

#[test]
fn an_unusable_uri_of_a_node_is_not_learned() {
    let mut cluster = Cluster::new(Transport::Udp);
    cluster.told = false;
    cluster.register(A, &format!("Contact: <{CONTACT}>\r\n"));
    cluster.take_changes();
    let binding = Box::new(cluster.binding.clone().unwrap());
    let of_name =
        ["sip:node-a", "sip:10.0.0.1;transport=tls", "sip:10.0.0.1;transport=ws", "sip:[::1]", "10.0.0.1", ""];
    for node in of_name.into_iter().chain(["sip:10.0.0.2:5060"]) {
        cluster.command(B, Command::Learn { binding: binding.clone(), node: node.to_owned() });
        assert!(cluster.take_changes().is_empty(), "{node}");
    }
}

#[test]
fn no_route_makes_a_node_panic_or_relay() {
    let mut cluster = Cluster::new(Transport::Udp);
    let invite = cluster.answered_call();
    let flow = flow_of(&cluster);
    let own = format!("<sip:{flow}@10.0.0.1:5060;lr>");
    let garbage = [
        String::new(),
        ",".to_owned(),
        "<sip:flow-@10.0.0.1;lr>".to_owned(),
        "<sip:flow-+0000000000000000000000000000000@10.0.0.1;lr>".to_owned(),
        format!("<sip:flow-{}@10.0.0.1;lr>", "f".repeat(33)),
        format!("<sip:{flow}%00@10.0.0.1;lr>"),
        format!("<sip:{flow}@10.0.0.1;lr"),
        format!("\"unbalanced <sip:{flow}@10.0.0.1;lr>"),
        format!("<sip:{flow}@>"),
        format!("<tel:{flow}>"),
        format!("<sip:user@10.0.0.1>, {own}"),
    ];
    for route in &garbage {
        for source in [PHONE, "10.0.0.2:5060", "198.51.100.1:5060"] {
            let bye = inside(&invite.text, "BYE", 2, "");
            let at = bye.find("Route: ").unwrap();
            let end = at + bye[at..].find("\r\n").unwrap();
            cluster.send_from(source, A, &format!("{}Route: {route}{}", &bye[..at], &bye[end..]));
        }
    }
    let of_nobody = inside(&invite.text, "BYE", 2, "").replace(&flow, &format!("flow-{}", "f".repeat(32)));
    cluster.send_from("10.0.0.2:5060", A, &of_nobody);
    assert!(cluster.events.is_empty(), "no BYE reached B");
    for sent in cluster.outside.drain(..) {
        assert!(sent.text.starts_with("SIP/2.0 4"), "{}", sent.text);
    }
    // Two values in one line are two Route values, and a URI may stand without brackets.
    cluster.send(A, &inside(&invite.text, "BYE", 3, "").replace("Route: ", &format!("Route: {own} , ")));
    cluster.expect("SIP/2.0 200 ");
}

//! What the server's own paths tell, and to whom.

use tandem_control::dialect::telnyx::id::{call_control_id, uuid};
use tandem_control::query::{LegFilter, Page};

use crate::house::{ACCOUNT_SID, API_KEY, AUTH_TOKEN, House, basic, inline};
use crate::phone::Phone;

const OTHER_SID: &str = "AC00000000000000000000000000000002";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_root_says_where_the_rest_is() {
    let house = House::start("").await;
    let root = house.api.get_as("", "/").await;
    let text = String::from_utf8(root.body).unwrap();
    assert_eq!((root.status, text.lines().count()), (200, 6), "{text}");
    assert!(text.contains("/2010-04-01/") && text.contains("/readyz"), "{text}");
    house.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_log_is_shown_to_the_account_whose_call_it_is_and_to_nobody_else() {
    let other = format!(
        "[[accounts]]\nname = \"other\"\ntwilio = {{ account_sid = \"{OTHER_SID}\", auth_token = \"theirs\" }}\n"
    );
    let house = House::start(&(other + &inline("100", "<Response><Echo/></Response>"))).await;
    let mut phone = Phone::new().await;
    phone.call(house.udp, "100").await;
    let page = Page { limit: 1, after: None, offset: 0 };
    let session = house.calls().list("acme", &LegFilter::default(), page).await.unwrap().remove(0).session;
    let path = format!("/console/sessions/{session}/events");
    let nobody = "/console/sessions/00000000000010008000000000000001/events";
    let (ours, theirs) = (basic(ACCOUNT_SID, AUTH_TOKEN), basic(OTHER_SID, "theirs"));

    let live = house.api.get_as(&ours, &path).await;
    assert_eq!(live.status, 200);
    assert!(live.json().as_array().unwrap().iter().any(|line| line["kind"] == "sip"), "{}", live.json());
    phone.hangup().await;
    house.quiet().await;

    let wrong = [
        basic(ACCOUNT_SID, "theirs"),
        basic(ACCOUNT_SID, ""),
        "Bearer KEYwrong".into(),
        "Bearer ".into(),
        String::new(),
    ];
    for wrong in wrong {
        assert_eq!(house.api.get_as(&wrong, &path).await.status, 401, "{wrong}");
        assert_eq!(house.api.get_as(&wrong, nobody).await.status, 401, "{wrong}");
    }
    assert_eq!(house.api.get_as(&theirs, &path).await.status, 404);
    for nothing in [nobody, "/console/sessions/x/events"] {
        assert_eq!(house.api.get_as(&ours, nothing).await.status, 404, "{nothing}");
    }
    for right in [ours, format!("Bearer {API_KEY}")] {
        let over = house.api.get_as(&right, &path).await;
        assert_eq!(over.status, 200);
        assert!(over.json().as_array().unwrap().len() >= live.json().as_array().unwrap().len());
    }
    house.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_found_by_any_spelling_of_its_legs_id_and_told_in_words() {
    let house = House::start(&inline("100", "<Response><Echo/></Response>")).await;
    let mut phone = Phone::new().await;
    phone.call(house.udp, "100").await;
    phone.hangup().await;
    house.quiet().await;
    let page = Page { limit: 1, after: None, offset: 0 };
    let leg = house.calls().list("acme", &LegFilter::default(), page).await.unwrap().remove(0);
    let by_session = house.api.get(&format!("/console/sessions/{}/events", leg.session)).await.body;
    assert!(by_session.ends_with(b"]\n"));
    for id in [format!("CA{}", leg.id), call_control_id(leg.id).replace(':', "%3A"), uuid(leg.id.0), leg.id.to_string()]
    {
        assert_eq!(house.api.get(&format!("/console/sessions/{id}/events")).await.body, by_session, "{id}");
    }
    let text = house.api.get(&format!("/console/sessions/CA{}/events?format=text", leg.id)).await.body;
    let text = String::from_utf8(text).unwrap();
    assert!(text.starts_with(&format!("caller: CA{}, inbound ", leg.id)), "{text}");
    assert!(text.contains("trunk here, PCMU, completed: hung up (the far end)\n"), "{text}");
    assert!(text.contains("  caller    call     ended: hung up (the far end)\n"), "{text}");
    let place = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what} in {text}"));
    assert!(place("100 Trying (INVITE)") < place("answered") && place("answered") < place("ended"), "{text}");
    house.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_reached_nobody_says_why() {
    let trunks = "[[trunks]]\nname = \"away\"\nuri = \"sip:127.0.0.1:9;transport=tcp\"\nprefixes = [\"+\"]\n";
    let house = House::start(trunks).await;
    let call =
        house.api.post("/Calls.json", "From=%2B15551230001&To=%2B15551230002&Twiml=%3CResponse%2F%3E").await.json();
    house.quiet().await;
    let sid = call["sid"].as_str().unwrap();
    let text = house.api.get(&format!("/console/sessions/{sid}/events?format=text")).await.body;
    let text = String::from_utf8(text).unwrap();
    let why = "trunk \"away\" (sip:127.0.0.1:9;transport=tcp): connection refused\n";
    assert!(text.contains(&format!(", trunk away, failed: {why}")), "{text}");
    assert!(text.contains(&format!("call     ended: {why}")), "{text}");
    let metrics = String::from_utf8(house.api.get("/metrics").await.body).unwrap();
    assert!(metrics.contains("\ntandem_legs_ended_total{cause=\"failed\"} 1\n"), "{metrics}");
    house.end().await;
}

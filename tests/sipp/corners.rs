//! Unusual behaviour of some carriers and PBXs.

use crate::house::{House, inline};
use crate::sipp::{Sipp, is_missing};
use crate::straight::straight_through;

const ECHO: &str = "<Response><Echo/></Response>";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_call_cannot_have_is_refused_and_the_call_goes_on() {
    if is_missing() {
        return;
    }
    let caller = Sipp::new("asks_within");
    let house = House::start(&(caller.trunk("caller", "") + &inline("100", ECHO))).await;
    caller.to("100").call(house.udp).succeed().await;
    house.quiet().await;
    house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_in_every_odd_form_there_is_is_answered() {
    if is_missing() {
        return;
    }
    let caller = Sipp::new("odd_forms");
    let house = House::start(&(caller.trunk("caller", "") + &inline("+15551234567", ECHO))).await;
    caller.to("+15551234567").key("far", "[2001:db8::9]:5061").call(house.udp).succeed().await;
    house.quiet().await;
    house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_that_rings_speaks_before_it_answers() {
    if is_missing() {
        return;
    }
    straight_through((Sipp::new("call"), ""), (Sipp::new("early_requests"), "")).await;
}

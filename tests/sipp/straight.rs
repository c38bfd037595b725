//! Bridged calls: one SIPp calls, another answers, with the server between them.

use crate::house::House;
use crate::sipp::Sipp;

/// Returns the configuration of a route: numbers with this prefix are bridged to the trunk.
pub(crate) fn through(prefix: &str, trunk: &str) -> String {
    format!("[[numbers]]\nnumber = \"{prefix}*\"\naccount = \"acme\"\nbridge = \"trunk:{trunk}\"\n")
}

/// Lets `caller` call 1234, which is bridged to `callee`, and waits until both have ended and nothing is left of the
/// call. Each comes with further keys of its trunk. Returns what each of them logged.
pub(crate) async fn straight_through(caller: (Sipp, &str), callee: (Sipp, &str)) -> [String; 2] {
    let ((caller, caller_keys), (callee, callee_keys)) = (caller, callee);
    let trunks = caller.trunk("caller", caller_keys) + &callee.trunk("callee", callee_keys);
    let house = House::start(&(trunks + &through("1", "callee"))).await;
    let callee = callee.answer().await;
    let called = caller.to("1234").call(house.udp).succeed().await;
    let answered = callee.succeed().await;
    house.quiet().await;
    house.end().await;
    [called, answered]
}

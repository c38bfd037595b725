//! Calls straight through: one SIPp calls, another answers, the server in between.

use crate::house::House;
use crate::sipp::Sipp;

/// Numbers that begin so go straight through to that trunk.
pub(crate) fn through(prefix: &str, trunk: &str) -> String {
    format!("[[numbers]]\nnumber = \"{prefix}*\"\naccount = \"acme\"\nbridge = \"trunk:{trunk}\"\n")
}

/// Lets the first call 1234, which is the second, until both are through and nothing is left of it. With each: further keys
/// of the trunk that it is. What each of them logged.
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

//! Bridged calls. One SIPp makes a call, and another SIPp answers. The server is between them.

use crate::sipp::Sipp;
use crate::test_server::TestServer;

/// Returns the configuration of a route. The server bridges numbers with this prefix to the trunk.
pub(crate) fn through(prefix: &str, trunk: &str) -> String {
    format!("[[numbers]]\nnumber = \"{prefix}*\"\naccount = \"acme\"\nbridge = \"trunk:{trunk}\"\n")
}

/// Makes `caller` call 1234. The server bridges this call to `callee`. Waits until both scenarios have ended and
/// nothing is left of the call. The second element of each argument has additional settings of the trunk. Returns the
/// logs of the caller and of the callee.
pub(crate) async fn straight_through(caller: (Sipp, &str), callee: (Sipp, &str)) -> [String; 2] {
    let ((caller, caller_keys), (callee, callee_keys)) = (caller, callee);
    let trunks = caller.trunk("caller", caller_keys) + &callee.trunk("callee", callee_keys);
    let server = TestServer::start(&(trunks + &through("1", "callee"))).await;
    let callee = callee.answer().await;
    let called = caller.to("1234").call(server.udp).succeed().await;
    let answered = callee.succeed().await;
    server.quiet().await;
    server.end().await;
    [called, answered]
}

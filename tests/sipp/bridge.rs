//! Calls straight through, trunk to trunk.

use crate::house::House;
use crate::sipp::{Sipp, is_missing};

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_straight_through_over_udp_and_tcp() {
    if is_missing() {
        return;
    }
    for transport in ["u1", "t1"] {
        let (caller, answerer) = (Sipp::new("call").over(transport), Sipp::new("answer").over(transport));
        let trunks = caller.trunk("caller", "") + &answerer.trunk("answerer", "");
        let number = "[[numbers]]\nnumber = \"1*\"\naccount = \"acme\"\nbridge = \"trunk:answerer\"\n";
        let house = House::start(&(trunks + number)).await;
        let answerer = answerer.calls(5).answer().await;
        let server = if transport == "u1" { house.udp } else { house.tcp };
        caller.calls(5).to("1234").call(server).succeed().await;
        answerer.succeed().await;
        house.quiet().await;
        house.end().await;
    }
}

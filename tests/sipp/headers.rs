//! Header fields that the server passes on with a bridged call.

use crate::sipp::{Sipp, is_missing};
use crate::straight::straight_through;

/// Returns the lines of the INVITE in the log of a callee.
fn invite(messages: &str) -> Vec<&str> {
    let invite = messages.split("INVITE sip:").nth(1).unwrap_or_default();
    invite.lines().map(str::trim_end).take_while(|line| !line.is_empty()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_callers_custom_headers_are_passed_on_as_the_trunk_permits() {
    if is_missing() {
        return;
    }
    let call = || (Sipp::new("headers_call"), "");
    let [_, callee] = straight_through(call(), (Sipp::new("answer"), "")).await;
    let lines = invite(&callee);
    let own = |name: &str| lines.iter().copied().filter(|line| line.starts_with(name)).collect::<Vec<_>>();
    assert_eq!(own("X-Account"), ["X-Account: 42"]);
    assert_eq!(own("x-lower"), ["x-lower: \"a, b\";c=%0d%0aVia: d"], "as it came");
    let user_to_user =
        ["User-to-User: 56a390f3d2b7310023a2;encoding=hex;purpose=isdn-uui", "User-to-User: second;encoding=hex"];
    assert_eq!(own("User-to-User"), user_to_user);
    assert_eq!((own("Subject"), own("P-Asserted")), (vec![], vec![]));

    let [_, callee] = straight_through(call(), (Sipp::new("answer"), "pass_headers = [\"Subject\"]")).await;
    let lines = invite(&callee);
    assert!(lines.contains(&"Subject: not passed on"), "{lines:?}");
    assert!(!lines.iter().any(|line| line.starts_with("X-") || line.starts_with("User-to")), "{lines:?}");
}

//! `Tokens`: the STUN and TURN servers from `[ice]`, with credentials that expire. A TURN server verifies the
//! credentials with a shared secret (draft-uberti-behave-turn-rest-00, `use-auth-secret` in coturn).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};
use tandem_host::hash;
use tandem_settings::IceConfig;

use super::super::error::{ApiError, allow};
use super::super::format;
use super::{Answer, RestContext, Verb, created};

/// Maximum lifetime of a token: one day, in seconds. This is also the default lifetime.
const DAY: u64 = 86_400;

pub(super) fn answer(x: &RestContext<'_>) -> Answer {
    if x.verb != Verb::Post {
        return Err(ApiError::method_not_allowed(allow::POST));
    }
    let ttl = x.parameters.number("Ttl", 1..=DAY, 20001)?.unwrap_or(DAY);
    let ice = x.app.ice.load_full();
    Ok(created(token(&ice, x.account_sid(), ttl, Timestamp::now())))
}

/// The servers of `[ice]` for a page of this user, with credentials that are valid for a day.
pub fn ice_servers(ice: &IceConfig, user: &str, now: Timestamp) -> Value {
    token(ice, user, DAY, now).get_mut("ice_servers").map(Value::take).unwrap_or_default()
}

/// The Token resource. Without a shared secret, the password is random and the resource lists no TURN server.
pub(super) fn token(ice: &IceConfig, account_sid: &str, ttl: u64, now: Timestamp) -> Value {
    let expires = now.as_second().saturating_add(i64::try_from(ttl).unwrap_or(i64::MAX));
    let username = format!("{expires}:{account_sid}");
    let secret = ice.turn_secret.as_ref().map(|secret| secret.expose().as_bytes().to_vec());
    let turns = secret.is_some();
    let secret = secret.unwrap_or_else(|| rand::random::<[u8; 20]>().to_vec());
    let password = STANDARD.encode(hash::hmac_sha1(&secret, [username.as_bytes()]));
    let stun = ice.stun.iter().map(|url| json!({ "url": url, "urls": url }));
    let turn = ice.turn.iter().filter(|_| turns);
    let turn = turn.map(|url| json!({ "url": url, "urls": url, "username": username, "credential": password }));
    let servers: Vec<Value> = stun.chain(turn).collect();
    let at = format::rfc2822(now);
    json!({
        "account_sid": account_sid,
        "username": username,
        "password": password,
        "ttl": ttl.to_string(),
        "ice_servers": servers,
        "date_created": at,
        "date_updated": at,
    })
}

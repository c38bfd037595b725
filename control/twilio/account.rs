//! An account as a resource.

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tandem_accounts::made::Standing;

use super::format;

const SUBRESOURCES: [(&str, &str); 20] = [
    ("available_phone_numbers", "AvailablePhoneNumbers"),
    ("calls", "Calls"),
    ("conferences", "Conferences"),
    ("incoming_phone_numbers", "IncomingPhoneNumbers"),
    ("notifications", "Notifications"),
    ("outgoing_caller_ids", "OutgoingCallerIds"),
    ("recordings", "Recordings"),
    ("transcriptions", "Transcriptions"),
    ("addresses", "Addresses"),
    ("signing_keys", "SigningKeys"),
    ("connect_apps", "ConnectApps"),
    ("sip", "SIP"),
    ("authorized_connect_apps", "AuthorizedConnectApps"),
    ("usage", "Usage"),
    ("keys", "Keys"),
    ("applications", "Applications"),
    ("short_codes", "SMS/ShortCodes"),
    ("queues", "Queues"),
    ("messages", "Messages"),
    ("balance", "Balance"),
];

/// What there is to say of an account.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    /// What the paths of its member's resources begin with.
    pub(super) root: &'static str,
    /// `AC...`
    pub(super) sid: Cow<'a, str>,
    /// Its parent's SID, or its own.
    pub(super) owner: String,
    /// Its secret.
    pub(super) auth_token: &'a str,
    /// Of webhooks, if it is not the secret.
    pub(super) signing_key: Option<&'a str>,
    /// For people.
    pub(super) friendly_name: String,
    /// Whether it may do anything.
    pub(super) standing: Standing,
    /// When it was made, and last changed; one of the configuration, when the server was started.
    pub(super) dates: (Timestamp, Timestamp),
}

/// The resource.
pub(super) fn account(facts: &Facts<'_>) -> Value {
    let sid = &*facts.sid;
    let path = format!("{}/Accounts/{sid}", facts.root);
    let subresources: Map<String, Value> =
        SUBRESOURCES.iter().map(|(key, name)| ((*key).to_owned(), json!(format!("{path}/{name}.json")))).collect();
    let mut account = json!({
        "sid": sid,
        "owner_account_sid": facts.owner,
        "friendly_name": facts.friendly_name,
        "status": facts.standing.word(),
        "type": "Full",
        "auth_token": facts.auth_token,
        "date_created": format::rfc2822(facts.dates.0),
        "date_updated": format::rfc2822(facts.dates.1),
        "uri": format!("{path}.json"),
        "subresource_uris": subresources,
    });
    if let (Some(key), Some(account)) = (facts.signing_key, account.as_object_mut()) {
        account.insert("signing_key".to_owned(), key.into());
    }
    account
}

/// Nothing is charged here, so nothing is ever used up.
pub(super) fn balance(account_sid: &str) -> Value {
    json!({ "account_sid": account_sid, "balance": "0.00", "currency": "USD" })
}

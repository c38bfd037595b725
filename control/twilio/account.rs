//! The Account and Balance resources.

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tandem_accounts::subaccount::AccountStatus;

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

/// The content of an Account resource.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    /// First part of the path of every resource of the provider: `/2010-04-01`.
    pub(super) root: &'static str,
    /// The account's SID: `AC...`.
    pub(super) sid: Cow<'a, str>,
    /// SID of the parent account. An account without a parent has its own SID here.
    pub(super) owner: String,
    /// The password of the REST API.
    pub(super) auth_token: &'a str,
    /// The key that signs webhooks. `None` if `auth_token` signs webhooks.
    pub(super) signing_key: Option<&'a str>,
    /// The account's display name.
    pub(super) friendly_name: String,
    /// The account's status: active, suspended or closed.
    pub(super) status: AccountStatus,
    /// The time of the account's creation, and the time of the account's last change. For an account of the
    /// configuration file, both times are the start time of the server.
    pub(super) dates: (Timestamp, Timestamp),
}

/// The Account resource.
pub(super) fn account(facts: &Facts<'_>) -> Value {
    let sid = &*facts.sid;
    let path = format!("{}/Accounts/{sid}", facts.root);
    let subresources: Map<String, Value> =
        SUBRESOURCES.iter().map(|(key, name)| ((*key).to_owned(), json!(format!("{path}/{name}.json")))).collect();
    let mut account = json!({
        "sid": sid,
        "owner_account_sid": facts.owner,
        "friendly_name": facts.friendly_name,
        "status": facts.status.word(),
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

/// The Balance resource. The balance is always zero, because this server charges nothing.
pub(super) fn balance(account_sid: &str) -> Value {
    json!({ "account_sid": account_sid, "balance": "0.00", "currency": "USD" })
}

//! An account as a resource.

use serde_json::{Map, Value, json};

use crate::account::{Account, TwilioCredentials};
use crate::dialect::twilio::path::VERSION;

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

/// The resource. Accounts come from the configuration, which knows no dates.
pub(super) fn account(account: &Account, credentials: &TwilioCredentials) -> Value {
    let sid = &credentials.account_sid;
    let path = format!("/{VERSION}/Accounts/{sid}");
    let subresources: Map<String, Value> =
        SUBRESOURCES.iter().map(|(key, name)| ((*key).to_owned(), json!(format!("{path}/{name}.json")))).collect();
    json!({
        "sid": sid,
        "owner_account_sid": sid,
        "friendly_name": &*account.name,
        "status": "active",
        "type": "Full",
        "auth_token": credentials.auth_token,
        "date_created": null,
        "date_updated": null,
        "uri": format!("{path}.json"),
        "subresource_uris": subresources,
    })
}

/// Nothing is charged here, so nothing is ever used up.
pub(super) fn balance(account_sid: &str) -> Value {
    json!({ "account_sid": account_sid, "balance": "0.00", "currency": "USD" })
}

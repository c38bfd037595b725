//! The recording servers that applications can name (`[[siprec]]`).

use std::sync::Arc;

use serde::{Deserialize, Deserializer};
use tandem_id::AccountName;
use tandem_media as media;
use tandem_settings::Secret;

/// The settings of a recording server.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiprecConfig {
    /// Unique name of the recording server. Applications use this name.
    pub name: Arc<str>,
    /// The account that may use the recording server for its own calls and for the calls of its subaccounts. `None`
    /// allows every account.
    #[serde(default)]
    pub account: Option<AccountName>,
    /// SIP URIs of the server: `sip:USER@HOST[:PORT][;transport=tcp]` or `sips:`. If the server at one URI does not
    /// accept a session, the next URI is called.
    #[serde(rename = "uri", deserialize_with = "one_or_many")]
    pub uris: Vec<Arc<str>>,
    /// User part of the From header.
    #[serde(default = "caller")]
    pub from: Arc<str>,
    /// User name for digest challenges of the recording server.
    #[serde(default)]
    pub username: Option<Arc<str>>,
    /// Password for digest challenges of the recording server.
    #[serde(default)]
    pub password: Option<Secret>,
    /// The offered codecs, best codec first. If the list contains the codec of the call, this codec is offered first.
    #[serde(default = "g711")]
    pub codecs: Vec<media::CodecName>,
    /// Whether the audio to the recording server is encrypted (SRTP with SDES keys).
    #[serde(default)]
    pub srtp: media::Srtp,
}

impl SiprecConfig {
    pub(super) fn codecs(&self) -> Vec<media::Codec> {
        media::CodecName::codecs(&self.codecs)
    }

    /// Returns the user name and the password.
    pub(super) fn credentials(&self) -> Option<(String, String)> {
        let (username, password) = (self.username.as_ref()?, self.password.as_ref()?);
        Some((username.to_string(), password.expose().to_owned()))
    }
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Arc<str>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a SIP URI in quotes, or a list of them")]
    enum Uris {
        One(Arc<str>),
        Many(Vec<Arc<str>>),
    }
    Ok(match Uris::deserialize(deserializer)? {
        Uris::One(uri) => vec![uri],
        Uris::Many(uris) => uris,
    })
}

fn caller() -> Arc<str> {
    "recorder".into()
}

fn g711() -> Vec<media::CodecName> {
    vec![media::CodecName::Pcmu, media::CodecName::Pcma]
}

/// The recording servers of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Connectors(Vec<Arc<SiprecConfig>>);

impl Connectors {
    /// Creates the set from the settings of all recording servers.
    pub fn new(all: Vec<SiprecConfig>) -> Self {
        Self(all.into_iter().map(Arc::new).collect())
    }

    /// Returns the recording server with this name, if the account may use the server. `parent` is the account's
    /// parent.
    pub fn find(&self, name: &str, account: &AccountName, parent: Option<&AccountName>) -> Option<&Arc<SiprecConfig>> {
        let usable = |one: &SiprecConfig| one.account.as_ref().is_none_or(|own| own == account || Some(own) == parent);
        self.0.iter().find(|one| &*one.name == name && usable(one))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_logs_in_only_with_a_user_name_and_a_password() {
        let credentials = |text: &str| {
            let text = format!(r#"{{"name":"a","uri":"sip:srs@127.0.0.1"{text}}}"#);
            serde_json::from_str::<SiprecConfig>(&text).unwrap().credentials()
        };
        assert!(credentials("").is_none());
        assert!(credentials(r#","username":"u""#).is_none());
        let both = credentials(r#","username":"u","password":"p""#);
        assert_eq!(both, Some(("u".to_owned(), "p".to_owned())));
    }

    #[test]
    fn a_recording_server_has_one_uri_or_a_list_of_uris() {
        let uris = |uri: &str| {
            let config: SiprecConfig = serde_json::from_str(&format!(r#"{{"name":"a","uri":{uri}}}"#)).unwrap();
            config.uris.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(uris(r#""sip:a@127.0.0.1""#), ["sip:a@127.0.0.1"]);
        assert_eq!(uris(r#"["sip:a@127.0.0.1","sip:b@127.0.0.1"]"#), ["sip:a@127.0.0.1", "sip:b@127.0.0.1"]);
    }

    #[test]
    fn an_account_finds_only_its_own_and_shared_recording_servers() {
        let one = |name: &str, account: Option<&str>| SiprecConfig {
            name: name.into(),
            account: account.map(AccountName::new),
            uris: vec!["sip:srs@127.0.0.1".into()],
            from: caller(),
            username: None,
            password: None,
            codecs: g711(),
            srtp: media::Srtp::Off,
        };
        let all = Connectors::new(vec![one("every", None), one("own", Some("acme"))]);
        let found = |name: &str, account: &str, parent: Option<&str>| {
            all.find(name, &AccountName::new(account), parent.map(AccountName::new).as_ref()).is_some()
        };
        assert!(found("every", "acme", None) && found("every", "other", None));
        assert!(found("own", "acme", None) && found("own", "below", Some("acme")));
        assert!(!found("own", "other", None) && !found("none", "acme", None));
    }
}

//! The setting `bridge` of a number: the destination of the number's calls without a web application, and the recording
//! of these calls.

use std::sync::Arc;

use serde::Deserialize;
use tandem_sip as sip;

/// The destination of a number without a web application.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Bridges")]
pub enum Bridge {
    /// A SIP URI. `{number}` in the URI is replaced with the dialled number,
    /// which gets the percent escapes that a URI requires.
    Uri(Arc<str>),
    /// The server calls the dialled number over these trunks, given by name. If a trunk is down, is full, or fails, the
    /// server uses the next trunk. The list is never empty.
    Trunks(Vec<Arc<str>>),
    /// The server calls the dialled number over the account's trunks whose prefixes match the number.
    Prefixes,
}

/// The form of the setting in the file.
#[derive(Deserialize)]
#[serde(untagged, expecting = "is neither a string nor a list of strings")]
enum Bridges {
    One(String),
    Several(Vec<String>),
}

impl Bridge {
    /// Returns the SIP URI to call for `number`. Returns `None` if the call goes over a trunk, because the server then
    /// uses the URI of the trunk.
    pub fn uri(&self, number: &str) -> Option<String> {
        match self {
            Self::Uri(uri) => Some(uri.replace("{number}", &sip::escape_user(number))),
            Self::Trunks(_) | Self::Prefixes => None,
        }
    }

    /// Returns the names of the trunks.
    pub fn trunks(&self) -> &[Arc<str>] {
        match self {
            Self::Trunks(names) => names,
            Self::Uri(_) | Self::Prefixes => &[],
        }
    }
}

impl TryFrom<Bridges> for Bridge {
    type Error = String;

    fn try_from(bridges: Bridges) -> Result<Self, String> {
        let list = match bridges {
            Bridges::One(text) => return text.try_into(),
            Bridges::Several(list) => list,
        };
        let name = |text: &String| match text.strip_prefix("trunk:") {
            Some(name) if !matches!(name, "" | "*") => Ok(name.into()),
            _ => Err(format!("{text:?} is not \"trunk:NAME\": a list contains trunks only")),
        };
        let names: Vec<Arc<str>> = list.iter().map(name).collect::<Result<_, _>>()?;
        match names.is_empty() {
            true => Err("is empty; name at least one trunk".to_owned()),
            false => Ok(Self::Trunks(names)),
        }
    }
}

impl TryFrom<String> for Bridge {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.strip_prefix("trunk:").filter(|name| !name.is_empty()) {
            Some("*") => return Ok(Self::Prefixes),
            Some(name) => return Ok(Self::Trunks(vec![name.into()])),
            None => {}
        }
        let host = text.strip_prefix("sip:").map(|rest| rest.rsplit_once('@').map_or(rest, |(_, host)| host));
        match host {
            Some(host) if !host.is_empty() && !text.contains(char::is_whitespace) => Ok(Self::Uri(text.into())),
            _ => Err(format!(
                "{text:?} is neither \"sip:{{number}}@HOST:PORT\" nor \"trunk:NAME\", \"trunk:*\" or a list of trunks"
            )),
        }
    }
}

/// The recording of a bridged call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordBridge {
    /// No recording.
    #[default]
    Off,
    /// Both parties are mixed into one channel.
    Mono,
    /// Two channels: the caller is left, and the called party is right.
    Dual,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_is_a_sip_uri_or_a_trunk() {
        let bridge = |text: &str| Bridge::try_from(text.to_owned());
        assert_eq!(
            bridge("sip:{number}@127.0.0.3:5080").unwrap().uri("+1555").as_deref(),
            Some("sip:+1555@127.0.0.3:5080")
        );
        assert_eq!(bridge("trunk:carrier").unwrap(), Bridge::Trunks(vec!["carrier".into()]));
        assert_eq!(bridge("trunk:*").unwrap(), Bridge::Prefixes);
        let several =
            |names: &[&str]| Bridge::try_from(Bridges::Several(names.iter().map(|&name| name.into()).collect()));
        assert_eq!(several(&["trunk:a", "trunk:b"]).unwrap().trunks(), ["a".into(), "b".into()]);
        for list in [&[][..], &["trunk:a", "b"], &["trunk:*"], &["sip:1@h", "trunk:a"]] {
            assert!(several(list).is_err(), "{list:?}");
        }
        for text in ["", "trunk:", "carrier", "sip:", "sip:a@", "http://x", "sip:a b@c"] {
            assert!(bridge(text).is_err(), "{text}");
        }
    }
}

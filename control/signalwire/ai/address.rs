//! The address of a web server, with the user name and the password in one of the forms in which documents write them.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value as Json;

/// The characters of a user name or a password that stay as they are (RFC 3986 §3.2.1).
const USER_INFO: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A user name and a password for HTTP Basic authentication.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Credentials {
    user: String,
    password: String,
}

impl Credentials {
    /// Reads the members of an object that have one of these names.
    pub(super) fn read(object: &Json, users: &[&str], passwords: &[&str]) -> Option<Self> {
        let text = |names: &[&str]| names.iter().find_map(|name| object.get(name)?.as_str()).map(str::to_owned);
        let (user, password) = (text(users), text(passwords));
        if user.is_none() && password.is_none() {
            return None;
        }
        Some(Self { user: user.unwrap_or_default(), password: password.unwrap_or_default() })
    }

    /// Reads the credentials of a function, or the default ones of all functions.
    pub(super) fn of_functions(object: &Json) -> Option<Self> {
        Self::read(object, &["web_hook_auth_user"], &["web_hook_auth_password", "web_hook_auth_pass"])
    }
}

/// A URL with its credentials at the usual place. `credentials` count if the URL has none. The reference of the service also
/// writes `user:password@https://host/path`.
pub(super) fn address(url: &str, credentials: Option<&Credentials>) -> String {
    let url = url.trim();
    let place = ["@https://", "@http://"].into_iter().find_map(|mark| Some((url.find(mark)?, mark)));
    if let Some((at, mark)) = place
        && let (Some(user_info), Some(rest)) = (url.get(..at), url.get(at + mark.len()..))
        && !user_info.contains("://")
    {
        return format!("{}{user_info}@{rest}", mark.trim_start_matches('@'));
    }
    let (Some((scheme, rest)), Some(Credentials { user, password })) = (url.split_once("://"), credentials) else {
        return url.to_owned();
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return url.to_owned();
    }
    let encoded = |text: &str| utf8_percent_encode(text, USER_INFO).to_string();
    format!("{scheme}://{}:{}@{rest}", encoded(user), encoded(password))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn credentials_beside_a_url_become_its_user_and_password_unless_it_has_its_own() {
        let own = json!({"web_hook_auth_user": "me", "web_hook_auth_pass": "s/c:r@t"});
        let own = Credentials::of_functions(&own);
        assert_eq!(address("https://h/x?a=1", own.as_ref()), "https://me:s%2Fc%3Ar%40t@h/x?a=1");
        assert_eq!(address("https://u:p@h/x", own.as_ref()), "https://u:p@h/x");
        assert_eq!(address("https://h/x@y", own.as_ref()), "https://me:s%2Fc%3Ar%40t@h/x@y");
        assert_eq!(address("https://h/x", None), "https://h/x");
        assert_eq!(Credentials::of_functions(&json!({"web_hook_auth_user": 7})), None);
    }

    #[test]
    fn credentials_before_the_scheme_move_behind_it() {
        assert_eq!(address("user:pw@https://example.com", None), "https://user:pw@example.com");
        assert_eq!(address("http://h/?to=a@http://b", None), "http://h/?to=a@http://b");
    }
}

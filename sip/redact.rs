//! Hides the secrets in a message before the message is shown. Each octet of a secret becomes `x`, so all lengths stay
//! the same.

use crate::header::first_value_end;

/// Parameters of Authorization and Proxy-Authorization that would help an attacker to guess a password.
const SECRETS: [&[u8]; 2] = [b"response", b"cnonce"];

/// Returns the message with its secrets hidden. The length does not change. Secrets are Digest answers, SRTP keys
/// (`a=crypto`, `k=`), ICE passwords, and digits in INFO. Identity tokens are not hidden, because they are public
/// signatures.
#[must_use]
pub fn redact(message: &[u8]) -> Vec<u8> {
    let mut out = message.to_vec();
    let mut field = Field::Other;
    let mut in_body = false;
    let mut keys = false;
    for line in out.split_mut(|&byte| byte == b'\n') {
        if in_body {
            redact_body_line(line, keys);
            continue;
        }
        match line {
            [] | [b'\r'] => in_body = true,
            // A folded line continues the value (RFC 3261 §7.3.1).
            [b' ' | b'\t', ..] => field.redact(line),
            _ => {
                let colon = line.iter().position(|&byte| byte == b':').unwrap_or(line.len());
                let (name, value) = line.split_at_mut(colon);
                field = Field::of(name.trim_ascii());
                keys |= field == Field::ContentType && contains(value, b"dtmf");
                field.redact(value);
            }
        }
    }
    out
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Credentials,
    ContentType,
    Other,
}

impl Field {
    fn of(name: &[u8]) -> Self {
        let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
        if is(b"Authorization") || is(b"Proxy-Authorization") || is(b"Authentication-Info") {
            Self::Credentials
        } else if is(b"Content-Type") || is(b"c") {
            Self::ContentType
        } else {
            Self::Other
        }
    }

    fn redact(self, value: &mut [u8]) {
        if self != Self::Credentials {
            return;
        }
        let start = value.iter().position(|byte| !matches!(byte, b':' | b' ' | b'\t')).unwrap_or(value.len());
        let Some(value) = value.get_mut(start..) else { return };
        // In the schemes Basic and Bearer, the whole value is secret. In Digest (RFC 7616), only some parameters are
        // secret.
        let word = value.iter().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(value.len());
        let (scheme, rest) = value.split_at_mut(word);
        if scheme.eq_ignore_ascii_case(b"Basic") || scheme.eq_ignore_ascii_case(b"Bearer") {
            cover(rest);
            return;
        }
        let mut rest = &mut *value;
        while !rest.is_empty() {
            let end = first_value_end(rest);
            let (parameter, after) = rest.split_at_mut(end);
            redact_parameter(parameter);
            rest = after.get_mut(1..).unwrap_or_default();
        }
    }
}

/// Hides the value of a secret parameter such as `response="..."`. The text may begin with the scheme `Digest` before
/// the name of the parameter.
fn redact_parameter(parameter: &mut [u8]) {
    let Some(equals) = parameter.iter().position(|&byte| byte == b'=') else { return };
    let (name, value) = parameter.split_at_mut(equals);
    let name = name.trim_ascii();
    let name = name.rsplit(u8::is_ascii_whitespace).next().unwrap_or_default();
    let secret = |known: &&[u8]| name.eq_ignore_ascii_case(known);
    if SECRETS.iter().any(secret) || name.eq_ignore_ascii_case(b"rspauth") {
        cover(value.get_mut(1..).unwrap_or_default());
    }
}

fn redact_body_line(line: &mut [u8], keys: bool) {
    if let Some(crypto) = after(line, b"a=crypto:") {
        let key = find(crypto, b"inline:").map_or(0, |at| at + b"inline:".len());
        cover(crypto.get_mut(key..).unwrap_or_default());
    } else if let Some(password) = after(line, b"a=ice-pwd:") {
        cover(password);
    } else if let Some(key) = after(line, b"k=") {
        cover(key);
    } else if keys {
        match line.iter().position(|&byte| byte == b'=') {
            Some(equals) if line.get(..equals).unwrap_or_default().trim_ascii().eq_ignore_ascii_case(b"Signal") => {
                cover(line.get_mut(equals + 1..).unwrap_or_default());
            }
            Some(_) => {}
            // A body of type `application/dtmf` contains only the digit.
            None => cover(line),
        }
    }
}

fn after<'a>(line: &'a mut [u8], start: &[u8]) -> Option<&'a mut [u8]> {
    line.starts_with(start).then(|| line.get_mut(start.len()..))?
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window.eq_ignore_ascii_case(needle))
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    find(haystack, needle).is_some()
}

/// Replaces every octet of a secret with `x`, except quotes and white space.
fn cover(secret: &mut [u8]) {
    for byte in secret {
        if !matches!(byte, b'"' | b' ' | b'\t' | b'\r') {
            *byte = b'x';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(message: &str, secret: &[&str], kept: &[&str]) {
        let shown = redact(message.as_bytes());
        assert_eq!(shown.len(), message.len());
        let shown = String::from_utf8(shown).unwrap();
        for secret in secret {
            assert!(message.contains(secret) && !shown.contains(secret), "{secret} in {shown}");
        }
        for kept in kept {
            assert!(shown.contains(kept), "no {kept} in {shown}");
        }
    }

    #[test]
    fn digest_answers_are_hidden_in_each_header_and_position() {
        let digest = "Digest username=\"al,ice\", realm=\"r\", nonce=\"n0\", uri=\"sip:a\", response=\"0123abcd\", cnonce=\"c0ffee\"";
        check(
            &format!("INVITE sip:a SIP/2.0\r\nProxy-Authorization: {digest}\r\nIdentity: eyJ0.response=sig\r\n\r\n"),
            &["0123abcd", "c0ffee"],
            &["username=\"al,ice\"", "nonce=\"n0\"", "response=\"xxxxxxxx\"", "Identity: eyJ0.response=sig"],
        );
        check(
            "REGISTER sip:a SIP/2.0\nauthorization : digest Response = 0123abcd ,\n\trealm=\"r\",\n response=\"4567\"\n\n",
            &["0123abcd", "4567"],
            &["realm=\"r\""],
        );
        check("A sip:a SIP/2.0\r\nAuthorization: Digest response=\"aa11\"\r\n\r\n", &["aa11"], &[]);
        check("A sip:a SIP/2.0\r\nAuthorization: Basic dXNlcjpwdw==\r\n\r\n", &["dXNlcjpwdw"], &["Basic "]);
    }

    #[test]
    fn srtp_keys_in_sdp_and_digits_in_info_are_hidden() {
        check(
            "SIP/2.0 200 OK\r\nContent-Type: application/sdp\r\n\r\nv=0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9|2^20|1:4 FEC=x\r\na=ice-pwd:pass22\r\nk=clear:old\r\na=sendrecv\r\n",
            &["WVNfX19", "pass22", "clear:old"],
            &["a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x", "a=sendrecv\r\n"],
        );
        check(
            "INFO sip:a SIP/2.0\r\nContent-Type: application/dtmf-relay\r\n\r\nSignal=7\r\nDuration=160\r\n",
            &["Signal=7"],
            &["Signal=x\r\nDuration=160\r\n"],
        );
        check("INFO sip:a SIP/2.0\r\nc: application/dtmf\r\n\r\n9", &["9"], &[]);
        check("INVITE sip:a SIP/2.0\r\nContent-Type: application/sdp\r\n\r\nSignal=7", &[], &["Signal=7"]);
    }

    #[test]
    fn redaction_keeps_the_length_of_any_octets() {
        for message in [
            "",
            "\n",
            "Authorization",
            "Authorization:",
            "Authorization: Digest ,,=,response",
            "\r\n\r\nk=",
            "a\n\na=crypto:",
        ] {
            assert_eq!(redact(message.as_bytes()).len(), message.len(), "{message:?}");
        }
    }
}

//! The Identity header field (RFC 8224 §4).

/// Maximum length, in octets, of a value that is read. The values of carriers have about 700 octets.
const MAX_LENGTH: usize = 8_192;
/// Maximum number of parameters that are read.
const MAX_PARAMETERS: usize = 16;

/// One Identity header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The PASSporT: three parts separated by dots. In the compact form, the first two parts are empty (RFC 8225 §7).
    pub token: String,
    /// The parameter `info`: the URL of the certificate.
    pub info: Option<String>,
    /// The parameter `alg`: the algorithm of the signature.
    pub alg: Option<String>,
    /// The parameter `ppt`: the PASSporT extension, in lower case.
    pub ppt: Option<String>,
}

impl Identity {
    /// Reads the value of an Identity header. Returns `None` if the value is malformed or too long. The parameters are
    /// not checked.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        if value.len() > MAX_LENGTH {
            return None;
        }
        let mut parts = parameters(value);
        let token: String = parts.next()?.chars().filter(|character| !character.is_whitespace()).collect();
        let is_token = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_=".contains(&byte));
        if token.split('.').count() != 3 || !token.split('.').all(is_token) || token.ends_with('.') {
            return None;
        }
        let mut identity = Self { token, info: None, alg: None, ppt: None };
        for parameter in parts.take(MAX_PARAMETERS) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = value.trim();
            let unquoted = || value.trim_matches('"').trim();
            match name.trim() {
                name if name.eq_ignore_ascii_case("info") => {
                    let inside = value.strip_prefix('<').and_then(|rest| rest.strip_suffix('>'));
                    identity.info = Some(inside.unwrap_or_else(unquoted).trim().to_owned());
                }
                name if name.eq_ignore_ascii_case("alg") => identity.alg = Some(unquoted().to_owned()),
                name if name.eq_ignore_ascii_case("ppt") => identity.ppt = Some(unquoted().to_ascii_lowercase()),
                _ => {}
            }
        }
        Some(identity)
    }

    /// Returns whether the PASSporT can be a SHAKEN PASSporT. This is the case if `ppt` is `shaken` or absent.
    #[must_use]
    pub fn may_be_shaken(&self) -> bool {
        self.ppt.as_deref().is_none_or(|ppt| ppt == "shaken")
    }

    /// Returns whether the PASSporT describes a diversion (RFC 8946).
    #[must_use]
    pub fn is_diversion(&self) -> bool {
        self.ppt.as_deref() == Some("div")
    }

    /// Returns whether the PASSporT has the compact form. In this form the header and the payload are absent and must
    /// be built from the message.
    #[must_use]
    pub fn is_compact(&self) -> bool {
        self.token.starts_with("..")
    }
}

/// Splits a value at its semicolons. Semicolons in quotes and in angle brackets are not separators.
fn parameters(value: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut angle) = (false, false);
    let parts = value.split(move |character| {
        match character {
            '"' if !angle => quoted = !quoted,
            '<' if !quoted => angle = true,
            '>' if !quoted => angle = false,
            ';' => return !quoted && !angle,
            _ => {}
        }
        false
    });
    parts.map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_in_any_case_with_quotes_or_without_and_with_parameters_in_any_order() {
        let forms = [
            "aa.bb.cc;info=<https://cert.example.org/a;b.cer>;alg=ES256;ppt=shaken",
            "aa.bb.cc; PPT=\"Shaken\" ;Alg = ES256; canon=\"x;y\";INFO = < https://cert.example.org/a;b.cer >",
            "aa.\r\n bb.cc;info=\"https://cert.example.org/a;b.cer\";ppt=\"shaken\";alg=\"ES256\"",
        ];
        for form in forms {
            let identity = Identity::parse(form).unwrap_or_else(|| panic!("{form}"));
            assert_eq!(identity.token, "aa.bb.cc", "{form}");
            assert_eq!(identity.info.as_deref(), Some("https://cert.example.org/a;b.cer"), "{form}");
            assert_eq!((identity.alg.as_deref(), identity.ppt.as_deref()), (Some("ES256"), Some("shaken")), "{form}");
            assert!(identity.may_be_shaken() && !identity.is_compact());
        }
    }

    #[test]
    fn the_compact_form_has_a_signature_only() {
        let identity = Identity::parse("..c2ln;info=<https://a.example/c.cer>").unwrap();
        assert!(identity.is_compact() && identity.may_be_shaken());
    }

    #[test]
    fn another_extension_is_not_shaken() {
        let identity = Identity::parse("a.b.c;ppt=Div").unwrap();
        assert!(!identity.may_be_shaken() && identity.is_diversion());
    }

    #[test]
    fn a_malformed_identity_header_is_ignored() {
        let long = format!("a.{}.c", "b".repeat(MAX_LENGTH));
        for value in ["", ";", "a.b", "a.b.c.d", "a b;info=<x>", "<a.b.c>", "a.b.", "..", &long] {
            assert!(Identity::parse(value).is_none(), "{value}");
        }
    }
}

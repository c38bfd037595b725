//! Public globally routable user agent URIs (GRUU, RFC 5627). A GRUU is a URI for one phone of a user. The URI stays
//! the same if the phone registers from another address.
//!
//! ```text
//!   phone ── REGISTER, +sip.instance="<urn:uuid:x>", Supported: gruu ──> 200, pub-gruu="sip:alice@tandem;gr=urn:uuid:x"
//!   caller ── INVITE sip:alice@tandem;gr=urn:uuid:x ──> that phone alone
//!   phone ── 200, Contact: the GRUU ──>  requests in the dialog go to the Contact that the phone registered
//! ```
//!
//! The server has no table of GRUUs: the URI names the instance, and the registrar knows the address of the instance.
//! The server creates no temporary GRUUs, which would hide the user.

/// Returns the public GRUU of an instance (`<urn:uuid:...>`). `aor` is the user's address-of-record. Returns `None` if
/// the instance cannot be written as a URI parameter.
pub(crate) fn public(aor: &str, instance: &str) -> Option<String> {
    let id = instance.strip_prefix('<')?.strip_suffix('>')?;
    let holds = |octet: u8| octet.is_ascii_alphanumeric() || b"-_.!~*'()[]/:&+$%".contains(&octet);
    // URI parameters and header fields after the host are valid for only one request (RFC 3261 §19.1.1).
    let host = aor.find('@')?;
    let end = aor.get(host..)?.find([';', '?']).map_or(aor.len(), |end| host + end);
    (!id.is_empty() && id.bytes().all(holds)).then(|| format!("{};gr={id}", aor.get(..end).unwrap_or(aor)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_gruu_is_the_address_of_record_and_the_instance() {
        let of = |aor: &str, instance: &str| public(aor, instance);
        let uuid = "<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>";
        let gruu = "sip:alice@tandem:5070;gr=urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6";
        assert_eq!(of("sip:alice@tandem:5070;transport=tcp?x=y", uuid).as_deref(), Some(gruu));
        assert_eq!(of("sip:al;ice@tandem", "<urn:x>").as_deref(), Some("sip:al;ice@tandem;gr=urn:x"));
        for odd in ["urn:x", "<>", "<a b>", "<a;b>", "<a\">"] {
            assert_eq!(of("sip:alice@tandem", odd), None, "{odd}");
        }
    }
}

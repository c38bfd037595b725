//! The validity of certificates (RFC 5280 §4.1.2.5).

use crate::stir::der;

/// Tag of UTCTime.
const UTC_TIME: u8 = 0x17;
/// Tag of GeneralizedTime.
const GENERALIZED_TIME: u8 = 0x18;

/// Returns the times at which the validity of a certificate in DER begins and ends, in seconds since 1970. Returns `None`
/// if the certificate is malformed.
pub(crate) fn of(mut certificate: &[u8]) -> Option<(u64, u64)> {
    let mut outer = der::expect(&mut certificate, der::SEQUENCE)?;
    let to_be_signed = der::expect(&mut outer, der::SEQUENCE)?;
    // The signature algorithm and the issuer are the first two sequences. The validity is the third.
    let (_, validity) = der::elements(to_be_signed).filter(|(tag, _)| *tag == der::SEQUENCE).nth(2)?;
    let mut times = der::elements(validity).map(|(tag, time)| seconds(tag, std::str::from_utf8(time).ok()?));
    Some((times.next()??, times.next()??))
}

/// Reads a time in the form `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`.
fn seconds(tag: u8, text: &str) -> Option<u64> {
    let digits = text.strip_suffix('Z').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = digits.split_at_checked(2)?;
            let year = year.parse::<u64>().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = digits.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let mut parts = (0..5).map(|part| rest.get(2 * part..2 * part + 2).and_then(|two| two.parse::<u64>().ok()));
    let mut next = || parts.next().flatten();
    let (month, day, hour, minute, second) = (next()?, next()?, next()?, next()?, next()?);
    if rest.len() != 10 || !(1..=12).contains(&month) || !(1..=31).contains(&day) || year < 1970 {
        return None;
    }
    // Days since 1970-01-01 of the Gregorian calendar, with years that begin on 1 March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    Some((days.checked_sub(719_468)? * 24 + hour) * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_certificates_time_are_read() {
        for (tag, text, expected) in [
            (UTC_TIME, "700101000000Z", 0),
            (UTC_TIME, "261125184448Z", 1_795_632_288),
            (UTC_TIME, "240229235959Z", 1_709_251_199),
            (GENERALIZED_TIME, "20500101000000Z", 2_524_608_000),
            (GENERALIZED_TIME, "99991231235959Z", 253_402_300_799),
        ] {
            assert_eq!(seconds(tag, text), Some(expected), "{text}");
        }
        for text in ["", "Z", "2611251844Z", "261325184448Z", "261125184448", "26112518444xZ", "991231235959+0000"] {
            assert_eq!(seconds(UTC_TIME, text), None, "{text}");
        }
    }

    #[test]
    fn the_validity_of_a_certificate_is_read() {
        let mut params = rcgen::CertificateParams::new(vec!["pbx.example".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 11, 24);
        params.not_after = rcgen::date_time_ymd(2026, 11, 25);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        assert_eq!(of(certificate.der()), Some((1_795_478_400, 1_795_564_800)));
        assert_eq!(of(&certificate.der()[..40]), None);
    }
}

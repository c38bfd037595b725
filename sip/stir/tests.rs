use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CustomExtension, IsCa, Issuer, KeyPair};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;

use super::*;

const X5U: &str = "https://cert.example.org/passport.cer";
const NOW: u64 = 1_443_208_345;
/// A TNAuthList with one service provider code.
const PROVIDER: &[u8] = b"\x30\x08\xa0\x06\x16\x041234";

/// An authority, and a signer whose certificate comes from this authority.
struct Pki {
    root: String,
    chain: String,
    key: String,
}

/// Creates keys and certificates. The signer's certificate has this TNAuthList, if a list is given.
fn pki(list: Option<&[u8]>) -> Pki {
    let authority = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = params.clone().self_signed(&authority).unwrap();
    let issuer = Issuer::new(params, &authority);
    let middle_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "between");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let middle = params.clone().signed_by(&middle_key, &issuer).unwrap();
    let issuer = Issuer::new(params, &middle_key);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "SHAKEN 1234");
    let oid = [1, 3, 6, 1, 5, 5, 7, 1, 26];
    params.custom_extensions =
        list.map(|list| CustomExtension::from_oid_content(&oid, list.to_vec())).into_iter().collect();
    params.not_before = rcgen::date_time_ymd(2015, 1, 1);
    params.not_after = rcgen::date_time_ymd(2016, 1, 1);
    let own = params.signed_by(&key, &issuer).unwrap();
    Pki { root: root.pem(), chain: own.pem() + &middle.pem(), key: key.serialize_pem() }
}

fn claims() -> Claims {
    Claims {
        attestation: Attestation::A,
        orig: "12155551212".into(),
        dest: "12155551213".into(),
        iat: NOW,
        origid: "123e4567-e89b-12d3-a456-426655440000".into(),
    }
}

fn expected() -> Expected {
    Expected { orig: vec!["12155551212".into()], dest: vec!["12155551213".into()], max_age: 60 }
}

fn sign(pki: &Pki, claims: &Claims) -> Identity {
    let signer = Signer::new(pki.key.as_bytes(), Arc::from(X5U)).unwrap();
    Identity::parse(&signer.identity(claims).unwrap()).unwrap()
}

/// Runs all checks at the time `now`.
fn verify(identity: &Identity, pki: &Pki, now: u64) -> Result<Attestation, Fault> {
    let passport = Passport::read(identity)?;
    passport.check(now, &expected())?;
    let certificate = Certificate::read(pki.chain.as_bytes())?;
    certificate.check(&Anchors::read(pki.root.as_bytes()).unwrap(), now)?;
    passport.verify(&certificate)?;
    Ok(passport.attestation)
}

#[test]
fn a_signed_passport_equals_the_example_of_the_rfc_and_is_verified() {
    let pki = pki(Some(PROVIDER));
    let identity = sign(&pki, &claims());
    let text = |part: usize| {
        let part = identity.token.split('.').nth(part).unwrap();
        let octets = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, part).unwrap();
        String::from_utf8(octets).unwrap()
    };
    // The token must have the claims of RFC 8588 §4 in the form of RFC 8225 §9.
    assert_eq!(text(0), format!(r#"{{"alg":"ES256","ppt":"shaken","typ":"passport","x5u":"{X5U}"}}"#));
    let payload = r#"{"attest":"A","dest":{"tn":["12155551213"]},"iat":1443208345,"orig":{"tn":"12155551212"},"origid":"123e4567-e89b-12d3-a456-426655440000"}"#;
    assert_eq!(text(1), payload);
    assert_eq!((identity.info.as_deref(), identity.alg.as_deref()), (Some(X5U), Some("ES256")));
    assert_eq!(verify(&identity, &pki, NOW), Ok(Attestation::A));
    assert_eq!(verify(&identity, &pki, NOW + 60), Ok(Attestation::A));
}

/// The public key in appendix A of RFC 8225. The drafts of this RFC have the same key.
const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE8HNbQd/TmvCKwPKHkMF9fScavGeH
78YTU8qLS8I5HLHSSmlATLcslQMhNC/OhlWBYC626nIlo7XeebYS7Sb37g==
-----END PUBLIC KEY-----";
const PRIVATE_KEY: &str = "-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIFeZ1R208QCvcu5GuYyMfG4W7sH4m99/7eHSDLpdYllFoAoGCCqGSM49
AwEHoUQDQgAE8HNbQd/TmvCKwPKHkMF9fScavGeH78YTU8qLS8I5HLHSSmlATLcs
lQMhNC/OhlWBYC626nIlo7XeebYS7Sb37g==
-----END EC PRIVATE KEY-----";

fn is_signed_by(key: &str, token: &str) -> bool {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let fixed = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, signature).unwrap();
    let key = SubjectPublicKeyInfoDer::from_pem_slice(key.as_bytes()).unwrap();
    let key = webpki::RawPublicKeyEntity::try_from(&key).unwrap();
    let signature = der::signature(&fixed.try_into().unwrap());
    key.verify_signature(webpki::aws_lc_rs::ECDSA_P256_SHA256, signed.as_bytes(), &signature).is_ok()
}

#[test]
fn the_example_passport_and_own_passports_verify_with_their_key() {
    // The token comes from draft-ietf-stir-passport, appendix A. The token in RFC 8225 itself does not match the key
    // that RFC 8225 prints with it.
    let token = "eyJhbGciOiJFUzI1NiIsInR5cCI6InBhc3Nwb3J0IiwieDV1IjoiaHR0cHM6Ly9jZXJ0LmV4YW1wbGUub3JnL3Bhc3Nwb3J0LmNlciJ9.\
        eyJkZXN0Ijp7InVyaSI6WyJzaXA6YWxpY2VAZXhhbXBsZS5jb20iXX0sImlhdCI6IjE0NDMyMDgzNDUiLCJvcmlnIjp7InRuIjoiMTIxNTU1NTEyMTIifX0.\
        rq3pjT1hoRwakEGjHCnWSwUnshd0-zJ6F1VOgFWSjHBr8Qjpjlk-cpFYpFYsojNCpTzO3QfPOlckGaS6hEck7w";
    assert!(is_signed_by(PUBLIC_KEY, token));
    assert!(!is_signed_by(PUBLIC_KEY, &token.replace("eyJkZXN0", "eyJkZXN1")));
    let signer = Signer::new(PRIVATE_KEY.as_bytes(), X5U.into()).unwrap();
    let identity = Identity::parse(&signer.identity(&claims()).unwrap()).unwrap();
    assert!(is_signed_by(PUBLIC_KEY, &identity.token));
    // The token has no `ppt`, so it contains no attestation.
    let identity = Identity::parse(&format!("{token};info=<{X5U}>")).unwrap();
    assert!(matches!(Passport::read(&identity), Err(Fault::Unsupported(_))));
}

#[test]
fn a_passport_of_another_call_time_or_signer_is_not_valid() {
    let pki = pki(Some(PROVIDER));
    let fault = |claims: &Claims, signer: &Pki, now: u64| verify(&sign(signer, claims), &pki, now).unwrap_err();
    let wrong = |change: fn(&mut Claims)| {
        let mut claims = claims();
        change(&mut claims);
        fault(&claims, &pki, NOW)
    };
    assert_eq!(
        wrong(|claims| claims.dest = "12155559999".into()).to_string(),
        "it is signed for a call to 12155559999, this call is to 12155551213"
    );
    assert_eq!(
        wrong(|claims| claims.orig = "12155559999".into()).to_string(),
        "it is signed for 12155559999, the caller is 12155551212"
    );
    assert_eq!(fault(&claims(), &pki, NOW + 61), Fault::Stale { age: 61 });
    assert_eq!(fault(&claims(), &pki, NOW - 61), Fault::Stale { age: -61 });
    assert_eq!(wrong(|claims| claims.iat = u64::MAX).status(), 403);
    let other = self::pki(Some(PROVIDER));
    assert_eq!(fault(&claims(), &other, NOW), Fault::Invalid("signed with another key".into()));
}

#[test]
fn a_changed_token_fails_and_its_claims_are_reported() {
    let pki = pki(Some(PROVIDER));
    let mut identity = sign(&pki, &Claims { attestation: Attestation::C, ..claims() });
    let parts: Vec<_> = identity.token.split('.').map(str::to_owned).collect();
    let payload = sign(&pki, &claims()).token.split('.').nth(1).unwrap().to_owned();
    identity.token = format!("{}.{payload}.{}", parts[0], parts[2]);
    assert_eq!(verify(&identity, &pki, NOW), Err(Fault::Invalid("signed with another key".into())));
    assert_eq!(Passport::claimed(&identity), Some(Attestation::A));
}

#[test]
fn a_certificate_needs_a_trusted_authority_a_valid_time_and_a_list_of_numbers() {
    let pki = pki(Some(PROVIDER));
    let certificate = Certificate::read(pki.chain.as_bytes()).unwrap();
    let anchors = Anchors::read(pki.root.as_bytes()).unwrap();
    assert_eq!(certificate.check(&anchors, NOW), Ok(()));
    let year = 31_536_000;
    for now in [NOW - year, NOW + year] {
        assert!(matches!(certificate.check(&anchors, now), Err(Fault::Certificate(_))), "{now}");
    }
    let others = Anchors::read(self::pki(None).root.as_bytes()).unwrap();
    assert!(matches!(certificate.check(&others, NOW), Err(Fault::Certificate(_))));
    assert!(matches!(certificate.check(&Anchors::default(), NOW), Err(Fault::Certificate(_))));
    let without = Certificate::read(self::pki(None).chain.as_bytes()).unwrap_err();
    assert_eq!(without.to_string(), "the certificate has no TNAuthList");
    // The certificate of an authority cannot sign calls.
    assert!(Certificate::read(pki.root.as_bytes()).is_err());
    for file in [
        &b""[..],
        b"no certificate",
        b"\x30\x82\xff\xff",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        assert!(matches!(Certificate::read(file), Err(Fault::Certificate(_))), "{file:?}");
    }
}

#[test]
fn a_certificate_for_numbers_is_valid_for_these_numbers_only() {
    // The list contains the range of 100 numbers from 12155551200 on, and the number 441632960000.
    let list = b"\x30\x24\xa1\x12\x30\x10\x16\x0b12155551200\x02\x01\x64\xa2\x0e\x16\x0c441632960000";
    let certificate = Certificate::read(pki(Some(list)).chain.as_bytes()).unwrap();
    for (number, good) in [
        ("12155551200", true),
        ("12155551299", true),
        ("12155551300", false),
        ("12155551199", false),
        ("2155551212", false),
        ("441632960000", true),
        ("441632960001", false),
    ] {
        assert_eq!(certificate.may_vouch_for(number), good, "{number}");
    }
    for broken in [&b"\x30\x00"[..], b"\x30\x02\xa0\x00", b"\x30\x04\xa3\x02\x16\x00", b"\x04\x00"] {
        assert!(Certificate::read(pki(Some(broken)).chain.as_bytes()).is_err(), "{broken:?}");
    }
}

#[test]
fn only_shaken_passports_with_es256_are_accepted() {
    let encode = |text: &str| base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text);
    let read = |header: &str, more: &str| {
        let payload = r#"{"attest":"B","dest":{"tn":["1"]},"iat":1,"orig":{"tn":"2"},"origid":""}"#;
        let token = format!("{}.{}.{}{more}", encode(header), encode(payload), "A".repeat(86));
        Passport::read(&Identity::parse(&token).unwrap())
    };
    let header = r#"{"alg":"ES256","ppt":"shaken","typ":"passport","x5u":"https://a/b"}"#;
    assert!(read(header, "").is_ok());
    assert!(read(header, ";info=<https://a/b>;alg=ES256;ppt=\"shaken\"").is_ok());
    assert!(matches!(read(header, ";alg=RS256"), Err(Fault::Unsupported(_))));
    assert!(matches!(read(header, ";info=<https://a/c>"), Err(Fault::Unreachable(_))));
    assert!(matches!(read(&header.replace("ES256", "none"), ""), Err(Fault::Unsupported(_))));
    assert!(matches!(read(&header.replace("shaken", "div"), ""), Err(Fault::Unsupported(_))));
    assert!(matches!(read(&header.replace("passport", "JWT"), ""), Err(Fault::Invalid(_))));
    assert!(matches!(read("{", ""), Err(Fault::Invalid(_))));
    let compact = Identity::parse("..c2ln;info=<https://a/b>").unwrap();
    assert!(matches!(Passport::read(&compact), Err(Fault::Unsupported(_))));
}

#[test]
fn numbers_are_compared_by_their_digits() {
    for (text, canonical) in [
        ("+1 (215) 555-1212", Some("12155551212")),
        ("1.215.555.1212", Some("12155551212")),
        ("*67", Some("*67")),
        ("alice", None),
        ("+", None),
        ("", None),
        ("1215555x12", None),
        ("123456789012345678901234567890123", None),
    ] {
        assert_eq!(canonical_number(text).as_deref(), canonical, "{text}");
    }
}

#[test]
fn a_key_of_another_type_cannot_sign() {
    let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap().serialize_pem();
    assert_eq!(Signer::new(other.as_bytes(), X5U.into()).unwrap_err(), UnusableKey::OtherKind);
    assert!(matches!(Signer::new(b"no key", X5U.into()), Err(UnusableKey::Unreadable(_))));
}

#[test]
fn mutated_identities_and_certificates_do_not_panic() {
    let pki = pki(Some(PROVIDER));
    let signer = Signer::new(pki.key.as_bytes(), Arc::from(X5U)).unwrap();
    let mut der = pki.chain.as_bytes();
    let der = rustls::pki_types::CertificateDer::from_pem_reader(&mut der).unwrap().to_vec();
    let mut seed = 1_u32;
    let mut random = move || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as usize
    };
    for good in [signer.identity(&claims()).unwrap().into_bytes(), der] {
        for _ in 0..2_000 {
            let mut bad = good.clone();
            for _ in 0..1 + random() % 4 {
                let at = random() % bad.len();
                bad[at] = random() as u8;
            }
            bad.truncate(1 + random() % bad.len());
            fuzz_identity(&bad);
        }
    }
}

fn diverted(div: &str, dest: &str, iat: u64) -> Diverted {
    Diverted { orig: "12155551212".into(), div: div.into(), dest: dest.into(), iat }
}

fn divert(pki: &Pki, claims: &Diverted) -> Identity {
    let signer = Signer::new(pki.key.as_bytes(), Arc::from(X5U)).unwrap();
    Identity::parse(&signer.diversion(claims).unwrap()).unwrap()
}

#[test]
fn a_signed_diversion_equals_the_example_of_the_rfc_and_is_verified() {
    let pki = pki(Some(PROVIDER));
    let identity = divert(&pki, &diverted("12155551213", "12155551214", NOW));
    let text = |part: usize| {
        let part = identity.token.split('.').nth(part).unwrap();
        String::from_utf8(token::decode(part).unwrap()).unwrap()
    };
    // The token must have the claims of RFC 8946 §4.
    assert_eq!(text(0), format!(r#"{{"alg":"ES256","ppt":"div","typ":"passport","x5u":"{X5U}"}}"#));
    let payload =
        r#"{"dest":{"tn":["12155551214"]},"div":{"tn":"12155551213"},"iat":1443208345,"orig":{"tn":"12155551212"}}"#;
    assert_eq!(text(1), payload);
    assert!(identity.is_diversion() && matches!(Passport::read(&identity), Err(Fault::Unsupported(_))));
    let diversion = Diversion::read(&identity).unwrap();
    let certificate = Certificate::read(pki.chain.as_bytes()).unwrap();
    assert_eq!(diversion.verify(&certificate), Ok(()));
    let other = Diversion::read(&divert(&super::tests::pki(None), &diverted("12155551213", "1", NOW))).unwrap();
    assert!(other.verify(&certificate).is_err());
    assert!(matches!(Diversion::read(&sign(&pki, &claims())), Err(Fault::Unsupported(_))));
}

#[test]
fn diversions_lead_from_the_dialled_number_to_the_called_number_in_any_order() {
    let pki = pki(Some(PROVIDER));
    let passport = Passport::read(&sign(&pki, &claims())).unwrap();
    let to = |dest: &str| Expected { dest: vec![dest.to_owned()], ..expected() };
    let read = |claims: &Diverted| Diversion::read(&divert(&pki, claims)).unwrap();
    let first = read(&diverted("12155551213", "12155551214", NOW));
    let second = read(&diverted("12155551214", "12155551215", NOW));
    let all = [second.clone(), first.clone()];
    let along = |dest: &str, diversions: &[Diversion]| {
        let along = passport.check_along(NOW, &to(dest), diversions);
        along.map(|along| along.into_iter().map(|one| one.div.clone()).collect::<Vec<_>>())
    };
    assert_eq!(along("12155551213", &all), Ok(vec![]), "not sent on at all");
    assert_eq!(along("12155551214", &all), Ok(vec!["12155551213".to_owned()]));
    assert_eq!(along("12155551215", &all), Ok(vec!["12155551213".to_owned(), "12155551214".to_owned()]));
    let gap = along("12155551215", std::slice::from_ref(&second)).unwrap_err();
    assert_eq!(gap.to_string(), "it is signed for a call to 12155551213, this call is to 12155551215");
    let old = read(&diverted("12155551213", "12155551214", NOW - 61));
    assert!(along("12155551214", &[old]).is_err());
    let other = read(&Diverted { orig: "12155550000".into(), ..diverted("12155551213", "12155551214", NOW) });
    assert!(along("12155551214", &[other]).is_err(), "another's call");
    // Diversions that form a circle do not lead to the called number.
    let back = read(&diverted("12155551214", "12155551213", NOW));
    assert!(along("12155559999", &[first, back]).is_err());
}

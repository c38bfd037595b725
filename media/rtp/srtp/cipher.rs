//! Session keys and their use on packets: AES-CM with HMAC-SHA1 (RFC 3711 §4), and AES-GCM (RFC 7714).

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::{self, HMAC_SHA1_FOR_LEGACY_USE_ONLY};
use aws_lc_rs::iv::FixedLength;

use super::{Master, Refused, Suite};

/// The number of octets of an SRTCP packet that are not encrypted: the header and the SSRC.
const RTCP_CLEAR: usize = 8;
/// The length in octets of SRTCP's E flag and index.
const RTCP_INDEX: usize = 4;
const ENCRYPTED: u32 = 1 << 31;

/// The session keys of one direction, for RTP and for RTCP. They are derived from a master key.
#[derive(Debug)]
pub(super) struct Session {
    suite: Suite,
    rtp: Keyed,
    rtcp: Keyed,
}

/// A session salt. AES-CM uses all 14 octets. GCM uses 12 octets.
type Salt = [u8; 14];

#[expect(clippy::large_enum_variant, reason = "the larger one is the usual one, and a leg boxes all of its SRTP")]
enum Keyed {
    Counter { cipher: EncryptingKey, salt: Salt, authentication: hmac::Key },
    Gcm { cipher: LessSafeKey, salt: Salt },
}

impl std::fmt::Debug for Keyed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Keyed(..)")
    }
}

impl Session {
    pub(super) fn derive(master: &Master) -> Option<Session> {
        // The labels of §4.3.1 and §4.3.2 are for encryption, authentication and salt, in this order.
        Some(Session {
            suite: master.suite(),
            rtp: Keyed::derive(master, [0, 1, 2])?,
            rtcp: Keyed::derive(master, [3, 4, 5])?,
        })
    }

    /// Encrypts the packet from offset `payload` on and appends the tag. Returns the new length.
    pub(super) fn protect(
        &self,
        packet: &mut [u8],
        length: usize,
        payload: usize,
        ssrc: u32,
        index: u64,
    ) -> Option<usize> {
        let whole = length + self.suite.tag_length();
        let (text, place) = packet.get_mut(..whole)?.split_at_mut_checked(length)?;
        match &self.rtp {
            Keyed::Counter { cipher, salt, authentication } => {
                apply(cipher, counter(salt, ssrc, index), text.get_mut(payload..)?)?;
                place.copy_from_slice(tag(authentication, text, index).as_ref().get(..place.len())?);
            }
            Keyed::Gcm { cipher, salt } => {
                let (header, text) = text.split_at_mut_checked(payload)?;
                let sealed = cipher.seal_in_place_separate_tag(nonce(salt, ssrc, index), Aad::from(&*header), text);
                place.copy_from_slice(sealed.ok()?.as_ref());
            }
        }
        Some(whole)
    }

    /// Checks the tag and decrypts the packet. Next to the tag, the packet has a key identifier of `mki` octets.
    /// Returns the new length.
    pub(super) fn unprotect(
        &self,
        packet: &mut [u8],
        payload: usize,
        ssrc: u32,
        index: u64,
        mki: usize,
    ) -> Result<usize, Refused> {
        let tag_length = self.suite.tag_length();
        let end = packet.len().checked_sub(tag_length + mki).filter(|end| *end >= payload);
        let end = end.ok_or(Refused::Malformed)?;
        match &self.rtp {
            Keyed::Counter { cipher, salt, authentication } => {
                let (text, rest) = packet.split_at_mut_checked(end).ok_or(Refused::Malformed)?;
                // The key identifier is before the tag (RFC 3711 §3.1). With GCM it is after the tag (RFC 7714 §8.2).
                let expected = tag(authentication, text, index);
                check(&expected, rest.get(mki..), tag_length)?;
                let text = text.get_mut(payload..).ok_or(Refused::Malformed)?;
                apply(cipher, counter(salt, ssrc, index), text).ok_or(Refused::Malformed)?;
            }
            Keyed::Gcm { cipher, salt } => {
                let sealed = packet.get_mut(..end + tag_length).ok_or(Refused::Malformed)?;
                let (header, text) = sealed.split_at_mut_checked(payload).ok_or(Refused::Malformed)?;
                let opened = cipher.open_in_place(nonce(salt, ssrc, index), Aad::from(&*header), text);
                opened.map_err(|_| Refused::Forged)?;
            }
        }
        Ok(end)
    }

    /// Encrypts an RTCP packet, except for its first eight octets, and appends the index and the tag. Returns the new
    /// length.
    pub(super) fn protect_rtcp(&self, packet: &mut [u8], length: usize, ssrc: u32, index: u32) -> Option<usize> {
        let whole = length + RTCP_INDEX + self.suite.rtcp_tag_length();
        let packet = packet.get_mut(..whole)?;
        let word = (index | ENCRYPTED).to_be_bytes();
        match &self.rtcp {
            Keyed::Counter { cipher, salt, authentication } => {
                apply(cipher, counter(salt, ssrc, index.into()), packet.get_mut(RTCP_CLEAR..length)?)?;
                packet.get_mut(length..length + RTCP_INDEX)?.copy_from_slice(&word);
                let (text, place) = packet.split_at_mut_checked(length + RTCP_INDEX)?;
                place.copy_from_slice(hmac::sign(authentication, text).as_ref().get(..place.len())?);
            }
            Keyed::Gcm { cipher, salt } => {
                let (text, rest) = packet.split_at_mut_checked(length)?;
                let (header, text) = text.split_at_mut_checked(RTCP_CLEAR)?;
                let sealed = cipher.seal_in_place_separate_tag(
                    nonce(salt, ssrc, index.into()),
                    Aad::from(rtcp_aad(header, word)?),
                    text,
                );
                let (place, end) = rest.split_at_mut_checked(self.suite.rtcp_tag_length())?;
                place.copy_from_slice(sealed.ok()?.as_ref());
                end.copy_from_slice(&word);
            }
        }
        Some(whole)
    }

    /// Returns the index of an RTCP packet. Returns `None` if the packet is too short or is not encrypted. Our SDP
    /// never agrees to unencrypted SRTCP.
    pub(super) fn rtcp_index(&self, packet: &[u8], mki: usize) -> Option<u32> {
        let word = packet.get(self.rtcp_word(packet, mki)?..)?.first_chunk::<RTCP_INDEX>()?;
        let word = u32::from_be_bytes(*word);
        (word & ENCRYPTED != 0).then_some(word & !ENCRYPTED)
    }

    /// Returns the offset of an RTCP packet's index. With AES-CM, the packet ends with the index, the key identifier
    /// and the tag, in this order. With GCM, the packet ends with the tag, the index and the key identifier.
    fn rtcp_word(&self, packet: &[u8], mki: usize) -> Option<usize> {
        let behind = if self.suite.is_aead() { 0 } else { self.suite.rtcp_tag_length() };
        let before = RTCP_CLEAR + if self.suite.is_aead() { self.suite.rtcp_tag_length() } else { 0 };
        packet.len().checked_sub(RTCP_INDEX + mki + behind).filter(|at| *at >= before)
    }

    /// Checks and decrypts an RTCP packet with this index. Returns the new length.
    pub(super) fn unprotect_rtcp(
        &self,
        packet: &mut [u8],
        ssrc: u32,
        index: u32,
        mki: usize,
    ) -> Result<usize, Refused> {
        let at = self.rtcp_word(packet, mki).ok_or(Refused::Malformed)?;
        match &self.rtcp {
            Keyed::Counter { cipher, salt, authentication } => {
                let (text, rest) = packet.split_at_mut_checked(at + RTCP_INDEX).ok_or(Refused::Malformed)?;
                check(&hmac::sign(authentication, text), rest.get(mki..), self.suite.rtcp_tag_length())?;
                let text = text.get_mut(RTCP_CLEAR..at).ok_or(Refused::Malformed)?;
                apply(cipher, counter(salt, ssrc, index.into()), text).ok_or(Refused::Malformed)?;
                Ok(at)
            }
            Keyed::Gcm { cipher, salt } => {
                let sealed = packet.get_mut(..at).ok_or(Refused::Malformed)?;
                let (header, text) = sealed.split_at_mut_checked(RTCP_CLEAR).ok_or(Refused::Malformed)?;
                let aad = rtcp_aad(header, (index | ENCRYPTED).to_be_bytes()).ok_or(Refused::Malformed)?;
                let opened = cipher.open_in_place(nonce(salt, ssrc, index.into()), Aad::from(aad), text);
                opened.map(|text| RTCP_CLEAR + text.len()).map_err(|_| Refused::Forged)
            }
        }
    }
}

impl Keyed {
    fn derive(master: &Master, [encryption, authentication, salting]: [u8; 3]) -> Option<Keyed> {
        let suite = master.suite();
        let (key, master_salt) = master.parts();
        let generator = EncryptingKey::ctr(unbound(key)?).ok()?;
        let derive = |label: u8, out: &mut [u8]| {
            // The label is XORed into the salt. The result is the upper 14 octets of the counter (§4.3.1 and §4.3.3). A
            // GCM salt of 12 octets is padded with two zeros (RFC 7714 §11).
            let mut input = [0; 16];
            input.iter_mut().zip(master_salt).for_each(|(place, octet)| *place = *octet);
            if let Some(place) = input.get_mut(7) {
                *place ^= label;
            }
            apply(&generator, input, out)
        };
        let mut octets = [0; 32];
        let session_key = octets.get_mut(..suite.key_length())?;
        derive(encryption, session_key)?;
        let mut salt = Salt::default();
        derive(salting, salt.get_mut(..suite.salt_length())?)?;
        Some(match suite {
            Suite::Aes128Sha1_80 | Suite::Aes128Sha1_32 => {
                let cipher = EncryptingKey::ctr(unbound(session_key)?).ok()?;
                let mut octets = [0; 20];
                derive(authentication, &mut octets)?;
                let authentication = hmac::Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, &octets);
                Keyed::Counter { cipher, salt, authentication }
            }
            Suite::Aes128Gcm | Suite::Aes256Gcm => {
                let algorithm = if suite == Suite::Aes256Gcm { &AES_256_GCM } else { &AES_128_GCM };
                let cipher = LessSafeKey::new(UnboundKey::new(algorithm, session_key).ok()?);
                Keyed::Gcm { cipher, salt }
            }
        })
    }
}

fn unbound(key: &[u8]) -> Option<UnboundCipherKey> {
    UnboundCipherKey::new(if key.len() == 32 { &AES_256 } else { &AES_128 }, key).ok()
}

/// Applies AES in counter mode. Encryption and decryption are the same operation.
fn apply(cipher: &EncryptingKey, counter: [u8; 16], text: &mut [u8]) -> Option<()> {
    cipher.less_safe_encrypt(text, EncryptionContext::Iv128(FixedLength::from(counter))).ok().map(drop)
}

/// Returns the initial counter of a packet (§4.1.1). The counter is the XOR of the salt, the SSRC and the index, each
/// at its own position.
fn counter(salt: &Salt, ssrc: u32, index: u64) -> [u8; 16] {
    let packet = (u128::from(ssrc) << 64) ^ (u128::from(index) << 16);
    let mut salted = [0; 16];
    salted.iter_mut().zip(salt).for_each(|(place, octet)| *place = *octet);
    (u128::from_be_bytes(salted) ^ packet).to_be_bytes()
}

/// Returns the nonce of a packet (RFC 7714 §8.1, §9.1). The nonce is the XOR of the salt with two zero octets, the SSRC
/// and the index.
fn nonce(salt: &Salt, ssrc: u32, index: u64) -> Nonce {
    let packet = ((u128::from(ssrc) << 48) | u128::from(index)) << 32;
    let mut octets = [0; 12];
    octets.iter_mut().zip(packet.to_be_bytes()).zip(salt).for_each(|((place, octet), salt)| *place = octet ^ salt);
    Nonce::assume_unique_for_key(octets)
}

/// Returns the authentication tag for the packet and its roll-over counter (§4.2).
fn tag(authentication: &hmac::Key, text: &[u8], index: u64) -> hmac::Tag {
    let mut context = hmac::Context::with_key(authentication);
    context.update(text);
    context.update(&((index >> 16) as u32).to_be_bytes());
    context.sign()
}

fn check(expected: &hmac::Tag, given: Option<&[u8]>, length: usize) -> Result<(), Refused> {
    let expected = expected.as_ref().get(..length).ok_or(Refused::Malformed)?;
    verify_slices_are_equal(expected, given.ok_or(Refused::Malformed)?).map_err(|_| Refused::Forged)
}

/// Returns the data of an RTCP packet that GCM authenticates and does not encrypt (RFC 7714 §9.2).
fn rtcp_aad(header: &[u8], word: [u8; RTCP_INDEX]) -> Option<[u8; RTCP_CLEAR + RTCP_INDEX]> {
    let mut aad = [0; RTCP_CLEAR + RTCP_INDEX];
    let (clear, index) = aad.split_at_mut_checked(RTCP_CLEAR)?;
    clear.copy_from_slice(header.get(..RTCP_CLEAR)?);
    index.copy_from_slice(&word);
    Some(aad)
}

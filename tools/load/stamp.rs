//! Stamps in the generator's audio. The stamp of a packet contains the call, the number of the packet, and the sending
//! time.
//!
//! ```text
//!   octets of a packet   0        39       78       117      156 160
//!                        | stamp  | stamp  | stamp  | stamp  |..|     four copies: wherever a server cuts, one is complete
//!   of a stamp           8 of MAGIC, 31 with 93 bits: way, counted, copy, call, sequence, microseconds, checksum
//! ```
//!
//! Each octet encodes three bits as one of eight sample levels, which differ by 32. The levels do not change if a
//! server converts them from u-law to A-law and back.
//!
//! All levels are quieter than breathing, so a server treats the audio as silence. A server that adapts to the sender's
//! clock during silence cuts or inserts audio in one place. With louder audio, the server would cut or insert single
//! samples during several seconds.

use std::time::Duration;

/// Size of a stamp, in octets.
pub(super) const STAMP: usize = MAGIC.len() + SYMBOLS;
/// Number of copies of the stamp in 20 ms of audio.
pub(super) const COPIES: usize = 4;
/// Number of octets in 20 ms of audio.
const FRAME: usize = 160;
const MAGIC: [u8; 8] = [7, 0, 5, 3, 6, 1, 7, 2];
const SYMBOLS: usize = 31;
/// Width of the call number in a stamp, in bits.
const CALL: u32 = 20;
const SEQUENCE: u32 = 18;
const MICROSECONDS: u32 = 34;
const SUM: u32 = 16;

/// The content of a stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Serial number of the call. The limits of `--calls` and `--cps` ensure that the number is less than 2^20.
    pub(super) call: u64,
    /// Direction of the packet: 0 for packets from the calling end, 1 for packets from the answering end.
    pub(super) direction: usize,
    pub(super) counted: bool,
    /// Number of the packet in its call and direction. The first packet has the number 0. The number must be less than
    /// 2^18, which is enough for more than one hour.
    pub(super) sequence: u32,
    /// Time between the start of the run and the sending of the packet, with a resolution of 1 µs.
    pub(super) at: Duration,
}

impl Stamp {
    /// Writes 20 ms of audio that contain the copies of the stamp.
    pub(super) fn write(&self, audio: &mut [u8]) {
        audio.fill(octet(0));
        for (copy, place) in audio.chunks_exact_mut(STAMP).take(COPIES).enumerate() {
            let fields = [
                (self.direction as u128, 1),
                (u128::from(self.counted), 1),
                (copy as u128, 2),
                (u128::from(self.call), CALL),
                (u128::from(self.sequence), SEQUENCE),
                (self.at.as_micros(), MICROSECONDS),
            ];
            let body = fields.into_iter().fold(0, |body, (field, width)| body << width | field & ((1 << width) - 1));
            let mut bits = body << SUM | u128::from(sum(body));
            let (magic, symbols) = place.split_at_mut(MAGIC.len());
            magic.iter_mut().zip(MAGIC).for_each(|(place, symbol)| *place = octet(symbol));
            for place in symbols.iter_mut().rev() {
                *place = octet((bits & 7) as u8);
                bits >>= 3;
            }
        }
    }

    /// Reads the stamp at the start of the audio. Returns the stamp together with the number of the copy, or `None` if
    /// there is no valid stamp.
    pub(super) fn read(audio: &[u8]) -> Option<(Self, usize)> {
        let (magic, rest) = audio.split_first_chunk::<{ MAGIC.len() }>()?;
        if !magic.iter().zip(MAGIC).all(|(octet, wanted)| symbol(*octet) == Some(wanted)) {
            return None;
        }
        let (symbols, _) = rest.split_first_chunk::<SYMBOLS>()?;
        let mut bits = 0_u128;
        for octet in symbols {
            bits = bits << 3 | u128::from(symbol(*octet)?);
        }
        let mut body = bits >> SUM;
        if sum(body) != bits as u16 {
            return None;
        }
        let mut take = |width: u32| {
            let field = body & ((1 << width) - 1);
            body >>= width;
            field as u64
        };
        let (at, sequence, call) = (take(MICROSECONDS), take(SEQUENCE), take(CALL));
        let (copy, counted, direction) = (take(2), take(1), take(1));
        let at = Duration::from_micros(at);
        Some((
            Self { call, direction: direction as usize, counted: counted == 1, sequence: sequence as u32, at },
            copy as usize,
        ))
    }

    /// Returns the stamp in a packet's audio. The first complete copy is used.
    pub(super) fn find(audio: &[u8]) -> Option<Self> {
        (0..COPIES).find_map(|copy| Some(Self::read(audio.get(copy * STAMP..)?)?.0))
    }
}

const _: () = assert!(COPIES * STAMP <= FRAME && 4 + CALL + SEQUENCE + MICROSECONDS + SUM <= 3 * SYMBOLS as u32);

/// Returns the checksum, which is the upper 16 bits of a product. A changed stamp has a valid checksum with a
/// probability of 1 in 65,536.
fn sum(body: u128) -> u16 {
    (body.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835) >> 112) as u16
}

/// Returns the u-law octet of a symbol. The level is 16, 48, 80 or 112 on a scale up to 32,768, either positive or
/// negative.
fn octet(symbol: u8) -> u8 {
    let level = (symbol >> 1) * 4 + 2;
    let sign = if symbol & 1 == 0 { 0x80 } else { 0 };
    (!level & 0x7F) | sign
}

/// Returns the symbol of a u-law octet, or `None` if the octet is louder than every symbol.
fn symbol(octet: u8) -> Option<u8> {
    let level = !octet & 0x7F;
    (level < 16).then(|| level / 4 * 2 + u8::from(octet & 0x80 == 0))
}

#[cfg(test)]
mod tests {
    use tandem_media::g711::Law;

    use super::*;

    fn stamp() -> Stamp {
        Stamp {
            call: 1_000_000,
            direction: 1,
            counted: true,
            sequence: 180_000,
            at: Duration::from_micros(3_601_234_567),
        }
    }

    #[test]
    fn a_packet_is_identified_by_each_of_its_stamps() {
        let mut audio = [0; FRAME];
        stamp().write(&mut audio);
        for copy in 0..COPIES {
            assert_eq!(Stamp::read(&audio[copy * STAMP..]), Some((stamp(), copy)));
        }
        assert_eq!(Stamp::find(&audio), Some(stamp()));
        audio[..3 * STAMP].fill(0xFF);
        assert_eq!(Stamp::find(&audio), Some(stamp()));
        for nothing in [&[0xFF; FRAME][..], &[0; FRAME], &[0; 5], &[]] {
            assert_eq!(Stamp::find(nothing), None);
        }
    }

    #[test]
    fn a_modified_stamp_is_not_read() {
        let mut audio = [0; FRAME];
        stamp().write(&mut audio);
        for place in 0..STAMP {
            for other in 0..8 {
                let mut touched = audio;
                touched[place] = octet(other);
                assert!(touched == audio || Stamp::read(&touched).is_none(), "{place} {other}");
            }
        }
    }

    #[test]
    fn a_stamp_survives_transcoding_and_is_quiet() {
        let mut audio = [0; FRAME];
        stamp().write(&mut audio);
        let mut samples = [0; FRAME];
        Law::Mu.decode(&audio, &mut samples);
        assert!(samples.iter().all(|sample| (1..=112).contains(&sample.abs())));
        Law::Mu.transcode(Law::A, &mut audio);
        Law::A.transcode(Law::Mu, &mut audio);
        assert_eq!(Stamp::find(&audio), Some(stamp()));
    }
}

//! RTCP (RFC 3550 §6). This module writes sender and receiver reports, together with SDES and BYE, into a buffer of the
//! caller. It also reads untrusted datagrams.

use super::receiver::ReportBlock;

/// The length in octets of the longest compound packet that [`write_report`] writes: SR with one block, SDES and BYE.
pub(crate) const LONGEST: usize = 28 + 24 + 8 + 32 + 8;

/// The sender information of a report. Without it, [`write_report`] writes a receiver report.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SenderInfo {
    /// The NTP time since 1900. The upper 32 bits are seconds, and the lower 32 bits are a fraction of a second.
    pub(crate) ntp: u64,
    pub(crate) timestamp: u32,
    pub(crate) packets: u32,
    pub(crate) octets: u32,
}

/// One piece of information in a far end's compound packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RtcpItem {
    /// A sender report. `ssrc` is the SSRC of the sender of the report. `ntp_middle` is the middle 32 bits of the
    /// report's NTP time.
    SenderReport { ssrc: u32, ntp_middle: u32 },
    /// A receiver report. `ssrc` is the SSRC of the sender of the report.
    ReceiverReport { ssrc: u32 },
    /// A report block about our stream.
    ReportBlock(ReportBlock),
    /// The far end's stream has ended.
    Bye,
}

/// Writes SR or RR, SDES with CNAME, and BYE if `bye` is set. Returns the number of octets.
pub(crate) fn write_report(
    ssrc: u32,
    sender: Option<SenderInfo>,
    block: Option<ReportBlock>,
    bye: bool,
    out: &mut [u8; LONGEST],
) -> usize {
    let mut writer = Writer { out, at: 0 };
    let count = u8::from(block.is_some());
    let block_words = if block.is_some() { 6 } else { 0 };
    match sender {
        Some(info) => {
            writer.put(&[0x80 | count, 200, 0, 6 + block_words]);
            writer.word(ssrc);
            writer.put(&info.ntp.to_be_bytes());
            writer.word(info.timestamp);
            writer.word(info.packets);
            writer.word(info.octets);
        }
        None => {
            writer.put(&[0x80 | count, 201, 0, 1 + block_words]);
            writer.word(ssrc);
        }
    }
    if let Some(block) = block {
        writer.word(block.ssrc);
        writer.word((u32::from(block.fraction_lost) << 24) | (block.cumulative_lost & 0xFF_FFFF));
        writer.word(block.highest_sequence);
        writer.word(block.jitter);
        writer.word(block.last_sr);
        writer.word(block.delay_since_sr);
    }
    // The CNAME does not contain the name of the host (RFC 7022 §4.2). The CNAME is the SSRC in hexadecimal, which
    // stays the same for the whole session.
    writer.put(&[0x81, 202, 0, 4]);
    writer.word(ssrc);
    writer.put(&[1, 8]);
    for place in (0..8).rev() {
        let nibble = (ssrc >> (4 * place)) as u8 & 0x0F;
        writer.put(&[if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }]);
    }
    writer.put(&[0, 0]);
    if bye {
        writer.put(&[0x81, 203, 0, 1]);
        writer.word(ssrc);
    }
    writer.at
}

struct Writer<'a> {
    out: &'a mut [u8; LONGEST],
    at: usize,
}

impl Writer<'_> {
    fn put(&mut self, octets: &[u8]) {
        if let Some(place) = self.out.get_mut(self.at..self.at + octets.len()) {
            place.copy_from_slice(octets);
            self.at += octets.len();
        }
    }

    fn word(&mut self, word: u32) {
        self.put(&word.to_be_bytes());
    }
}

/// Reads a compound packet and calls `handle` for each piece of information. Report blocks about streams other than
/// `our_ssrc` are skipped. Returns false if the packet is malformed. Even then, `handle` gets the information before the
/// error.
pub(crate) fn read(packet: &[u8], our_ssrc: u32, mut handle: impl FnMut(RtcpItem)) -> bool {
    let mut rest = packet;
    let mut any = false;
    while !rest.is_empty() {
        let [first, kind, high, low, ..] = *rest else { return false };
        let length = 4 + 4 * usize::from(u16::from_be_bytes([high, low]));
        let Some((this, after)) = rest.split_at_checked(length) else { return false };
        if first >> 6 != 2 {
            return false;
        }
        rest = after;
        any = true;
        let blocks = match kind {
            200 => {
                let (Some(ssrc), Some(seconds), Some(fraction), Some(_)) =
                    (word(this, 4), word(this, 8), word(this, 12), word(this, 24))
                else {
                    return false;
                };
                handle(RtcpItem::SenderReport { ssrc, ntp_middle: (seconds << 16) | (fraction >> 16) });
                28
            }
            201 => {
                let Some(ssrc) = word(this, 4) else { return false };
                handle(RtcpItem::ReceiverReport { ssrc });
                8
            }
            203 => {
                handle(RtcpItem::Bye);
                continue;
            }
            _ => continue,
        };
        for index in 0..usize::from(first & 0x1F) {
            let at = blocks + 24 * index;
            let (Some(ssrc), Some(lost), Some(highest), Some(jitter), Some(last_sr), Some(delay)) = (
                word(this, at),
                word(this, at + 4),
                word(this, at + 8),
                word(this, at + 12),
                word(this, at + 16),
                word(this, at + 20),
            ) else {
                return false;
            };
            if ssrc == our_ssrc {
                handle(RtcpItem::ReportBlock(ReportBlock {
                    ssrc,
                    fraction_lost: (lost >> 24) as u8,
                    // The field is a signed 24-bit number. It is negative if packets were duplicated.
                    cumulative_lost: if lost & 0x80_0000 == 0 { lost & 0x7F_FFFF } else { 0 },
                    highest_sequence: highest,
                    jitter,
                    last_sr,
                    delay_since_sr: delay,
                }));
            }
        }
    }
    any
}

fn word(packet: &[u8], at: usize) -> Option<u32> {
    let octets = packet.get(at..at + 4)?;
    Some(u32::from_be_bytes(octets.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_report_reads_back() {
        let block = ReportBlock {
            ssrc: 77,
            fraction_lost: 12,
            cumulative_lost: 345,
            highest_sequence: 0x1_0001,
            jitter: 9,
            last_sr: 0xABCD_0123,
            delay_since_sr: 65_536,
        };
        let info = SenderInfo { ntp: 0x1234_5678_9ABC_DEF0, timestamp: 5, packets: 6, octets: 7 };
        let mut out = [0; LONGEST];
        let length = write_report(42, Some(info), Some(block), true, &mut out);
        assert_eq!(length % 4, 0);
        let mut heard = Vec::new();
        assert!(read(&out[..length], 77, |item| heard.push(item)));
        assert_eq!(
            heard,
            [RtcpItem::SenderReport { ssrc: 42, ntp_middle: 0x5678_9ABC }, RtcpItem::ReportBlock(block), RtcpItem::Bye]
        );
    }

    #[test]
    fn wrong_lengths_are_refused() {
        let mut out = [0; LONGEST];
        let length = write_report(42, None, None, false, &mut out);
        out[3] = 200;
        assert!(!read(&out[..length], 1, |_| {}));
        assert!(!read(&[], 1, |_| {}));
        // The number of blocks does not match the length.
        assert!(!read(&[0x9F, 201, 0, 1, 0, 0, 0, 1], 1, |_| {}));
    }
}

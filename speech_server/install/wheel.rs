//! Reads members of a wheel, which is a ZIP archive (APPNOTE.TXT 4.3, PKWARE).
//!
//! The reader knows what wheels contain: members that are stored or deflated, no encryption, and less than 4 GiB. The sha256 of
//! the archive has been checked before, so a broken archive is an error of the catalogue and not an attack. The reader has
//! limits all the same.

use std::io::{self, Read, Seek, SeekFrom};

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};

const END_OF_DIRECTORY: [u8; 4] = *b"PK\x05\x06";
const DIRECTORY_ENTRY: [u8; 4] = *b"PK\x01\x02";
const LOCAL_HEADER: [u8; 4] = *b"PK\x03\x04";
/// The end record has 22 octets and a comment of at most 65,535 octets.
const LONGEST_END: u64 = 22 + 65_535;
/// The longest directory that is read. A wheel with 1,000 files has about 100 KiB.
const LONGEST_DIRECTORY: u32 = 16 * 1024 * 1024;

/// The place of a member in the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    name: String,
    is_deflated: bool,
    compressed: u64,
    /// The offset of the local header.
    offset: u64,
}

/// An open wheel.
pub(super) struct Wheel<R> {
    archive: R,
    entries: Vec<Entry>,
}

pub(super) fn broken(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the archive is broken: {reason}"))
}

/// A little-endian number of 16 bits at this offset.
fn u16_at(octets: &[u8], offset: usize) -> io::Result<u16> {
    let field =
        octets.get(offset..).and_then(|rest| rest.first_chunk()).ok_or_else(|| broken("a record is too short"))?;
    Ok(u16::from_le_bytes(*field))
}

/// A little-endian number of 32 bits at this offset.
fn u32_at(octets: &[u8], offset: usize) -> io::Result<u32> {
    let field =
        octets.get(offset..).and_then(|rest| rest.first_chunk()).ok_or_else(|| broken("a record is too short"))?;
    Ok(u32::from_le_bytes(*field))
}

impl<R: Read + Seek> Wheel<R> {
    /// Reads the directory of the archive.
    pub(super) fn open(mut archive: R) -> io::Result<Self> {
        let size = archive.seek(SeekFrom::End(0))?;
        let tail = size.min(LONGEST_END);
        archive.seek(SeekFrom::Start(size - tail))?;
        let mut end = Vec::new();
        (&mut archive).take(tail).read_to_end(&mut end)?;
        let at = end
            .windows(4)
            .rposition(|window| window == END_OF_DIRECTORY)
            .ok_or_else(|| broken("it has no directory"))?;
        let length = u32_at(&end, at + 12)?;
        let offset = u32_at(&end, at + 16)?;
        if length > LONGEST_DIRECTORY {
            return Err(broken("its directory is too long"));
        }
        archive.seek(SeekFrom::Start(u64::from(offset)))?;
        let mut directory = Vec::new();
        (&mut archive).take(u64::from(length)).read_to_end(&mut directory)?;
        Ok(Self { archive, entries: read_directory(&directory)? })
    }

    /// Copies the member with this path to `to`, and returns its size in octets. Stops with an error after `limit` octets.
    pub(super) fn copy(
        &mut self,
        path: &str,
        limit: u64,
        to: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<u64> {
        let entry = self.entries.iter().find(|entry| entry.name == path);
        let entry = entry
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("the archive has no member {path}")))?;
        let mut header = [0; 30];
        self.archive.seek(SeekFrom::Start(entry.offset))?;
        self.archive.read_exact(&mut header)?;
        if !header.starts_with(&LOCAL_HEADER) {
            return Err(broken("a member has no header"));
        }
        // The lengths of the name and of the extra field can differ from those in the directory.
        let skipped = i64::from(u16_at(&header, 26)?) + i64::from(u16_at(&header, 28)?);
        self.archive.seek(SeekFrom::Current(skipped))?;
        let mut compressed = (&mut self.archive).take(entry.compressed);
        let mut written = 0;
        let mut write = |octets: &[u8]| {
            written += octets.len() as u64;
            if written > limit { Err(broken("a member is longer than expected")) } else { to(octets) }
        };
        if entry.is_deflated {
            unpack(&mut compressed, &mut write)?;
        } else {
            copy_stored(&mut compressed, &mut write)?;
        }
        Ok(written)
    }
}

fn read_directory(mut directory: &[u8]) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    while directory.starts_with(&DIRECTORY_ENTRY) {
        let name_length = usize::from(u16_at(directory, 28)?);
        let rest = usize::from(u16_at(directory, 30)?) + usize::from(u16_at(directory, 32)?);
        let name = directory.get(46..46 + name_length).ok_or_else(|| broken("a name is cut off"))?;
        let compressed = u32_at(directory, 20)?;
        let offset = u32_at(directory, 42)?;
        let method = u16_at(directory, 10)?;
        // Other methods, encryption (bit 0 of the flags) and 64-bit sizes do not occur in wheels: such a member cannot be found.
        let is_known =
            matches!(method, 0 | 8) && u16_at(directory, 8)? & 1 == 0 && compressed != u32::MAX && offset != u32::MAX;
        if is_known {
            entries.push(Entry {
                name: String::from_utf8_lossy(name).into_owned(),
                is_deflated: method == 8,
                compressed: u64::from(compressed),
                offset: u64::from(offset),
            });
        }
        directory = directory.get(46 + name_length + rest..).ok_or_else(|| broken("the directory is cut off"))?;
    }
    Ok(entries)
}

pub(super) type Write<'a> = &'a mut dyn FnMut(&[u8]) -> io::Result<()>;

fn copy_stored(from: &mut impl Read, to: Write<'_>) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        to(buffer.get(..count).unwrap_or_default())?;
    }
}

/// Unpacks deflated content.
pub(super) fn unpack(from: &mut impl Read, to: Write<'_>) -> io::Result<()> {
    let mut state = InflateState::new_boxed(DataFormat::Raw);
    let mut input = vec![0; 64 * 1024];
    let mut output = vec![0; 64 * 1024];
    let (mut start, mut end) = (0, 0);
    loop {
        if start == end {
            start = 0;
            end = from.read(&mut input)?;
        }
        let result = inflate(&mut state, input.get(start..end).unwrap_or_default(), &mut output, MZFlush::None);
        start += result.bytes_consumed;
        to(output.get(..result.bytes_written).unwrap_or_default())?;
        match result.status {
            Ok(MZStatus::StreamEnd) => return Ok(()),
            Ok(_) | Err(MZError::Buf) if result.bytes_consumed + result.bytes_written > 0 => {}
            _ => return Err(broken("a member cannot be unpacked")),
        }
    }
}

/// Archives for tests.
#[cfg(test)]
pub(super) mod testing {
    use super::{DIRECTORY_ENTRY, END_OF_DIRECTORY, LOCAL_HEADER};

    /// An archive with these members (path and content), deflated.
    pub(in super::super) fn archive(members: &[(&str, &[u8])], is_deflated: bool) -> Vec<u8> {
        let mut archive = Vec::new();
        let mut directory = Vec::new();
        for (path, content) in members {
            let packed = if is_deflated { miniz_oxide::deflate::compress_to_vec(content, 6) } else { content.to_vec() };
            let offset = archive.len() as u32;
            let mut fields = Vec::new();
            fields.extend(20_u16.to_le_bytes());
            fields.extend(0_u16.to_le_bytes());
            fields.extend((if is_deflated { 8_u16 } else { 0 }).to_le_bytes());
            fields.extend([0; 8]);
            fields.extend((packed.len() as u32).to_le_bytes());
            fields.extend((content.len() as u32).to_le_bytes());
            fields.extend((path.len() as u16).to_le_bytes());
            archive.extend(LOCAL_HEADER);
            archive.extend(&fields);
            // An extra field that only the local header has.
            archive.extend(4_u16.to_le_bytes());
            archive.extend(path.as_bytes());
            archive.extend([0; 4]);
            archive.extend(&packed);
            directory.extend(DIRECTORY_ENTRY);
            directory.extend(20_u16.to_le_bytes());
            directory.extend(&fields);
            directory.extend([0; 12]);
            directory.extend(offset.to_le_bytes());
            directory.extend(path.as_bytes());
        }
        let offset = archive.len() as u32;
        archive.extend(&directory);
        archive.extend(END_OF_DIRECTORY);
        archive.extend([0; 4]);
        archive.extend((members.len() as u16).to_le_bytes());
        archive.extend((members.len() as u16).to_le_bytes());
        archive.extend((directory.len() as u32).to_le_bytes());
        archive.extend(offset.to_le_bytes());
        archive.extend([0; 2]);
        archive
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::testing::archive;
    use super::*;

    fn member(archive: &[u8], path: &str, limit: u64) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        let mut wheel = Wheel::open(Cursor::new(archive))?;
        wheel.copy(path, limit, &mut |octets| {
            content.extend_from_slice(octets);
            Ok(())
        })?;
        Ok(content)
    }

    #[test]
    fn a_member_is_read_stored_or_deflated() {
        let long: Vec<u8> = (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 7) as u8).collect();
        for is_deflated in [false, true] {
            let archive = archive(&[("a/first", b"one"), ("a/long", &long), ("empty", b"")], is_deflated);
            assert_eq!(member(&archive, "a/first", 3).unwrap(), b"one");
            assert_eq!(member(&archive, "a/long", 300_000).unwrap(), long);
            assert_eq!(member(&archive, "empty", 0).unwrap(), b"");
        }
    }

    #[test]
    fn a_member_that_is_too_long_or_missing_is_an_error() {
        let archive = archive(&[("a", b"four")], true);
        assert_eq!(member(&archive, "a", 3).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(member(&archive, "b", 3).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_broken_archive_is_an_error_wherever_it_is_cut_or_changed() {
        let whole = archive(&[("a", b"four and more"), ("b", &[7; 1000])], true);
        for end in 0..whole.len() - 2 {
            assert!(member(whole.get(..end).unwrap(), "b", 1000).is_err(), "cut at {end}");
        }
        for place in 0..whole.len() {
            let mut changed = whole.clone();
            if let Some(octet) = changed.get_mut(place) {
                *octet ^= 0xff;
            }
            // It may be read or refused, but it neither panics nor hangs.
            let _ = member(&changed, "b", 1000);
        }
    }
}

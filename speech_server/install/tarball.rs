//! Reads members of a `.tgz`: a TAR archive (POSIX ustar) in a gzip file (RFC 1952).

use std::io::{self, Read};

use super::wheel::{broken, unpack};

/// The largest archive after decompression. The largest of the catalogue has 30 MB.
const LARGEST: usize = 128 * 1024 * 1024;
/// The size of the records of a TAR archive.
const RECORD: usize = 512;

/// An unpacked archive.
pub(super) struct Tarball {
    content: Vec<u8>,
}

impl Tarball {
    /// Unpacks a file. The sha256 of the file has been checked before, so its check sums are not read.
    pub(super) fn open(mut file: impl Read) -> io::Result<Self> {
        skip_header(&mut file)?;
        let mut content = Vec::new();
        unpack(&mut file, &mut |octets| {
            if content.len() + octets.len() > LARGEST {
                return Err(broken("it is too long"));
            }
            content.extend_from_slice(octets);
            Ok(())
        })?;
        Ok(Self { content })
    }

    /// The content of the member with this path.
    pub(super) fn member(&self, path: &str) -> io::Result<&[u8]> {
        let mut rest = self.content.as_slice();
        while let Some((header, after)) = rest.split_at_checked(RECORD).filter(|(header, _)| header.first() != Some(&0))
        {
            let size = number(header.get(124..136).unwrap_or_default()).ok_or_else(|| broken("a size is wrong"))?;
            let content = after.get(..size).ok_or_else(|| broken("a member is cut off"))?;
            let kind = header.get(156).copied().unwrap_or_default();
            if matches!(kind, 0 | b'0') && text(header.get(..100).unwrap_or_default()) == path.as_bytes() {
                return Ok(content);
            }
            rest = after.get(size.next_multiple_of(RECORD)..).unwrap_or_default();
        }
        Err(io::Error::new(io::ErrorKind::NotFound, format!("the archive has no member {path}")))
    }
}

/// Skips the header of a gzip file.
fn skip_header(file: &mut impl Read) -> io::Result<()> {
    let mut header = [0; 10];
    file.read_exact(&mut header)?;
    let [0x1f, 0x8b, 8, flags, ..] = header else { return Err(broken("it is no gzip file")) };
    let mut octet = [0];
    if flags & 4 != 0 {
        let mut length = [0; 2];
        file.read_exact(&mut length)?;
        let mut extra = vec![0; usize::from(u16::from_le_bytes(length))];
        file.read_exact(&mut extra)?;
    }
    // The name and the comment end with a zero. Both are short, and the file ends some time.
    for flag in [8, 16] {
        if flags & flag == 0 {
            continue;
        }
        loop {
            file.read_exact(&mut octet)?;
            if octet == [0] {
                break;
            }
        }
    }
    if flags & 2 != 0 {
        file.read_exact(&mut [0; 2])?;
    }
    Ok(())
}

/// A field up to its first zero.
fn text(field: &[u8]) -> &[u8] {
    field.split(|octet| *octet == 0).next().unwrap_or_default()
}

/// An octal number.
fn number(field: &[u8]) -> Option<usize> {
    let field = std::str::from_utf8(text(field)).ok()?;
    usize::from_str_radix(field.trim(), 8).ok()
}

/// Archives for tests.
#[cfg(test)]
pub(super) mod testing {
    use super::RECORD;

    /// An archive with these members (path and content).
    pub(in super::super) fn tarball(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = Vec::new();
        for (path, content) in members {
            let mut header = vec![0; RECORD];
            header[..path.len()].copy_from_slice(path.as_bytes());
            header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
            header[156] = b'0';
            tar.extend(header);
            tar.extend_from_slice(content);
            tar.resize(tar.len().next_multiple_of(RECORD), 0);
        }
        tar.resize(tar.len() + 2 * RECORD, 0);
        // With a name in the header.
        let mut file = vec![0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3];
        file.extend(b"name\0");
        file.extend(miniz_oxide::deflate::compress_to_vec(&tar, 6));
        file.extend([0; 8]);
        file
    }
}

#[cfg(test)]
mod tests {
    use super::testing::tarball;
    use super::*;

    #[test]
    fn a_member_is_found_by_its_path() {
        let long = vec![7; 3000];
        let file = tarball(&[("package/a", b"one"), ("package/b", &long), ("package/c", b"")]);
        let tarball = Tarball::open(file.as_slice()).unwrap();
        assert_eq!(tarball.member("package/a").unwrap(), b"one");
        assert_eq!(tarball.member("package/b").unwrap(), long);
        assert_eq!(tarball.member("package/c").unwrap(), b"");
        assert_eq!(tarball.member("a").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_broken_archive_is_an_error_or_another_archive_but_no_panic() {
        let whole = tarball(&[("a", b"one"), ("b", &[1; 2000])]);
        for place in 0..whole.len() {
            for changed in [whole[..place].to_vec(), [&whole[..place], &[!whole[place]], &whole[place + 1..]].concat()]
            {
                if let Ok(tarball) = Tarball::open(changed.as_slice()) {
                    let _ = tarball.member("b");
                }
            }
        }
    }
}

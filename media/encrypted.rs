//! Encrypted files. An encrypted file grows like a plain file, and can be read from any offset. If the process is
//! killed, the file loses at most its last chunk.
//!
//! ```text
//!   0  "TANDEMS1"
//!   8  content: 0 any octets, 1 PCM, 2 mu-law, 3 A-law samples (the WAV header is not stored: it follows from the
//!      content, the channels and the length); channels; two octets of zero; chunk size in octets (u32 LE)
//!  16  name of the key: 8 octets derived from it
//!  24  salt: 32 random octets
//!  56  chunks 0 .. n-1: full chunks, each encrypted with AES-256-GCM and followed by its tag of 16 octets
//!      last chunk: the remaining octets, fewer than a full chunk and possibly none, encrypted in the same way
//! ```
//!
//! Each file has its own key. HKDF-SHA-256 derives this key from the configured key, with the salt and octets 0 to 23
//! of the header. So a file with a changed header cannot be decrypted. The nonce of a chunk consists of the chunk's
//! number and a flag that marks the last chunk. No nonce is used twice with one key, because nothing in a file is
//! written twice and no two files share a key.
//!
//! If a file has no last chunk, the file was cut off. The reader ignores an incomplete chunk at the end of such a file.
//! This module is pure: the calling code provides the salts.

use std::fmt;
use std::io;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};

use crate::wav::{WavCoding, WavFormat};

/// The number of octets before the first chunk.
pub(crate) const HEADER: usize = 56;
/// The number of octets of a key. A salt has the same number of octets.
pub(crate) const KEY: usize = 32;
/// The number of octets that encryption adds to a chunk.
pub(crate) const TAG: usize = 16;
/// The largest chunk size that is accepted in a header.
const LARGEST_CHUNK: u32 = 1 << 20;
const MAGIC: &[u8; 8] = b"TANDEMS1";
/// The octets of the header that contain the key's name.
const NAME: std::ops::Range<usize> = 16..24;

/// The key that encrypts recordings. The `Debug` output does not contain the key.
#[derive(Clone, PartialEq, Eq)]
pub struct RecordingKey {
    octets: [u8; KEY],
}

impl RecordingKey {
    /// Creates a key from 32 octets, which should be random.
    pub fn new(octets: [u8; KEY]) -> RecordingKey {
        RecordingKey { octets }
    }

    /// Returns the name of this key. An encrypted file contains the name of the key that encrypted the file.
    fn name(&self) -> io::Result<[u8; 8]> {
        struct Length;
        impl aws_lc_rs::hkdf::KeyType for Length {
            fn len(&self) -> usize {
                8
            }
        }
        let mut name = [0; 8];
        let derived = self.derived(&[0; KEY]);
        derived.expand(&[b"tandem recording key name"], Length).and_then(|okm| okm.fill(&mut name)).map_err(failed)?;
        Ok(name)
    }

    fn file_key(&self, salt: &[u8], header: &[u8]) -> io::Result<LessSafeKey> {
        let derived = self.derived(salt);
        let info = [b"tandem recording", header];
        let key = derived.expand(&info, &AES_256_GCM).map_err(failed)?;
        Ok(LessSafeKey::new(UnboundKey::from(key)))
    }

    fn derived(&self, salt: &[u8]) -> Prk {
        Salt::new(HKDF_SHA256, salt).extract(&self.octets)
    }
}

impl fmt::Debug for RecordingKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("RecordingKey(..)")
    }
}

/// The content of an encrypted file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// Any octets.
    Octets,
    /// The samples of a WAV file, without the WAV header.
    Samples(WavFormat),
}

impl Content {
    fn code(self) -> [u8; 2] {
        match self {
            Content::Octets => [0, 0],
            Content::Samples(WavFormat { coding, channels }) => {
                let code = match coding {
                    WavCoding::Pcm => 1,
                    WavCoding::Mulaw => 2,
                    WavCoding::Alaw => 3,
                };
                [code, channels as u8]
            }
        }
    }

    fn of(code: u8, channels: u8) -> Option<Content> {
        let coding = match code {
            0 => return Some(Content::Octets),
            1 => WavCoding::Pcm,
            2 => WavCoding::Mulaw,
            3 => WavCoding::Alaw,
            _ => return None,
        };
        matches!(channels, 1 | 2).then_some(Content::Samples(WavFormat { coding, channels: channels.into() }))
    }
}

/// Encrypts the content of one file.
pub(crate) struct ChunkEncryptor {
    key: LessSafeKey,
    chunk: usize,
    number: u64,
    /// The octets that do not yet fill a chunk.
    open: Vec<u8>,
}

impl ChunkEncryptor {
    /// Returns the encryptor of a new file, and the header of the file. The salt must be 32 random octets. Never use a
    /// salt twice with the same key.
    pub(crate) fn new(
        key: &RecordingKey,
        content: Content,
        chunk: u32,
        salt: &[u8; KEY],
    ) -> io::Result<(ChunkEncryptor, [u8; HEADER])> {
        let mut header = [0; HEADER];
        let name = key.name()?;
        let parts: [&[u8]; 6] = [MAGIC, &content.code(), &[0; 2], &chunk.to_le_bytes(), &name, salt];
        header.iter_mut().zip(parts.into_iter().flatten()).for_each(|(place, octet)| *place = *octet);
        let key = key.file_key(salt, header.get(..NAME.end).unwrap_or_default())?;
        let open = Vec::with_capacity(chunk as usize + TAG);
        Ok((ChunkEncryptor { key, chunk: chunk as usize, number: 0, open }, header))
    }

    /// Adds octets. Encrypts each chunk that is full and passes the encrypted chunk to `out`. Do not use the encryptor
    /// after an error.
    pub(crate) fn push(&mut self, mut octets: &[u8], mut out: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        while !octets.is_empty() {
            let (now, later) = octets.split_at(octets.len().min(self.chunk - self.open.len()));
            self.open.extend_from_slice(now);
            octets = later;
            if self.open.len() == self.chunk {
                self.encrypt_chunk(false)?;
                out(&self.open)?;
                self.open.clear();
            }
        }
        Ok(())
    }

    /// Encrypts the last chunk and passes the chunk to `out`. The nonce says that this chunk is the last chunk.
    pub(crate) fn finish(mut self, mut out: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        self.encrypt_chunk(true)?;
        out(&self.open)
    }

    fn encrypt_chunk(&mut self, last: bool) -> io::Result<()> {
        let nonce = nonce(self.number, last);
        self.number += 1;
        self.key.seal_in_place_append_tag(nonce, Aad::empty(), &mut self.open).map_err(failed)
    }
}

/// A writer that encrypts everything that is written to it into one file.
pub struct EncryptedWriter<W> {
    to: W,
    encryptor: ChunkEncryptor,
}

impl<W: io::Write> EncryptedWriter<W> {
    /// Starts the file. The salt must be 32 random octets. Never use a salt twice with the same key.
    pub fn new(mut to: W, key: &RecordingKey, salt: &[u8; KEY]) -> io::Result<EncryptedWriter<W>> {
        let (encryptor, header) = ChunkEncryptor::new(key, Content::Octets, 16 * 1_024, salt)?;
        to.write_all(&header)?;
        Ok(EncryptedWriter { to, encryptor })
    }

    /// Ends the file. If the writer is dropped without this call, readers treat the file as cut off.
    pub fn finish(mut self) -> io::Result<W> {
        self.encryptor.finish(|chunk| self.to.write_all(chunk))?;
        Ok(self.to)
    }
}

impl<W: io::Write> io::Write for EncryptedWriter<W> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.encryptor.push(octets, |chunk| self.to.write_all(chunk))?;
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// The header of an encrypted file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EncryptedHeader {
    pub(crate) content: Content,
    /// The number of octets in a full chunk, before encryption.
    pub(crate) chunk: u64,
    header: [u8; HEADER],
}

impl EncryptedHeader {
    /// Reads the header at the start of a file. Returns `None` if the file is not encrypted. A damaged header is an
    /// `InvalidData` error.
    pub(crate) fn parse(start: &[u8]) -> io::Result<Option<EncryptedHeader>> {
        if !start.starts_with(MAGIC) {
            return Ok(None);
        }
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the header of the encrypted recording is damaged");
        let header = *start.first_chunk::<HEADER>().ok_or_else(damaged)?;
        let [.., code, channels, _, _, a, b, c, d] = *header.first_chunk::<16>().ok_or_else(damaged)?;
        let content = Content::of(code, channels).ok_or_else(damaged)?;
        let chunk = u32::from_le_bytes([a, b, c, d]);
        if !(1..=LARGEST_CHUNK).contains(&chunk) {
            return Err(damaged());
        }
        Ok(Some(EncryptedHeader { content, chunk: chunk.into(), header }))
    }

    /// Returns the number of full chunks in a file of this length, and the number of octets after the full chunks.
    pub(crate) fn chunks(&self, length: u64) -> (u64, u64) {
        let length = length.saturating_sub(HEADER as u64);
        let encrypted = self.chunk + TAG as u64;
        (length / encrypted, length % encrypted)
    }

    /// The offset of a chunk in the file.
    pub(crate) fn place(&self, number: u64) -> u64 {
        HEADER as u64 + number.saturating_mul(self.chunk + TAG as u64)
    }

    /// Returns the decryptor of the file's chunks. If `key` is not the key of the file, the error is
    /// `PermissionDenied`.
    pub(crate) fn decryptor(&self, key: &RecordingKey) -> io::Result<ChunkDecryptor> {
        if self.header.get(NAME) != Some(&key.name()?) {
            return Err(denied("this recording is encrypted with a key other than recordings.encryption_key"));
        }
        let (header, salt) = self.header.split_at(NAME.end);
        Ok(ChunkDecryptor { key: key.file_key(salt, header)? })
    }
}

/// Decrypts the chunks of a file.
pub(crate) struct ChunkDecryptor {
    key: LessSafeKey,
}

impl ChunkDecryptor {
    /// Decrypts a chunk in place. Returns `None` if the chunk is not authentic.
    pub(crate) fn decrypt<'a>(&self, number: u64, last: bool, encrypted: &'a mut [u8]) -> Option<&'a mut [u8]> {
        self.key.open_in_place(nonce(number, last), Aad::empty(), encrypted).ok()
    }
}

/// The error for a missing or wrong key.
pub(crate) fn denied(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

fn nonce(number: u64, last: bool) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    let [first, _, _, _, number_at @ ..] = &mut nonce;
    *first = u8::from(last);
    *number_at = number.to_be_bytes();
    Nonce::assume_unique_for_key(nonce)
}

fn failed(_: aws_lc_rs::error::Unspecified) -> io::Error {
    io::Error::other("encryption failed")
}

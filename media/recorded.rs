//! Reads recording files. This module is part of the shell (I/O and threads). A file is WAV or MP3. A file can be
//! encrypted.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::encrypted::{self, ChunkDecryptor, Content, EncryptedHeader, RecordingKey, TAG};
use crate::wav::{Header, LONGEST_HEADER, WavFormat};

/// The opened file of a recording. The struct decrypts encrypted content. All operations block, as file operations do.
pub struct RecordedFile {
    source: Source,
    mix: Option<Mix>,
    /// The offset at which [`Read`] continues.
    at: u64,
}

/// The file, before any mixing.
struct Source {
    file: File,
    length: u64,
    encrypted: Option<Chunks>,
}

/// A mix of two channels into one channel.
struct Mix {
    form: WavFormat,
    /// The offset of the first sample in the source.
    start: u64,
    header: Header,
    length: u64,
    octets: Vec<u8>,
    samples: Vec<i16>,
    mixed: Vec<u8>,
}

/// The state that is needed to read an encrypted file.
struct Chunks {
    encrypted: EncryptedHeader,
    decryptor: ChunkDecryptor,
    /// The WAV header that readers get at the start. The encrypted file does not contain this header.
    header: Option<Header>,
    /// The number of full chunks. The last chunk follows the full chunks.
    full: u64,
    /// The number of the chunk in `buffer`, and the decrypted length of this chunk.
    loaded: Option<(u64, usize)>,
    buffer: Vec<u8>,
}

impl RecordedFile {
    /// Opens a file. Only an encrypted file needs `key`. A missing or wrong key is a `PermissionDenied` error.
    pub fn open(path: &Path, key: Option<&RecordingKey>) -> io::Result<RecordedFile> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut start = [0; encrypted::HEADER];
        let read = read_full(&file, 0, &mut start)?;
        let Some(encrypted) = EncryptedHeader::parse(start.get(..read).unwrap_or_default())? else {
            return Ok(RecordedFile { source: Source { file, length, encrypted: None }, mix: None, at: 0 });
        };
        let key = key.ok_or_else(|| {
            encrypted::denied("this recording is encrypted, but recordings.encryption_key is not set")
        })?;
        let mut chunks = Chunks::new(encrypted, encrypted.decryptor(key)?, length);
        let data = chunks.find_length(&file, length)?;
        chunks.header = match encrypted.content {
            Content::Octets => None,
            Content::Samples(form) => Some(form.header(data)),
        };
        let length = data + chunks.header().len() as u64;
        Ok(RecordedFile { source: Source { file, length, encrypted: Some(chunks) }, mix: None, at: 0 })
    }

    /// Returns the recording with its two channels mixed into one channel. The mix is the sum of both channels with
    /// saturation, as in a recording with one channel. A file that does not have two channels stays unchanged.
    pub fn mono(mut self) -> io::Result<RecordedFile> {
        let (form, start) = match self.form() {
            Ok((form, start)) if form.channels == 2 => (form, start),
            Ok(_) => return Ok(self),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(self),
            Err(error) => return Err(error),
        };
        let mono = WavFormat { channels: 1, ..form };
        let data = form.whole(self.source.length - start) / 2;
        let (header, length) = (mono.header(data), mono.header(data).len() as u64 + data);
        let (octets, samples, mixed) = (Vec::new(), Vec::new(), Vec::new());
        self.mix = Some(Mix { form, start, header, length, octets, samples, mixed });
        Ok(self)
    }

    /// The length of the decrypted file in octets.
    #[expect(clippy::len_without_is_empty, reason = "an empty file needs no special case")]
    pub fn len(&self) -> u64 {
        self.mix.as_ref().map_or(self.source.length, |mix| mix.length)
    }

    /// Reads octets into `to`, starting at the offset `at`. Returns the number of octets read. This number is less than
    /// the length of `to` only at the end of the file.
    pub fn read_at(&mut self, at: u64, to: &mut [u8]) -> io::Result<usize> {
        match &mut self.mix {
            None => self.source.read(at, to),
            Some(mix) => mix.read(&mut self.source, at, to),
        }
    }

    /// Returns the format of the WAV file's samples, and the offset of the first sample. If the file is not a recording
    /// of this server, the error is `InvalidData`.
    pub(crate) fn form(&mut self) -> io::Result<(WavFormat, u64)> {
        let mut start = [0; LONGEST_HEADER];
        let read = self.source.read(0, &mut start)?;
        let form = WavFormat::parse(start.get(..read).unwrap_or_default())?;
        Ok((form, form.header(0).len() as u64))
    }
}

impl Read for RecordedFile {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.read_at(self.at, to)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Source {
    fn read(&mut self, at: u64, to: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.length.saturating_sub(at)).unwrap_or(usize::MAX);
        let to = to.get_mut(..left.min(to.len())).unwrap_or_default();
        match &mut self.encrypted {
            None => read_full(&self.file, at, to),
            Some(chunks) => chunks.read(&self.file, at, to),
        }
    }
}

impl Mix {
    /// The number of samples that are mixed in one step.
    const BLOCK: usize = 8_000;

    fn read(&mut self, source: &mut Source, at: u64, to: &mut [u8]) -> io::Result<usize> {
        let mut read = copy(self.header.get(usize::try_from(at).unwrap_or(usize::MAX)..).unwrap_or_default(), to);
        let (sample, length) = (self.form.coding.octets() as u64, self.header.len() as u64);
        while let Some(to) = to.get_mut(read..).filter(|to| !to.is_empty()) {
            let at = at + read as u64 - length;
            if at + length >= self.length {
                break;
            }
            self.octets.resize(Self::BLOCK * self.form.block() as usize, 0);
            let filled = source.read(self.start + at / sample * self.form.block(), &mut self.octets)?;
            self.samples.clear();
            self.form.coding.decode(self.octets.get(..filled).unwrap_or_default(), &mut self.samples);
            let pairs = self.samples.as_chunks().0;
            let mono: Vec<i16> = pairs.iter().map(|[left, right]: &[i16; 2]| left.saturating_add(*right)).collect();
            self.mixed.clear();
            self.form.coding.encode(&mono, &mut self.mixed);
            let count = copy(self.mixed.get((at % sample) as usize..).unwrap_or_default(), to);
            if count == 0 {
                break;
            }
            read += count;
        }
        Ok(read)
    }
}

impl Chunks {
    fn new(encrypted: EncryptedHeader, decryptor: ChunkDecryptor, length: u64) -> Chunks {
        let (full, _) = encrypted.chunks(length);
        let buffer = vec![0; encrypted.chunk as usize + TAG];
        Chunks { encrypted, decryptor, header: None, full, loaded: None, buffer }
    }

    fn header(&self) -> &[u8] {
        self.header.as_deref().unwrap_or_default()
    }

    /// Returns the number of octets after decryption. The octets after the full chunks must be a valid last chunk. If
    /// not, these octets are ignored, because the file was cut off there or the file is still growing.
    fn find_length(&mut self, file: &File, length: u64) -> io::Result<u64> {
        let (full, rest) = self.encrypted.chunks(length);
        let last = if rest >= TAG as u64 { self.load(file, full)? } else { 0 };
        Ok(full * self.encrypted.chunk + last as u64)
    }

    fn read(&mut self, file: &File, at: u64, to: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        while let Some(to) = to.get_mut(read..).filter(|to| !to.is_empty()) {
            let header = self.header();
            let at = at + read as u64;
            if let Some(start) =
                usize::try_from(at).ok().and_then(|at| header.get(at..)).filter(|rest| !rest.is_empty())
            {
                read += copy(start, to);
                continue;
            }
            let at = at - header.len() as u64;
            let (number, within) = (at / self.encrypted.chunk, (at % self.encrypted.chunk) as usize);
            let length = self.load(file, number)?;
            let count = copy(self.buffer.get(within..length).unwrap_or_default(), to);
            if count == 0 {
                break;
            }
            read += count;
        }
        Ok(read)
    }

    /// Decrypts a chunk into the buffer and returns the chunk's length. Returns 0 if the chunk is the last chunk and is
    /// not authentic.
    fn load(&mut self, file: &File, number: u64) -> io::Result<usize> {
        if let Some((loaded, length)) = self.loaded
            && loaded == number
        {
            return Ok(length);
        }
        self.loaded = None;
        let read = read_full(file, self.encrypted.place(number), &mut self.buffer)?;
        let last = number >= self.full;
        let encrypted = self.buffer.get_mut(..read).unwrap_or_default();
        let length = match self.decryptor.decrypt(number, last, encrypted) {
            Some(opened) => opened.len(),
            None if last => 0,
            None => return Err(io::Error::new(io::ErrorKind::InvalidData, "the encrypted recording is damaged")),
        };
        self.loaded = Some((number, length));
        Ok(length)
    }
}

/// Repairs a recording that was cut off (`kill -9`, power failure), and returns the recording's duration. In a plain
/// file, the function sets the sizes in the header from the file's length and removes an incomplete sample at the end.
/// An encrypted file needs no repair. Without the file's key, the duration of an encrypted file does not include the
/// last chunk. A file that is not a recording of this server stays unchanged, and the error is `InvalidData`.
pub fn repair_recording(path: &Path, key: Option<&RecordingKey>) -> io::Result<Duration> {
    match std::fs::remove_file(unfinished(path)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    let mut start = [0; LONGEST_HEADER];
    let read = read_full(&file, 0, &mut start)?;
    let start = start.get(..read).unwrap_or_default();
    let Some(encrypted) = EncryptedHeader::parse(start)? else {
        let form = WavFormat::parse(start)?;
        let header = form.header(0).len() as u64;
        let data = form.whole(length.saturating_sub(header));
        file.set_len(header + data)?;
        file.write_all_at(&form.header(data), 0)?;
        file.sync_all()?;
        return Ok(form.duration(data));
    };
    file.sync_all()?;
    let Content::Samples(form) = encrypted.content else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a recording of this server"));
    };
    let data = match key.and_then(|key| encrypted.decryptor(key).ok()) {
        Some(decryptor) => Chunks::new(encrypted, decryptor, length).find_length(&file, length)?,
        None => encrypted.chunks(length).0 * encrypted.chunk,
    };
    Ok(form.duration(data))
}

/// Returns the path of the temporary file that trimming writes. If the process is killed, such a file may remain.
pub fn unfinished(recording: &Path) -> PathBuf {
    recording.with_extension("wav.part")
}

/// Reads until the buffer is full or the file ends.
fn read_full(file: &File, at: u64, to: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while let Some(rest) = to.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + read as u64) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

fn copy(from: &[u8], to: &mut [u8]) -> usize {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    from.len().min(to.len())
}

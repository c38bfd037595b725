//! Reads the file `model.bin` of CTranslate2: a list of named tensors.
//!
//! ```text
//!   version (u32, 6)  name of the specification (string)  revision (u32)
//!   number of tensors (u32)
//!     each: name (string), rank (u8), dimensions (u32 each), type (u8), number of octets (u32), the values
//!   number of aliases (u32)
//!     each: alias (string), name (string)
//! ```
//!
//! A string has its length in octets (u16), and ends with a zero that is part of the length. All numbers are little-endian.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::Path;

/// The only version of the format that this code reads.
const VERSION: u32 = 6;
/// Maximum number of tensors and of aliases.
const MAX_TENSORS: u32 = 4096;
/// Maximum number of dimensions.
const MAX_RANK: u8 = 4;
/// Maximum size of the file, in octets.
const MAX_FILE: u64 = 4 << 30;

/// The reason why a model cannot be read.
#[derive(Debug)]
pub enum ModelError {
    /// The file cannot be read.
    Io(io::Error),
    /// The file is not what this code expects. The field says what is wrong.
    Format(String),
}

impl std::fmt::Display for ModelError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => f.write_str("the file is not complete"),
            Self::Io(error) => error.fmt(f),
            Self::Format(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for ModelError {}

impl From<io::Error> for ModelError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The values of one tensor, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// The dimensions. A scalar has none.
    pub shape: Vec<usize>,
    /// The values.
    pub values: Vec<f32>,
}

/// The named tensors of a model.
#[derive(Debug, Default)]
pub struct Tensors {
    by_name: HashMap<String, Tensor>,
}

impl Tensors {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ModelError`] if the file cannot be read, is damaged, or has another version.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let file = std::fs::File::open(path)?;
        let size = file.metadata()?.len();
        if size > MAX_FILE {
            return Err(ModelError::Format(format!("{} has {size} octets", path.display())));
        }
        let mut reader = io::BufReader::with_capacity(1 << 20, file);
        Self::read(&mut reader, size)
    }

    /// Reads a model of at most `size` octets.
    ///
    /// # Errors
    /// As [`Tensors::open`].
    pub fn read(reader: &mut impl Read, size: u64) -> Result<Self, ModelError> {
        let version = u32(reader)?;
        if version != VERSION {
            return Err(ModelError::Format(format!(
                "version {version} of the format is unknown, only {VERSION} is known"
            )));
        }
        let specification = string(reader)?;
        if specification != "WhisperSpec" {
            return Err(ModelError::Format(format!("{specification:?} is not Whisper")));
        }
        u32(reader)?;
        let mut by_name = HashMap::new();
        for _ in 0..bounded(u32(reader)?)? {
            let (name, tensor) = tensor(reader, size)?;
            by_name.insert(name, tensor);
        }
        for _ in 0..bounded(u32(reader)?)? {
            // The only alias of Whisper is the projection, whose weights are the embeddings. The decoder knows that.
            string(reader)?;
            string(reader)?;
        }
        Ok(Self { by_name })
    }

    #[cfg(test)]
    pub(super) fn of(tensors: Vec<(String, Tensor)>) -> Self {
        Self { by_name: tensors.into_iter().collect() }
    }

    /// Removes a tensor with the given number of dimensions, and returns it.
    ///
    /// # Errors
    /// [`ModelError::Format`] if the tensor is missing or has another rank.
    pub fn take(&mut self, name: &str, rank: usize) -> Result<Tensor, ModelError> {
        let tensor = self.by_name.remove(name);
        let tensor = tensor.ok_or_else(|| ModelError::Format(format!("the tensor {name} is missing")))?;
        if tensor.shape.contains(&0) {
            return Err(ModelError::Format(format!("the tensor {name} has no values")));
        }
        if tensor.shape.len() != rank {
            return Err(ModelError::Format(format!("the tensor {name} has {} dimensions", tensor.shape.len())));
        }
        Ok(tensor)
    }

    /// Returns whether the model has a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }
}

fn tensor(reader: &mut impl Read, size: u64) -> Result<(String, Tensor), ModelError> {
    let name = string(reader)?;
    let rank = u8(reader)?;
    if rank > MAX_RANK {
        return Err(ModelError::Format(format!("the tensor {name} has {rank} dimensions")));
    }
    let mut shape = Vec::new();
    for _ in 0..rank {
        shape.push(u32(reader)? as usize);
    }
    let kind = u8(reader)?;
    let octets = u32(reader)?;
    let elements = shape.iter().try_fold(1_usize, |product, dimension| product.checked_mul(*dimension));
    let width = match kind {
        0 => 4,
        1 => 1,
        2 | 4 => 2,
        3 => 4,
        _ => return Err(ModelError::Format(format!("the tensor {name} has the unknown type {kind}"))),
    };
    let expected = elements.and_then(|elements| elements.checked_mul(width));
    if expected != Some(octets as usize) || u64::from(octets) > size {
        return Err(ModelError::Format(format!("the tensor {name} has {octets} octets")));
    }
    let mut bytes = vec![0; octets as usize];
    reader.read_exact(&mut bytes)?;
    let values = match kind {
        0 => bytes.as_chunks().0.iter().map(|octets| f32::from_le_bytes(*octets)).collect(),
        4 => bytes.as_chunks().0.iter().map(|octets| from_half(u16::from_le_bytes(*octets))).collect(),
        // The integers of this format are settings, such as the number of heads. Weights of 8 bits have scales in another
        // tensor, and the models with such weights are not the ones that `install` fetches.
        1 => bytes.iter().map(|octet| f32::from(octet.cast_signed())).collect(),
        2 => bytes.as_chunks().0.iter().map(|octets| f32::from(i16::from_le_bytes(*octets))).collect(),
        _ => bytes.as_chunks().0.iter().map(|octets| i32::from_le_bytes(*octets) as f32).collect(),
    };
    Ok((name, Tensor { shape, values }))
}

/// Converts a number of IEEE 754 binary16.
fn from_half(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let exponent = u32::from(bits >> 10) & 0x1f;
    let fraction = u32::from(bits & 0x3ff);
    let magnitude = match exponent {
        // Subnormal: the fraction counts 2^-24.
        0 => fraction as f32 * 2.0_f32.powi(-24),
        0x1f => f32::from_bits(0x7f80_0000 | fraction << 13),
        _ => f32::from_bits((exponent + 112) << 23 | fraction << 13),
    };
    f32::from_bits(sign | magnitude.to_bits())
}

fn bounded(count: u32) -> Result<u32, ModelError> {
    if count > MAX_TENSORS { Err(ModelError::Format(format!("{count} tensors"))) } else { Ok(count) }
}

fn u8(reader: &mut impl Read) -> Result<u8, ModelError> {
    let mut octets = [0; 1];
    reader.read_exact(&mut octets)?;
    Ok(u8::from_le_bytes(octets))
}

fn u32(reader: &mut impl Read) -> Result<u32, ModelError> {
    let mut octets = [0; 4];
    reader.read_exact(&mut octets)?;
    Ok(u32::from_le_bytes(octets))
}

fn string(reader: &mut impl Read) -> Result<String, ModelError> {
    let mut octets = [0; 2];
    reader.read_exact(&mut octets)?;
    let mut text = vec![0; usize::from(u16::from_le_bytes(octets))];
    reader.read_exact(&mut text)?;
    if text.pop() != Some(0) {
        return Err(ModelError::Format("a name without its end".to_owned()));
    }
    String::from_utf8(text).map_err(|_| ModelError::Format("a name that is not UTF-8".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(out: &mut Vec<u8>, text: &str) {
        out.extend((text.len() as u16 + 1).to_le_bytes());
        out.extend(text.as_bytes());
        out.push(0);
    }

    fn file() -> Vec<u8> {
        let mut file = Vec::new();
        file.extend(6_u32.to_le_bytes());
        text(&mut file, "WhisperSpec");
        file.extend(3_u32.to_le_bytes());
        file.extend(2_u32.to_le_bytes());
        text(&mut file, "a/weight");
        file.push(2);
        file.extend([2_u32, 1].map(u32::to_le_bytes).concat());
        file.push(4);
        file.extend(4_u32.to_le_bytes());
        // 1.5 and -2 in binary16.
        file.extend([0x3e00_u16, 0xc000].map(u16::to_le_bytes).concat());
        text(&mut file, "num_heads");
        file.push(0);
        file.push(2);
        file.extend(2_u32.to_le_bytes());
        file.extend(6_i16.to_le_bytes());
        file.extend(1_u32.to_le_bytes());
        text(&mut file, "b/weight");
        text(&mut file, "a/weight");
        file
    }

    fn read(file: &[u8]) -> Result<Tensors, ModelError> {
        Tensors::read(&mut &file[..], file.len() as u64)
    }

    #[test]
    fn a_small_file_is_read() {
        let mut tensors = read(&file()).unwrap();
        assert_eq!(tensors.take("a/weight", 2).unwrap(), Tensor { shape: vec![2, 1], values: vec![1.5, -2.0] });
        assert_eq!(tensors.take("num_heads", 0).unwrap().values, [6.0]);
        assert!(tensors.take("a/weight", 2).is_err(), "a tensor is taken once");
    }

    #[test]
    fn a_file_that_is_cut_off_anywhere_is_an_error() {
        let whole = file();
        for length in 0..whole.len() {
            assert_eq!(read(&whole[..length]).unwrap_err().to_string(), "the file is not complete", "{length} octets");
        }
    }

    #[test]
    fn another_version_and_another_network_are_named() {
        let mut newer = file();
        newer[0] = 7;
        assert!(read(&newer).unwrap_err().to_string().contains("version 7"));
        let other = file().iter().map(|octet| if *octet == b'W' { b'X' } else { *octet }).collect::<Vec<u8>>();
        assert!(read(&other).unwrap_err().to_string().contains("XhisperSpec"));
    }

    #[test]
    fn a_tensor_that_claims_more_than_the_file_reserves_no_memory() {
        let mut file = file();
        let at = file.windows(8).position(|octets| octets == b"a/weight").unwrap() + 9 + 1;
        file[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(read(&file), Err(ModelError::Format(_))));
    }

    #[test]
    fn halves_become_the_same_numbers() {
        let cases = [(0x0000, 0.0), (0x8000, -0.0), (0x0001, 2.0_f32.powi(-24)), (0x7bff, 65504.0), (0xbc00, -1.0)];
        for (bits, number) in cases {
            assert_eq!(from_half(bits).to_bits(), f32::to_bits(number), "{bits:04x}");
        }
        assert!(from_half(0x7c00).is_infinite() && from_half(0x7e00).is_nan());
    }
}

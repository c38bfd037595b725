//! The node in an id. In a cluster, each start of a server has an epoch, a number that no other start has. The last 16
//! bits of each id that the server makes are the last 16 bits of its epoch: in a UUID of version 1, these bits belong to
//! the node too (RFC 9562 §5.1). So each server knows the owner of a call, a conference or a recording without a question.
//!
//! A process is one node. So the node is set once for the process, and not passed to each maker of ids.

use std::fmt;
use std::sync::atomic::{AtomicU16, Ordering};

/// The node of this process. 0 means that there is no cluster: then these bits of an id are random.
static OWN: AtomicU16 = AtomicU16::new(0);

/// The last 16 bits of an epoch. Two living nodes never have the same bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NodeTag(u16);

impl NodeTag {
    /// Returns the tag of an epoch. `None` if the epoch ends with 16 zero bits: no node may have such an epoch.
    pub fn of_epoch(epoch: i64) -> Option<Self> {
        let [.., high, low] = epoch.to_be_bytes();
        Some(u16::from_be_bytes([high, low])).filter(|tag| *tag != 0).map(Self)
    }

    /// Returns the tag at the end of a text that ends with an id.
    pub fn at_end_of(text: &str) -> Option<Self> {
        let digits = text.get(text.len().checked_sub(4)?..)?;
        u16::from_str_radix(digits, 16).ok().map(Self)
    }

    /// Returns the tag in an id. Every id has such bits: also an id that no node of a cluster has made.
    pub fn of_id(id: u128) -> Self {
        let [.., high, low] = id.to_be_bytes();
        Self(u16::from_be_bytes([high, low]))
    }
}

impl fmt::Display for NodeTag {
    /// Writes four lower-case hex digits, as an id ends with them.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:04x}", self.0)
    }
}

/// Sets the node of this process. All later ids name this node.
pub fn set_own(tag: NodeTag) {
    OWN.store(tag.0, Ordering::Relaxed);
}

/// Writes the node of this process into an id.
pub fn sign(id: u128) -> u128 {
    match OWN.load(Ordering::Relaxed) {
        0 => id,
        own => id & !u128::from(u16::MAX) | u128::from(own),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_of_an_epoch_is_its_last_sixteen_bits_and_never_zero() {
        assert_eq!(NodeTag::of_epoch(0x1_00a3), Some(NodeTag(0xa3)));
        assert_eq!(NodeTag::of_epoch(0x1_0000), None);
        assert_eq!(NodeTag::of_id(u128::MAX), NodeTag(u16::MAX));
        assert_eq!(NodeTag(0xa3).to_string(), "00a3");
        assert_eq!(NodeTag::at_end_of("usage 12300a3"), Some(NodeTag(0xa3)));
        assert_eq!(["", "0a3", "0aé", "q"].map(NodeTag::at_end_of), [None; 4]);
    }
}

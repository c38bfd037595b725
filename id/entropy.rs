//! Random numbers for ids.

use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

/// A source of random numbers that can be stored: a seed and a counter. After a call was written and read back, its
/// source continues, so the call does not create an id twice. The seed is a secret: the seed gives all ids.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entropy {
    seed: [u8; 32],
    taken: u64,
}

impl Entropy {
    /// Creates a source. Two sources with the same seed return the same numbers.
    pub fn new(seed: [u8; 32]) -> Self {
        Self { seed, taken: 0 }
    }

    /// Returns the next generator. The numbers of different generators of one source are independent.
    pub fn next_rng(&mut self) -> StdRng {
        let mut seed = self.seed;
        for (octet, count) in seed.iter_mut().zip(self.taken.to_le_bytes()) {
            *octet ^= count;
        }
        self.taken = self.taken.wrapping_add(1);
        StdRng::from_seed(seed)
    }
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    #[test]
    fn a_copy_of_an_entropy_source_continues_at_the_same_position() {
        let mut source = Entropy::new([7; 32]);
        let mut numbers: Vec<_> = (0..300).map(|_| source.next_rng().next_u64()).collect();
        assert_eq!(source.clone().next_rng().next_u64(), source.next_rng().next_u64());
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 300);
    }
}

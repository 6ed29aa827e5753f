//! Seeds of the noise.

use std::fmt;

use crate::error::{Error, ErrorKind, Result};

/// A seed of the noise, which has to be chosen: whoever knows the seed of a defence knows its noise, and can attack through it.
///
/// `Seed::fresh()?` for whatever meets images of others; a number, `7.into()`, repeats a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seed(u64);

impl Seed {
    /// A seed that nobody knows, from the random numbers of the operating system, or of the browser.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the system gives none.
    pub fn fresh() -> Result<Self> {
        let drawn = getrandom::u64();
        drawn.map(Self).map_err(|e| {
            Error::new(ErrorKind::Io, "the system gave no random number for a seed")
                .advise("choose a seed yourself")
                .caused_by(e.to_string())
        })
    }

    /// The number that gives the same noise again.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl From<u64> for Seed {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn fresh_seeds_differ_in_all_their_bits() {
        let seeds: HashSet<u64> = (0..64).map(|_| Seed::fresh().unwrap().number()).collect();
        assert_eq!(seeds.len(), 64);
        let ones = seeds.iter().fold(0, |ones, seed| ones | seed);
        let zeros = seeds.iter().fold(0, |zeros, seed| zeros | !seed);
        assert_eq!((ones, zeros), (u64::MAX, u64::MAX));
    }
}

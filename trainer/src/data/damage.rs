//! Damaged pictures: they are counted and named, and tolerated up to a share.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, anyhow};
use serde::Serialize;

/// The largest number of them that an error names.
const NAMED: usize = 3;

/// A damaged image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damaged {
    /// Its place in the part of the data set.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// What is wrong with it, to be put behind the name.
    pub reason: String,
}

/// The damaged pictures of a part of a data set, as far as they are known.
#[derive(Debug)]
pub(super) struct Damage {
    place: PathBuf,
    n_images: usize,
    share: f64,
    known: BTreeMap<usize, Damaged>,
}

impl Damage {
    /// For a part with `n_images` pictures in `place`. A share of them may be damaged.
    pub(super) fn new(place: PathBuf, n_images: usize, share: f64) -> Damage {
        Damage {
            place,
            n_images,
            share,
            known: BTreeMap::new(),
        }
    }

    /// How many may be damaged.
    pub(super) fn most(&self) -> usize {
        // A share such as 0.29 of 100 is 29 pictures, though the product of the doubles is a little less.
        (self.share * self.n_images as f64 + 1e-9) as usize
    }

    /// Prints what is wrong with each that was not known yet.
    ///
    /// # Errors
    /// More are damaged than may be.
    pub(super) fn note(&mut self, damaged: Vec<Damaged>) -> Result<()> {
        for one in damaged {
            if self.known.contains_key(&one.index) {
                continue;
            }
            let Damaged { name, reason, .. } = &one;
            let (n, most) = (self.known.len() + 1, self.most());
            warning!(
                "damaged: {name} {reason}; another takes its place ({n} found, {most} allowed by data.max_damaged)"
            );
            self.known.insert(one.index, one);
        }
        if self.known.len() > self.most() {
            return Err(self.refusal(self.known.values()));
        }
        Ok(())
    }

    /// The error of a run with at least these damaged pictures.
    pub(super) fn refusal<'a>(
        &self,
        damaged: impl ExactSizeIterator<Item = &'a Damaged>,
    ) -> anyhow::Error {
        let n_damaged = damaged.len();
        let named: Vec<String> = damaged
            .take(NAMED)
            .map(|Damaged { name, reason, .. }| format!("{name} {reason}"))
            .collect();
        anyhow!(
            "at least {n_damaged} of {} pictures in {} are damaged, more than data.max_damaged = {} allows: {}; mend or remove them \
             (`trainer data check` lists all)",
            self.n_images,
            self.place.display(),
            self.share,
            named.join("; ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damaged(index: usize) -> Damaged {
        Damaged {
            index,
            name: format!("{index}.png"),
            reason: "is an empty file".to_string(),
        }
    }

    #[test]
    fn each_picture_counts_once_and_the_first_beyond_the_share_is_refused() {
        let mut damage = Damage::new(PathBuf::from("/d"), 50, 0.05);
        assert_eq!(damage.most(), 2);
        damage.note(vec![damaged(7), damaged(7)]).unwrap();
        damage.note(vec![damaged(3), damaged(7)]).unwrap();
        let error = damage.note(vec![damaged(9)]).unwrap_err().to_string();
        for piece in [
            "3 of 50",
            "/d",
            "data.max_damaged = 0.05",
            "3.png is an empty file; 7.png",
        ] {
            assert!(error.contains(piece), "expected {piece:?} in: {error}");
        }
    }
}

//! A short description of data. A run that goes on compares it to know whether the data have changed.

use ebm_common::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The content of picture files is hashed up to this size in all. Larger sets are compared by names and sizes.
pub(super) const MOST_BYTES: u64 = 64 << 20;

/// What data are, whatever folder they are in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Images that are learned from.
    pub train: Print,
    /// Images that are tested on, if a result depends on them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<Print>,
}

/// The fingerprint of the images of a part. Hashes are the first 16 digits of SHA-256.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Print {
    /// How many there are.
    pub n_images: usize,
    /// Hash of their labels.
    pub labels: String,
    /// Hash of their names, if they have names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<String>,
    /// Hash of the sizes of their files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sizes: Option<String>,
    /// Hash of all bytes, for images in memory and for files of up to 64 MiB in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

impl Fingerprint {
    /// What differs from earlier data, the most telling difference first; empty if nothing differs.
    pub fn changes_since(&self, earlier: &Fingerprint) -> Vec<String> {
        let mut changes = self.train.changes_since(&earlier.train, "training");
        if let (Some(now), Some(then)) = (&self.test, &earlier.test) {
            changes.extend(now.changes_since(then, "test"));
        }
        changes
    }
}

impl Print {
    fn changes_since(&self, earlier: &Print, part: &str) -> Vec<String> {
        if self.n_images != earlier.n_images {
            return vec![format!(
                "{} {part} images then, {} now",
                earlier.n_images, self.n_images
            )];
        }
        let changed = |now: &Option<String>, then: &Option<String>| matches!((now, then), (Some(now), Some(then)) if now != then);
        let changes = [
            (changed(&self.names, &earlier.names), "names"),
            (changed(&self.sizes, &earlier.sizes), "sizes of files"),
            (self.labels != earlier.labels, "labels"),
            (changed(&self.content, &earlier.content), "content"),
        ];
        let changes = changes.into_iter().filter(|(changed, _)| *changed);
        changes
            .map(|(_, what)| format!("other {what} of {part} images"))
            .collect()
    }
}

/// The hash of a sequence of pieces.
#[derive(Default)]
pub(super) struct Hash(Sha256);

impl Hash {
    /// Adds a piece, such as a name. Its length counts, so that `ab`, `c` differs from `a`, `bc`.
    pub(super) fn add(&mut self, piece: &[u8]) {
        self.0.update((piece.len() as u64).to_le_bytes());
        self.0.update(piece);
    }

    /// The first 16 digits.
    pub(super) fn finish(self) -> String {
        let hash = self.0.finalize();
        hex(&hash[..8])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(n_images: usize, [labels, names, sizes, content]: [&str; 4]) -> Print {
        let or_none = |text: &str| (!text.is_empty()).then(|| text.to_string());
        Print {
            n_images,
            labels: labels.to_string(),
            names: or_none(names),
            sizes: or_none(sizes),
            content: or_none(content),
        }
    }

    #[test]
    fn what_changed_is_said() {
        let whole = print(3, ["l", "n", "s", "c"]);
        for (now, wanted) in [
            (whole.clone(), &[][..]),
            (
                print(2, ["x", "x", "x", "x"]),
                &["3 training images then, 2 now"],
            ),
            (
                print(3, ["l", "x", "s", "c"]),
                &["other names of training images"],
            ),
            (
                print(3, ["l", "n", "x", "x"]),
                &[
                    "other sizes of files of training images",
                    "other content of training images",
                ],
            ),
            (
                print(3, ["x", "n", "s", "c"]),
                &["other labels of training images"],
            ),
            // A value that one of the two does not have does not count as a change.
            (print(3, ["l", "n", "s", ""]), &[]),
        ] {
            let of = |train: &Print| Fingerprint {
                train: train.clone(),
                test: None,
            };
            assert_eq!(of(&now).changes_since(&of(&whole)), wanted, "{now:?}");
        }
        let with_test = |test| Fingerprint {
            train: whole.clone(),
            test,
        };
        let changes = with_test(Some(print(1, ["l", "", "", "x"])))
            .changes_since(&with_test(Some(print(1, ["l", "", "", "c"]))));
        assert_eq!(changes, ["other content of test images"]);
    }

    #[test]
    fn pieces_do_not_run_into_each_other() {
        let of = |pieces: &[&str]| {
            let mut hash = Hash::default();
            pieces.iter().for_each(|piece| hash.add(piece.as_bytes()));
            hash.finish()
        };
        assert_eq!(of(&["ab", "c"]), of(&["ab", "c"]));
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_eq!(of(&[]).len(), 16);
    }
}

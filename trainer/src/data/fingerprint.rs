//! A short description of data, by which a run that goes on knows whether they are still those that it began with.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The content of files of pictures is looked at if they are not larger than this together; otherwise names and sizes have to do.
pub(super) const MOST_BYTES: u64 = 64 << 20;

/// What data are. It says nothing of where they lie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Images that are learned from.
    pub train: Print,
    /// Images that are tested on, where they decide about anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<Print>,
}

/// What the images of a part are; hashes are SHA-256, cut to 16 digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Print {
    /// How many there are.
    pub n_images: usize,
    /// Of their labels.
    pub labels: String,
    /// Of their names, where they have some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<String>,
    /// Of the sizes of their files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sizes: Option<String>,
    /// Of all bytes: of images in memory, and of files of pictures of at most 64 MiB together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

impl Fingerprint {
    /// What differs from data of an earlier time, in the order in which a person would look; empty if nothing does.
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

/// The hash of bytes that come in pieces.
#[derive(Default)]
pub(super) struct Hash(Sha256);

impl Hash {
    /// A piece, such as a name; where it ends counts.
    pub(super) fn add(&mut self, piece: &[u8]) {
        self.0.update((piece.len() as u64).to_le_bytes());
        self.0.update(piece);
    }

    /// In short.
    pub(super) fn finish(self) -> String {
        let hash = self.0.finalize();
        hash[..8].iter().map(|byte| format!("{byte:02x}")).collect()
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
            // What one of the two does not know is no change.
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

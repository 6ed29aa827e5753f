//! What a run will need of memory.

use std::fmt;

/// Bytes that a run uses at once, beside the program and its libraries. What an allocator keeps of memory that was given back comes on top.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Held from beginning to end, by what they are for.
    pub held: Vec<(&'static str, u64)>,
    /// Held for a while, but not at the same time, by what they are for.
    pub passing: Vec<(&'static str, u64)>,
}

impl Estimate {
    /// The most at once.
    pub fn total(&self) -> u64 {
        let held: u64 = self.held.iter().map(|(_, bytes)| bytes).sum();
        let passing = self.passing.iter().map(|(_, bytes)| bytes);
        held + passing.max().copied().unwrap_or_default()
    }
}

/// What a checkpoint of such parts holds while it is written: a copy of all, and the largest of them as bytes and as a file.
pub fn checkpoint(saved: &[(&'static str, u64)]) -> (&'static str, u64) {
    let sizes = saved.iter().map(|(_, bytes)| bytes);
    let largest = sizes.clone().max().copied().unwrap_or_default();
    ("a checkpoint's copy", sizes.sum::<u64>() + 2 * largest)
}

/// One line with all parts.
impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = |parts: &[(&str, u64)], between: &str| {
            let parts = parts.iter().filter(|(_, bytes)| *bytes > 0);
            let parts: Vec<String> = parts
                .map(|(name, bytes)| format!("{name} {}", Megabytes(*bytes)))
                .collect();
            parts.join(between)
        };
        write!(
            f,
            "memory, estimated: {} in use beside the program: {}, and for a while {}",
            Megabytes(self.total()),
            parts(&self.held, ", "),
            parts(&self.passing, " or ")
        )
    }
}

struct Megabytes(u64);

impl fmt::Display for Megabytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = self.0 as f64 / 1e6;
        let digits = usize::from(megabytes < 10.0);
        write!(f, "{megabytes:.digits$} MB")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_for_a_while_counts_once() {
        let estimate = Estimate {
            held: vec![("weights", 20_000_000), ("chains", 1_500_000), ("data", 0)],
            passing: vec![("an update", 100_000_000), ("a checkpoint", 30_000_000)],
        };
        assert_eq!(estimate.total(), 121_500_000);
        assert_eq!(
            estimate.to_string(),
            "memory, estimated: 122 MB in use beside the program: weights 20 MB, chains 1.5 MB, \
             and for a while an update 100 MB or a checkpoint 30 MB"
        );
    }
}

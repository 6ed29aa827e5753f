//! Values that change with the number of the update.

use serde::{Deserialize, Serialize};

/// A value for all updates, or pairs `[from update, value]` that begin at update 0 and ascend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a number, or pairs [from update, number]"
)]
pub enum Schedule<T> {
    /// The same value for all updates.
    Constant(T),
    /// Each value holds from its update on.
    Pieces(Vec<(u64, T)>),
}

impl<T: Copy + Default> Schedule<T> {
    /// The value at an update, counted from 0.
    pub fn at(&self, update: u64) -> T {
        match self {
            Schedule::Constant(value) => *value,
            Schedule::Pieces(pieces) => pieces
                .iter()
                .take_while(|(from, _)| *from <= update)
                .last()
                .map_or(T::default(), |(_, value)| *value),
        }
    }

    /// All values.
    pub fn values(&self) -> Vec<T> {
        match self {
            Schedule::Constant(value) => vec![*value],
            Schedule::Pieces(pieces) => pieces.iter().map(|(_, value)| *value).collect(),
        }
    }

    /// Whether its pieces begin at update 0 and ascend.
    pub fn is_ordered(&self) -> bool {
        match self {
            Schedule::Constant(_) => true,
            Schedule::Pieces(pieces) => {
                pieces.first().is_some_and(|(from, _)| *from == 0)
                    && pieces.windows(2).all(|pair| pair[0].0 < pair[1].0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_holds_from_its_update_on() {
        let schedule = Schedule::Pieces(vec![(0, 1e-3), (10, 1e-4)]);
        for (update, wanted) in [(0, 1e-3), (9, 1e-3), (10, 1e-4), (1000, 1e-4)] {
            assert_eq!(schedule.at(update), wanted, "{update}");
        }
        assert_eq!(Schedule::Constant(7).at(1000), 7);
    }

    #[test]
    fn pieces_begin_at_zero_and_ascend() {
        for (pieces, wanted) in [
            (vec![(0, 1)], true),
            (vec![(0, 1), (5, 2)], true),
            (vec![], false),
            (vec![(1, 1)], false),
            (vec![(0, 1), (5, 2), (5, 3)], false),
        ] {
            assert_eq!(
                Schedule::Pieces(pieces.clone()).is_ordered(),
                wanted,
                "{pieces:?}"
            );
        }
    }
}

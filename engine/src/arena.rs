//! Which slots share memory: those that are never needed at the same time.

use crate::lanes::LANES;
use crate::steps::Step;

/// Slots that a step reads and writes.
#[derive(Default)]
pub(crate) struct Touched {
    pub slots: Vec<usize>,
}

/// For each slot its floats and the first and last step that touch it.
pub(crate) struct Lives {
    slots: Vec<(usize, usize, usize)>,
}

impl Lives {
    /// Slots of inputs are taken before the first step, those of outputs until after the last.
    pub fn new(
        steps: &[(Step, Touched)],
        floats: &[usize],
        inputs: impl Iterator<Item = usize>,
        outputs: impl Iterator<Item = usize>,
    ) -> Self {
        let mut slots: Vec<_> = floats
            .iter()
            .map(|&floats| (floats, usize::MAX, 0))
            .collect();
        for (number, (_, touched)) in steps.iter().enumerate() {
            for &slot in &touched.slots {
                slots[slot].1 = slots[slot].1.min(number);
                slots[slot].2 = slots[slot].2.max(number);
            }
        }
        inputs.for_each(|slot| slots[slot].1 = 0);
        outputs.for_each(|slot| slots[slot].2 = steps.len());
        Self { slots }
    }

    /// The first float and the floats of each slot, and the floats of all: large ones first, each in the lowest gap.
    pub fn placed(&self) -> (Vec<(usize, usize)>, usize) {
        let mut order: Vec<usize> = (0..self.slots.len()).collect();
        order.sort_by_key(|&slot| (std::cmp::Reverse(self.slots[slot].0), slot));
        let mut places = vec![(0, 0); self.slots.len()];
        let mut placed: Vec<usize> = Vec::new();
        let mut end = 0;
        for slot in order {
            let (floats, begins, ends) = self.slots[slot];
            let floats = floats.next_multiple_of(LANES);
            let mut others: Vec<(usize, usize)> = placed
                .iter()
                .filter(|&&other| self.slots[other].1 <= ends && begins <= self.slots[other].2)
                .map(|&other| places[other])
                .collect();
            others.sort_unstable();
            let mut first = 0;
            for (other, length) in others {
                if first + floats <= other {
                    break;
                }
                first = first.max(other + length);
            }
            places[slot] = (first, floats);
            end = end.max(first + floats);
            placed.push(slot);
        }
        (places, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_that_live_at_the_same_time_lie_apart() {
        let slots = vec![(64, 0, 1), (16, 1, 2), (64, 2, 3), (32, 0, 3), (16, 3, 3)];
        let lives = Lives { slots };
        let (places, end) = lives.placed();
        for (a, &(first, floats)) in places.iter().enumerate() {
            for (b, &(other, length)) in places.iter().enumerate().skip(a + 1) {
                let (at, bt) = (lives.slots[a], lives.slots[b]);
                let together = at.1 <= bt.2 && bt.1 <= at.2;
                let apart = first + floats <= other || other + length <= first;
                assert!(!together || apart, "{a} and {b}");
            }
        }
        assert_eq!(end, 64 + 32 + 16);
    }
}

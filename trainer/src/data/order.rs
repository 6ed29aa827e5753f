//! The order in which updates use the images, and the part of a picture that becomes each image.

use crate::machine::randomness::{self, Purpose};

/// Which part of a picture becomes the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// The one in the middle.
    Centre,
    /// One that follows from this number if the configured crop is random, else the one in the middle.
    Drawn(u64),
}

/// A request for an image of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pick {
    /// Which image, from 0.
    pub index: usize,
    /// Which part of it.
    pub view: View,
}

impl Pick {
    /// An image as it is tested and looked at.
    pub fn centred(index: usize) -> Pick {
        Pick {
            index,
            view: View::Centre,
        }
    }
}

/// A new order of the images in each epoch. It depends only on the seed and the position.
#[derive(Debug)]
pub struct Order {
    seed: u64,
    n_images: usize,
    epoch: Option<(u64, Vec<i64>)>,
}

impl Order {
    /// An order of `n_images` images.
    pub fn new(seed: u64, n_images: usize) -> Order {
        Order {
            seed,
            n_images,
            epoch: None,
        }
    }

    /// What an update uses.
    pub fn batch(&mut self, update: u64, n: usize) -> Vec<Pick> {
        let first = update * n as u64;
        (first..first + n as u64)
            .map(|position| self.at(position))
            .collect()
    }

    /// What stands at a position, counted from the beginning of the run.
    pub fn at(&mut self, position: u64) -> Pick {
        let (epoch, within) = (
            position / self.n_images as u64,
            (position % self.n_images as u64) as usize,
        );
        if self
            .epoch
            .as_ref()
            .is_none_or(|(current, _)| *current != epoch)
        {
            let seed = randomness::derive(self.seed, epoch, Purpose::Order);
            self.epoch = Some((epoch, randomness::permutation(self.n_images, seed)));
        }
        let index = self.epoch.as_ref().map_or(0, |(_, order)| order[within]);
        Pick {
            index: index as usize,
            view: View::Drawn(randomness::derive(self.seed, position, Purpose::Crop)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indices(order: &mut Order, updates: std::ops::Range<u64>) -> Vec<usize> {
        let picks = updates.flat_map(|update| order.batch(update, 2));
        picks.map(|pick| pick.index).collect()
    }

    #[test]
    fn an_epoch_visits_each_image_once_and_the_next_in_another_order() {
        let mut order = Order::new(3, 10);
        let first = indices(&mut order, 0..5);
        let second = indices(&mut order, 5..10);
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..10).collect::<Vec<usize>>());
        assert_ne!(first, second);
        assert_eq!(indices(&mut Order::new(3, 10), 4..5), first[8..]);
    }

    #[test]
    fn each_position_has_a_view_of_its_own() {
        let picks = Order::new(3, 10).batch(0, 100);
        let mut views: Vec<String> = picks
            .iter()
            .map(|pick| format!("{:?}", pick.view))
            .collect();
        views.sort();
        views.dedup();
        assert_eq!(views.len(), 100);
    }
}

//! The tiles through which convolutions are computed.

/// The largest tiles of a plan's 3×3 convolutions. Larger ones have fewer products, more weights and a larger error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tiles {
    /// Every pixel by itself.
    One,
    /// 2×2 pixels.
    Two,
    /// 4×4 pixels.
    #[default]
    Four,
}

impl Tiles {
    /// Pixels of a side.
    pub fn side(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Four => 4,
        }
    }

    /// These and all smaller ones, the largest first.
    pub(crate) fn and_smaller(self) -> impl Iterator<Item = Self> {
        [Self::Four, Self::Two, Self::One]
            .into_iter()
            .filter(move |&tiles| tiles <= self)
    }
}

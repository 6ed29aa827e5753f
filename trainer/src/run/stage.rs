//! The stages of a life cycle.

/// A stage; a later one takes what earlier ones learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// What tells whether images are still those of their classes.
    Classifier,
    /// An energy and the generator of its chains.
    Shortrun,
    /// An energy for purification.
    Midrun,
    /// What the last stage begins with.
    Prior,
    /// An energy for chains of any length.
    Longrun,
}

/// In their order.
pub const STAGES: [Stage; 5] = [
    Stage::Classifier,
    Stage::Shortrun,
    Stage::Midrun,
    Stage::Prior,
    Stage::Longrun,
];

impl Stage {
    /// Of its folder, and of its preset behind that of the family.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Classifier => "classifier",
            Stage::Shortrun => "shortrun",
            Stage::Midrun => "midrun",
            Stage::Prior => "prior",
            Stage::Longrun => "longrun",
        }
    }
}

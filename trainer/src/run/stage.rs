//! The stages of a life cycle.

use ebm_common::named;

named! {
    "stage";
    /// A stage; a later one takes what earlier ones learned. Their folders have their names, and so have their presets behind that of the family.
    pub enum Stage {
        /// What tells whether images are still those of their classes.
        Classifier = "classifier",
        /// An energy and the generator of its chains.
        Shortrun = "shortrun",
        /// An energy for purification.
        Midrun = "midrun",
        /// What the last stage begins with.
        Prior = "prior",
        /// An energy for chains of any length.
        Longrun = "longrun",
    }
}

impl Stage {}

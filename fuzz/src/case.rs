//! One input of the target `models`.

use std::sync::LazyLock;

use arbitrary::{Arbitrary, Unstructured};

use crate::mutation::Mutation;
use crate::way::Derivative;
use crate::zoo::Zoo;

/// Mutations of one case at most; more of them only make models that are refused at once.
const MAX_MUTATIONS: usize = 6;

static ZOO: LazyLock<Zoo> = LazyLock::new(Zoo::load);

/// A model, changed, and what is made of it.
#[derive(Clone, Debug)]
pub struct Case {
    model: u16,
    mutations: Vec<Mutation>,
    /// What is made of the model.
    pub derivative: Derivative,
}

impl Case {
    /// The bytes of the changed model.
    pub fn bytes(&self) -> Vec<u8> {
        ZOO.mutated(self.model, &self.mutations)
    }
}

impl<'a> Arbitrary<'a> for Case {
    fn arbitrary(source: &mut Unstructured<'a>) -> arbitrary::Result<Case> {
        Ok(Case {
            model: source.arbitrary()?,
            derivative: *source.choose(&Derivative::ALL)?,
            mutations: source
                .arbitrary_iter()?
                .take(MAX_MUTATIONS)
                .collect::<arbitrary::Result<Vec<Mutation>>>()?,
        })
    }
}

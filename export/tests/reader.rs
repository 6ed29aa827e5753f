//! Any bytes are read or refused, never a panic: arbitrary ones, and models with a few bytes changed.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::LazyLock;

use ebm_export::source::onnx::{Selection, read};
use proptest::prelude::*;
use proptest::sample::Index;

/// Most bytes of a model that is mutated, so that a case takes no more than moments.
const MAX_BYTES: usize = 1 << 14;

/// The models of `tests/zoo` that are small, and their files that are to be refused.
static SEEDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let zoo = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/zoo");
    let mut paths: Vec<PathBuf> = [zoo.clone(), zoo.join("bad")]
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "onnx")
        })
        .collect();
    paths.sort();
    let seeds: Vec<Vec<u8>> = paths
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .filter(|bytes| bytes.len() <= MAX_BYTES)
        .collect();
    assert!(seeds.len() > 100, "{} seeds", seeds.len());
    seeds
});

/// Reads, and sees to it that an error is one line.
fn check(bytes: &[u8]) {
    if let Err(error) = read(bytes, &Selection::default()) {
        let text = error.to_string();
        assert!(!text.is_empty() && !text.contains('\n'), "{text:?}");
    }
}

/// What happens to a model.
#[derive(Clone, Debug)]
enum Mutation {
    Replace(Index, u8),
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize),
    Cut(Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        4 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Replace(at, byte)),
        4 => (any::<Index>(), 0..8u8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        2 => (any::<Index>(), prop::collection::vec(any::<u8>(), 1..12)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        1 => (any::<Index>(), 1..40usize).prop_map(|(at, count)| Mutation::Remove(at, count)),
        1 => (any::<Index>(), 1..200usize).prop_map(|(at, count)| Mutation::Repeat(at, count)),
        1 => any::<Index>().prop_map(Mutation::Cut),
    ]
}

impl Mutation {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let place = |at: &Index| at.index(bytes.len());
        match self {
            Mutation::Replace(at, byte) => {
                let at = place(at);
                bytes[at] = *byte;
            }
            Mutation::Flip(at, bit) => {
                let at = place(at);
                bytes[at] ^= 1 << bit;
            }
            Mutation::Insert(at, new) => {
                let at = place(at);
                bytes.splice(at..at, new.iter().copied());
            }
            Mutation::Remove(at, count) => {
                let at = place(at);
                let end = (at + count).min(bytes.len());
                bytes.drain(at..end);
            }
            Mutation::Repeat(at, count) => {
                let at = place(at);
                let end = (at + count).min(bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(end..end, part);
            }
            Mutation::Cut(at) => {
                let at = place(at);
                bytes.truncate(at);
            }
        }
    }
}

#[test]
fn every_seed_is_read_or_refused() {
    SEEDS.iter().for_each(|bytes| check(bytes));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        check(&bytes);
    }

    #[test]
    fn changed_models_are_read_or_refused(
        seed in any::<Index>(),
        mutations in prop::collection::vec(mutation(), 1..6),
    ) {
        let mut bytes = seed.get(&SEEDS).clone();
        mutations.iter().for_each(|mutation| mutation.apply(&mut bytes));
        check(&bytes);
    }
}

//! The published networks by name.

use super::{Biggan, BigganGenerator, Network, Sngan, SnganGenerator, UnetVit, WideResnet};

/// A name, the width parameter that the network was published with, and the network of any width.
type Entry = (&'static str, usize, fn(usize) -> Network);

const PUBLISHED: [Entry; 20] = [
    ("sngan32", 256, |width| {
        Network::Sngan(Sngan::sngan32(width))
    }),
    ("sngan64", 64, |width| Network::Sngan(Sngan::sngan64(width))),
    ("sngan128", 64, |width| {
        Network::Sngan(Sngan::sngan128(width))
    }),
    ("mimicry_sngan32", 128, |width| {
        Network::Sngan(Sngan::sngan32(width).as_in_mimicry())
    }),
    ("mimicry_sngan64", 64, |width| {
        Network::Sngan(Sngan::sngan64(width).as_in_mimicry())
    }),
    ("mimicry_sngan128", 64, |width| {
        Network::Sngan(Sngan::sngan128(width).as_in_mimicry())
    }),
    ("biggan64", 48, |width| {
        Network::Biggan(Biggan::biggan64(width))
    }),
    ("biggan128", 48, |width| {
        Network::Biggan(Biggan::biggan128(width))
    }),
    ("biggan224", 48, |width| {
        Network::Biggan(Biggan::biggan224(width))
    }),
    ("biggan256", 48, |width| {
        Network::Biggan(Biggan::biggan256(width))
    }),
    ("unet_vit32", 128, |width| {
        Network::UnetVit(UnetVit::unet_vit32(width))
    }),
    ("unet_vit28", 32, |width| {
        Network::UnetVit(UnetVit::unet_vit28(width))
    }),
    ("gen_sngan32", 256, |width| {
        Network::SnganGenerator(SnganGenerator::gen_sngan32(width))
    }),
    ("gen_sngan64", 64, |width| {
        Network::SnganGenerator(SnganGenerator::gen_sngan64(width))
    }),
    ("gen_sngan128", 64, |width| {
        Network::SnganGenerator(SnganGenerator::gen_sngan128(width))
    }),
    ("gen_biggan64", 128, |width| {
        Network::BigganGenerator(BigganGenerator::gen_biggan64(width))
    }),
    ("gen_biggan128", 128, |width| {
        Network::BigganGenerator(BigganGenerator::gen_biggan128(width))
    }),
    ("gen_biggan_cond128", 128, |width| {
        Network::BigganGenerator(BigganGenerator::gen_biggan_cond128(width))
    }),
    ("gen_biggan_cond256", 128, |width| {
        Network::BigganGenerator(BigganGenerator::gen_biggan_cond256(width))
    }),
    ("wrn28_10", 10, |width| {
        Network::WideResnet(WideResnet::wrn28(width))
    }),
];

impl Network {
    /// The published network of that name: `sngan32`, `sngan64`, `sngan128`, `mimicry_sngan32`, `mimicry_sngan64`, `mimicry_sngan128`,
    /// `biggan64`, `biggan128`, `biggan224`, `biggan256`, `unet_vit32`, `unet_vit28`, `gen_sngan32`, `gen_sngan64`, `gen_sngan128`, `gen_biggan64`,
    /// `gen_biggan128`, `gen_biggan_cond128`, `gen_biggan_cond256` or `wrn28_10`; `None` for other names. `width` is its parameter of that name (of `wrn28_10`
    /// the widening), the published one where it is not given.
    pub fn published(name: &str, width: Option<usize>) -> Option<Network> {
        let (_, published, network) = PUBLISHED.iter().find(|(known, ..)| *known == name)?;
        Some(network(width.unwrap_or(*published)))
    }

    /// The names that [`Network::published`] knows.
    pub fn published_names() -> impl Iterator<Item = &'static str> {
        PUBLISHED.iter().map(|(name, ..)| *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_published_network_has_a_graph_and_a_name_of_its_own() {
        for name in Network::published_names() {
            let network = Network::published(name, None).unwrap();
            let graph = network.graph().unwrap();
            assert_eq!(graph.outputs().len(), 1, "{name}");
            let text = serde_json::to_string(&network).unwrap();
            assert_eq!(serde_json::from_str::<Network>(&text).unwrap(), network);
            let twins = Network::published_names().filter(|other| *other == name);
            assert_eq!(twins.count(), 1);
        }
        assert_eq!(Network::published("sngan48", None), None);
    }
}

//! Distances of pixels as results hold them: a number of both scales, so that none is taken for the other.

use ebm_common::PixelDistance;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
struct BothScales {
    of_0_to_1: f64,
    of_minus_1_to_1: f64,
}

/// For `#[serde(with)]`.
pub fn serialize<S: Serializer>(
    distance: &PixelDistance,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let both = BothScales {
        of_0_to_1: distance.in_unit_range(),
        of_minus_1_to_1: distance.in_signed_range(),
    };
    both.serialize(serializer)
}

/// For `#[serde(with)]`.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PixelDistance, D::Error> {
    let both = BothScales::deserialize(deserializer)?;
    Ok(PixelDistance::of_unit_range(both.of_0_to_1))
}

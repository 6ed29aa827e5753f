//! Numbers at which programs stumble.

use arbitrary::{Arbitrary, Result, Unstructured};

/// An integer: mostly a small one, at times one at a border.
#[derive(Clone, Copy, Debug)]
pub struct Number(pub i64);

const BORDERS: [i64; 14] = [
    i64::MIN,
    i64::MIN + 1,
    i64::MAX,
    i64::MAX - 1,
    i32::MIN as i64,
    i32::MAX as i64,
    1 << 31,
    1 << 32,
    1 << 62,
    -(1 << 62),
    1 << 16,
    1 << 20,
    1 << 24,
    1 << 28,
];

impl<'a> Arbitrary<'a> for Number {
    fn arbitrary(source: &mut Unstructured<'a>) -> Result<Number> {
        let byte = i8::arbitrary(source)?;
        let border = |position: i8| BORDERS[usize::from(position as u8) % BORDERS.len()];
        Ok(Number(match byte {
            -8..=64 => byte.into(),
            _ => border(byte),
        }))
    }
}

/// A float: mostly a moderate one, at times one at a border.
#[derive(Clone, Copy, Debug)]
pub struct Real(pub f32);

const EDGES: [f32; 9] = [
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::MAX,
    f32::MIN,
    f32::MIN_POSITIVE,
    -0.0,
    1e-30,
    1e30,
];

impl<'a> Arbitrary<'a> for Real {
    fn arbitrary(source: &mut Unstructured<'a>) -> Result<Real> {
        let byte = i8::arbitrary(source)?;
        Ok(Real(match usize::from(byte.unsigned_abs()) {
            magnitude if magnitude < 100 => f32::from(byte) / 16.0,
            magnitude => EDGES[magnitude % EDGES.len()],
        }))
    }
}

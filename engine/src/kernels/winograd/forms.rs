//! The forms in one dimension, see the module above.

use crate::lanes::Lanes;

/// A form in one dimension: `IN` pixels of the operand to `POINTS` points to `OUT` pixels of the result.
pub(crate) trait Form<const IN: usize, const POINTS: usize, const OUT: usize> {
    /// Points that share their weights stand behind each other; of each such group the number of points.
    const GROUPS: &'static [usize];
    /// Pixels from one tile of the operand to the next, and pads before the first.
    const STEP_IN: usize;
    const PAD_IN: usize;
    /// The same of the result. Where tiles overlap, they add up.
    const STEP_OUT: usize;
    const PAD_OUT: usize;
    /// The kernel's part in each group: a row of G.
    const KERNEL: &'static [[f64; 3]];

    /// Bᵀ.
    fn enter<V: Lanes>(d: [V; IN]) -> [V; POINTS];
    /// Aᵀ.
    fn leave<V: Lanes>(m: [V; POINTS]) -> [V; OUT];
}

/// Points at 0, ±¾, ±3/2 and infinity: their error is the least of those tried.
const NEAR: f32 = 0.75;
const FAR: f32 = 1.5;

/// `Π (x − other points)` at a point of the pairs ±a and ±b, without the sign.
const fn pair(a: f64, b: f64) -> f64 {
    2.0 * a * a * (a * a - b * b)
}

#[inline(always)]
fn scaled<V: Lanes>(factor: f32, x: V) -> V {
    V::splat(factor).mul(x)
}

/// `factor · x + y`.
#[inline(always)]
fn plus<V: Lanes>(factor: f32, x: V, y: V) -> V {
    V::splat(factor).mul_add(x, y)
}

/// Four pixels a tile, 3×3 with stride 1: 2.25 products for a pixel in place of 9.
pub(crate) struct Four;

impl Form<6, 6, 4> for Four {
    const GROUPS: &'static [usize] = &[1; 6];
    const STEP_IN: usize = 4;
    const PAD_IN: usize = 1;
    const STEP_OUT: usize = 4;
    const PAD_OUT: usize = 0;
    const KERNEL: &'static [[f64; 3]] = &{
        let (a, b) = (NEAR as f64, FAR as f64);
        let (near, far) = (pair(a, b), pair(b, a));
        [
            [1.0 / (a * a * b * b), 0.0, 0.0],
            [1.0 / near, a / near, a * a / near],
            [1.0 / near, -a / near, a * a / near],
            [1.0 / far, b / far, b * b / far],
            [1.0 / far, -b / far, b * b / far],
            [0.0, 0.0, 1.0],
        ]
    };

    #[inline(always)]
    fn enter<V: Lanes>(d: [V; 6]) -> [V; 6] {
        let (a, b) = (NEAR, FAR);
        let even_near = plus(-b * b, d[2], d[4]);
        let odd_near = plus(a, d[3], scaled(-a * b * b, d[1]));
        let even_far = plus(-a * a, d[2], d[4]);
        let odd_far = plus(b, d[3], scaled(-b * a * a, d[1]));
        let (sum, product) = (-(a * a + b * b), a * a * b * b);
        [
            plus(product, d[0], plus(sum, d[2], d[4])),
            even_near.add(odd_near),
            even_near.sub(odd_near),
            even_far.add(odd_far),
            even_far.sub(odd_far),
            plus(product, d[1], plus(sum, d[3], d[5])),
        ]
    }

    #[inline(always)]
    fn leave<V: Lanes>(m: [V; 6]) -> [V; 4] {
        let (a, b) = (NEAR, FAR);
        let (near, near_odd) = (m[1].add(m[2]), m[1].sub(m[2]));
        let (far, far_odd) = (m[3].add(m[4]), m[3].sub(m[4]));
        [
            m[0].add(near).add(far),
            plus(a, near_odd, scaled(b, far_odd)),
            plus(a * a, near, scaled(b * b, far)),
            plus(a * a * a, near_odd, plus(b * b * b, far_odd, m[5])),
        ]
    }
}

/// Two pixels a tile, 3×3 with stride 1: 4 products for a pixel in place of 9, with a smaller error and less than half the weights of [`Four`].
pub(crate) struct Two;

impl Form<4, 4, 2> for Two {
    const GROUPS: &'static [usize] = &[1; 4];
    const STEP_IN: usize = 2;
    const PAD_IN: usize = 1;
    const STEP_OUT: usize = 2;
    const PAD_OUT: usize = 0;
    const KERNEL: &'static [[f64; 3]] = &[
        [1.0, 0.0, 0.0],
        [0.5, 0.5, 0.5],
        [0.5, -0.5, 0.5],
        [0.0, 0.0, 1.0],
    ];

    #[inline(always)]
    fn enter<V: Lanes>(d: [V; 4]) -> [V; 4] {
        [
            d[0].sub(d[2]),
            d[1].add(d[2]),
            d[2].sub(d[1]),
            d[1].sub(d[3]),
        ]
    }

    #[inline(always)]
    fn leave<V: Lanes>(m: [V; 4]) -> [V; 2] {
        [m[0].add(m[1]).add(m[2]), m[1].sub(m[2]).sub(m[3])]
    }
}

/// Points of the even pixels of [`PooledFour`]: ±½, ±3/2 and infinity.
const EVEN_NEAR: f32 = 0.5;
const EVEN_FAR: f32 = 1.5;

/// Bᵀ of two taps at those points.
#[inline(always)]
fn enter_even<V: Lanes>(d: [V; 5]) -> [V; 5] {
    let (a, b) = (EVEN_NEAR, EVEN_FAR);
    let near = plus(-b * b, d[1], d[3]);
    let near_odd = plus(a, d[2], scaled(-a * b * b, d[0]));
    let far = plus(-a * a, d[1], d[3]);
    let far_odd = plus(b, d[2], scaled(-b * a * a, d[0]));
    let last = plus(a * a * b * b, d[0], plus(-(a * a + b * b), d[2], d[4]));
    [
        near.add(near_odd),
        near.sub(near_odd),
        far.add(far_odd),
        far.sub(far_odd),
        last,
    ]
}

/// The transpose of [`enter_even`].
#[inline(always)]
fn leave_even_transposed<V: Lanes>(m: [V; 5]) -> [V; 5] {
    let (a, b) = (EVEN_NEAR, EVEN_FAR);
    let (near, near_odd) = (m[0].add(m[1]), m[0].sub(m[1]));
    let (far, far_odd) = (m[2].add(m[3]), m[2].sub(m[3]));
    [
        plus(
            -a * b * b,
            near_odd,
            plus(-b * a * a, far_odd, scaled(a * a * b * b, m[4])),
        ),
        plus(-b * b, near, scaled(-a * a, far)),
        plus(
            a,
            near_odd,
            plus(b, far_odd, scaled(-(a * a + b * b), m[4])),
        ),
        near.add(far),
        m[4],
    ]
}

/// Aᵀ of two taps at those points.
#[inline(always)]
fn leave_even<V: Lanes>(m: [V; 5]) -> [V; 4] {
    let (a, b) = (EVEN_NEAR, EVEN_FAR);
    let (near, near_odd) = (m[0].add(m[1]), m[0].sub(m[1]));
    let (far, far_odd) = (m[2].add(m[3]), m[2].sub(m[3]));
    [
        near.add(far),
        plus(a, near_odd, scaled(b, far_odd)),
        plus(a * a, near, scaled(b * b, far)),
        plus(a * a * a, near_odd, plus(b * b * b, far_odd, m[4])),
    ]
}

/// The transpose of [`leave_even`].
#[inline(always)]
fn enter_even_transposed<V: Lanes>(g: [V; 4]) -> [V; 5] {
    let (a, b) = (EVEN_NEAR, EVEN_FAR);
    let near = plus(a * a, g[2], g[0]);
    let near_odd = plus(a * a * a, g[3], scaled(a, g[1]));
    let far = plus(b * b, g[2], g[0]);
    let far_odd = plus(b * b * b, g[3], scaled(b, g[1]));
    [
        near.add(near_odd),
        near.sub(near_odd),
        far.add(far_odd),
        far.sub(far_odd),
        g[3],
    ]
}

/// Half of the kernel's parts: of the quarter that the mean is, half falls to each dimension.
const POOLED_FOUR_KERNEL: &[[f64; 3]] = &{
    let (a, b) = (EVEN_NEAR as f64, EVEN_FAR as f64);
    let (near, far) = (2.0 * pair(a, b) / a, 2.0 * pair(b, a) / b);
    [
        [1.0 / near, 0.0, a / near],
        [-1.0 / near, 0.0, a / near],
        [1.0 / far, 0.0, b / far],
        [-1.0 / far, 0.0, b / far],
        [0.0, 0.0, 0.5],
        [0.0, 0.5, 0.0],
    ]
};

/// Four pooled pixels a tile: 3×3 with stride 1, then the mean over 2×2.
pub(crate) struct PooledFour;

impl Form<10, 9, 4> for PooledFour {
    const GROUPS: &'static [usize] = &[1, 1, 1, 1, 1, 4];
    const STEP_IN: usize = 8;
    const PAD_IN: usize = 1;
    const STEP_OUT: usize = 4;
    const PAD_OUT: usize = 0;
    const KERNEL: &'static [[f64; 3]] = POOLED_FOUR_KERNEL;

    #[inline(always)]
    fn enter<V: Lanes>(d: [V; 10]) -> [V; 9] {
        let b = |i: usize| d[i].add(d[i + 1]);
        let even = enter_even([b(0), b(2), b(4), b(6), b(8)]);
        [
            even[0],
            even[1],
            even[2],
            even[3],
            even[4],
            b(1),
            b(3),
            b(5),
            b(7),
        ]
    }

    #[inline(always)]
    fn leave<V: Lanes>(m: [V; 9]) -> [V; 4] {
        let even = leave_even([m[0], m[1], m[2], m[3], m[4]]);
        [
            even[0].add(m[5]),
            even[1].add(m[6]),
            even[2].add(m[7]),
            even[3].add(m[8]),
        ]
    }
}

/// The transpose of [`PooledFour`]: ten pixels of the gradient for four, which overlap those of the next tile by two.
pub(crate) struct PooledFourTransposed;

impl Form<4, 9, 10> for PooledFourTransposed {
    const GROUPS: &'static [usize] = PooledFour::GROUPS;
    const STEP_IN: usize = 4;
    const PAD_IN: usize = 0;
    const STEP_OUT: usize = 8;
    const PAD_OUT: usize = 1;
    const KERNEL: &'static [[f64; 3]] = POOLED_FOUR_KERNEL;

    #[inline(always)]
    fn enter<V: Lanes>(g: [V; 4]) -> [V; 9] {
        let even = enter_even_transposed(g);
        [
            even[0], even[1], even[2], even[3], even[4], g[0], g[1], g[2], g[3],
        ]
    }

    #[inline(always)]
    fn leave<V: Lanes>(m: [V; 9]) -> [V; 10] {
        let even = leave_even_transposed([m[0], m[1], m[2], m[3], m[4]]);
        let b = [
            even[0], m[5], even[1], m[6], even[2], m[7], even[3], m[8], even[4],
        ];
        let sum = |i: usize| b[i - 1].add(b[i]);
        [
            b[0],
            sum(1),
            sum(2),
            sum(3),
            sum(4),
            sum(5),
            sum(6),
            sum(7),
            sum(8),
            b[8],
        ]
    }
}

const POOLED_TWO_KERNEL: &[[f64; 3]] = &[
    [0.5, 0.0, 0.0],
    [0.5, 0.0, 0.5],
    [0.0, 0.0, 0.5],
    [0.0, 0.5, 0.0],
];

/// Two pooled pixels a tile.
pub(crate) struct PooledTwo;

impl Form<6, 5, 2> for PooledTwo {
    const GROUPS: &'static [usize] = &[1, 1, 1, 2];
    const STEP_IN: usize = 4;
    const PAD_IN: usize = 1;
    const STEP_OUT: usize = 2;
    const PAD_OUT: usize = 0;
    const KERNEL: &'static [[f64; 3]] = POOLED_TWO_KERNEL;

    #[inline(always)]
    fn enter<V: Lanes>(d: [V; 6]) -> [V; 5] {
        let b = |i: usize| d[i].add(d[i + 1]);
        [b(0).sub(b(2)), b(2), b(2).sub(b(4)), b(1), b(3)]
    }

    #[inline(always)]
    fn leave<V: Lanes>(m: [V; 5]) -> [V; 2] {
        [m[0].add(m[1]).add(m[3]), m[1].sub(m[2]).add(m[4])]
    }
}

/// The transpose of [`PooledTwo`].
pub(crate) struct PooledTwoTransposed;

impl Form<2, 5, 6> for PooledTwoTransposed {
    const GROUPS: &'static [usize] = PooledTwo::GROUPS;
    const STEP_IN: usize = 2;
    const PAD_IN: usize = 0;
    const STEP_OUT: usize = 4;
    const PAD_OUT: usize = 1;
    const KERNEL: &'static [[f64; 3]] = POOLED_TWO_KERNEL;

    #[inline(always)]
    fn enter<V: Lanes>(g: [V; 2]) -> [V; 5] {
        [g[0], g[0].add(g[1]), V::zero().sub(g[1]), g[0], g[1]]
    }

    #[inline(always)]
    fn leave<V: Lanes>(m: [V; 5]) -> [V; 6] {
        let b = [
            m[0],
            m[3],
            m[1].add(m[2]).sub(m[0]),
            m[4],
            V::zero().sub(m[2]),
        ];
        let sum = |i: usize| b[i - 1].add(b[i]);
        [b[0], sum(1), sum(2), sum(3), sum(4), b[4]]
    }
}

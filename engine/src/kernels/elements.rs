//! One instruction of a program on a strip.

use crate::graph::Function;
use crate::lanes::{Kernel, LANES, Lanes, abs, erf, exp, sigmoid, softplus, tanh};

/// An operand in memory: where its first vector is, and how far the next one (0: the same again).
#[derive(Clone, Copy)]
pub(crate) struct Walk {
    pub start: *const f32,
    pub step: usize,
}

/// `target[i] = function(a[i], b[i], c[i])` for the vectors of a strip.
pub(crate) struct Strip {
    pub function: Option<Function>,
    pub operands: [Walk; 3],
    pub target: *mut f32,
    pub n_vectors: usize,
}

impl Strip {
    #[inline(always)]
    fn unary<V: Lanes>(&self, function: impl Fn(V) -> V) {
        let [a, ..] = self.operands;
        for index in 0..self.n_vectors {
            // SAFETY: whoever made the strip says that operands and target have that many vectors.
            unsafe {
                let result = function(V::load(a.start.add(index * a.step)));
                result.store(self.target.add(index * LANES));
            }
        }
    }

    #[inline(always)]
    fn binary<V: Lanes>(&self, function: impl Fn(V, V) -> V) {
        let [a, b, _] = self.operands;
        for index in 0..self.n_vectors {
            // SAFETY: as above.
            unsafe {
                let left = V::load(a.start.add(index * a.step));
                let right = V::load(b.start.add(index * b.step));
                function(left, right).store(self.target.add(index * LANES));
            }
        }
    }

    #[inline(always)]
    fn ternary<V: Lanes>(&self, function: impl Fn(V, V, V) -> V) {
        let [a, b, c] = self.operands;
        for index in 0..self.n_vectors {
            // SAFETY: as above.
            unsafe {
                let first = V::load(a.start.add(index * a.step));
                let second = V::load(b.start.add(index * b.step));
                let third = V::load(c.start.add(index * c.step));
                function(first, second, third).store(self.target.add(index * LANES));
            }
        }
    }
}

impl Kernel for Strip {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let (zero, one) = (V::zero(), V::splat(1.0));
        let Some(function) = self.function else {
            return self.unary(|x: V| x);
        };
        match function {
            // The operand comes second, so that NaN stays NaN.
            Function::Relu => self.unary(|x: V| zero.max(x)),
            Function::LeakyRelu { slope } => {
                let slope = V::splat(slope);
                self.unary(|x: V| x.if_above(zero, x, x.mul(slope)))
            }
            Function::Sigmoid => self.unary(|x: V| sigmoid(x)),
            Function::Tanh => self.unary(|x: V| tanh(x)),
            Function::Softplus => self.unary(|x: V| softplus(x)),
            Function::HardSigmoid { alpha, beta } => {
                let (alpha, beta) = (V::splat(alpha), V::splat(beta));
                self.unary(|x: V| one.min(zero.max(x.mul_add(alpha, beta))))
            }
            Function::Neg => self.unary(|x: V| zero.sub(x)),
            Function::Sqrt => self.unary(|x: V| x.sqrt()),
            Function::Exp => self.unary(|x: V| exp(x)),
            Function::Log => self.unary(|x: V| x.each(f32::ln)),
            Function::Reciprocal => self.unary(|x: V| one.div(x)),
            Function::Erf => self.unary(|x: V| erf(x)),
            Function::Abs => self.unary(|x: V| abs(x)),
            Function::Sign => self.unary(|x: V| {
                let negative = zero.if_above(x, V::splat(-1.0), x);
                x.if_above(zero, one, negative)
            }),
            Function::Sin => self.unary(|x: V| x.each(f32::sin)),
            Function::Cos => self.unary(|x: V| x.each(f32::cos)),
            Function::Asin => self.unary(|x: V| x.each(f32::asin)),
            Function::Atan => self.unary(|x: V| x.each(f32::atan)),
            Function::Asinh => self.unary(|x: V| x.each(f32::asinh)),
            Function::Acosh => self.unary(|x: V| x.each(f32::acosh)),
            Function::Atanh => self.unary(|x: V| x.each(f32::atanh)),
            Function::Floor => self.unary(|x: V| x.each(f32::floor)),
            Function::Round => self.unary(|x: V| x.each(f32::round_ties_even)),
            Function::Add => self.binary(|a: V, b| a.add(b)),
            Function::Sub => self.binary(|a: V, b| a.sub(b)),
            Function::Mul => self.binary(|a: V, b| a.mul(b)),
            Function::Div => self.binary(|a: V, b| a.div(b)),
            // If one of both is NaN, so is the result.
            Function::Min => self.binary(|a: V, b| a.if_equal(a, a.min(b), a)),
            Function::Max => self.binary(|a: V, b| a.if_equal(a, a.max(b), a)),
            Function::Pow => self.binary(|a: V, b| a.each_with(b, f32::powf)),
            Function::Greater => self.binary(|a: V, b| a.if_above(b, one, zero)),
            Function::GreaterOrEqual => {
                self.binary(|a: V, b| a.if_above(b, one, a.if_equal(b, one, zero)))
            }
            Function::Equal => self.binary(|a: V, b| a.if_equal(b, one, zero)),
            Function::Where => self.ternary(|holds: V, yes, no| holds.if_equal(zero, no, yes)),
        }
    }
}

//! Work element by element, as a list of instructions that is run on strips of vectors.
//!
//! A convolution leaves a strip of pixels of sixteen channels in the cache; a program then makes of it all that the network wants at that place: bias,
//! activation, mask, residual sum, and the derivative that the backward pass needs later. Each instruction passes over the whole strip, so that its
//! dispatch costs nothing beside the work, and nothing but operands and results touches memory outside the first cache.

use crate::graph::Function;

/// Vectors of a strip, at most.
pub(crate) const STRIP: usize = 64;

/// Where an operand of an instruction comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Source {
    /// What the kernel before the program made.
    Result,
    /// What an instruction left in a register.
    Register(usize),
    /// The same place of a value in the layout of the program.
    Slot(usize),
    /// The only element of an image's part of a value.
    Element(usize),
    /// The same place of a constant, by its first float.
    Constant(usize),
    /// A constant that has one vector for each block of channels, by its first float.
    Channels(usize),
    /// A constant vector, by its first float.
    Vector(usize),
}

/// Where the result of an instruction goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    Register(usize),
    Slot(usize),
}

/// `target = function(operands)`; a function of fewer operands ignores the others. No function: a copy.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Instruction {
    pub function: Option<Function>,
    pub operands: [Source; 3],
    pub target: Target,
}

/// Instructions in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Program {
    pub instructions: Vec<Instruction>,
    /// Registers that it needs.
    pub n_registers: usize,
}

impl Program {
    /// Gives registers whose content is not needed any more to later instructions.
    pub fn with_few_registers(mut self) -> Self {
        let mut last_use = vec![0; self.n_registers];
        for (index, instruction) in self.instructions.iter().enumerate() {
            for operand in instruction.operands {
                if let Source::Register(register) = operand {
                    last_use[register] = index;
                }
            }
        }
        let mut names = vec![0; self.n_registers];
        let (mut free, mut count): (Vec<usize>, usize) = (Vec::new(), 0);
        for (index, instruction) in self.instructions.iter_mut().enumerate() {
            let mut ended = Vec::new();
            for operand in &mut instruction.operands {
                if let Source::Register(register) = operand {
                    let name = names[*register];
                    if last_use[*register] == index && !ended.contains(&name) {
                        ended.push(name);
                    }
                    *register = name;
                }
            }
            // Functions work element by element, so that a result may take the place of an operand.
            free.extend(ended);
            if let Target::Register(register) = &mut instruction.target {
                let name = free.pop().unwrap_or_else(|| {
                    count += 1;
                    count - 1
                });
                names[*register] = name;
                *register = name;
            }
        }
        self.n_registers = count;
        self
    }
}

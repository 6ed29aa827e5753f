//! CIFAR's binary batches: for each image its labels, one byte each, then 3,072 bytes in planes of red, green and blue.
//!
//! Source: Krizhevsky, *Learning multiple layers of features from tiny images*, 2009; <https://www.cs.toronto.edu/~kriz/cifar.html>

use super::layout::{Element, Layout, Order};
use super::stack::Stack;
use ebm_runtime::{Error, ErrorKind, ImageShape, Result};

/// The shape of every image.
const SHAPE: ImageShape = ImageShape {
    channels: 3,
    height: 32,
    width: 32,
};
/// CIFAR-10 has one label of 10 classes; CIFAR-100 has a coarse one of 20 and a fine one of 100.
const LABELS: [&[u8]; 2] = [&[10], &[20, 100]];

/// The images of a file of this length; `byte_at` reads one byte of it.
pub(super) fn stack(
    n_bytes: u64,
    shape: ImageShape,
    byte_at: &dyn Fn(u64) -> Result<u8>,
) -> Result<Stack> {
    if shape != SHAPE {
        return Err(Error::new(
            ErrorKind::Shape,
            "CIFAR's images have another shape than the model's",
        )
        .expected(shape)
        .but_got(SHAPE)
        .advise("use a model for their shape"));
    }
    for n_classes in LABELS {
        let n_record_bytes = (n_classes.len() + SHAPE.n_values()) as u64;
        if n_bytes > 0
            && n_bytes.is_multiple_of(n_record_bytes)
            && labels_fit(n_bytes, n_record_bytes, n_classes, byte_at)?
        {
            return Ok(Stack {
                header: Vec::new(),
                n_images: usize::try_from(n_bytes / n_record_bytes).unwrap_or(usize::MAX),
                n_label_bytes: n_classes.len(),
                layout: Layout {
                    shape,
                    element: Element::Byte,
                    order: Order::Planar,
                },
            });
        }
    }
    Err(Error::new(
        ErrorKind::Image,
        "the file is no whole binary batch of CIFAR",
    )
    .expected("records of 3,073 bytes (CIFAR-10) or 3,074 bytes (CIFAR-100), each after its labels")
    .but_got(format!("{n_bytes} bytes"))
    .advise("fetch the binary version again"))
}

/// Whether the first labels are numbers of classes.
fn labels_fit(
    n_bytes: u64,
    n_record_bytes: u64,
    n_classes: &[u8],
    byte_at: &dyn Fn(u64) -> Result<u8>,
) -> Result<bool> {
    const N_TRIED: u64 = 64;
    for record in 0..(n_bytes / n_record_bytes).min(N_TRIED) {
        for (place, &n_classes) in (0..).zip(n_classes) {
            if byte_at(record * n_record_bytes + place)? >= n_classes {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn stack_of(bytes: &[u8]) -> Result<Stack> {
        stack(bytes.len() as u64, SHAPE, &|at| Ok(bytes[at as usize]))
    }

    #[test]
    fn the_length_and_the_labels_tell_the_two_apart() {
        let record = |labels: &[u8]| [labels, &[200; 3072]].concat();
        for (labels, n_images) in [
            ([9].as_slice(), 3),
            (&[19, 99], 3),
            (&[9], 3074),
            (&[1, 2], 3073),
        ] {
            let stack = stack_of(&record(labels).repeat(n_images)).unwrap();
            assert_eq!(
                (stack.n_images, stack.n_label_bytes),
                (n_images, labels.len())
            );
        }
        for bytes in [Vec::new(), vec![0; 3000], record(&[10]), record(&[20, 1])] {
            let error = stack_of(&bytes).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Image, "{error}");
        }
        let grey = ImageShape {
            channels: 1,
            ..SHAPE
        };
        let error = stack(3073, grey, &|_| Ok(0)).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("expected [1, 32, 32], got [3, 32, 32]"),
            "{error}"
        );
    }
}

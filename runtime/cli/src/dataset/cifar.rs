//! CIFAR's binary batches.

use ebm_common::cifar::{Cifar, SHAPE};

use super::layout::{Element, Layout, Order};
use super::stack::Stack;
use ebm_runtime::{Error, ErrorKind, ImageShape, Result};

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
    let Some(cifar) = Cifar::of_file(n_bytes, byte_at)? else {
        return Err(Error::new(
            ErrorKind::Image,
            "the file is not a whole binary batch of CIFAR",
        )
        .expected(
            "records of 3,073 bytes (CIFAR-10) or 3,074 bytes (CIFAR-100), each after its labels",
        )
        .but_got(format!("{n_bytes} bytes"))
        .advise("fetch the binary version again"));
    };
    let n_images = n_bytes / cifar.n_record_bytes() as u64;
    Ok(Stack {
        header: Vec::new(),
        n_images: usize::try_from(n_images).unwrap_or(usize::MAX),
        n_label_bytes: cifar.n_classes().len(),
        layout: Layout {
            shape,
            element: Element::Byte,
            order: Order::Planar,
        },
    })
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

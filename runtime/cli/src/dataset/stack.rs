//! An array of images in a file.

use super::layout::{Element, Layout};

/// A header, then records of one length: labels of some bytes, then pixels.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stack {
    /// The bytes before the first record.
    pub(super) header: Vec<u8>,
    pub(super) n_images: usize,
    pub(super) n_label_bytes: usize,
    pub(super) layout: Layout,
}

impl Stack {
    /// Whether its values are floating-point numbers.
    pub(super) fn has_floats(&self) -> bool {
        matches!(self.layout.element, Element::Float(_))
    }

    /// The bytes of header and records; `None` if that is too large a number.
    pub(super) fn n_bytes(&self) -> Option<u64> {
        let record = self.n_label_bytes.checked_add(self.layout.n_bytes())?;
        let records = (self.n_images as u64).checked_mul(record as u64)?;
        records.checked_add(self.header.len() as u64)
    }
}

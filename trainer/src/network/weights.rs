//! Named tensors on a device, and their way to and from checkpoints.

use std::collections::BTreeMap;

use anyhow::Result;
use ebm_export::graph::tensor;
use tch::{Device, Kind, Tensor};

/// Weights by name, on some device.
pub type Weights = BTreeMap<String, Tensor>;

/// Bytes of tensors.
pub fn bytes<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> u64 {
    let bytes = |tensor: &Tensor| tensor.numel() * tensor.kind().elt_size_in_bytes();
    tensors.into_iter().map(|tensor| bytes(tensor) as u64).sum()
}

/// Copies tensors of a checkpoint to a device.
pub fn to_device(tensors: &tensor::Tensors, kind: Kind, device: Device) -> Weights {
    tensors
        .iter()
        .map(|(name, tensor)| (name.clone(), from_host(tensor, kind, device)))
        .collect()
}

/// Copies tensors back, as f32.
pub fn to_host(weights: &Weights) -> Result<tensor::Tensors> {
    weights
        .iter()
        .map(|(name, weight)| Ok((name.clone(), tensor_to_host(weight)?)))
        .collect()
}

/// Copies one tensor to a device.
pub fn from_host(tensor: &tensor::Tensor, kind: Kind, device: Device) -> Tensor {
    let shape: Vec<i64> = tensor.shape().iter().map(|&size| size as i64).collect();
    Tensor::from_slice(tensor.data())
        .view(shape.as_slice())
        .to_kind(kind)
        .to_device(device)
}

/// Copies one tensor back, as f32.
pub fn tensor_to_host(tensor: &Tensor) -> Result<tensor::Tensor> {
    let shape: Vec<usize> = tensor.size().iter().map(|&size| size as usize).collect();
    let flat = tensor
        .detach()
        .to_device(Device::Cpu)
        .to_kind(Kind::Float)
        .contiguous()
        .view([-1]);
    Ok(tensor::Tensor::new(&shape, Vec::<f32>::try_from(flat)?))
}

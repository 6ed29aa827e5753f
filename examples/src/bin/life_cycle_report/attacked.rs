//! The file of attacked images.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use ebm_runtime::{ImageShape, Images};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

/// What an attack wrote: images `[n, C, H, W]` in `[-1, 1]`, and for each of them its label and whether the attack broke it.
pub struct Attacked {
    pub clean: Images,
    /// Images of the attack on the defended classifier.
    pub attacked: Images,
    /// Images of the attack on the bare classifier, where the file has them.
    pub bare_attacked: Option<Images>,
    pub labels: Vec<usize>,
    /// Whether the defended classifier was broken, confirmed by the attack.
    pub broken: Vec<bool>,
    /// Whether the bare classifier was broken.
    pub bare_broken: Vec<bool>,
}

impl Attacked {
    /// Reads `attacked.safetensors`, given by itself or by its folder.
    pub fn open(path: &Path) -> Result<Self> {
        let path = if path.is_dir() {
            path.join("attacked.safetensors")
        } else {
            path.to_path_buf()
        };
        let bytes =
            std::fs::read(&path).with_context(|| format!("`{}` cannot be read", path.display()))?;
        Self::parse(&bytes)
            .with_context(|| format!("`{}` is not a file of attacked images", path.display()))
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let tensors = SafeTensors::deserialize(bytes)?;
        let get = |name: &str| {
            tensors
                .tensor(name)
                .with_context(|| format!("expected a tensor `{name}`"))
        };
        let this = Self {
            clean: images("clean", &get("clean")?)?,
            attacked: images("attacked", &get("attacked")?)?,
            bare_attacked: tensors
                .tensor("bare_attacked")
                .ok()
                .map(|t| images("bare_attacked", &t))
                .transpose()?,
            labels: labels(&get("labels")?)?,
            broken: flags("broken", &get("broken")?)?,
            bare_broken: flags("bare_broken", &get("bare_broken")?)?,
        };
        this.check_sizes()?;
        Ok(this)
    }

    fn check_sizes(&self) -> Result<()> {
        let n = self.labels.len();
        ensure!(n > 0, "expected at least one image, got none");
        let mut sizes = vec![
            ("clean", self.clean.len()),
            ("attacked", self.attacked.len()),
            ("broken", self.broken.len()),
            ("bare_broken", self.bare_broken.len()),
        ];
        sizes.extend(
            self.bare_attacked
                .as_ref()
                .map(|images| ("bare_attacked", images.len())),
        );
        for (name, size) in sizes {
            ensure!(
                size == n,
                "`{name}`: expected {n} rows as in `labels`, got {size}"
            );
        }
        Ok(())
    }

    /// Nothing where each label is a class.
    pub fn check_labels(&self, n_classes: usize) -> Result<()> {
        match self.labels.iter().find(|&&label| label >= n_classes) {
            None => Ok(()),
            Some(label) => {
                bail!("expected labels below the classifier's {n_classes} classes, got {label}")
            }
        }
    }
}

fn images(name: &str, tensor: &TensorView<'_>) -> Result<Images> {
    let &[_, channels, height, width] = tensor.shape() else {
        bail!(
            "`{name}`: expected a shape [n, C, H, W], got {:?}",
            tensor.shape()
        );
    };
    let values = elements(name, tensor, Dtype::F32)?
        .map(f32::from_le_bytes)
        .collect();
    Ok(Images::from_vec(
        ImageShape {
            channels,
            height,
            width,
        },
        values,
    )?)
}

fn labels(tensor: &TensorView<'_>) -> Result<Vec<usize>> {
    let labels = elements("labels", tensor, Dtype::I64)?.map(i64::from_le_bytes);
    labels
        .map(|label| {
            usize::try_from(label).with_context(|| format!("expected labels from 0, got {label}"))
        })
        .collect()
}

fn flags(name: &str, tensor: &TensorView<'_>) -> Result<Vec<bool>> {
    Ok(elements::<1>(name, tensor, Dtype::U8)?
        .map(|[flag]| flag != 0)
        .collect())
}

/// The elements of a tensor as bytes.
fn elements<'a, const SIZE: usize>(
    name: &str,
    tensor: &TensorView<'a>,
    dtype: Dtype,
) -> Result<impl Iterator<Item = [u8; SIZE]> + use<'a, SIZE>> {
    ensure!(
        tensor.dtype() == dtype,
        "`{name}`: expected elements {dtype:?}, got {:?}",
        tensor.dtype()
    );
    Ok(tensor.data().as_chunks().0.iter().copied())
}

//! Gaussians that were fitted before, by the hash of the images and of everything that made their features.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

use super::features::Features;
use super::gaussian::Gaussian;
use super::images::ImageSet;
use crate::evaluate::npz::{self, Npz};

/// The mean of features, f64 `[d]`, by the name that others give it too.
const MEAN: &str = "mu";
/// Their covariance, f64 `[d, d]`.
const COVARIANCE: &str = "sigma";
/// Images that they were fitted on.
const N: &str = "n";

/// The folder of Gaussians.
#[derive(Debug)]
pub struct Cache(PathBuf);

impl Cache {
    /// That of the user: `$EBM_CACHE_DIR/frechet`, or `ebm-life-cycle/frechet` below `$XDG_CACHE_HOME` or `~/.cache`. None if none of
    /// these is set.
    pub fn of_user() -> Option<Cache> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let folder = |name| variable(name).map(PathBuf::from);
        let xdg = folder("XDG_CACHE_HOME").filter(|folder| folder.is_absolute());
        let base = xdg.or_else(|| Some(folder("HOME")?.join(".cache")));
        let own = folder("EBM_CACHE_DIR").or_else(|| Some(base?.join("ebm-life-cycle")));
        Some(Cache(own?.join("frechet")))
    }

    /// The Gaussian of a key, if it is there and intact.
    pub fn get(&self, key: &str) -> Option<Gaussian> {
        let path = self.file(key);
        path.is_file().then(|| read(&path).ok()).flatten()
    }

    /// Keeps a Gaussian.
    pub fn put(&self, key: &str, gaussian: &Gaussian) -> Result<()> {
        fs::create_dir_all(&self.0)
            .with_context(|| format!("cannot make the folder {}", self.0.display()))?;
        let n = Tensor::from(gaussian.n.unwrap_or_default() as i64);
        npz::write(
            &self.file(key),
            &[
                (MEAN, &gaussian.mean),
                (COVARIANCE, &gaussian.covariance),
                (N, &n),
            ],
        )
    }

    fn file(&self, key: &str) -> PathBuf {
        self.0.join(format!("{key}.npz"))
    }
}

/// What the features of the first `n` images depend on, as a name: the images themselves, and what is made of them.
pub fn key(images: &ImageSet, n: usize, features: &Features) -> Result<String> {
    let batch = features.batch();
    let mut hash = Sha256::new();
    hash.update(features.key());
    hash.update(format!("{:?} {n}", images.shape()));
    for first in (0..n).step_by(batch) {
        let images = images.batch(first, batch.min(n - first))?;
        let flat = images.to_kind(Kind::Float).f_contiguous()?.f_view([-1])?;
        let values = Vec::<f32>::try_from(flat)?.into_iter();
        hash.update(values.flat_map(f32::to_le_bytes).collect::<Vec<u8>>());
    }
    Ok(format!("{:x}", hash.finalize()))
}

/// Whether an npz file holds a Gaussian that somebody fitted.
pub fn holds_gaussian(path: &Path) -> Result<bool> {
    let names = Npz::open(path)?.names()?;
    let holds = |wanted: &str| names.iter().any(|name| name == wanted);
    Ok(holds(MEAN) && holds(COVARIANCE))
}

/// The Gaussian of an npz file.
pub fn read(path: &Path) -> Result<Gaussian> {
    let mut npz = Npz::open(path)?;
    let n = match npz.names()?.iter().any(|name| name == N) {
        true => usize::try_from(npz.tensor(N)?.f_int64_value(&[])?).ok(),
        false => None,
    };
    let [mean, covariance] = [npz.tensor(MEAN)?, npz.tensor(COVARIANCE)?]
        .map(|tensor| tensor.to_kind(Kind::Double).to_device(Device::Cpu));
    let (mean_size, size) = (mean.size(), covariance.size());
    ensure!(
        matches!(mean_size[..], [d] if size == [d, d]),
        "{}: expected {MEAN} [d] and {COVARIANCE} [d, d], got {mean_size:?} and {size:?}",
        path.display()
    );
    Ok(Gaussian {
        n,
        mean,
        covariance,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gaussian_is_found_again_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache(folder.path().join("cache"));
        assert!(cache.get("a").is_none());
        let gaussian = Gaussian {
            n: Some(12),
            mean: Tensor::from_slice(&[0.1f64, 0.2]),
            covariance: Tensor::from_slice(&[1.0f64, 0.5, 0.5, 2.0]).view([2, 2]),
        };
        cache.put("a", &gaussian).unwrap();
        let found = cache.get("a").unwrap();
        assert_eq!(found.n, Some(12));
        assert!(found.mean.equal(&gaussian.mean));
        assert!(found.covariance.equal(&gaussian.covariance));
        assert!(holds_gaussian(&cache.file("a")).unwrap());
        // What was cut off counts as not there.
        let bytes = fs::read(cache.file("a")).unwrap();
        fs::write(cache.file("a"), &bytes[..bytes.len() / 2]).unwrap();
        assert!(cache.get("a").is_none());
    }

    #[test]
    fn a_gaussian_of_other_extents_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        let mean = Tensor::from_slice(&[0.1f64, 0.2]);
        npz::write(&path, &[(MEAN, &mean), (COVARIANCE, &mean)]).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("expected mu [d] and sigma [d, d], got [2] and [2]"));
    }
}

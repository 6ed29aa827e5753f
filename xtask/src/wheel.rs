//! Python wheels: fetched by pip, verified by hash, unpacked file by file.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use flate2::read::DeflateDecoder;
use rawzip::{CompressionMethod, RECOMMENDED_BUFFER_SIZE, ZipArchive};
use sha2::{Digest, Sha256};

use crate::surroundings::Surroundings;

/// A wheel of a package index, pinned to its bytes.
#[derive(Debug, Clone, Copy)]
pub struct Wheel {
    /// Name of the project in the index.
    pub project: &'static str,
    /// Its exact version.
    pub version: &'static str,
    /// Platform tag of the wheel.
    pub platform: &'static str,
    /// Size of the wheel.
    pub bytes: u64,
    /// Hash of the wheel, in hexadecimal digits.
    pub sha256: &'static str,
}

/// Above this size a file is brought to the disk before the folder gets its name. Smaller ones are checked by size.
const SYNCED_BYTES: u64 = 1 << 20;

impl Wheel {
    /// Name of its file among the downloads.
    pub fn file_name(&self) -> String {
        format!("{}-{}.whl", self.project, self.version)
    }

    /// Brings it into `downloads` unless it lies there already, and verifies its hash. What pip leaves behind when
    /// it is interrupted stays in `scratch`.
    pub fn fetch(
        &self,
        surroundings: &Surroundings,
        downloads: &Path,
        scratch: &Path,
    ) -> Result<PathBuf> {
        let kept = downloads.join(self.file_name());
        if kept.is_file() {
            if hash(&kept)? == self.sha256 {
                return Ok(kept);
            }
            fs::remove_file(&kept)
                .with_context(|| format!("could not remove the damaged {}", kept.display()))?;
        }
        let fetched = self.download(surroundings, scratch)?;
        let found = hash(&fetched)?;
        if found != self.sha256 {
            bail!(
                "the wheel of {} {} is not the pinned one: expected SHA-256 {}, got {found}; nothing of it was used: \
                 try again, and if it stays so check which package index pip uses (`python3 -m pip config list`)",
                self.project,
                self.version,
                self.sha256
            );
        }
        fs::rename(&fetched, &kept)
            .with_context(|| format!("could not move a wheel to {}", kept.display()))?;
        Ok(kept)
    }

    /// Lets pip download it, whatever Python pip itself runs on, and returns the file.
    fn download(&self, surroundings: &Surroundings, scratch: &Path) -> Result<PathBuf> {
        let folder = scratch.join(self.project);
        fs::create_dir_all(&folder)
            .with_context(|| format!("could not create {}", folder.display()))?;
        let requirement = folder.join("requirement.txt");
        let text = format!(
            "{}=={} --hash=sha256:{}\n",
            self.project, self.version, self.sha256
        );
        fs::write(&requirement, text)
            .with_context(|| format!("could not write {}", requirement.display()))?;
        let status = surroundings
            .command("python3")
            .args([
                "-m",
                "pip",
                "download",
                "--no-deps",
                "--no-cache-dir",
                "--disable-pip-version-check",
            ])
            .args([
                "--only-binary=:all:",
                "--python-version",
                "311",
                "--platform",
                self.platform,
            ])
            .arg("--require-hashes")
            .arg("--requirement")
            .arg(&requirement)
            .arg("--dest")
            .arg(&folder)
            .env("TMPDIR", scratch)
            .status()
            .context("could not start python3")?;
        if !status.success() {
            bail!(
                "pip could not download {} {} ({status}; its own words are above): check the network, or the \
                 package index in `python3 -m pip config list`, and repeat; finished downloads are kept",
                self.project,
                self.version
            );
        }
        let is_wheel =
            |path: &PathBuf| path.extension().is_some_and(|extension| extension == "whl");
        let files = fs::read_dir(&folder)
            .with_context(|| format!("could not list {}", folder.display()))?;
        files
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(is_wheel)
            .with_context(|| {
                format!(
                    "pip reported success but left no wheel of {} {}: update pip and repeat",
                    self.project, self.version
                )
            })
    }
}

/// Unpacks the files of a wheel to where `place` wants them below `folder`.
pub fn unpack(wheel: &Path, place: fn(&str) -> Option<PathBuf>, folder: &Path) -> Result<()> {
    let damaged = || format!("{} is not a wheel, or a damaged one", wheel.display());
    let file = File::open(wheel).with_context(|| format!("could not open {}", wheel.display()))?;
    let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
    let archive = ZipArchive::from_file(file, &mut buffer).with_context(damaged)?;
    let mut entries = archive.entries(&mut buffer);
    while let Some(entry) = entries.next_entry().with_context(damaged)? {
        // What is left of a name is relative and stays inside its folder.
        let name = entry.file_path().try_normalize().with_context(damaged)?;
        let Some(place) = place(name.as_ref()).filter(|_| !entry.is_dir()) else {
            continue;
        };
        let packed = archive.get_entry(entry.wayfinder()).with_context(damaged)?;
        let reader = packed.reader();
        let plain: Box<dyn Read + '_> = match entry.compression_method() {
            CompressionMethod::STORE => Box::new(reader),
            CompressionMethod::DEFLATE => Box::new(DeflateDecoder::new(reader)),
            other => bail!(
                "{} packs {} with {other:?}, and only stored and deflated files are expected in a wheel",
                wheel.display(),
                name.as_ref()
            ),
        };
        write_file(&mut packed.verifying_reader(plain), &folder.join(place)).with_context(
            || format!("could not unpack {} of {}", name.as_ref(), wheel.display()),
        )?;
    }
    Ok(())
}

fn write_file(content: &mut impl Read, path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut file = File::create(path)?;
    if io::copy(content, &mut file)? > SYNCED_BYTES {
        file.sync_all()?;
    }
    Ok(())
}

/// SHA-256 of a file in hexadecimal digits.
fn hash(path: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut file =
        File::open(path).with_context(|| format!("could not open {}", path.display()))?;
    loop {
        let n_read = file
            .read(&mut buffer)
            .with_context(|| format!("could not read {}", path.display()))?;
        if n_read == 0 {
            return Ok(hasher
                .finalize()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect());
        }
        hasher.update(&buffer[..n_read]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_sha256() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        fs::write(&path, "abc").unwrap();
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash(&path).unwrap(), expected);
    }

    #[test]
    fn what_is_no_wheel_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page.whl");
        fs::write(&path, "<html>").unwrap();
        let error = unpack(&path, |file| Some(file.into()), folder.path()).unwrap_err();
        assert!(
            format!("{error:#}").contains("page.whl is not a wheel"),
            "{error:#}"
        );
    }
}

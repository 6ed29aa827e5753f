//! The folder of a run: `config.toml`, `metrics.jsonl`, `samples/`, `diagnostics.svg` and `checkpoints/`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ebm_export::checkpoint::{self, Header};
use ebm_export::file::write_whole;
use ebm_export::tensor::Tensors;

/// What to do with a run that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It is kept and the new run refused.
    Keep,
    /// It is replaced.
    Replace,
}

impl Existing {
    /// From the option `--force`.
    pub fn from_force(force: bool) -> Existing {
        if force {
            Existing::Replace
        } else {
            Existing::Keep
        }
    }
}

const CONFIG: &str = "config.toml";
const METRICS: &str = "metrics.jsonl";
const SAMPLES: &str = "samples";
const DIAGNOSTICS: &str = "diagnostics.svg";
const CHECKPOINTS: &str = "checkpoints";
/// How the temporary names of `ebm_export::file` begin.
const UNFINISHED: &str = ".unfinished-";

/// The folder of a run.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Makes the folder of a new run.
    ///
    /// # Errors
    /// It holds a run that is to be kept, or it cannot be made.
    pub fn create(path: &Path, existing: Existing) -> Result<RunFolder> {
        let folder = RunFolder {
            path: path.to_path_buf(),
        };
        if folder.holds_a_run() {
            match existing {
                Existing::Keep => bail!(
                    "{} holds a run already: continue it with `trainer resume {}`, choose another folder with -o, or replace it with --force",
                    path.display(),
                    path.display()
                ),
                Existing::Replace => folder.clear()?,
            }
        }
        fs::create_dir_all(path.join(SAMPLES))
            .with_context(|| format!("cannot make the folder {}", path.display()))?;
        Ok(folder)
    }

    /// The folder of a run that is there.
    ///
    /// # Errors
    /// It holds none.
    pub fn open(path: &Path) -> Result<RunFolder> {
        let folder = RunFolder {
            path: path.to_path_buf(),
        };
        if !folder.holds_a_run() {
            bail!(
                "{} holds no run: expected a folder that `trainer fit` or `trainer classifier` made",
                path.display()
            );
        }
        fs::create_dir_all(path.join(SAMPLES))
            .with_context(|| format!("cannot write to {}", path.display()))?;
        Ok(folder)
    }

    /// The folder of a run that another process writes.
    pub fn of_first_rank(path: &Path) -> RunFolder {
        RunFolder {
            path: path.to_path_buf(),
        }
    }

    /// Removes what a process that was killed left half-written.
    pub fn sweep(&self) {
        for folder in [
            self.path.clone(),
            self.path.join(CHECKPOINTS),
            self.path.join(SAMPLES),
        ] {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                    // What cannot be removed is in nobody's way.
                    let _ =
                        fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path()));
                }
            }
        }
    }

    fn holds_a_run(&self) -> bool {
        [CONFIG, METRICS, CHECKPOINTS]
            .iter()
            .any(|name| self.path.join(name).exists())
    }

    fn clear(&self) -> Result<()> {
        let failed = || format!("cannot remove the old run in {}", self.path.display());
        for folder in [CHECKPOINTS, SAMPLES] {
            if self.path.join(folder).exists() {
                fs::remove_dir_all(self.path.join(folder)).with_context(failed)?;
            }
        }
        for file in [CONFIG, METRICS, DIAGNOSTICS] {
            if self.path.join(file).exists() {
                fs::remove_file(self.path.join(file)).with_context(failed)?;
            }
        }
        Ok(())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `metrics.jsonl`.
    pub fn metrics(&self) -> PathBuf {
        self.path.join(METRICS)
    }

    /// Writes the resolved configuration.
    ///
    /// # Errors
    /// The disk is full, for example.
    pub fn write_config(&self, text: &str) -> Result<()> {
        Ok(write_whole(&self.path.join(CONFIG), text.as_bytes())?)
    }

    /// Writes the diagnostics picture.
    ///
    /// # Errors
    /// The disk is full, for example.
    pub fn write_diagnostics(&self, svg: &str) -> Result<()> {
        Ok(write_whole(&self.path.join(DIAGNOSTICS), svg.as_bytes())?)
    }

    /// Writes the sample sheet of an update.
    ///
    /// # Errors
    /// The disk is full, for example.
    pub fn write_sheet(&self, update: u64, png: &[u8]) -> Result<()> {
        Ok(write_whole(
            &self.path.join(SAMPLES).join(format!("{update:08}.png")),
            png,
        )?)
    }

    /// Writes the checkpoint of `header.update`, then removes all but the newest `keep`.
    ///
    /// # Errors
    /// The disk is full, for example; earlier checkpoints stay.
    pub fn write_checkpoint(
        &self,
        header: &Header,
        groups: &[(&str, &Tensors)],
        keep: usize,
    ) -> Result<()> {
        let path = self.checkpoint(header.update);
        if path.exists() {
            return Ok(());
        }
        checkpoint::write(&path, header, groups).with_context(|| {
            format!(
                "the checkpoint of update {} was not written; earlier ones are as they were",
                header.update
            )
        })?;
        self.prune(keep)
    }

    fn checkpoint(&self, update: u64) -> PathBuf {
        self.path.join(CHECKPOINTS).join(format!("{update:08}"))
    }

    fn prune(&self, keep: usize) -> Result<()> {
        let mut updates: Vec<u64> = fs::read_dir(self.path.join(CHECKPOINTS))?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        updates.sort_unstable();
        let surplus = updates.len().saturating_sub(keep);
        for update in &updates[..surplus] {
            let path = self.checkpoint(*update);
            fs::remove_dir_all(&path)
                .with_context(|| format!("cannot remove the old checkpoint {}", path.display()))?;
        }
        Ok(())
    }
}

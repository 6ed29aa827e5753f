//! The folder of a sample: `samples.npz`, `snapshots/`, `snapshots.jsonl`, `energy.svg` and `sample.json`; and `unfinished-….npz` until it is complete.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ebm_common::staged::write_whole;
use ebm_common::target::Existing;
use ebm_export::source::checkpoint::sha256;
use serde::Serialize;
use tch::{Kind, Tensor};

use super::chains::{Observed, SampledChains};
use super::path::{EnergyPath, Row};
use super::plot::plot;
use crate::draw::sheet::{Block, sheet};
use crate::evaluate::npz::{self, Npz};
use crate::run::lock::FolderLock;

/// The images of the last snapshot.
pub const SAMPLES: &str = "samples.npz";
/// The folder of earlier ones.
pub const SNAPSHOTS: &str = "snapshots";
/// The images, f32 `[N, C, H, W]` in `[-1, 1]`.
pub const IMAGES: &str = "images";
/// The steps of the snapshots so far, int64 `[snapshots]`; the images are of the last.
pub const STEPS: &str = "steps";
/// Energies at those steps, f32 `[snapshots, N]`.
const ENERGIES: &str = "energies";

/// What was measured at each snapshot, a line of JSON each.
pub const ROWS: &str = "snapshots.jsonl";
/// The energy path and the saturation of the chains.
pub const PLOT: &str = "energy.svg";
const REQUEST: &str = "sample.json";
/// Images of a sheet.
const N_SHOWN: i64 = 64;

/// The folder of a sample.
#[derive(Debug)]
pub struct SampleFolder {
    path: PathBuf,
    /// No other process writes into the folder.
    _lock: FolderLock,
    /// Where chains are kept that have not taken all of their steps; the name stands for what was asked for.
    unfinished: PathBuf,
}

impl SampleFolder {
    /// Makes the folder, or opens that of the same sample where it was interrupted.
    ///
    /// # Errors
    /// It holds a sample that is to be kept, or cannot be made.
    pub fn open(path: &Path, request: &impl Serialize, existing: Existing) -> Result<SampleFolder> {
        let mut json = serde_json::to_vec_pretty(request).context("cannot write the request")?;
        json.push(b'\n');
        let folder = SampleFolder {
            path: path.to_path_buf(),
            _lock: FolderLock::take(path)?,
            unfinished: path.join(format!("unfinished-{}.npz", &sha256(&json)[..16])),
        };
        match existing {
            Existing::Replaced => folder.clear()?,
            Existing::Kept => folder.check_free(&json)?,
        }
        fs::create_dir_all(path.join(SNAPSHOTS))
            .with_context(|| format!("cannot make the folder {}", path.display()))?;
        write_whole(&path.join(REQUEST), &json)?;
        Ok(folder)
    }

    /// Checks that there is no other sample: one that was interrupted continues.
    fn check_free(&self, request: &[u8]) -> Result<()> {
        let Ok(held) = fs::read(self.path.join(REQUEST)) else {
            return Ok(());
        };
        let complete = self.path.join(SAMPLES).exists() && !self.unfinished.exists();
        let which = match held == request {
            true if !complete => return Ok(()),
            true => "this",
            false => "another",
        };
        bail!(
            "{} holds {which} sample already: choose another folder with -o, or replace it with --force",
            self.path.display()
        )
    }

    fn clear(&self) -> Result<()> {
        let failed = || format!("cannot remove the old sample in {}", self.path.display());
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == SNAPSHOTS {
                fs::remove_dir_all(entry.path()).with_context(failed)?;
            } else if [SAMPLES, ROWS, PLOT, REQUEST].contains(&name.as_str())
                || name.starts_with("unfinished-")
            {
                fs::remove_file(entry.path()).with_context(failed)?;
            }
        }
        Ok(())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a snapshot: its images `[N, C, H, W]`, and all that is known so far. `rows` ends with its own.
    pub fn write_snapshot(
        &self,
        images: &Tensor,
        path: &EnergyPath,
        rows: &[Row],
        position: Position,
    ) -> Result<()> {
        let step = rows.last().map_or(0, |row| row.step);
        let images = images.f_clamp(-1.0, 1.0)?;
        let shown = images.f_narrow(0, 0, images.size()[0].min(N_SHOWN))?;
        let snapshots = self.path.join(SNAPSHOTS);
        let sheet = sheet(&[Block::new(format!("after {step} steps"), shown)])?;
        write_whole(&snapshots.join(format!("{step:08}.png")), &sheet)?;
        let file = match position {
            Position::OnTheWay => snapshots.join(format!("{step:08}.npz")),
            Position::End => self.path.join(SAMPLES),
        };
        let steps: Vec<i64> = rows.iter().map(|row| row.step as i64).collect();
        let energies = path.energies(rows.iter().map(|row| row.step))?;
        npz::write(
            &file,
            &[
                (IMAGES, &images),
                (STEPS, &Tensor::from_slice(&steps)),
                (ENERGIES, &energies),
            ],
        )?;
        write_whole(&self.path.join(ROWS), lines(rows)?.as_bytes())?;
        Ok(write_whole(&self.path.join(PLOT), plot(path)?.as_bytes())?)
    }

    /// Keeps chains that have not taken all of their steps.
    pub fn write_unfinished(&self, chains: &SampledChains<'_>, path: &EnergyPath) -> Result<()> {
        let states = Tensor::f_cat(&chains.states(), 0)?;
        let (steps, observed): (Vec<i64>, Vec<&Observed>) = path
            .steps()
            .map(|(step, observed)| (step as i64, observed))
            .unzip();
        let numbers = |of: fn(&Observed) -> f64| {
            Tensor::from_slice(&observed.iter().map(|one| of(one)).collect::<Vec<f64>>())
        };
        let energies = path.energies(path.steps().map(|(step, _)| step))?;
        npz::write(
            &self.unfinished,
            &[
                ("step", &Tensor::from(chains.step() as i64)),
                ("states", &states),
                (STEPS, &Tensor::from_slice(&steps)),
                (ENERGIES, &energies),
                ("gradient_strength", &numbers(|one| one.gradient_strength)),
                ("saturation", &numbers(|one| one.saturation)),
            ],
        )
    }

    /// The chains where they were interrupted, and their way so far; as they are where they were not.
    pub fn resumed<'a>(
        &self,
        chains: SampledChains<'a>,
    ) -> Result<(SampledChains<'a>, EnergyPath)> {
        let mut path = EnergyPath::default();
        if !self.unfinished.exists() {
            return Ok((chains, path));
        }
        let mut npz = Npz::open(&self.unfinished)?;
        let step = npz.tensor("step")?.f_int64_value(&[])? as u64;
        let chains = chains.at(step, &npz.tensor("states")?.f_to_kind(Kind::Float)?)?;
        let steps = Vec::<i64>::try_from(npz.tensor(STEPS)?)?;
        let energies = npz.tensor(ENERGIES)?;
        let gradient_strengths = Vec::<f64>::try_from(npz.tensor("gradient_strength")?)?;
        let saturations = Vec::<f64>::try_from(npz.tensor("saturation")?)?;
        for (row, step) in steps.into_iter().enumerate() {
            let observed = Observed {
                energies: Vec::<f32>::try_from(energies.f_get(row as i64)?)?,
                gradient_strength: gradient_strengths[row],
                saturation: saturations[row],
            };
            path.add(step as u64, observed);
        }
        Ok((chains, path))
    }

    /// Removes what is needed no more once all steps are taken.
    pub fn finish(&self) -> Result<()> {
        match self.unfinished.exists() {
            true => fs::remove_file(&self.unfinished)
                .with_context(|| format!("cannot remove {}", self.unfinished.display())),
            false => Ok(()),
        }
    }
}

/// Which snapshot is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// One after which chains move on.
    OnTheWay,
    /// The last one.
    End,
}

fn lines(rows: &[Row]) -> Result<String> {
    let line = |row: &Row| Ok(serde_json::to_string(row).context("cannot write a row")? + "\n");
    rows.iter().map(line).collect()
}

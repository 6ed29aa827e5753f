//! From which checkpoint a run goes on, and what becomes of later ones.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ebm_common::files::FileError;
use ebm_export::Error;
use ebm_export::source::checkpoint;

use crate::run::folder::RunFolder;
use crate::run::saved::Saved;

/// The name of the best checkpoint.
const BEST: &str = "best";

/// A run and, if the user names one, the checkpoint to go on from.
#[derive(Debug)]
pub struct Resumed {
    /// The folder of the run.
    pub run: PathBuf,
    /// The checkpoint: a number of updates, or `best`.
    pub checkpoint: Option<String>,
}

impl Resumed {
    /// What a path means, and the option `--checkpoint` beside it: the folder of a run, or one of its checkpoints.
    ///
    /// # Errors
    /// It is a checkpoint that lies in no run, or both name one.
    pub fn of(path: &Path, checkpoint: Option<&str>) -> Result<Resumed> {
        if !path.join(checkpoint::HEADER_FILE).exists() {
            return Ok(Resumed {
                run: path.to_path_buf(),
                checkpoint: checkpoint.map(str::to_string),
            });
        }
        if let Some(checkpoint) = checkpoint {
            bail!(
                "--checkpoint {checkpoint}: {} names a checkpoint already: give one of the two",
                path.display()
            );
        }
        let whole = path
            .canonicalize()
            .with_context(|| format!("cannot read {}", path.display()))?;
        let name = whole.file_name().unwrap_or_default().to_string_lossy();
        let parent = whole.parent().unwrap_or(Path::new("/"));
        let run = match parent.parent() {
            _ if name == BEST => Some(parent),
            Some(run) if parent.ends_with("checkpoints") => Some(run),
            _ => None,
        };
        let run = run.with_context(|| {
            format!(
                "{} is a checkpoint outside of a run: give the folder of a run, or a checkpoint in its folder \"checkpoints\"",
                path.display()
            )
        })?;
        Ok(Resumed {
            run: run.to_path_buf(),
            checkpoint: Some(name.into_owned()),
        })
    }
}

/// Where a run goes on.
#[derive(Debug)]
pub struct Resumption {
    /// The checkpoint, which is whole.
    pub saved: Saved,
    /// Damaged checkpoints and later ones, the newest first.
    passed: Vec<Passed>,
}

/// A checkpoint that the run does not go on from.
#[derive(Debug)]
struct Passed {
    folder: PathBuf,
    /// What is wrong with it, if anything is.
    damage: Option<String>,
}

impl Resumption {
    /// From the checkpoint that is named, else from the newest that is whole.
    ///
    /// # Errors
    /// There is none of that name, it is damaged, none is whole, or the system refused.
    pub fn choose(folder: &RunFolder, named: Option<&str>) -> Result<Resumption> {
        let mut candidates = folder.checkpoints();
        if let Some(best) = update_of_best(folder) {
            let behind = candidates.partition_point(|(update, _)| *update < best);
            candidates.insert(behind, (best, folder.best()));
        }
        candidates.reverse();
        match named {
            Some(named) => Resumption::from_named(folder, candidates, named),
            None => Resumption::from_newest(folder, candidates),
        }
    }

    fn from_newest(folder: &RunFolder, candidates: Vec<(u64, PathBuf)>) -> Result<Resumption> {
        let mut chosen: Option<Saved> = None;
        let mut passed = Vec::new();
        for (_, path) in candidates {
            // Older checkpoints do not matter, but the best one is compared with later ones.
            if chosen.is_some() && path != folder.best() {
                continue;
            }
            match checkpoint::verify(&path) {
                Ok(header) => {
                    chosen.get_or_insert(Saved {
                        folder: path,
                        header,
                    });
                }
                Err(error) => passed.push(Passed {
                    damage: Some(damage(error)?),
                    folder: path,
                }),
            }
        }
        let Some(saved) = chosen else {
            let damage: Vec<String> = passed
                .into_iter()
                .filter_map(|passed| passed.damage)
                .collect();
            bail!(
                "{} has no intact checkpoint, so that the run has to begin again: {}",
                folder.path().display(),
                damage.join("; ")
            );
        };
        Ok(Resumption { saved, passed })
    }

    fn from_named(
        folder: &RunFolder,
        candidates: Vec<(u64, PathBuf)>,
        named: &str,
    ) -> Result<Resumption> {
        let is_best = |path: &Path| path == folder.best();
        let is_named = |(update, path): &&(u64, PathBuf)| match named {
            BEST => is_best(path),
            number => number.parse() == Ok(*update) && !is_best(path),
        };
        let Some((update, path)) = candidates.iter().find(is_named).cloned() else {
            let names = candidates.iter().rev().map(|(_, path)| name(path));
            bail!(
                "--checkpoint {named}: {} has the checkpoints {}: name one of them",
                folder.path().display(),
                names.collect::<Vec<String>>().join(", ")
            );
        };
        let header = checkpoint::verify(&path)?;
        let mut passed = Vec::new();
        for (other, path) in candidates {
            // Later checkpoints are put aside as they are; a best one that is damaged would never be replaced.
            let damage = match is_best(&path).then(|| checkpoint::verify(&path)) {
                Some(Err(error)) => Some(damage(error)?),
                _ => None,
            };
            if other > update || damage.is_some() {
                passed.push(Passed {
                    folder: path,
                    damage,
                });
            }
        }
        Ok(Resumption {
            passed,
            saved: Saved {
                folder: path,
                header,
            },
        })
    }

    /// Says which checkpoints are damaged.
    pub fn tell(&self) {
        for damage in self
            .passed
            .iter()
            .filter_map(|passed| passed.damage.as_ref())
        {
            warning!("left out: {damage}");
        }
    }

    /// Puts what was passed into a folder of its own in that of the run, beside a copy of what was recorded, which the run now overwrites.
    pub fn put_aside(&self, folder: &RunFolder) -> Result<()> {
        if self.passed.is_empty() {
            return Ok(());
        }
        let aside = folder.next_aside();
        let put = || -> std::io::Result<()> {
            let checkpoints = aside.join("checkpoints");
            fs::create_dir_all(&checkpoints)?;
            for file in folder.records().into_iter().filter(|file| file.exists()) {
                fs::copy(&file, aside.join(file.file_name().unwrap_or_default()))?;
            }
            for Passed { folder: from, .. } in &self.passed {
                let to = match from == &folder.best() {
                    true => aside.join(BEST),
                    false => checkpoints.join(name(from)),
                };
                fs::rename(from, to)?;
            }
            Ok(())
        };
        put().with_context(|| format!("cannot put later checkpoints into {}", aside.display()))?;
        let names = self.passed.iter().rev().map(|passed| name(&passed.folder));
        note!(
            "put aside into {}: {} and what was recorded until then",
            aside.display(),
            names.collect::<Vec<String>>().join(", ")
        );
        Ok(())
    }
}

fn update_of_best(folder: &RunFolder) -> Option<u64> {
    let best = folder.best();
    // One whose header cannot be read is older than all others: it is only found to be damaged.
    best.exists()
        .then(|| checkpoint::read_header(&best).map_or(0, |header| header.update))
}

/// What is wrong with a checkpoint that is damaged.
fn damage(error: Error) -> Result<String> {
    let is_damage = match &error {
        Error::Io(FileError { source, .. }) => matches!(
            source.kind(),
            ErrorKind::NotFound | ErrorKind::UnexpectedEof | ErrorKind::NotADirectory
        ),
        Error::Checkpoint { .. } => true,
        _ => false,
    };
    let text = format!("{:#}", anyhow::Error::new(error));
    match is_damage {
        true => Ok(text.replace("; take another checkpoint of the run", "")),
        false => bail!(text),
    }
}

fn name(folder: &Path) -> String {
    let name = folder.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

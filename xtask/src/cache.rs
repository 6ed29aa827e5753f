//! The per-user cache: folders that are either complete or not there.
//!
//! ```text
//! <cache>/<folder of a part>/    complete: holds a list of its files, written last
//! <cache>/downloads/             verified wheels of a part that is being made
//! <cache>/unfinished/<process>/  whatever an interruption may leave behind
//! <cache>/lock                   held by the one set-up that writes
//! ```

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::lock::Lock;
use crate::part::Part;
use crate::surroundings::Surroundings;
use crate::{tool, wheel};

/// List of a complete folder's files: the wheels it was made of, then size and path of each file.
const LIST: &str = ".complete";

/// The folder that holds what was fetched.
#[derive(Debug)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The cache at `root`, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Folder of `part`, complete or not.
    pub fn folder(&self, part: &Part) -> PathBuf {
        self.root.join(part.folder)
    }

    /// Whether the folder of `part` holds everything, made of the wheels that are pinned now.
    pub fn is_complete(&self, part: &Part) -> bool {
        let folder = self.folder(part);
        let Ok(list) = fs::read_to_string(folder.join(LIST)) else {
            return false;
        };
        let Some(files) = list.strip_prefix(&heading(part)) else {
            return false;
        };
        files.lines().all(|line| {
            let Some((bytes, path)) = line.split_once(' ') else {
                return false;
            };
            folder
                .join(path)
                .metadata()
                .is_ok_and(|metadata| metadata.len().to_string() == bytes)
        })
    }

    /// Makes the folder of `part` complete: fetches, verifies, unpacks beside it, and renames.
    pub fn fill(&self, part: &Part, surroundings: &Surroundings) -> Result<()> {
        tool::python(surroundings)?;
        fs::create_dir_all(self.downloads()).with_context(|| {
            format!(
                "could not create {}: set EBM_CACHE_DIR to a folder of yours",
                self.root.display()
            )
        })?;
        let _lock = Lock::wait(&self.root)?;
        if self.is_complete(part) {
            return Ok(());
        }
        self.clear_unfinished();
        tool::room(surroundings, &self.root, part.peak_bytes())?;
        let scratch = self.unfinished().join(std::process::id().to_string());
        let filled = self.make(part, surroundings, &scratch);
        // What a failure leaves is cleared now if possible, otherwise by the next set-up.
        fs::remove_dir_all(&scratch).ok();
        filled?;
        self.clear_downloads(part);
        Ok(())
    }

    /// Removes what a set-up that was killed left behind, unless another one is writing.
    pub fn tidy(&self, parts: &[&Part]) {
        if !self.unfinished().exists() && !self.downloads().exists() {
            return;
        }
        if let Ok(Some(_lock)) = Lock::attempt(&self.root) {
            self.clear_unfinished();
            parts
                .iter()
                .filter(|part| self.is_complete(part))
                .for_each(|part| self.clear_downloads(part));
        }
    }

    fn make(&self, part: &Part, surroundings: &Surroundings, scratch: &Path) -> Result<()> {
        println!(
            "Fetching {}: {} to download.",
            part.title,
            megabytes(part.download_bytes())
        );
        let folder = scratch.join("folder");
        fs::create_dir_all(&folder)
            .with_context(|| format!("could not create {}", folder.display()))?;
        let mut wheels = Vec::new();
        for (index, wheel) in part.wheels.iter().enumerate() {
            let started = Instant::now();
            let size = megabytes(wheel.bytes);
            println!(
                "  [{}/{}] {} {} ({size})",
                index + 1,
                part.wheels.len(),
                wheel.project,
                wheel.version
            );
            wheels.push(wheel.fetch(surroundings, &self.downloads(), scratch)?);
            println!(
                "        verified after {:.1} s",
                started.elapsed().as_secs_f64()
            );
        }
        let started = Instant::now();
        print!("  unpacking {} …", megabytes(part.unpacked_bytes));
        std::io::stdout().flush().ok();
        for path in &wheels {
            wheel::unpack(path, part.place, &folder)?;
        }
        complete(part, &folder)?;
        self.install(part, &folder, scratch)?;
        println!(" {:.1} s", started.elapsed().as_secs_f64());
        Ok(())
    }

    /// Gives a complete folder its name. One that was in its place is incomplete and goes to `scratch`.
    fn install(&self, part: &Part, folder: &Path, scratch: &Path) -> Result<()> {
        let place = self.folder(part);
        let could_not = || format!("could not put {} in its place", place.display());
        if place.symlink_metadata().is_ok() {
            fs::rename(&place, scratch.join("replaced")).with_context(could_not)?;
        }
        fs::rename(folder, &place).with_context(could_not)?;
        sync(&self.root).with_context(could_not)
    }

    fn downloads(&self) -> PathBuf {
        self.root.join("downloads")
    }

    fn unfinished(&self) -> PathBuf {
        self.root.join("unfinished")
    }

    /// A pip that outlived its set-up may still be writing there: what cannot be removed is left for the next time.
    fn clear_unfinished(&self) {
        fs::remove_dir_all(self.unfinished()).ok();
    }

    fn clear_downloads(&self, part: &Part) {
        for wheel in part.wheels {
            fs::remove_file(self.downloads().join(wheel.file_name())).ok();
        }
        // Goes only when it is empty, that is, when no other part is half fetched.
        fs::remove_dir(self.downloads()).ok();
        fs::remove_dir(self.unfinished()).ok();
    }
}

/// Adds what no wheel has, checks that nothing is missing, and writes the list that makes a folder complete.
fn complete(part: &Part, folder: &Path) -> Result<()> {
    let could_not = || format!("could not complete {}", part.title);
    for (path, target) in part.links {
        std::os::unix::fs::symlink(target, folder.join(path)).with_context(could_not)?;
    }
    for (path, text) in part.texts {
        fs::write(folder.join(path), text).with_context(could_not)?;
    }
    if let Some(missing) = part.needed.iter().find(|path| !folder.join(path).is_file()) {
        bail!(
            "the wheels of {} hold no {missing}, so its pins in xtask/src/part.rs are wrong",
            part.title
        );
    }
    let mut list = heading(part);
    append_files(folder, folder, &mut list).with_context(could_not)?;
    let mut file = File::create(folder.join(LIST)).with_context(could_not)?;
    file.write_all(list.as_bytes()).with_context(could_not)?;
    file.sync_all().with_context(could_not)?;
    sync(folder).with_context(could_not)
}

fn heading(part: &Part) -> String {
    part.wheels
        .iter()
        .map(|wheel| format!("{} {}\n", wheel.sha256, wheel.file_name()))
        .collect::<String>()
        + "\n"
}

fn append_files(root: &Path, folder: &Path, list: &mut String) -> std::io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let path = entry.path();
        let metadata = path.metadata()?;
        if metadata.is_dir() {
            append_files(root, &path, list)?;
        } else if let Ok(relative) = path.strip_prefix(root) {
            list.push_str(&format!("{} {}\n", metadata.len(), relative.display()));
        }
    }
    Ok(())
}

fn sync(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

//! `cargo xtask install`: the programs, each beside the libraries that it needs, and their names in one folder of programs.
//!
//! ```text
//! <root>/lib/ebm-life-cycle/   programs and libraries
//! <root>/bin/                  links to the programs
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::setup::{self, Libtorch};
use crate::surroundings::Surroundings;
use crate::{link, programs, step};

/// The folder of programs and libraries, below the root.
const FOLDER: &str = "lib/ebm-life-cycle";

/// File in that folder that says who wrote it.
const MARKER: &str = ".written-by-cargo-xtask-install";

/// Names that people type, and the program that each runs.
const NAMES: [(&str, &str); 4] = [
    ("trainer", "trainer"),
    ("purify", "purify"),
    ("ebm-export", "ebm-export"),
    ("export", "ebm-export"),
];

/// What each installed program is asked, to see that it runs, and what it has to say.
const PROBES: [(&str, &str, &str); 3] = [
    ("trainer", "--version", "trainer"),
    ("purify", "backends", "\nort: available"),
    ("ebm-export", "--version", "ebm-export"),
];

/// Sets up, builds a selection of packages and features, and installs below `root`, or where cargo installs programs.
pub fn install(surroundings: &Surroundings, root: Option<&Path>, selection: &str) -> Result<()> {
    let root = match root {
        Some(root) => std::path::absolute(root).context("--root is not a usable path")?,
        None => root_of_cargo(surroundings)?,
    };
    check(&root)?;
    setup::setup(surroundings, Libtorch::AsLinked)?;
    step::run_all(surroundings, &[programs::build(selection)])?;
    replace(&root.join(FOLDER), |folder| fill(surroundings, folder))?;
    for (name, program) in NAMES {
        link::point(&root.join("bin").join(name), &target(program))?;
    }
    PROBES
        .iter()
        .try_for_each(|(name, argument, said)| probe(&root.join("bin"), name, argument, said))?;
    report(surroundings, &root.join("bin"));
    Ok(())
}

/// Where `cargo install` puts programs, whose `bin` is on the `PATH` of most people who have cargo.
fn root_of_cargo(surroundings: &Surroundings) -> Result<PathBuf> {
    let chosen = ["CARGO_INSTALL_ROOT", "CARGO_HOME"]
        .iter()
        .find_map(|name| surroundings.variable(name));
    match (chosen, surroundings.variable("HOME")) {
        (Some(root), _) => std::path::absolute(root)
            .context("CARGO_INSTALL_ROOT or CARGO_HOME is not a usable path"),
        (None, Some(home)) => Ok(Path::new(home).join(".cargo")),
        (None, None) => bail!("HOME is not set: say with --root where to install"),
    }
}

/// Refuses to touch what somebody else has put there, before any work starts.
fn check(root: &Path) -> Result<()> {
    let folder = root.join(FOLDER);
    let mut foreign = Vec::new();
    if folder.symlink_metadata().is_ok() && !folder.join(MARKER).is_file() {
        foreign.push(folder);
    }
    let links = NAMES.iter().map(|(name, program)| {
        let link = root.join("bin").join(name);
        (link, target(program))
    });
    foreign.extend(links.filter_map(|(link, target)| {
        let is_foreign = link.symlink_metadata().is_ok()
            && !fs::read_link(&link).is_ok_and(|known| known == target);
        is_foreign.then_some(link)
    }));
    match foreign.first() {
        Some(path) => bail!(
            "{} was not installed by `cargo xtask install`: move it away, or choose another folder with --root",
            path.display()
        ),
        None => Ok(()),
    }
}

/// Where a link in `bin` points to.
fn target(program: &str) -> PathBuf {
    Path::new("..").join(FOLDER).join(program)
}

/// Fills a new folder, then gives it the place of the old one.
fn replace(folder: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let could_not = || format!("could not write {}", folder.display());
    let beside = |what: &str| {
        let name = format!(".ebm-life-cycle.{what}.{}", std::process::id());
        folder.with_file_name(name)
    };
    let (fresh, old) = (beside("new"), beside("old"));
    fs::create_dir_all(&fresh).with_context(could_not)?;
    let filled = fill(&fresh).and_then(|()| {
        if folder.exists() {
            fs::rename(folder, &old).with_context(could_not)?;
        }
        fs::rename(&fresh, folder).with_context(could_not)
    });
    fs::remove_dir_all(&old).ok();
    fs::remove_dir_all(&fresh).ok();
    filled
}

/// The programs, and the libraries that set-up has fetched. Those that the user brought stay where they are: libtorch is found there by the
/// trainer, which was built with it, and ONNX Runtime by a link.
fn fill(surroundings: &Surroundings, folder: &Path) -> Result<()> {
    let built = surroundings.target().join("release");
    for (program, _, _) in PROBES {
        fs::copy(built.join(program), folder.join(program))
            .with_context(|| format!("could not install {program}"))?;
    }
    let fetched = surroundings.workspace().join(".deps");
    if surroundings.variable("LIBTORCH").is_none() {
        for library in libraries(&fetched.join("libtorch/lib"))? {
            bring(&library, folder)?;
        }
    }
    match surroundings.variable("ORT_DYLIB_PATH") {
        None => bring(&fetched.join("onnxruntime/libonnxruntime.so"), folder)?,
        Some(own) => std::path::absolute(own)
            .and_then(|own| std::os::unix::fs::symlink(own, folder.join("libonnxruntime.so")))
            .context("could not link the library of ORT_DYLIB_PATH")?,
    }
    let text = "`cargo xtask install` overwrites this folder.\n";
    fs::write(folder.join(MARKER), text).context("could not mark what is installed")
}

fn libraries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("could not list {}", folder.display()))?;
    let paths = entries.map(|entry| Ok(entry?.path()));
    let paths: Vec<PathBuf> = paths.collect::<std::io::Result<_>>()?;
    Ok(paths
        .into_iter()
        .filter(|path| path.to_string_lossy().contains(".so"))
        .collect())
}

/// The same file under a second name if both places are on one disk, otherwise a copy: either way it stays when the cache goes.
fn bring(library: &Path, folder: &Path) -> Result<()> {
    let could_not = || format!("could not install {}", library.display());
    let real = library.canonicalize().with_context(could_not)?;
    let place = folder.join(library.file_name().unwrap_or_default());
    if fs::hard_link(&real, &place).is_err() {
        fs::copy(&real, &place).with_context(could_not)?;
    }
    Ok(())
}

/// Runs an installed program as from anywhere, with no variable set.
fn probe(bin: &Path, name: &str, argument: &str, said: &str) -> Result<()> {
    let program = bin.join(name);
    let output = Command::new(&program)
        .arg(argument)
        .env_clear()
        .current_dir("/")
        .output()
        .with_context(|| format!("could not start {}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || !text.contains(said) {
        bail!(
            "{} is installed, but `{name} {argument}` does not say{said:?}:\n{text}{}",
            program.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

fn report(surroundings: &Surroundings, bin: &Path) {
    println!(
        "Installed in {}: trainer, purify, ebm-export (and export, the second name of the last).",
        bin.display()
    );
    let path = surroundings.variable("PATH").unwrap_or_default();
    let is_known = std::env::split_paths(path)
        .any(|folder| folder == bin || folder.canonicalize().ok() == bin.canonicalize().ok());
    if !is_known {
        println!(
            "That folder is not on the PATH. Put this line into your shell's profile, for example ~/.profile:\n  \
             export PATH={}:\"$PATH\"",
            step::quoted(&bin.display().to_string())
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_else_put_there_is_refused() {
        let owner = tempfile::tempdir().unwrap();
        let root = owner.path();
        fs::create_dir_all(root.join("bin")).unwrap();
        check(root).unwrap();
        link::point(&root.join("bin/export"), &target("ebm-export")).unwrap();
        check(root).unwrap();
        fs::write(root.join("bin/trainer"), "theirs").unwrap();
        let error = check(root).unwrap_err().to_string();
        assert!(
            error.contains("bin/trainer was not installed by") && error.contains("--root"),
            "{error}"
        );
        fs::remove_file(root.join("bin/trainer")).unwrap();
        fs::create_dir_all(root.join(FOLDER)).unwrap();
        let error = check(root).unwrap_err().to_string();
        assert!(error.contains("lib/ebm-life-cycle was not"), "{error}");
    }

    #[test]
    fn an_installation_that_fails_leaves_the_one_before() {
        let owner = tempfile::tempdir().unwrap();
        let folder = owner.path().join(FOLDER);
        let write =
            |text: &'static str| move |folder: &Path| Ok(fs::write(folder.join("program"), text)?);
        replace(&folder, write("first")).unwrap();
        let fails = |folder: &Path| {
            write("third")(folder)?;
            bail!("the disk is full")
        };
        replace(&folder, write("second")).unwrap();
        replace(&folder, fails).unwrap_err();
        assert_eq!(
            fs::read_to_string(folder.join("program")).unwrap(),
            "second"
        );
        let left = fs::read_dir(folder.parent().unwrap()).unwrap().count();
        assert_eq!(left, 1, "no folder beside it is left");
    }

    #[test]
    fn a_library_is_brought_under_the_name_that_programs_know() {
        let owner = tempfile::tempdir().unwrap();
        let [cache, folder] = ["cache", "folder"].map(|name| owner.path().join(name));
        fs::create_dir_all(&cache).unwrap();
        fs::create_dir_all(&folder).unwrap();
        fs::write(cache.join("libonnxruntime.so.1.32.0"), "library").unwrap();
        let link = cache.join("libonnxruntime.so");
        std::os::unix::fs::symlink("libonnxruntime.so.1.32.0", &link).unwrap();
        fs::write(cache.join("notes.txt"), "").unwrap();
        assert_eq!(libraries(&cache).unwrap().len(), 2);
        bring(&link, &folder).unwrap();
        fs::remove_dir_all(&cache).unwrap();
        let text = fs::read_to_string(folder.join("libonnxruntime.so")).unwrap();
        assert_eq!(text, "library");
    }
}

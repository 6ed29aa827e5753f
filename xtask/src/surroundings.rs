//! What a task finds around it: the clone, the environment variables, the programs in `PATH`.
//!
//! Everything that a task wants from outside is asked of a [`Surroundings`], so that a test can make its own.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Variables that `.cargo/config.toml` sets for whatever cargo runs, with the path below the clone that it gives them.
const INJECTED: &[(&str, &str)] = &[
    ("LIBTORCH", ".deps/libtorch"),
    ("ORT_DYLIB_PATH", ".deps/onnxruntime/libonnxruntime.so"),
];

/// The clone and the environment of one task.
#[derive(Debug, Clone)]
pub struct Surroundings {
    workspace: PathBuf,
    target: PathBuf,
    variables: BTreeMap<OsString, OsString>,
}

impl Surroundings {
    /// Those of this process: the clone that `cargo xtask` was typed in, and the user's own variables.
    pub fn of_process() -> Result<Self> {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let workspace = manifest
            .parent()
            .context("the folder of xtask has no parent: run `cargo xtask` inside the clone")?;
        let mut made = Self::new(workspace, std::env::vars_os());
        // Cargo puts this program at <target>/debug/xtask, wherever the user has moved the target folder to.
        let program = std::env::current_exe().context("this program cannot find its own path")?;
        if let Some(target) = program.ancestors().nth(2) {
            made.target = target.to_path_buf();
        }
        Ok(made)
    }

    /// A clone at `workspace` and just these variables. What cargo injected from `.cargo/config.toml` is left out.
    pub fn new(
        workspace: impl Into<PathBuf>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Self {
        let workspace = workspace.into();
        let mut made = Self {
            target: workspace.join("target"),
            workspace,
            variables: variables.into_iter().collect(),
        };
        for (name, path) in INJECTED {
            let injected = made.workspace.join(path);
            if made
                .variable(name)
                .is_some_and(|value| same_place(Path::new(value), &injected))
            {
                made.variables.remove(OsStr::new(name));
            }
        }
        made
    }

    /// Root of the clone.
    pub fn workspace(&self) -> &Path {
        &self.workspace
    }

    /// Where cargo puts what it builds.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// What the user set `name` to; an empty value counts as unset.
    pub fn variable(&self, name: &str) -> Option<&OsStr> {
        self.variables
            .get(OsStr::new(name))
            .map(OsString::as_os_str)
            .filter(|value| !value.is_empty())
    }

    /// The per-user folder that holds what was downloaded.
    pub fn cache(&self) -> Result<PathBuf> {
        if let Some(folder) = self.variable("EBM_CACHE_DIR") {
            return std::path::absolute(folder)
                .context("EBM_CACHE_DIR is not a usable path: give an absolute one");
        }
        if let Some(folder) = self
            .variable("XDG_CACHE_HOME")
            .map(Path::new)
            .filter(|folder| folder.is_absolute())
        {
            return Ok(folder.join("ebm-life-cycle"));
        }
        match self.variable("HOME") {
            Some(home) => Ok(Path::new(home).join(".cache/ebm-life-cycle")),
            None => bail!(
                "neither EBM_CACHE_DIR nor HOME is set: set EBM_CACHE_DIR to a folder for the downloads"
            ),
        }
    }

    /// The executable that `name` means in the user's `PATH`.
    pub fn find_program(&self, name: impl AsRef<OsStr>) -> Option<PathBuf> {
        let name = Path::new(name.as_ref());
        if name.components().count() > 1 {
            return is_executable(name).then(|| name.to_path_buf());
        }
        let path = self.variable("PATH")?;
        std::env::split_paths(path)
            .map(|folder| folder.join(name))
            .find(|candidate| is_executable(candidate))
    }

    /// A command that sees the user's variables and nothing else.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs(&self.variables)
            .current_dir(&self.workspace);
        command
    }

    /// The cargo that runs this task, so that a toolchain chosen with `cargo +name` stays chosen.
    pub fn cargo(&self) -> &OsStr {
        self.variable("CARGO").unwrap_or(OsStr::new("cargo"))
    }
}

/// Whether both paths name the same place once the links of their parents are resolved. The last part may be missing.
fn same_place(left: &Path, right: &Path) -> bool {
    let resolved = |path: &Path| {
        let folder = path.parent()?.canonicalize().ok()?;
        Some(folder.join(path.file_name()?))
    };
    left == right || resolved(left).is_some_and(|left| Some(left) == resolved(right))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Surroundings {
        let variables = variables
            .iter()
            .map(|(name, value)| (OsString::from(name), OsString::from(value)));
        Surroundings::new("/clone", variables)
    }

    #[test]
    fn a_value_injected_by_cargo_is_not_the_users() {
        assert_eq!(
            with(&[("LIBTORCH", "/clone/.deps/libtorch")]).variable("LIBTORCH"),
            None
        );
        assert_eq!(with(&[("LIBTORCH", "")]).variable("LIBTORCH"), None);
        assert_eq!(
            with(&[("LIBTORCH", "/opt/torch")]).variable("LIBTORCH"),
            Some(OsStr::new("/opt/torch"))
        );
        let injected = "/clone/.deps/onnxruntime/libonnxruntime.so";
        assert_eq!(
            with(&[("ORT_DYLIB_PATH", injected)]).variable("ORT_DYLIB_PATH"),
            None
        );
    }

    #[test]
    fn an_injected_value_is_known_through_a_link_to_the_clone() {
        let folder = tempfile::tempdir().unwrap();
        let clone = folder.path().join("clone");
        std::fs::create_dir_all(clone.join(".deps")).unwrap();
        std::os::unix::fs::symlink(&clone, folder.path().join("link")).unwrap();
        let value = folder.path().join("link/.deps/libtorch").into_os_string();
        assert_eq!(
            Surroundings::new(clone, [("LIBTORCH".into(), value)]).variable("LIBTORCH"),
            None
        );
    }

    #[test]
    fn the_cache_is_chosen_by_the_most_specific_variable() {
        let all = [
            ("EBM_CACHE_DIR", "/a"),
            ("XDG_CACHE_HOME", "/b"),
            ("HOME", "/c"),
        ];
        let chosen = |variables: &[(&str, &str)]| with(variables).cache().unwrap();
        assert_eq!(chosen(&all), Path::new("/a"));
        assert_eq!(chosen(&all[1..]), Path::new("/b/ebm-life-cycle"));
        assert_eq!(
            chosen(&[("XDG_CACHE_HOME", "relative"), all[2]]),
            Path::new("/c/.cache/ebm-life-cycle")
        );
        assert!(
            with(&[])
                .cache()
                .unwrap_err()
                .to_string()
                .contains("EBM_CACHE_DIR")
        );
    }
}

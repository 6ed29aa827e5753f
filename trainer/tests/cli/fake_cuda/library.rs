//! The libraries of `tests/fake_cuda`: built when a test first asks for them, and kept until their sources change.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use ebm_export::source::checkpoint::sha256;

/// Each library by its sources. The first is loaded before any other, the second by libtorch.
const LIBRARIES: [(&str, &[&str]); 2] = [
    ("libfake_gpu.so", &["counts", "devices", "memory", "nccl"]),
    (
        "libtorch_cuda.so",
        &["device", "fallback", "generator", "operators", "tensors"],
    ),
];
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fake_cuda");

/// Set to anything, it makes what cannot be tested here a failure, as `cargo xtask test` says.
const EVERYWHERE: &str = "EBM_TEST_EVERYWHERE";

/// A folder with libtorch's libraries and the fake ones.
#[derive(Clone, Copy, Debug)]
pub struct FakeCuda(&'static Path);

/// The fake device, unless it cannot be built here.
pub fn fake_cuda() -> Option<FakeCuda> {
    static BUILT: LazyLock<Result<PathBuf, String>> = LazyLock::new(built);
    match &*BUILT {
        Ok(folder) => Some(FakeCuda(folder)),
        Err(reason) => {
            let what = format!("nothing was run on the fake CUDA device, since {reason}");
            assert!(
                std::env::var_os(EVERYWHERE).is_none(),
                "{EVERYWHERE} is set, and {what}"
            );
            tell_skipped(&what);
            None
        }
    }
}

/// Says what was not tested, in a word that no test runner keeps for itself.
pub fn tell_skipped(what: &str) {
    let _ = writeln!(io::stderr(), "SKIPPED: {what}");
}

impl FakeCuda {
    /// The variables with which a program finds it.
    pub fn variables(self) -> [(&'static str, PathBuf); 2] {
        [
            ("LD_LIBRARY_PATH", self.0.to_path_buf()),
            ("LD_PRELOAD", self.0.join(LIBRARIES[0].0)),
        ]
    }
}

fn built() -> Result<PathBuf, String> {
    let libtorch = std::env::var("LIBTORCH").map_err(|_| "LIBTORCH is not set: test with cargo")?;
    let libtorch = Path::new(&libtorch);
    if !libtorch.join("include/ATen/ATen.h").is_file() {
        return Err(format!("{} has no headers", libtorch.display()));
    }
    if compiler().arg("--version").output().is_err() {
        return Err(format!("there is no C++ compiler {:?}", compiler()));
    }
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = kept.join(format!("fake_cuda-{}", digest(libtorch)));
    if !folder.is_dir() {
        // Two processes may build at the same time; one is the first to be done.
        let fresh = tempfile::tempdir_in(kept).unwrap();
        build(libtorch, fresh.path());
        let _ = fs::rename(fresh.path(), &folder);
    }
    Ok(folder)
}

/// `c++`, or what `CXX` names, be it behind a launcher.
fn compiler() -> Command {
    let named = std::env::var("CXX").unwrap_or_default();
    let mut words = named.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or("c++"));
    command.args(words);
    command
}

/// Of all that the libraries are made of.
fn digest(libtorch: &Path) -> String {
    let files = fs::read_dir(SOURCES)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let sources: BTreeMap<PathBuf, Vec<u8>> = files
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    let libtorch = libtorch.canonicalize().unwrap();
    sha256(format!("{libtorch:?} {sources:?}").as_bytes())[..16].to_string()
}

fn build(libtorch: &Path, folder: &Path) {
    for entry in fs::read_dir(libtorch.join("lib")).unwrap() {
        let (path, name) = entry
            .map(|entry| (entry.path(), entry.file_name()))
            .unwrap();
        // A full PyTorch has the real one.
        if !name.to_string_lossy().contains("cuda.so") {
            symlink(path.canonicalize().unwrap(), folder.join(name)).unwrap();
        }
    }
    let include = libtorch.join("include");
    let compile = |source: &&str| {
        compiler()
            .args(["-std=c++17", "-O1", "-fPIC", "-pthread", "-c"])
            .arg("-isystem")
            .arg(&include)
            .arg(format!("{SOURCES}/{source}.cpp"))
            .arg("-o")
            .arg(folder.join(format!("{source}.o")))
            .spawn()
            .unwrap()
    };
    let sources = LIBRARIES.iter().flat_map(|(_, sources)| *sources);
    let running: Vec<_> = sources.map(compile).collect();
    for mut compiling in running {
        assert!(
            compiling.wait().unwrap().success(),
            "{SOURCES} does not compile"
        );
    }
    for (library, sources) in LIBRARIES {
        let objects = sources
            .iter()
            .map(|source| folder.join(format!("{source}.o")));
        let mut link = compiler();
        link.args(["-shared", "-pthread", "-o"])
            .arg(folder.join(library))
            .args(objects);
        if library != LIBRARIES[0].0 {
            link.arg("-L").arg(folder);
            link.args(["-lfake_gpu", "-ltorch_cpu", "-lc10"]);
        }
        link.arg("-lrt");
        assert!(
            link.status().unwrap().success(),
            "{library} cannot be linked"
        );
    }
}

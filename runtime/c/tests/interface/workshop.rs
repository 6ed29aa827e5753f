//! The library, built as users build it, and programs in C that are linked with it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// How a program is linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linking {
    Shared,
    Static,
}

/// The folder of the crate.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The models of the runtime's tests.
pub fn fixtures() -> PathBuf {
    root().join("../tests/fixtures")
}

/// The folder of `libebm_runtime.so` and `libebm_runtime.a`. Cargo builds no libraries of this kind for tests, so that they are built here, unless
/// `EBM_RUNTIME_LIBRARY` names a folder where somebody has just done that.
pub fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| match std::env::var_os("EBM_RUNTIME_LIBRARY") {
        Some(folder) => folder.into(),
        None => build(),
    })
}

fn build() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    // TARGET/PROFILE/deps/TEST
    let profile = test.ancestors().nth(2).unwrap().to_owned();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "build",
        "--quiet",
        "--package",
        "ebm-runtime-c",
        "--target-dir",
    ]);
    cargo.arg(profile.parent().unwrap());
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    // What is compared with the library must have the same backends.
    let missing = runtime::Backend::ort()
        .check()
        .err()
        .map(|error| error.to_string());
    if !missing.is_some_and(|reason| reason.contains("was not compiled in")) {
        cargo.args(["--features", "ort"]);
    }
    succeed(&mut cargo);
    profile
}

/// Compiles a program with the strictest of C99, and links it.
pub fn compile(source: &Path, linking: Linking, program: &Path) {
    let (library, name) = (library(), "ebm_runtime");
    let mut cc = Command::new("cc");
    cc.args([
        "-std=c99",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-pedantic",
        "-D_POSIX_C_SOURCE=200112L",
        "-g",
    ]);
    cc.arg("-I").arg(root().join("include")).arg(source);
    match linking {
        Linking::Shared => {
            let rpath = format!("-Wl,-rpath,{}", library.display());
            cc.arg("-L")
                .arg(library)
                .arg(format!("-l{name}"))
                .arg(rpath);
        }
        Linking::Static => {
            cc.arg(library.join(format!("lib{name}.a")));
            cc.args(["-lpthread", "-ldl", "-lm"]);
        }
    }
    succeed(cc.arg("-o").arg(program));
}

/// A program of these tests, linked with the library.
pub fn program(name: &str, linking: Linking, folder: &Path) -> PathBuf {
    let source = root()
        .join("tests/interface/c")
        .join(name)
        .with_extension("c");
    let program = folder.join(name);
    compile(&source, linking, &program);
    program
}

/// Runs a command that must succeed.
pub fn succeed(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{out}\n{err}",
        output.status
    );
    output
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Whether a tool is installed. One that is not is named, so that no skip is silent.
pub fn is_there(tool: &str) -> bool {
    let there = Command::new(tool)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    if !there {
        eprintln!("SKIPPED with `{tool}`, which is not installed");
    }
    there
}

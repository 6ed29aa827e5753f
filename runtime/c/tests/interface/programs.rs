//! Programs in C: compiled without a warning, linked both ways, run, and watched by valgrind.

use std::path::Path;
use std::process::Command;

use crate::workshop::{
    Linking, compile, fixtures, is_there, library, program, root, succeed, text,
};

/// A picture of the size of the fixture `digits`, its upper half bright.
fn write_picture(path: &Path) {
    let mut picture = b"P5 8 8 255\n".to_vec();
    picture.extend((0..64).map(|i| if i < 32 { 240 } else { 15 }));
    std::fs::write(path, picture).unwrap();
}

/// The example on a picture with seed 7: what it prints, and the picture that it writes.
fn purify_picture(command: &mut Command, folder: &Path) -> (String, Vec<u8>) {
    let (input, purified) = (folder.join("in.pgm"), folder.join("out.pgm"));
    write_picture(&input);
    let output = succeed(
        command
            .arg(fixtures().join("digits"))
            .arg(&input)
            .arg(&purified)
            .arg("7"),
    );
    (text(&output.stdout), std::fs::read(purified).unwrap())
}

fn example(name: &str) -> std::path::PathBuf {
    root().join("../../examples/c").join(name)
}

/// Valgrind, which ends with an error where memory is misused or lost.
fn valgrind() -> Command {
    let mut valgrind = Command::new("valgrind");
    valgrind.args([
        "--quiet",
        "--error-exitcode=99",
        "--leak-check=full",
        "--errors-for-leak-kinds=definite,indirect",
    ]);
    valgrind
}

#[test]
fn the_example_purifies_a_picture_whichever_way_it_is_linked() {
    let folder = tempfile::tempdir().unwrap();
    let run = |linking| {
        let program = folder.path().join(format!("{linking:?}"));
        compile(&example("purify.c"), linking, &program);
        purify_picture(&mut Command::new(program), folder.path())
    };
    let (said, purified) = run(Linking::Shared);
    assert_eq!(said, "class 0, given by 100 % of the purifications\n");
    assert!(purified.starts_with(b"P5 8 8 255\n") && purified.len() == 11 + 64);
    assert_eq!(run(Linking::Static), (said, purified));
}

#[test]
fn the_example_says_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("purify");
    compile(&example("purify.c"), Linking::Shared, &program);
    let picture = folder.path().join("in.pgm");
    let run = |model: &str| {
        let mut command = Command::new(&program);
        let output = command
            .arg(fixtures().join(model))
            .arg(&picture)
            .arg(&picture)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        text(&output.stderr)
    };
    assert!(run("digits").contains("is no PGM or PPM picture"));
    write_picture(&picture);
    let with_seed = |seed: &str| {
        let mut command = Command::new(&program);
        command.arg(fixtures().join("digits")).args([&picture; 2]);
        text(&command.arg(seed).output().unwrap().stderr)
    };
    assert!(with_seed("-1").contains("expected a whole number from 0 as SEED, got `-1`"));
    assert!(with_seed("18").contains("seed 18\n"));
    write_picture(&picture);
    assert!(run("colour").contains("the model is for pictures of 3 channels, 8 x 8 pixels"));
    let error = run("nothing");
    assert!(
        error.contains("io: ") && error.contains("expected a folder that holds `step.onnx`"),
        "{error}"
    );
}

#[test]
fn the_program_of_the_readme_compiles() {
    let folder = tempfile::tempdir().unwrap();
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let body = readme
        .split("```c\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let program = format!(
        "#include <stdio.h>\n#include <ebm_runtime.h>\nint main(void) {{\n{body}return 0;\n}}\n"
    );
    let source = folder.path().join("readme.c");
    std::fs::write(&source, program).unwrap();
    compile(&source, Linking::Shared, &folder.path().join("readme"));
}

#[test]
fn every_misuse_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    for linking in [Linking::Shared, Linking::Static] {
        let program = program("misuse", linking, folder.path());
        let output = succeed(Command::new(program).arg(fixtures()));
        assert_eq!(text(&output.stdout), "all refused\n");
    }
}

#[test]
fn threads_share_handles_that_may_be_freed_under_them() {
    let folder = tempfile::tempdir().unwrap();
    let program = program("threads", Linking::Shared, folder.path());
    succeed(Command::new(program).arg(fixtures()));
}

#[test]
fn memory_does_not_grow() {
    let folder = tempfile::tempdir().unwrap();
    let program = program("endurance", Linking::Shared, folder.path());
    let output = succeed(Command::new(program).arg(fixtures()));
    eprintln!("{}", text(&output.stdout));
}

#[test]
fn valgrind_finds_nothing() {
    if !is_there("valgrind") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let example_program = folder.path().join("purify");
    compile(&example("purify.c"), Linking::Shared, &example_program);
    purify_picture(valgrind().arg(example_program), folder.path());
    let misuse = program("misuse", Linking::Shared, folder.path());
    succeed(valgrind().arg(misuse).arg(fixtures()));
}

#[test]
fn cmake_finds_library_and_header() {
    if !is_there("cmake") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for file in ["libebm_runtime.so", "libebm_runtime.a"] {
        let build = folder.path().join(file);
        let library = format!("-DEBM_RUNTIME_LIBRARY={}", library().join(file).display());
        succeed(
            Command::new("cmake")
                .arg("-S")
                .arg(example(""))
                .arg("-B")
                .arg(&build)
                .arg(library),
        );
        succeed(Command::new("cmake").arg("--build").arg(&build));
        let (said, _) = purify_picture(&mut Command::new(build.join("purify")), folder.path());
        assert!(said.contains("class 0"), "{said}");
    }
}

#[test]
fn the_header_is_one_for_cpp_too() {
    if !is_there("c++") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("main.cpp");
    let program = "#include <ebm_runtime.h>\nint main() { return ebm_abi() == EBM_ABI ? EBM_STATUS_OK : 1; }\n";
    std::fs::write(&source, program).unwrap();
    let mut cpp = Command::new("c++");
    cpp.args(["-std=c++11", "-Wall", "-Wextra", "-Werror", "-pedantic"]);
    cpp.arg("-I").arg(root().join("include")).arg(&source);
    cpp.arg("-L").arg(library()).arg("-lebm_runtime");
    cpp.arg(format!("-Wl,-rpath,{}", library().display()));
    let program = folder.path().join("main");
    succeed(cpp.arg("-o").arg(&program));
    succeed(&mut Command::new(program));
}

#[test]
fn pkg_config_has_the_flags() {
    if !is_there("pkg-config") {
        return;
    }
    let prefix = tempfile::tempdir().unwrap();
    let (include, lib) = (prefix.path().join("include"), prefix.path().join("lib"));
    std::fs::create_dir_all(lib.join("pkgconfig")).unwrap();
    std::os::unix::fs::symlink(root().join("include"), &include).unwrap();
    let file = "libebm_runtime.so";
    std::os::unix::fs::symlink(library().join(file), lib.join(file)).unwrap();
    let template = std::fs::read_to_string(root().join("ebm_runtime.pc.in")).unwrap();
    let config = template.replace("@PREFIX@", prefix.path().to_str().unwrap());
    let config = config.replace("@VERSION@", env!("CARGO_PKG_VERSION"));
    std::fs::write(lib.join("pkgconfig/ebm_runtime.pc"), config).unwrap();
    let mut pkg_config = Command::new("pkg-config");
    pkg_config.env("PKG_CONFIG_PATH", lib.join("pkgconfig"));
    let flags = succeed(pkg_config.args(["--cflags", "--libs", "ebm_runtime"]));
    let program = prefix.path().join("purify");
    let mut cc = Command::new("cc");
    cc.arg(example("purify.c")).arg("-o").arg(&program);
    succeed(cc.args(text(&flags.stdout).split_whitespace()));
    // The library is known by its name, so that it is found where it was installed.
    let mut run = Command::new(program);
    purify_picture(run.env("LD_LIBRARY_PATH", &lib), prefix.path());
}

//! The set-up as a user meets it: filled, repeated, interrupted, offline, refused.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use crate::fixture::{self, Fixture};
use xtask::part::Part;

/// Tells [`child`] which fixture to set up, and how.
const CHILD: &str = "XTASK_TEST_FIXTURE";
const CHILD_DIES: &str = "XTASK_TEST_DIES_UNPACKING";

#[test]
fn a_set_up_fills_the_cache_and_links_the_clone() {
    let fixture = Fixture::new();
    fixture.setup().unwrap();
    fixture.assert_complete();
    let downloads = fixture.downloads();
    assert_eq!(downloads.len(), 3);
    for word in [
        "--no-deps",
        "--only-binary=:all:",
        "--python-version 311",
        "--require-hashes",
    ] {
        assert!(
            downloads[0].contains(word),
            "{word} is missing in {}",
            downloads[0]
        );
    }
}

#[test]
fn a_second_set_up_calls_nobody() {
    let fixture = Fixture::new();
    fixture.setup().unwrap();
    fixture.program(
        "python3",
        "#!/bin/sh\necho called >> \"$FIXTURE/calls-of-second\"\n",
    );
    fixture.setup().unwrap();
    assert!(!fixture.folder().join("calls-of-second").exists());
    fixture.assert_complete();
}

#[test]
fn a_filled_cache_serves_another_clone_without_python() {
    let fixture = Fixture::new();
    fixture.setup().unwrap();
    fixture.without("python3");
    fs::remove_dir_all(fixture.clone()).unwrap();
    fs::create_dir(fixture.clone()).unwrap();
    fixture.setup().unwrap();
    fixture.assert_complete();
}

#[test]
fn a_wheel_with_another_hash_is_refused_and_named() {
    let fixture = Fixture::new();
    fixture::write_wheel(
        fixture.folder(),
        "cudart",
        &[("nvidia/cu13/lib/libcudart.so.13", "tampered")],
    );
    let message = fixture.refusal();
    let found = fixture::pin(fixture.folder(), "cudart").sha256;
    let expected = fixture.libtorch.wheels[1].sha256;
    assert!(
        message.contains(&format!(
            "cudart 1.0 is not the pinned one: expected SHA-256 {expected}, got {found}"
        )),
        "{message}"
    );
    assert!(!fixture.cache().join("libtorch-1").exists());
    assert!(!fixture.clone().join(".deps/libtorch").exists());
}

#[test]
fn a_failing_pip_is_reported_and_what_was_finished_is_kept() {
    let fixture = Fixture::new();
    let cudart = fixture.folder().join("index/cudart.whl");
    let aside = fixture.folder().join("cudart.whl");
    fs::rename(&cudart, &aside).unwrap();
    let message = fixture.refusal();
    assert!(
        message.contains("pip could not download cudart 1.0"),
        "{message}"
    );
    fs::rename(&aside, &cudart).unwrap();
    fixture.setup().unwrap();
    fixture.assert_complete();
    assert_eq!(
        fixture
            .downloads()
            .iter()
            .filter(|line| line.contains("/torch/"))
            .count(),
        1
    );
}

#[test]
fn a_set_up_killed_while_downloading_goes_on_where_it_was() {
    let fixture = Fixture::new();
    let pip = fs::read_to_string(fixture.folder().join("bin/python3")).unwrap();
    fixture.program(
        "python3",
        &pip.replace(
            "name=",
            "case $line in cudart*) kill -9 $PPID; exit 1 ;; esac\nname=",
        ),
    );
    assert_eq!(setup_in_child(&fixture, &[]).signal(), Some(9));
    assert!(!fixture.cache().join("libtorch-1").exists());
    assert!(fixture.cache().join("unfinished").exists());
    fixture.program("python3", &pip);
    fixture.setup().unwrap();
    fixture.assert_complete();
    assert_eq!(
        fixture
            .downloads()
            .iter()
            .filter(|line| line.contains("/torch/"))
            .count(),
        1
    );
}

#[test]
fn a_set_up_killed_while_unpacking_starts_over() {
    let fixture = Fixture::new();
    assert_eq!(setup_in_child(&fixture, &[CHILD_DIES]).signal(), Some(9));
    assert!(
        !fixture.cache().join("libtorch-1").exists(),
        "a half unpacked folder has no name"
    );
    fixture.setup().unwrap();
    fixture.assert_complete();
    assert_eq!(
        fixture.downloads().len(),
        3,
        "verified wheels are not fetched again"
    );
}

#[test]
fn a_folder_that_is_not_whole_is_not_taken_for_complete() {
    type Damage = fn(&Path);
    let damages: &[(&str, Damage)] = &[
        ("no list", |folder| {
            fs::remove_file(folder.join(".complete")).unwrap()
        }),
        ("a file is gone", |folder| {
            fs::remove_file(folder.join("lib/a.h")).unwrap()
        }),
        ("a file is shorter", |folder| {
            fs::write(folder.join("lib/libtorch_cpu.so"), "c").unwrap()
        }),
        ("other wheels", |folder| {
            let list = fs::read_to_string(folder.join(".complete")).unwrap();
            fs::write(
                folder.join(".complete"),
                list.replacen(|digit: char| digit.is_ascii_digit(), "x", 1),
            )
            .unwrap();
        }),
    ];
    for (name, damage) in damages {
        let fixture = Fixture::new();
        fixture.setup().unwrap();
        damage(&fixture.cache().join("libtorch-1"));
        fixture.setup().unwrap();
        assert_eq!(fixture.downloads().len(), 5, "{name}");
        fixture.assert_complete();
    }
}

#[test]
fn leftovers_are_cleared_though_everything_is_complete() {
    let fixture = Fixture::new();
    fixture.setup().unwrap();
    for path in ["unfinished/1/folder", "downloads"] {
        fs::create_dir_all(fixture.cache().join(path)).unwrap();
    }
    fs::write(fixture.cache().join("downloads/torch-1.0.whl"), "").unwrap();
    fixture.setup().unwrap();
    fixture.assert_complete();
}

#[test]
fn two_set_ups_at_once_fetch_once() {
    let fixture = Fixture::new();
    let pip = fs::read_to_string(fixture.folder().join("bin/python3")).unwrap();
    fixture.program("python3", &pip.replace("name=", "/bin/sleep 0.1\nname="));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| assert!(setup_in_child(&fixture, &[]).success()));
        }
    });
    assert_eq!(fixture.downloads().len(), 3);
    fixture.assert_complete();
}

#[test]
fn libraries_of_the_user_are_left_to_the_user() {
    let fixture = Fixture::new();
    let own = fixture.folder().join("own");
    fs::create_dir_all(own.join("lib")).unwrap();
    fs::write(own.join("lib/libtorch_cpu.so"), "").unwrap();
    fs::write(own.join("build-version"), "2.11.0+cpu").unwrap();
    let library = own.join("lib/libtorch_cpu.so");
    fixture
        .setup_with(&[("LIBTORCH", &own), ("ORT_DYLIB_PATH", &library)])
        .unwrap();
    assert_eq!(fixture.downloads().len(), 0);
    assert!(!fixture.clone().join(".deps").exists() && !fixture.cache().exists());

    fixture.setup_with(&[("LIBTORCH", &own)]).unwrap();
    assert_eq!(fixture.downloads().len(), 1);
    assert!(!fixture.clone().join(".deps/libtorch").exists());
}

#[test]
fn the_values_of_the_cargo_configuration_are_not_the_users() {
    let fixture = Fixture::new();
    let injected = fixture.clone().join(".deps/libtorch");
    fixture.setup_with(&[("LIBTORCH", &injected)]).unwrap();
    fixture.assert_complete();
}

#[test]
fn what_is_missing_is_said_in_one_sentence() {
    type Damage = fn(&Fixture);
    let cases: &[(Damage, &str)] = &[
        (|fixture| fixture.without("python3"), "there is no python3"),
        (
            |fixture| fixture.program("python3", "#!/bin/sh\nexit 1\n"),
            "python3 has no pip",
        ),
        (|fixture| fixture.without("c++"), "there is no C++ compiler"),
        (
            |fixture| {
                fixture.without("c++");
                fixture.program("clang++", "#!/bin/sh\n");
            },
            "export CXX=clang++",
        ),
        (
            |fixture| {
                fixture.program(
                    "df",
                    "#!/bin/sh\necho Filesystem\necho /dev/x 9 9 0 100% /x\n",
                )
            },
            "has 0.0 GB free",
        ),
        (
            |fixture| fs::write(fixture.cache(), "").unwrap(),
            "set EBM_CACHE_DIR to a folder of yours",
        ),
    ];
    for (damage, expected) in cases {
        let fixture = Fixture::new();
        damage(&fixture);
        let message = fixture.refusal();
        assert!(
            message.contains(expected) && !message.contains('\n'),
            "expected {expected:?} in {message:?}"
        );
        assert_eq!(fixture.downloads().len(), 0, "{expected}");
    }
}

#[test]
fn a_compiler_named_by_cxx_has_to_exist() {
    let fixture = Fixture::new();
    fixture.without("c++");
    fixture.program("ccache", "#!/bin/sh\n");
    let error = fixture
        .setup_with(&[("CXX", Path::new("g++-99"))])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("CXX is \"g++-99\", but there is no such program"),
        "{error}"
    );
    fixture
        .setup_with(&[("CXX", Path::new("ccache g++"))])
        .unwrap();
}

#[test]
fn room_that_df_reports_is_believed() {
    let fixture = Fixture::new();
    fixture.program(
        "df",
        "#!/bin/sh\necho Filesystem\necho /dev/x 9000000 9 9000000 1% /x\n",
    );
    fixture.setup().unwrap();
    fixture.assert_complete();
}

#[test]
fn the_program_ends_in_one_sentence() {
    let fixture = Fixture::new();
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .arg("setup")
        .env("LIBTORCH", fixture.folder().join("nothing"))
        .env("PATH", fixture.folder().join("bin"))
        .output()
        .unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        message.starts_with("error: LIBTORCH is ") && message.lines().count() == 1,
        "{message}"
    );
}

/// Not a test by itself: what [`setup_in_child`] runs in a process of its own, which may be killed.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(CHILD) else {
        return;
    };
    let fixture = Fixture::at(PathBuf::from(folder));
    let place = if std::env::var_os(CHILD_DIES).is_some() {
        die_at_the_header
    } else {
        fixture.libtorch.place
    };
    let libtorch = Part {
        place,
        ..fixture.libtorch
    };
    xtask::setup::setup_parts(&fixture.surroundings(&[]), &libtorch, &fixture.onnxruntime).unwrap();
}

fn setup_in_child(fixture: &Fixture, variables: &[&str]) -> ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "setup::child", "--nocapture"])
        .env(CHILD, fixture.folder())
        .envs(variables.iter().map(|name| (name, "1")))
        .stdout(Stdio::null())
        .status()
        .unwrap()
}

/// Kills this process in the middle of a wheel.
fn die_at_the_header(file: &str) -> Option<PathBuf> {
    if file.ends_with("a.h") {
        Command::new("/bin/sh")
            .args(["-c", "kill -9 $PPID"])
            .status()
            .unwrap();
    }
    fixture::flat(file)
}

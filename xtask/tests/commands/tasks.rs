//! `cargo xtask test`, `demo`, `install` and `bench` with a cargo and programs that only say what they were told.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fixture::Fixture;
use xtask::api;
use xtask::bench::{self, Effort};
use xtask::browser;
use xtask::demo::{self, Existing};
use xtask::install;
use xtask::programs;
use xtask::surroundings::Surroundings;
use xtask::test;

/// Logs its arguments and what it sees of LIBTORCH and OMP_NUM_THREADS, and fails when told to.
const CARGO: &str = r#"#!/bin/sh
echo "$* [${LIBTORCH##*/}] [$OMP_NUM_THREADS]" >> "$FIXTURE/steps"
[ "$1" != "$FAILING" ]
"#;

/// A program of the workspace: logs its own name and arguments.
const PROGRAM: &str = "#!/bin/sh\necho \"${0##*/} $*\" >> \"$FIXTURE/steps\"\n";

/// A fixture with libraries of the user's own, so that no set-up gets in the way.
fn fixture_and_surroundings(failing: &str) -> (Fixture, Surroundings) {
    let fixture = Fixture::new();
    let surroundings = surroundings_with(&fixture, &[("FAILING", Path::new(failing))]);
    (fixture, surroundings)
}

/// Those of a fixture, and some variables more.
fn surroundings_with(fixture: &Fixture, more: &[(&'static str, &Path)]) -> Surroundings {
    let own = fixture.folder().join("own-libtorch");
    fs::create_dir_all(own.join("lib")).unwrap();
    fs::write(own.join("lib/libtorch_cpu.so"), "").unwrap();
    fs::write(own.join("build-version"), "2.11.0").unwrap();
    fixture.program("cargo", CARGO);
    let cargo = fixture.folder().join("bin/cargo");
    let library = own.join("lib/libtorch_cpu.so");
    let mut variables: Vec<(&str, &Path)> = vec![
        ("CARGO", &cargo),
        ("LIBTORCH", &own),
        ("ORT_DYLIB_PATH", &library),
    ];
    variables.extend(more);
    fixture.surroundings(&variables)
}

fn steps(fixture: &Fixture) -> Vec<String> {
    let log = fs::read_to_string(fixture.folder().join("steps")).unwrap_or_default();
    log.lines().map(String::from).collect()
}

#[test]
fn the_steps_of_test_run_in_order() {
    let (fixture, surroundings) = fixture_and_surroundings("");
    test::test(&surroundings).unwrap();
    let steps = steps(&fixture);
    let commands: Vec<&str> = steps
        .iter()
        .filter_map(|step| step.split(' ').next())
        .collect();
    assert_eq!(
        commands,
        [
            "fmt", "clippy", "doc", "check", "check", "xtask", "test", "build", "test"
        ]
    );
    for place in [3, 4] {
        let step = &steps[place];
        assert!(step.ends_with(" [no-libtorch] []"), "{step}");
    }
    assert!(
        steps[5].starts_with("xtask install --as-tested --root "),
        "{}",
        steps[5]
    );
    assert!(steps[6].ends_with("[own-libtorch] [1]"), "{}", steps[6]);
}

/// Steps of `cargo xtask test` before those of other platforms.
const N_STEPS_HERE: usize = 9;

/// A rustc for which the standard library of every platform lies in its own folder.
const RUSTC: &str = "#!/bin/sh\necho \"$FIXTURE\"\n";

/// Programs that the tests on other platforms want.
const PROGRAMS: [&str; 4] = [
    "rustc",
    "google-chrome",
    "aarch64-linux-gnu-gcc",
    "qemu-aarch64",
];

#[test]
fn test_goes_on_to_other_platforms_where_it_can() {
    let (fixture, surroundings) = fixture_and_surroundings("");
    for name in PROGRAMS {
        fixture.program(name, RUSTC);
    }
    test::test(&surroundings).unwrap();
    let steps = steps(&fixture);
    let more: Vec<&str> = steps[N_STEPS_HERE..].iter().map(String::as_str).collect();
    let wanted = [
        "xtask browser ",
        "--test browser -- --ignored",
        "--tests --target aarch64-unknown-linux-gnu",
        "--example smallest --target aarch64-unknown-linux-gnu",
        "--test suite lightness::the_smallest_program -- --ignored",
    ];
    assert_eq!(more.len(), wanted.len(), "{more:?}");
    for (step, part) in more.iter().zip(wanted) {
        assert!(step.contains(part), "expected {part:?} in {step:?}");
    }
}

#[test]
fn a_platform_that_cannot_be_tested_is_left_out_or_refused_with_the_way_out() {
    let cases = [
        ("google-chrome", "apt-get install chromium`", 3),
        ("qemu-aarch64", "apt-get install qemu-user`", 2),
        ("rustc", "rustup target add wasm32-unknown-unknown`", 0),
    ];
    for (missing, way_out, n_steps) in cases {
        let (fixture, surroundings) = fixture_and_surroundings("");
        for name in PROGRAMS {
            fixture.program(name, RUSTC);
        }
        fixture.without(missing);
        test::test(&surroundings).unwrap();
        let n_steps = N_STEPS_HERE + n_steps;
        assert_eq!(steps(&fixture).len(), n_steps, "{missing}");

        let everywhere = surroundings_with(&fixture, &[("EBM_TEST_EVERYWHERE", Path::new("1"))]);
        let message = test::test(&everywhere).unwrap_err().to_string();
        assert!(message.contains(way_out), "{message}");
        assert_eq!(steps(&fixture).len(), n_steps, "{missing}: refused first");
    }
}

#[test]
fn a_page_wants_the_platform_of_browsers_before_anything_is_built() {
    let (fixture, surroundings) = fixture_and_surroundings("");
    let error = browser::browser(&surroundings, None, None).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("rustup target add wasm32-unknown-unknown"),
        "{error}"
    );
    assert_eq!(steps(&fixture).len(), 0);
}

#[test]
fn a_page_is_built_glued_and_written_whole() {
    let (fixture, surroundings) = fixture_and_surroundings("");
    fixture.program("rustc", RUSTC);
    let clone = fixture.clone();
    let write = |path: &str, content: &[u8]| {
        fs::create_dir_all(clone.join(path).parent().unwrap()).unwrap();
        fs::write(clone.join(path), content).unwrap();
    };
    for name in ["page.css", "worker.js", "engine.js", "page.js"] {
        write(&format!("examples/browser/{name}"), name.as_bytes());
    }
    let template = b"{{page.css}} {{worker.js}} {{glue.js}} {{library}} {{shipped}}";
    write("examples/browser/page.html", template);
    write("own.onnx", b"a model");
    write("target/browser/ebm_runtime_web.js", b"glue");
    write("target/browser/ebm_runtime_web_bg.wasm", b"library");
    let digits = "../trainer/data/digits/digits.csv.gz";
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join(digits);
    write(
        "trainer/data/digits/digits.csv.gz",
        &fs::read(digits).unwrap(),
    );

    let output = clone.join("page.html");
    browser::browser(&surroundings, Some(&clone.join("own.onnx")), Some(&output)).unwrap();
    let page = fs::read_to_string(&output).unwrap();
    assert!(page.starts_with("page.css worker.js glue H4sI"), "{page}");
    assert!(page.contains(r#""name":"own.onnx""#) && page.contains(r#""label":9"#));
    let steps = steps(&fixture);
    assert!(
        steps[0].starts_with("build --profile web -p ebm-runtime-web")
            && steps[1].contains("--bin glue -- "),
        "{steps:?}"
    );

    let absent = clone.join("absent.onnx");
    let error = browser::browser(&surroundings, Some(&absent), Some(&output)).unwrap_err();
    assert!(format!("{error:#}").contains("absent.onnx"), "{error:#}");
    assert_eq!(fs::read_to_string(&output).unwrap(), page);
}

#[test]
fn a_failing_step_ends_test_with_the_command_that_repeats_it() {
    let (fixture, surroundings) = fixture_and_surroundings("doc");
    let error = test::test(&surroundings).unwrap_err().to_string();
    assert!(
        error.contains("RUSTDOCFLAGS='-D warnings' cargo doc --release"),
        "{error}"
    );
    assert_eq!(steps(&fixture).len(), 3);
}

#[test]
fn a_demo_runs_its_stages_and_may_be_repeated() {
    let (fixture, surroundings) = fixture_and_surroundings("");
    let names = ["trainer", "ebm-export", "life_cycle_report"];
    programs(&fixture, &surroundings, &names, PROGRAM);
    for _ in 0..2 {
        demo::demo(&surroundings, Existing::OfDemo).unwrap();
    }
    let steps = steps(&fixture);
    let programs: Vec<&str> = steps
        .iter()
        .filter_map(|step| step.split(' ').next())
        .collect();
    let once = [
        "build",
        "trainer",
        "trainer",
        "ebm-export",
        "ebm-export",
        "trainer",
        "life_cycle_report",
    ];
    assert_eq!(programs, [once, once].concat());
    assert!(
        !steps.iter().any(|step| step.contains('{')),
        "every placeholder is filled: {steps:?}"
    );
}

#[test]
fn a_demo_asks_before_it_touches_a_folder_of_someone_else() {
    let (fixture, surroundings) = fixture_and_surroundings("");
    fs::create_dir(fixture.clone().join("demo")).unwrap();
    let error = demo::demo(&surroundings, Existing::OfDemo)
        .unwrap_err()
        .to_string();
    assert!(error.contains("--force"), "{error}");
    assert_eq!(
        steps(&fixture).len(),
        0,
        "nothing was built before the refusal"
    );
}

/// A python that refuses code that holds REFUSED, makes environments with itself in them, and as a rival writes one row.
const RIVAL: &str = r#"#!/bin/sh
if [ "$1" = -c ]; then
  case $2 in *"${REFUSED:-nothing}"*) exit 1 ;; esac
  exit 0
fi
if [ "$1" = -m ]; then
  echo "$*" >> "$FIXTURE/calls"
  for folder; do :; done
  [ "$2" != venv ] || { /bin/mkdir -p "$folder/bin" && /bin/cp "$0" "$folder/bin/python"; }
  exit
fi
echo "${0##*/} $*" >> "$FIXTURE/steps"
case $* in
  *latency.py*) fields='"backend": "ebm-runtime, ort", "milliseconds_per_image_step": 2.0' ;;
  *learning.py*) fields='"form": "trainer", "seconds_per_update": 2.0, "weight_error": 1e-6' ;;
  *) fields='"form": "onnxruntime", "milliseconds": 2.0, "gradient_error": 1e-6' ;;
esac
while [ $# -gt 0 ]; do
  case $1 in --output) output=$2 ;; --name) name=$2 ;; --batch) batch=$2 ;; --threads) threads=$2 ;; esac
  shift
done
/bin/cat > "$output" <<ROWS
{"date": "2026-01-31", "machine": "none", "versions": {"torch": "2"}, "rounds": 1, "rows": [
  {"network": "$name", "width": 4, "batch": ${batch:-1}, "threads": $threads, $fields,
   "quartiles": [2.0, 2.0], "ratio_to_pytorch_eager": 1.0}]}
ROWS
"#;

/// A fixture whose python runs rivals, except that it refuses code that holds `refused`, and some variables more.
fn bench_fixture(refused: &str, more: &[(&'static str, &Path)]) -> (Fixture, Surroundings) {
    let fixture = Fixture::new();
    fixture.program("python3", RIVAL);
    let variables = [&[("REFUSED", Path::new(refused))], more].concat();
    let surroundings = surroundings_with(&fixture, &variables);
    programs(&fixture, &surroundings, &["ebm-export"], PROGRAM);
    (fixture, surroundings)
}

/// Puts programs where cargo would have built them.
fn programs(fixture: &Fixture, surroundings: &Surroundings, names: &[&str], script: &str) {
    let target = surroundings.target().join("release");
    fs::create_dir_all(&target).unwrap();
    for name in names {
        fixture.program(name, script);
        fs::rename(fixture.folder().join("bin").join(name), target.join(name)).unwrap();
    }
}

#[test]
fn a_benchmark_keeps_table_chart_and_rows() {
    let (fixture, surroundings) = bench_fixture("", &[]);
    let rows = fixture.folder().join("rows.json");
    bench::gradient(&surroundings, Effort::Full, Some(&rows)).unwrap();
    let results = fixture.clone().join("benches/results");
    let kept = fs::read_to_string(results.join("gradient.json")).unwrap();
    assert_eq!(kept, fs::read_to_string(rows).unwrap());
    assert!(kept.contains("sngan128"), "{kept}");
    let table = fs::read_to_string(results.join("gradient.md")).unwrap();
    assert!(
        table.contains("| sngan64 | 4 | 1 | 2 | 2.000 (1.00) |"),
        "{table}"
    );
    assert!(results.join("gradient.svg").is_file());
    assert!(
        steps(&fixture)
            .iter()
            .any(|step| step
                == "ebm-export init sngan64 -o target/bench-gradient/sngan64/checkpoint"),
        "{:?}",
        steps(&fixture)
    );
}

#[test]
fn the_latency_benchmark_measures_every_width_batch_and_number_of_threads() {
    let (fixture, surroundings) = bench_fixture("", &[]);
    let rows = fixture.folder().join("rows.json");
    bench::latency(&surroundings, Effort::Full, Some(&rows)).unwrap();
    let kept: serde_json::Value = serde_json::from_slice(&fs::read(rows).unwrap()).unwrap();
    assert_eq!(kept["rows"].as_array().unwrap().len(), 22);
    let results = fixture.clone().join("benches/results");
    let table = fs::read_to_string(results.join("latency.md")).unwrap();
    assert!(
        table.contains("| biggan128 | 4 | 8 | 2 | 2.000 (1.00) |"),
        "{table}"
    );
    assert!(results.join("latency.svg").is_file());
    let steps = steps(&fixture);
    let cases = [
        "ebm-export init sngan32 --width 64 -o target/bench-latency/sngan32-64/checkpoint",
        "build --release --workspace --features ebm-runtime/ort,ebm-runtime/tract",
    ];
    for case in cases {
        let found = steps.iter().any(|step| step.starts_with(case));
        assert!(found, "no `{case}` in {steps:#?}");
    }
}

#[test]
fn a_quick_benchmark_keeps_nothing_but_what_was_asked_for() {
    let (fixture, surroundings) = bench_fixture("", &[]);
    let rows = fixture.folder().join("rows.json");
    bench::gradient(&surroundings, Effort::Quick, Some(&rows)).unwrap();
    assert!(rows.is_file() && !fixture.clone().join("benches").exists());
    assert_eq!(steps(&fixture).len(), 10, "{:?}", steps(&fixture));
}

#[test]
fn what_a_benchmark_misses_is_said_before_anything_is_fetched_or_built() {
    let own: &[(&str, &Path)] = &[("EBM_BENCH_PYTHON", Path::new("python3"))];
    let absent: &[(&str, &Path)] = &[("EBM_BENCH_PYTHON", Path::new("/nowhere/python"))];
    let cases = [
        ("ensurepip", &[][..], "python3-venv"),
        ("version_info", &[], "3.11 to 3.14"),
        ("Python.h", &[], "python3-dev"),
        ("Python.h", own, "python3-dev"),
        (
            "import torch",
            own,
            "cannot import torch: set EBM_BENCH_PYTHON to one that has `torch==",
        ),
        ("", absent, "there is no such program"),
    ];
    for (refused, more, expected) in cases {
        let (fixture, surroundings) = bench_fixture(refused, more);
        let error = bench::latency(&surroundings, Effort::Quick, None)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(expected),
            "expected {expected:?} in {error:?}"
        );
        assert_eq!(steps(&fixture).len(), 0, "{expected}");
        assert!(!fixture.cache().exists(), "{expected}");
    }

    let (fixture, surroundings) = bench_fixture("", &[]);
    let nowhere = fixture.folder().join("nowhere/rows.json");
    let error = bench::gradient(&surroundings, Effort::Quick, Some(&nowhere)).unwrap_err();
    assert!(
        error.to_string().contains("is not a place for a file"),
        "{error}"
    );
    fixture.without("python3");
    let error = bench::gradient(&surroundings, Effort::Quick, None).unwrap_err();
    assert!(error.to_string().contains("there is no python3"), "{error}");
    assert_eq!(steps(&fixture).len(), 0);
}

#[test]
fn the_environment_of_the_rivals_is_made_once_and_anew_if_it_is_not_whole() {
    let (fixture, surroundings) = bench_fixture("", &[]);
    let n_made = || {
        let calls = fs::read_to_string(fixture.folder().join("calls")).unwrap_or_default();
        let count = |pattern: &str| calls.lines().filter(|line| line.contains(pattern)).count();
        assert_eq!(count("-m venv --clear "), count("-m pip install "));
        count("-m pip install ")
    };
    for _ in 0..2 {
        bench::learning(&surroundings, Effort::Quick, None).unwrap();
    }
    assert_eq!(n_made(), 1);
    let list = fixture.cache().join("bench-python/.complete");
    assert!(fs::read_to_string(&list).unwrap().contains("torch==2.11.0"));
    let rival = "python benches/rivals/learning.py";
    assert!(steps(&fixture).iter().any(|step| step.starts_with(rival)));

    fs::write(&list, "torch==2.0.0").unwrap();
    bench::gradient(&surroundings, Effort::Quick, None).unwrap();
    assert_eq!(n_made(), 2);
}

#[test]
fn a_python_of_the_users_runs_the_rivals() {
    let own: &[(&str, &Path)] = &[("EBM_BENCH_PYTHON", Path::new("python3"))];
    let (fixture, surroundings) = bench_fixture("", own);
    bench::gradient(&surroundings, Effort::Quick, None).unwrap();
    assert!(!fixture.cache().exists());
    let rival = "python3 benches/rivals/gradient.py";
    assert!(steps(&fixture).iter().any(|step| step.starts_with(rival)));
}

#[test]
fn tests_of_benchmarks_run_each_of_them_and_keep_nothing() {
    let (fixture, surroundings) = bench_fixture("", &[]);
    test::benches(&surroundings).unwrap();
    let steps = steps(&fixture);
    for rival in ["gradient", "latency", "learning"] {
        let script = format!("benches/rivals/{rival}.py");
        let count = steps.iter().filter(|step| step.contains(&script)).count();
        assert_eq!(count, 1, "{rival}");
    }
    assert!(!fixture.clone().join("benches").exists());
}

/// Names the fixture to [`installing_child`].
const CHILD: &str = "XTASK_TEST_INSTALLATION";

/// A program that is installed.
const INSTALLED: &str = "#!/bin/sh\necho \"${0##*/}\"\necho 'ort: available'\n";

#[test]
fn installed_programs_run_by_their_names_with_the_libraries_beside_them() {
    let (fixture, surroundings) = fixture_and_surroundings("");
    let names = ["trainer", "purify", "ebm-export"];
    programs(&fixture, &surroundings, &names, INSTALLED);
    for _ in 0..2 {
        let said = install_in_child(&fixture);
        assert!(said.contains("export PATH="), "{said}");
    }
    let root = fixture.folder().join("root");
    let installed = root.join("lib/ebm-life-cycle");
    for (name, program) in [("trainer", "trainer"), ("export", "ebm-export")] {
        let link = root.join("bin").join(name).canonicalize().unwrap();
        assert_eq!(link, installed.join(program).canonicalize().unwrap());
    }
    assert!(installed.join("libonnxruntime.so").is_file());
    let theirs = installed.join("libtorch_cpu.so");
    assert!(
        !theirs.exists(),
        "a libtorch of the user's stays where it is"
    );
    let builds = steps(&fixture);
    assert!(
        builds[0].starts_with("build --release --workspace"),
        "{builds:?}"
    );
}

/// Installs the fixture that [`CHILD`] names. A process of its own: what it has just written could not be run while another test starts a program.
#[test]
fn installing_child() {
    let Some(folder) = std::env::var_os(CHILD) else {
        return;
    };
    let fixture = Fixture::at(PathBuf::from(folder));
    let surroundings = surroundings_with(&fixture, &[]);
    let root = fixture.folder().join("root");
    install::install(&surroundings, Some(&root), programs::FOR_USERS).unwrap();
}

fn install_in_child(fixture: &Fixture) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tasks::installing_child", "--nocapture"])
        .env(CHILD, fixture.folder())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let failed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}{failed}");
    said
}

#[test]
fn public_items_are_compared_with_a_revision_if_the_program_is_there() {
    let (fixture, surroundings) = fixture_and_surroundings("");
    let error = api::api(&surroundings, "v1").unwrap_err().to_string();
    assert!(
        error.contains("run `cargo install cargo-semver-checks --locked`"),
        "{error}"
    );
    assert!(steps(&fixture).is_empty());
    fixture.program("cargo-semver-checks", PROGRAM);
    api::api(&surroundings, "v1").unwrap();
    let steps = steps(&fixture);
    assert!(
        steps[0].starts_with("semver-checks --package ebm-runtime --baseline-rev v1 "),
        "{steps:?}"
    );
}

//! `purify bench`.

use predicates::str::contains;

use crate::workbench::{Workbench, fixture};

#[test]
fn bench_checks_before_it_measures_and_prints_a_line_per_case() {
    let bench = Workbench::new();
    let arguments = [
        "--batch",
        "1,3",
        "--threads",
        "1,2",
        "--steps",
        "3",
        "--seconds",
        "0.05",
    ];
    let mut command = bench.purify(&["bench", "--model"]);
    command.arg(fixture("digits"));
    command
        .args(arguments)
        .arg("-o")
        .arg(bench.path("rows.json"));
    let table = String::from_utf8(command.assert().success().get_output().stdout.clone()).unwrap();
    assert!(table.contains("first image after"), "{table}");
    let rows: serde_json::Value =
        serde_json::from_slice(&std::fs::read(bench.path("rows.json")).unwrap()).unwrap();
    let cases = rows["cases"].as_array().unwrap();
    let places: Vec<_> = cases
        .iter()
        .map(|case| (case["batch"].as_u64(), case["threads"].as_u64()))
        .collect();
    assert_eq!(
        places,
        [
            (Some(1), Some(1)),
            (Some(3), Some(1)),
            (Some(1), Some(2)),
            (Some(3), Some(2))
        ]
    );
    for case in cases {
        let time = case["milliseconds_per_image_step"].as_f64().unwrap();
        assert!(
            time > 0.0 && time <= case["p99"].as_f64().unwrap(),
            "{case}"
        );
        // If `native` divides a batch between two sessions, there is no single session to compare with.
        let compared = case["batch"] == 1 || case["threads"] == 1;
        assert_eq!(case["loop_percent"].is_number(), compared, "{case}");
    }
}

#[test]
fn bench_prints_json_in_place_of_the_table() {
    let bench = Workbench::new();
    let mut command = bench.purify(&["bench", "--json", "--steps", "2", "--model"]);
    command.arg(fixture("digits"));
    let quick = ["--seconds", "0.01", "--batch", "1", "--threads", "1"];
    let output = command.args(quick).assert().success();
    let figures: serde_json::Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    assert_eq!(figures["cases"].as_array().unwrap().len(), 1);
}

#[test]
fn bench_refuses_threads_and_files_before_it_measures() {
    let bench = Workbench::new();
    bench.file("rows.json", b"precious");
    for (arguments, wanted) in [
        (
            ["--threads", "1,100000"],
            "--threads: expected numbers from 1 to",
        ),
        (["-o", "rows.json"], "`rows.json` exists; give --force"),
        (["-o", "nowhere/rows.json"], "cannot be written"),
    ] {
        let mut command = bench.purify(&["bench", "--seconds", "100", "--model"]);
        command.arg(fixture("digits")).args(arguments);
        command.assert().code(1).stdout("").stderr(contains(wanted));
    }
    assert_eq!(bench.bytes("rows.json"), b"precious");
}

#[test]
fn bench_answers_requests_until_there_are_no_more() {
    let bench = Workbench::new();
    let mut command = bench.purify(&["bench", "--on-request", "--steps", "2", "--model"]);
    command.arg(fixture("digits"));
    let output = command.write_stdin("sample\nimage\n").assert().success();
    let text = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "ready");
    assert!(lines[1].parse::<f64>().unwrap() > 0.0);
    assert_eq!(
        lines[2]
            .split(' ')
            .filter(|x| x.parse::<f32>().is_ok())
            .count(),
        64
    );
    let mut command = bench.purify(&["bench", "--on-request", "--model"]);
    command.arg(fixture("digits"));
    command
        .write_stdin("tea\n")
        .assert()
        .failure()
        .stderr(contains("got `tea`"));
    for (option, value) in [("--batch", "0"), ("--threads", "1,0"), ("--steps", "0")] {
        let mut command = bench.purify(&["bench", option, value, "--model"]);
        command.arg(fixture("digits"));
        command.assert().failure().stderr(contains(option));
    }
}

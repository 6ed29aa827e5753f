//! Who writes a run, from where it goes on, and on what data.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use predicates::str::contains;
use serde_json::Value;

use crate::common::{
    TINY_FIT, as_killed_after, assert_same_checkpoint, checkpoint_files, fit, metrics, refused,
    trainer,
};
use crate::pictures;

/// A run that learns until it is killed.
struct Learning(Child);

impl Learning {
    /// In a folder, with a checkpoint already.
    fn begin(run: &Path) -> Learning {
        let command = trainer(&format!(
            "fit digits-midrun {TINY_FIT} --set learning.updates=1000000 --set output.checkpoint_every=1000000 -o {}",
            run.display()
        ));
        let child = std::process::Command::new(command.get_program())
            .env("OMP_NUM_THREADS", "1")
            .args(command.get_args())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while !run.join("checkpoints/00000000").exists() {
            assert!(
                begun.elapsed() < Duration::from_secs(120),
                "the run does not get on"
            );
            std::thread::yield_now();
        }
        Learning(child)
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn one_process_writes_a_run_and_a_folder_of_results() {
    let folder = tempfile::tempdir().unwrap();
    let [run, parent] = ["parent/run", "parent"].map(|name| folder.path().join(name));
    let learning = Learning::begin(&run);
    let (path, id) = (run.display(), learning.0.id());
    let another = format!("another process ({id}) writes into this folder");
    refused(&mut trainer(&format!("resume {path}")), &[&another]);
    refused(
        &mut trainer(&format!("fit digits-midrun {TINY_FIT} --force -o {path}")),
        &[&another],
    );
    refused(
        &mut trainer(&format!("classifier digits-classifier --force -o {path}")),
        &[&another],
    );
    // What only reads is not in the way, and what it writes has a folder of its own.
    let sampled = run.join("sampled");
    trainer(&format!("report {path}")).assert().success();
    trainer(&format!("sample {path} -n 2 --steps 1"))
        .assert()
        .success();
    learning.kill();
    trainer(&format!("fit digits-midrun {TINY_FIT} --force -o {path}"))
        .assert()
        .success();
    assert!(!sampled.exists());

    let lock = fs::File::create(parent.join("trainer.lock")).unwrap();
    lock.lock().unwrap();
    let parent = parent.display();
    for command in [
        format!("life-cycle digits -o {parent}"),
        format!("sample {path} -n 2 --steps 1 -o {parent}"),
    ] {
        refused(
            &mut trainer(&command),
            &["another process writes into this folder"],
        );
    }
    let classifier = folder.path().join("classifier");
    crate::common::classifier(&classifier);
    let attack = format!(
        "attack --energy {path} --classifier {} --epsilon 0.1 --protocol quick -n 1 -o {parent}",
        classifier.display()
    );
    refused(
        &mut trainer(&attack),
        &["another process writes into this folder"],
    );
}

/// A run of 6 updates with checkpoints after 3 and 6.
fn whole_run(folder: &Path) -> PathBuf {
    let run = folder.join("run");
    fit(&run, "");
    run
}

fn copy_of(run: &Path, copy: &Path) {
    for update in [3, 6] {
        as_killed_after(run, update, copy);
    }
}

#[test]
fn a_run_goes_on_from_the_newest_checkpoint_that_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let whole = whole_run(folder.path());
    let cut = |file: &Path| {
        let bytes = fs::read(file).unwrap();
        fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
    };
    type Damage<'a> = &'a dyn Fn(&Path);
    let cases: [(&str, Damage<'_>); 5] = [
        (
            "weights",
            &|newest| cut(&newest.join("weights.safetensors")),
        ),
        ("missing", &|newest| {
            fs::remove_file(newest.join("ema.safetensors")).unwrap()
        }),
        ("header", &|newest| cut(&newest.join("checkpoint.json"))),
        ("no-header", &|newest| {
            fs::remove_file(newest.join("checkpoint.json")).unwrap()
        }),
        ("flipped", &|newest| {
            let file = newest.join("bank.safetensors");
            let mut bytes = fs::read(&file).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(&file, bytes).unwrap();
        }),
    ];
    for (name, damage) in cases {
        let run = folder.path().join(name);
        copy_of(&whole, &run);
        damage(&run.join("checkpoints/00000006"));
        trainer(&format!("resume {} --threads 1", run.display()))
            .assert()
            .success()
            .stderr(contains("left out: "))
            .stderr(contains("after update 3"))
            .stderr(contains("aside-1: 00000006"));
        assert_same_checkpoint(&whole, &run, 6);
        assert_eq!(metrics(&whole), metrics(&run), "{name}");
        let aside = run.join("aside-1");
        assert!(aside.join("checkpoints/00000006").exists(), "{name}");
        assert_eq!(metrics(&aside), metrics(&whole), "{name}");
    }
    let hopeless = folder.path().join("hopeless");
    copy_of(&whole, &hopeless);
    for update in ["00000003", "00000006"] {
        cut(&hopeless.join(format!("checkpoints/{update}/weights.safetensors")));
    }
    refused(
        &mut trainer(&format!("resume {}", hopeless.display())),
        &[
            "no intact checkpoint",
            "00000003",
            "00000006",
            "begin again",
        ],
    );
    let newer = folder.path().join("newer");
    copy_of(&whole, &newer);
    let header = newer.join("checkpoints/00000006/checkpoint.json");
    let text = fs::read_to_string(&header).unwrap();
    fs::write(
        &header,
        text.replacen("\"format_version\": 1", "\"format_version\": 9", 1),
    )
    .unwrap();
    refused(
        &mut trainer(&format!("resume {}", newer.display())),
        &["expected format_version 1, got 9"],
    );
}

#[test]
fn a_named_checkpoint_is_gone_on_from_and_later_ones_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let whole = whole_run(folder.path());
    let path = folder.path();
    for (name, arguments) in [
        ("number", "resume RUN --checkpoint 00000003"),
        ("short", "resume RUN --checkpoint 3"),
        ("path", "resume RUN/checkpoints/00000003"),
    ] {
        let run = path.join(name);
        copy_of(&whole, &run);
        let arguments = arguments.replace("RUN", &run.display().to_string());
        trainer(&format!("{arguments} --threads 1"))
            .assert()
            .success()
            .stderr(contains("after update 3"))
            .stderr(contains("aside-1: 00000006"));
        assert_same_checkpoint(&whole, &run, 6);
        let aside = run.join("aside-1");
        assert_same_checkpoint(&whole, &aside, 6);
        assert_eq!(metrics(&aside), metrics(&whole));
        // The newest one has nothing to put aside; what was put aside is a run.
        for again in [&run, &aside] {
            trainer(&format!(
                "resume {} --checkpoint 6 --threads 1",
                again.display()
            ))
            .assert()
            .success();
            assert!(!again.join("aside-2").exists());
        }
    }
    let run = path.join("fresh");
    copy_of(&whole, &run);
    let run = run.display();
    for (arguments, pieces) in [
        (
            format!("resume {run} --checkpoint 00000004"),
            &["00000003, 00000006: name one"][..],
        ),
        (
            format!("resume {run} --checkpoint best"),
            &["00000003, 00000006: name one"],
        ),
        (
            format!("resume {run}/checkpoints/00000003 --checkpoint 3"),
            &["give one of the two"],
        ),
    ] {
        refused(&mut trainer(&arguments), pieces);
    }
    let outside = path.join("outside");
    fs::create_dir(&outside).unwrap();
    for (name, bytes) in checkpoint_files(&whole, 3) {
        fs::write(outside.join(name), bytes).unwrap();
    }
    refused(
        &mut trainer(&format!("resume {}", outside.display())),
        &["is a checkpoint outside of a run"],
    );
}

#[test]
fn the_best_checkpoint_can_be_named_and_a_damaged_one_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    fit(&run, "--set learning.updates=12");
    let update = |run: &Path| -> u64 {
        let header: Value =
            serde_json::from_slice(&fs::read(run.join("checkpoint.json")).unwrap()).unwrap();
        header["update"].as_u64().unwrap()
    };
    let best = run.join("best");
    let (path, before) = (run.display(), update(&best));
    trainer(&format!("resume {path} --checkpoint best --threads 1"))
        .assert()
        .success()
        .stderr(contains(format!("after update {before}")));
    assert_eq!(update(&best), before);
    // The files of a best checkpoint are those of a numbered one: both are damaged.
    fs::write(best.join("ema.safetensors"), b"").unwrap();
    trainer(&format!("resume {path} --threads 1"))
        .assert()
        .success()
        .stderr(contains("best/ema.safetensors"));
    ebm_export::source::checkpoint::verify(&best).unwrap();
}

/// Learns from data until a checkpoint that is not the last.
struct Source {
    folder: tempfile::TempDir,
    /// What `fit` or `classifier` gets beside data and output.
    arguments: String,
}

impl Source {
    fn run(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// As if the run had stopped after its first update.
    fn stopped(&self) {
        let whole = self.folder.path().join("whole");
        let arguments = format!(
            "{} --threads 1 --set learning.updates=2 --set output.checkpoint_every=1 --set output.keep=9 --set output.sample_every=0 --data {} -o {}",
            self.arguments,
            self.data().display(),
            whole.display()
        );
        if !whole.exists() {
            trainer(&arguments).assert().success();
        }
        let _ = fs::remove_dir_all(self.run());
        as_killed_after(&whole, 1, &self.run());
    }

    fn resume(&self, more: &str) -> assert_cmd::Command {
        trainer(&format!(
            "resume {} --threads 1 {more}",
            self.run().display()
        ))
    }
}

/// All files below a folder, by their names.
fn files_of(folder: &Path) -> Vec<PathBuf> {
    let listing = ebm_common::folder::files_below(folder, |_| true, |_| true);
    listing.unwrap().files
}

/// A tar file of some members.
fn tar(path: &Path, members: &[(String, Vec<u8>)]) {
    let mut builder = tar::Builder::new(fs::File::create(path).unwrap());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, name, bytes.as_slice())
            .unwrap();
    }
    builder.finish().unwrap();
}

const TINY: &str = "--set network.image_size=8 --set network.widths=[2,2] --set network.pools=[true,true] --set learning.batch=4 \
    --set chains.bank=6 --set langevin.steps=1";

fn of_pictures(arguments: &str) -> Source {
    let (folder, data) = (tempfile::tempdir().unwrap(), pictures::folder(8));
    fs::rename(data.path(), folder.path().join("data")).unwrap();
    // What stands behind a picture in its file changes nothing of it.
    let file = folder.path().join("data/dog/1.jpg");
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, [bytes, vec![0]].concat()).unwrap();
    Source {
        folder,
        arguments: arguments.to_string(),
    }
}

#[test]
fn a_run_does_not_go_on_with_other_data_unless_it_is_told_to() {
    let images = "--set data.source=images --set data.crop=centre --set data.n_test=0";
    let energy = of_pictures(&format!(
        "fit cifar10-midrun-data {TINY} {images} --set data.n_classes=1"
    ));
    let classifier = of_pictures(&format!(
        "classifier cifar10-classifier-small --set network.image_size=8 --set network.widths=[2,2,2] --set learning.batch=4 \
         {images} --set data.n_test=3 --set data.n_classes=2 --set network.n_classes=2"
    ));
    type Change<'a> = &'a dyn Fn(&Path);
    let changes: [(&str, Change<'_>); 4] = [
        ("8 training images then, 7 now", &|data| {
            fs::remove_file(data.join("cat/0.png")).unwrap()
        }),
        ("other names of training images", &|data| {
            fs::rename(data.join("cat/0.png"), data.join("cat/00.png")).unwrap();
        }),
        ("other content of training images", &|data| {
            let file = data.join("dog/1.jpg");
            let mut bytes = fs::read(&file).unwrap();
            *bytes.last_mut().unwrap() = 1;
            fs::write(file, bytes).unwrap();
        }),
        ("other sizes of files of training images", &|data| {
            let file = data.join("dog/1.jpg");
            let bytes = fs::read(&file).unwrap();
            fs::write(file, [bytes, vec![0]].concat()).unwrap();
        }),
    ];
    let backup = |from: &Path, to: &Path| {
        let _ = fs::remove_dir_all(to);
        for file in files_of(from) {
            let to = to.join(file.strip_prefix(from).unwrap());
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(file, to).unwrap();
        }
    };
    let kept = energy.folder.path().join("kept");
    backup(&energy.data(), &kept);
    for (wanted, change) in changes {
        energy.stopped();
        change(&energy.data());
        refused(
            &mut energy.resume(""),
            &["are not those", wanted, "--allow-changed-data"],
        );
        energy
            .resume("--allow-changed-data")
            .assert()
            .success()
            .stderr(contains("continues with other data"));
        // From now on these are its data.
        energy.resume("").assert().success();
        backup(&kept, &energy.data());
    }
    energy.stopped();
    let moved = energy.folder.path().join("moved");
    fs::rename(energy.data(), &moved).unwrap();
    energy
        .resume(&format!("--data {}", moved.display()))
        .assert()
        .success();

    classifier.stopped();
    classifier.resume("").assert().success();
    classifier.stopped();
    fs::rename(classifier.data().join("cat"), classifier.data().join("Cat")).unwrap();
    refused(
        &mut classifier.resume(""),
        &["names of training images", "names of test images"],
    );
}

#[test]
fn every_source_of_data_has_a_fingerprint() {
    let shards = of_pictures(&format!(
        "fit cifar10-midrun-data {TINY} --set data.source=tar --set data.n_classes=1 --set data.crop=centre --set data.n_test=0"
    ));
    let members = |n: usize| -> Vec<_> {
        let files = files_of(&shards.data()).into_iter().take(n);
        let name = |file: &Path| file.file_name().unwrap().to_string_lossy().into_owned();
        files
            .map(|file| (name(&file), fs::read(&file).unwrap()))
            .collect()
    };
    let (all, fewer) = (members(8), members(7));
    let _ = fs::remove_dir_all(shards.data());
    fs::create_dir(shards.data()).unwrap();
    tar(&shards.data().join("train.tar"), &all);
    shards.stopped();
    tar(&shards.data().join("train.tar"), &fewer);
    refused(&mut shards.resume(""), &["8 training images then, 7 now"]);

    let digits = Source {
        folder: tempfile::tempdir().unwrap(),
        arguments: format!(
            "fit digits-midrun {} --set data.n_test=2",
            TINY_FIT.replace("--threads 1", "")
        ),
    };
    fs::create_dir(digits.data()).unwrap();
    let file = digits.data().join("digits.csv");
    let line = |grey: usize| format!("{}3\n", format!("{grey},").repeat(64));
    let text: String = (0..12).map(line).collect();
    fs::write(&file, &text).unwrap();
    digits.stopped();
    fs::write(&file, text.replace('3', "4")).unwrap();
    refused(&mut digits.resume(""), &["other labels of training images"]);
}

#[test]
fn a_checkpoint_of_an_older_version_goes_on_with_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, run] = ["whole", "run"].map(|name| folder.path().join(name));
    fit(&whole, "");
    as_killed_after(&whole, 3, &run);
    let file = run.join("checkpoints/00000003/checkpoint.json");
    let mut header: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert!(
        header["state"]
            .as_object_mut()
            .unwrap()
            .remove("data")
            .is_some()
    );
    fs::write(&file, serde_json::to_vec(&header).unwrap()).unwrap();
    trainer(&format!("resume {} --threads 1", run.display()))
        .assert()
        .success()
        .stderr(contains("without a fingerprint of its data"));
    assert_same_checkpoint(&whole, &run, 6);
}

#[test]
fn nobody_has_to_read_what_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    for arguments in [
        "presets".to_string(),
        "presets digits-midrun".to_string(),
        "data check digits-midrun".to_string(),
        "data check digits-midrun --json".to_string(),
        format!("fit digits-midrun {TINY_FIT} -o {}", run.display()),
        format!("sample {} -n 2 --steps 2", run.display()),
        format!("report {}", run.display()),
        format!("resume {}", folder.path().display()),
    ] {
        let command = trainer(&arguments);
        let closed = || {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            writer
        };
        let status = std::process::Command::new(command.get_program())
            .env("OMP_NUM_THREADS", "1")
            .args(command.get_args())
            .stdout(closed())
            .stderr(closed())
            .status()
            .unwrap();
        let wanted = i32::from(arguments.starts_with("resume"));
        assert_eq!(status.code(), Some(wanted), "{arguments}");
    }
    if let Ok(full) = fs::OpenOptions::new().write(true).open("/dev/full") {
        let command = trainer("presets");
        let output = std::process::Command::new(command.get_program())
            .arg("presets")
            .stdout(full)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("cannot write to standard output"), "{text}");
        assert_eq!(output.status.code(), Some(1));
    }
}

//! The command lines of the documents, typed into a shell as they stand.
//!
//! A block of lines that is marked `sh` is one sitting in a folder that holds what the lines speak of, on toy networks. What is not run there is
//! in [`NOT_RUN`], with the reason.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ebm_export::source::networks::{Activation, ConvClassifier, Network, Sngan};
use ebm_runtime::{ImageShape, Images, write_png};
use tempfile::TempDir;

use crate::life_cycle::learned;
use crate::programs::{path_of, run};

/// Besides the README and the documents that it names.
const MORE_DOCUMENTS: [&str; 7] = [
    "examples/README.md",
    "examples/browser/model/README.md",
    "examples/c/README.md",
    "export/README.md",
    "runtime/README.md",
    "runtime/web/README.md",
    "trainer/README.md",
];

const PROGRAMS: [&str; 3] = ["trainer", "purify", "ebm-export"];

/// What is done with a line that is not run.
enum Instead {
    /// It is typed all the same, and ends with an error that holds these words, once its arguments are understood and before any work.
    Refused(&'static str),
    /// It is typed with `--help` behind it, which still refuses options that are not there.
    Help,
    /// Nothing: it is of another project's program.
    Nothing,
}

use Instead::{Help, Nothing, Refused};

/// Beginnings of lines that are not run, what is done instead, and why.
const NOT_RUN: &[(&str, Instead, &str)] = &[
    ("cargo xtask ", Help, "minutes, or this very test"),
    ("cargo ", Nothing, "cargo's own, and minutes"),
    (
        "cc ",
        Nothing,
        "the tests of runtime/c compile such programs",
    ),
    ("install -Dm644 ", Nothing, "the tests of runtime/c install"),
    ("mkdir -p PREFIX", Nothing, "the tests of runtime/c install"),
    (
        "sed 's|@PREFIX@|PREFIX|",
        Nothing,
        "the tests of runtime/c install",
    ),
    (
        "./purify MODEL_DIR",
        Nothing,
        "the tests of runtime/c run that program",
    ),
    ("RENEW_HEADER=1 ", Nothing, "writes into the clone"),
    ("rustup ", Nothing, "changes the machine"),
    ("apt-get ", Nothing, "changes the machine"),
    ("tritonserver ", Nothing, "wants Triton Inference Server"),
    (
        "torchrun ",
        Nothing,
        "wants PyTorch; the trainer's tests start several processes themselves",
    ),
    (
        "trainer classifier mnist-classifier ",
        Refused("runs/classifier holds a run already"),
        "wants MNIST",
    ),
    (
        "trainer life-cycle mnist ",
        Refused("home/mnist"),
        "wants MNIST",
    ),
    (
        "trainer fit mnist-midrun --data ~/mnist -o runs/energy ",
        Refused("runs/energy holds a run already"),
        "wants MNIST",
    ),
    ("trainer fit mnist-", Refused("home/mnist"), "wants MNIST"),
    (
        "trainer sample runs/mnist-midrun ",
        Refused("runs/mnist-midrun"),
        "wants a run of an hour",
    ),
    (
        "purify run start/samples.npz ",
        Refused("longrun.onnx"),
        "wants a run of an hour",
    ),
    ("trainer fid --samples … ", Help, "wants a run of an hour"),
    ("trainer life-cycle digits ", Help, "minutes"),
    (
        "trainer fit digits-midrun -o runs/energy",
        Refused("runs/energy"),
        "a minute; the folder is taken",
    ),
    (
        "trainer classifier digits-classifier -o runs/classifier",
        Refused("runs/classifier"),
        "a minute; the folder is taken",
    ),
    (
        "trainer fit digits.toml ",
        Refused("runs/digits"),
        "a minute; the folder is taken",
    ),
    ("trainer sample runs/energy -n 256 ", Help, "minutes"),
    (
        "trainer fid --samples runs/energy/sampled ",
        Refused("runs/energy/sampled"),
        "wants the samples of minutes",
    ),
    ("trainer attack ", Help, "minutes"),
    ("trainer bench cifar10-shortrun ", Help, "minutes"),
    (
        "trainer data check ~/celeba",
        Refused("home/celeba"),
        "wants CelebA",
    ),
    (
        "trainer data check celeba64-shortrun ",
        Refused("home/celeba"),
        "wants CelebA",
    ),
    (
        "trainer fit celeba64-shortrun ",
        Refused("home/celeba"),
        "wants CelebA",
    ),
    (
        "trainer fit imagenet128-shortrun ",
        Refused("home/imagenet"),
        "wants ImageNet",
    ),
    (
        "ebm-export import netG.pth ",
        Refused("netG.pth"),
        "wants published weights",
    ),
    ("purify certify photos/ ", Help, "many draws of each photo"),
    ("purify certify ~/photos ", Help, "many draws of each photo"),
    ("trainer fit digits-denoise ", Help, "minutes"),
    ("trainer fit digits-flow ", Help, "minutes"),
    ("trainer fit digits-energy-matching ", Help, "minutes"),
    ("trainer fit cifar10-denoise-small ", Help, "wants CIFAR-10"),
    (
        "trainer sample runs/energy-matching ",
        Help,
        "wants the run of minutes",
    ),
    (
        "purify certify t10k-images-idx3-ubyte.gz ",
        Refused("t10k-images-idx3-ubyte.gz"),
        "wants MNIST",
    ),
    (
        "purify run data_batch_*.bin ",
        Refused("x.npz"),
        "wants CIFAR-10 and MNIST",
    ),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn text_of(document: &str) -> String {
    fs::read_to_string(root().join(document)).unwrap_or_else(|e| panic!("{document}: {e}"))
}

/// Paths from the root of the clone.
fn documents() -> Vec<String> {
    let readme = text_of("README.md");
    let links = readme.split("](").skip(1);
    let links = links.filter_map(|rest| rest.split(')').next());
    let named = links.filter(|link| link.ends_with(".md")).map(String::from);
    let more = MORE_DOCUMENTS.map(String::from);
    let all: BTreeSet<String> = named.chain(more).chain(["README.md".to_string()]).collect();
    all.into_iter().collect()
}

/// A block of a document between fences.
struct Block<'a> {
    /// What the fence says it is.
    language: &'a str,
    lines: Vec<&'a str>,
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut open: Option<Block<'_>> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), open.as_mut()) {
            (Some(language), None) => {
                let lines = Vec::new();
                open = Some(Block { language, lines });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => block.lines.push(line),
            (None, None) => {}
        }
    }
    blocks
}

/// A folder in which the lines of a block are typed, with a home in it.
struct Workshop(TempDir);

impl Workshop {
    /// One that holds runs, models, photos and files of others, as the lines speak of them, but for the models that they make themselves.
    fn for_lines(lines: &[&str]) -> Self {
        let is_colour = lines.iter().any(|line| line.contains("--mean"));
        let (given, channels) = match is_colour {
            true => (of_colours(), 3),
            false => (learned(), 1),
        };
        let workshop = Self(tempfile::tempdir().unwrap());
        for run in ["energy", "digits", "mnist", "longrun", "prior"] {
            workshop.copy(&given.path().join("energy"), &format!("runs/{run}"));
        }
        workshop.copy(&given.path().join("classifier"), "runs/classifier");
        let model = given.path().join("model");
        for name in ["energy", "any"] {
            workshop.copy(&model.join("energy.onnx"), &format!("{name}.onnx"));
        }
        for name in ["resnet20", "cifar10_resnet20", "imagenet", "net"] {
            workshop.copy(&model.join("classifier.onnx"), &format!("{name}.onnx"));
        }
        workshop.copy(&model, "model");
        for made in lines.iter().flat_map(|line| outputs(line)) {
            let path = workshop.path(made);
            if made.starts_with("model") && path.exists() {
                let removed = Command::new("rm").arg("-r").arg(path).status();
                assert!(removed.unwrap().success());
            }
        }
        workshop.show_photos(channels);
        fs::create_dir(workshop.path("MODEL_DIR")).unwrap();
        let completions = "home/.local/share/bash-completion/completions";
        fs::create_dir_all(workshop.path(completions)).unwrap();
        workshop
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn copy(&self, from: &Path, name: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let copied = Command::new("cp").arg("-r").arg(from).arg(path).status();
        assert!(copied.unwrap().success(), "{}", from.display());
    }

    fn show_photos(&self, channels: usize) {
        let shape = ImageShape {
            channels,
            height: 8,
            width: 8,
        };
        let names = [
            "photos/a.png",
            "photos/b.png",
            "training-set/a.png",
            "home/pictures/a.png",
            "photo.png",
        ];
        for (shade, name) in (50..).step_by(40).zip(names) {
            let path = self.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let image = Images::from_bytes(shape, &vec![shade; shape.n_values()]).unwrap();
            write_png(path, &image, 0).unwrap();
        }
    }

    /// What bash makes of a line, with the programs on its `PATH` and hardly another variable.
    fn typed(&self, line: &str, programs: &Path) -> Output {
        let path = format!("{}:/usr/bin:/bin", programs.display());
        let mut command = Command::new("bash");
        command
            .args(["-c", line])
            .current_dir(self.0.path())
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.path("home"))
            .env("OMP_NUM_THREADS", "1")
            .env(
                "EBM_MODELS",
                concat!(env!("CARGO_MANIFEST_DIR"), "/../models"),
            );
        // Where this process finds ONNX Runtime. Installed programs have it beside them.
        if installed().is_none() {
            command.envs(std::env::vars_os().filter(|(name, _)| name == "ORT_DYLIB_PATH"));
        }
        command.output().unwrap()
    }
}

/// What follows `-o` in a line.
fn outputs(line: &str) -> impl Iterator<Item = &str> {
    let words = line.split_whitespace();
    words
        .clone()
        .zip(words.skip(1))
        .filter_map(|(option, value)| (option == "-o").then_some(value))
}

/// Networks of colour images with random weights: `energy`, `classifier` and `model` as [`learned`] has them of grey ones.
fn of_colours() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let energy = Network::Sngan(Sngan::small(
        8,
        3,
        &[6, 6],
        &[true, false],
        Activation::Silu,
    ));
    let classifier = Network::ConvClassifier(ConvClassifier {
        image_size: 8,
        channels: 3,
        widths: vec![6],
        pools: vec![true],
        n_classes: 4,
        activation: Activation::Relu,
    });
    for (name, network) in [("energy", energy), ("classifier", classifier)] {
        let network = serde_json::to_string(&network).unwrap();
        run(
            folder.path(),
            "ebm-export",
            &format!("init {network} -o {name}"),
        );
        run(
            folder.path(),
            "ebm-export",
            &format!("onnx {name} -o model"),
        );
    }
    folder
}

/// The root that `cargo xtask install` was given, if these tests are told.
fn installed() -> Option<PathBuf> {
    std::env::var_os("EBM_INSTALLED").map(PathBuf::from)
}

/// The folder of programs to type: the installed ones, or else those that are built.
fn programs(owner: &TempDir) -> PathBuf {
    if let Some(root) = installed() {
        return root.join("bin");
    }
    for name in PROGRAMS {
        symlink(path_of(name), owner.path().join(name)).unwrap();
    }
    owner.path().to_path_buf()
}

/// What is wrong with a line.
fn complaint(line: &str, workshop: &Workshop, programs: &Path) -> Option<String> {
    let entry = NOT_RUN.iter().find(|(start, ..)| line.starts_with(start));
    let (typed, code, words) = match entry {
        None => (line.to_string(), 0, ""),
        Some((_, Nothing, _)) => return None,
        Some((_, Refused(words), _)) => (line.to_string(), 1, *words),
        Some((_, Help, _)) => (with_help(line), 0, "Usage: "),
    };
    let output = workshop.typed(&typed, programs);
    let said = [&output.stdout[..], &output.stderr]
        .map(String::from_utf8_lossy)
        .concat();
    let is_right = output.status.code() == Some(code) && said.contains(words);
    (!is_right).then(|| {
        format!(
            "`{typed}` ended with {}, expected {code} and {words:?}:\n{said}",
            output.status
        )
    })
}

/// The line with `--help` in place of its comment. The program of `cargo xtask` is called as cargo would.
fn with_help(line: &str) -> String {
    let line = line.split(" #").next().unwrap_or_default().trim_end();
    let xtask = path_of("xtask").display().to_string();
    match line.strip_prefix("cargo xtask ") {
        Some(task) => format!("{xtask} {task} --help"),
        None => format!("{line} --help"),
    }
}

#[test]
fn every_line_can_be_typed_as_it_stands() {
    let owner = tempfile::tempdir().unwrap();
    let programs = programs(&owner);
    let mut complaints = Vec::new();
    let mut met = BTreeSet::new();
    for document in documents() {
        let text = text_of(&document);
        for block in blocks(&text) {
            if block.language != "sh" {
                let ours = |line: &&&str| {
                    PROGRAMS
                        .iter()
                        .any(|name| line.starts_with(&format!("{name} ")))
                };
                complaints.extend(
                    block
                        .lines
                        .iter()
                        .find(ours)
                        .map(|line| format!("{document}: mark the block of `{line}` as sh")),
                );
                continue;
            }
            let workshop = Workshop::for_lines(&block.lines);
            for line in block.lines.iter().filter(|line| !line.trim().is_empty()) {
                met.extend(
                    NOT_RUN
                        .iter()
                        .map(|(start, ..)| *start)
                        .find(|start| line.starts_with(start)),
                );
                complaints.extend(
                    complaint(line, &workshop, &programs).map(|said| format!("{document}: {said}")),
                );
            }
        }
    }
    let stale = NOT_RUN.iter().filter(|(start, ..)| !met.contains(start));
    complaints
        .extend(stale.map(|(start, ..)| format!("no document has a line `{start}…` any more")));
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// Files of the clone, without what is hidden or built.
fn files_of_the_clone() -> Vec<PathBuf> {
    let mut folders = vec![root()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if !path.is_dir() {
                files.push(path);
            } else if !path.is_symlink()
                && !name.starts_with('.')
                && name != "target"
                && name != "runs"
            {
                folders.push(path);
            }
        }
    }
    files
}

/// Documents that programs write.
const WRITTEN_BY_PROGRAMS: [&str; 2] = ["benches/results/", "tests/zoo/README.md"];

/// A row of a table cannot be broken.
#[test]
fn lines_of_documents_end_before_120_characters() {
    let mut found = Vec::new();
    for path in files_of_the_clone() {
        let name = path.display().to_string();
        let is_written = WRITTEN_BY_PROGRAMS.iter().any(|part| name.contains(part));
        if !name.ends_with(".md") || is_written {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().enumerate();
        let long = lines.filter(|(_, line)| line.chars().count() >= 120 && !line.starts_with('|'));
        found.extend(long.map(|(index, _)| format!("{name}:{}", index + 1)));
    }
    assert!(found.is_empty(), "too long:\n{}", found.join("\n"));
}

/// A shell runs its own `export`, so nobody may be told to type that name.
#[test]
fn no_text_tells_people_to_type_a_command_of_shells() {
    let commands = [
        "onnx",
        "gradient",
        "classifier",
        "inspect",
        "verify",
        "init",
        "import",
    ];
    let mut found = Vec::new();
    for path in files_of_the_clone() {
        let name = path.display().to_string();
        let endings = [".md", ".rs", ".py", ".html", ".in", ".h"];
        if !endings.iter().any(|ending| name.ends_with(ending)) {
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        let text = String::from_utf8_lossy(&bytes).replace("ebm-export ", "");
        let told = commands.map(|command| format!("export {command} "));
        let told = told.iter().filter(|words| text.contains(*words));
        found.extend(told.map(|words| format!("{}: `{words}…`", path.display())));
    }
    assert!(found.is_empty(), "write ebm-export:\n{}", found.join("\n"));
}

//! Models that PyTorch and others wrote: gradient and Hessian-vector product against those of autograd in f64 that lie beside them, by
//! the reference interpreter and on every backend; and files that are refused.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use ebm_export::graph::reference::{bindings, evaluate};
use ebm_export::source::Energy;
use ebm_export::source::Kind::Gradient;
use ebm_export::source::onnx::proto::ModelProto;
use ebm_export::source::onnx::{Selection, read, read_file};
use ebm_export::transform::rewrite::Target;
use ebm_export::write::onnx::Opset;
use ebm_export::write::{Export, Form};
use ebm_runtime::{Backend, CONTRACT_KEY, Images, Input, Model, Output, Purifier, Verification};
use ndarray::ArrayD;
use prost::Message;
use safetensors::SafeTensors;

use crate::agreement::backends;
use crate::contracts::contract;

/// Bound on the relative L2 difference from autograd in f64, of weights and constants that are f32 in the file.
const REFERENCE_TOLERANCE: f64 = 1e-6;
/// The same in f32 on a backend.
const BACKEND_TOLERANCE: f64 = 1e-4;
const OUTPUTS: [&str; 3] = ["energy", "gradient", "hvp"];

type Arrays = BTreeMap<String, ArrayD<f64>>;

fn zoo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("zoo")
}

fn models_in(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "onnx")
        })
        .collect();
    paths.sort();
    paths
}

/// What autograd gives for a model, whichever exporter wrote it.
fn golden(path: &Path) -> Arrays {
    let name = path.file_name().unwrap().to_str().unwrap();
    let name = name.split('.').next().unwrap();
    let bytes = std::fs::read(path.with_file_name(format!("{name}.safetensors"))).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let array = |name: String| {
        let tensor = tensors.tensor(&name).unwrap();
        let (chunks, _) = tensor.data().as_chunks::<8>();
        let values = chunks.iter().map(|&chunk| f64::from_le_bytes(chunk));
        let array = ArrayD::from_shape_vec(tensor.shape(), values.collect()).unwrap();
        (name, array)
    };
    tensors
        .names()
        .into_iter()
        .map(|name| array(name.to_string()))
        .collect()
}

/// The values of a graph's inputs: x, v, and further ones.
fn inputs(model: &Energy, golden: &Arrays) -> Arrays {
    let graph = &model.graph;
    let of = |name: &str| match name {
        name if name == model.input => golden["x"].clone(),
        name => golden[&format!("input.{name}")].clone(),
    };
    let names = graph.inputs().map(|input| graph.node(input).name.clone());
    let mut values: Arrays = names.map(|name| (name.clone(), of(&name))).collect();
    values.insert("v".to_string(), golden["v"].clone());
    values
}

fn difference(got: &ArrayD<f64>, wanted: &ArrayD<f64>) -> f64 {
    let norm = |array: &ArrayD<f64>| array.mapv(|value| value * value).sum().sqrt();
    norm(&(got - wanted)) / norm(wanted).max(f64::MIN_POSITIVE)
}

/// The file with energy, gradient and Hessian-vector product.
fn derived(model: &Energy, export: &Export) -> Vec<u8> {
    let file = export.model(model, &Form::HessianVectorProduct);
    file.unwrap().to_bytes()
}

fn export(target: Option<Target>) -> Export {
    Export {
        rewrites: target.map(Target::rewrites).unwrap_or_default(),
        ..Export::default()
    }
}

/// Reads the file that was written and evaluates its outputs in f64: what is written is read again, too.
fn by_reference(bytes: &[u8], input: &str, inputs: &Arrays) -> Vec<ArrayD<f64>> {
    let output = |name| {
        let selection = Selection {
            outputs: &[name],
            input: Some(input),
            ..Selection::default()
        };
        let model = read(bytes, &selection).unwrap();
        let mut values = bindings(&model.weights);
        values.extend(inputs.clone());
        evaluate(&model.graph, &values)
            .unwrap()
            .remove(name)
            .unwrap()
    };
    OUTPUTS.map(output).to_vec()
}

/// The file for the runtime, which looks at an input `x` and wants an image: here are other inputs, too, and under other names.
fn runnable(bytes: &[u8]) -> Model {
    let mut proto = ModelProto::decode(bytes).unwrap();
    let json = serde_json::to_string(&contract(Gradient, [1, 1, 1], Opset::DEFAULT)).unwrap();
    for entry in proto
        .metadata_props
        .iter_mut()
        .filter(|entry| entry.key() == CONTRACT_KEY)
    {
        entry.value = Some(json.clone());
    }
    let graph = proto.graph.as_mut().unwrap();
    let names: Vec<String> = graph
        .input
        .iter()
        .map(|input| input.name().to_string())
        .collect();
    let rename = |name: &mut String| {
        if names.contains(name) {
            *name = renamed(name);
        }
    };
    graph
        .input
        .iter_mut()
        .filter_map(|input| input.name.as_mut())
        .for_each(rename);
    graph
        .node
        .iter_mut()
        .flat_map(|node| &mut node.input)
        .for_each(rename);
    Model::from_bytes_with(proto.encode_to_vec(), "zoo", Verification::None).unwrap()
}

fn renamed(name: &str) -> String {
    format!("zoo.{name}")
}

/// Outputs of those names and shapes on a backend.
fn run(
    backend: &Backend,
    bytes: &[u8],
    inputs: &Arrays,
    outputs: &[(&str, &[usize])],
) -> Vec<ArrayD<f64>> {
    let mut session = backend.prepare(&runnable(bytes), 1).unwrap();
    let values: Vec<(String, Vec<usize>, Vec<f32>)> = inputs
        .iter()
        .map(|(name, array)| {
            let values = array.iter().map(|&value| value as f32).collect();
            (renamed(name), array.shape().to_vec(), values)
        })
        .collect();
    let given: Vec<Input<'_>> = values
        .iter()
        .map(|(name, shape, values)| Input {
            name,
            shape,
            values,
        })
        .collect();
    let mut results: Vec<Vec<f32>> = outputs
        .iter()
        .map(|(_, shape)| vec![0.0; shape.iter().product()])
        .collect();
    let mut taken: Vec<Output<'_>> = results
        .iter_mut()
        .zip(outputs)
        .map(|(values, &(name, shape))| Output {
            name,
            shape,
            values,
        })
        .collect();
    session.run(&given, &mut taken).unwrap();
    let array = |(values, (_, shape)): (Vec<f32>, &(&str, &[usize]))| {
        let values = values.into_iter().map(f64::from).collect();
        ArrayD::from_shape_vec(*shape, values).unwrap()
    };
    results.into_iter().zip(outputs).map(array).collect()
}

/// What some images of the golden have, in the order of the outputs.
fn wanted(golden: &Arrays) -> Vec<ArrayD<f64>> {
    let outputs = OUTPUTS.map(|name| golden[name].clone());
    outputs.to_vec()
}

/// The batches that a model takes: all images, or as many as its file fixes.
fn batches(model: &Energy, golden: &Arrays) -> Vec<Arrays> {
    let count = golden["x"].shape()[0];
    let size = model.batch.size().unwrap_or(count);
    assert!(
        count.is_multiple_of(size),
        "{count} images in batches of {size}"
    );
    let part = |start: usize| {
        let slice = |array: &ArrayD<f64>| {
            array
                .slice_axis(ndarray::Axis(0), ndarray::Slice::from(start..start + size))
                .to_owned()
        };
        golden
            .iter()
            .map(|(name, array)| (name.clone(), slice(array)))
            .collect()
    };
    (0..count).step_by(size).map(part).collect()
}

/// Which outputs are off, and by how much.
fn faults(got: &[ArrayD<f64>], wanted: &[ArrayD<f64>], tolerance: f64) -> Vec<String> {
    let outputs = got.iter().zip(wanted).zip(OUTPUTS);
    outputs
        .filter_map(|((got, wanted), name)| {
            let error = difference(got, wanted);
            // What is not a number is not below the tolerance either.
            let fits = error <= tolerance;
            (!fits).then(|| format!("{name} is off by {error:e}"))
        })
        .collect()
}

/// All that is wrong with a model, panics included.
fn faults_of(path: &Path) -> Vec<String> {
    let golden = golden(path);
    let model = read_file(path, &Selection::default()).unwrap();
    let mut found = Vec::new();
    for part in batches(&model, &golden) {
        let (inputs, wanted) = (inputs(&model, &part), wanted(&part));
        let raw = derived(&model, &export(None));
        let got = by_reference(&raw, &model.input, &inputs);
        found.extend(
            faults(&got, &wanted, REFERENCE_TOLERANCE)
                .into_iter()
                .map(|fault| format!("reference: {fault}")),
        );
        let fast = derived(&model, &export(Some(Target::Cpu)));
        for backend in &backends() {
            let outputs: Vec<(&str, &[usize])> = OUTPUTS
                .into_iter()
                .zip(&wanted)
                .map(|(name, array)| (name, array.shape()))
                .collect();
            let got = catch_unwind(AssertUnwindSafe(|| run(backend, &fast, &inputs, &outputs)));
            let backend = backend.name();
            let faults = match (got, skip(path, backend)) {
                (Ok(got), None) => faults(&got, &wanted, BACKEND_TOLERANCE),
                (Ok(_), Some(reason)) => vec![format!(
                    "runs by now: take it off the list of skips ({reason})"
                )],
                (Err(_), Some(_)) => Vec::new(),
                (Err(panic), None) => resume_unwind(panic),
            };
            found.extend(
                faults
                    .into_iter()
                    .map(|fault| format!("{backend}: {fault}")),
            );
        }
    }
    found
}

/// What a backend cannot run: network, backend, why. What is listed has to fail, so that the list tells the truth.
const SKIPS: &[(&str, &str, &str)] = &[
    (
        "haar",
        "tract",
        "turns the convolution into a product of matrices and loses an axis on the way",
    ),
    ("ops_activations", "tract", DUMMY),
    ("ops_elementwise", "tract", DUMMY),
];

const DUMMY: &str =
    "leaves an operator of its own out of a curvature that it has rewritten, and then runs it";

/// Why that model is not run on that backend; `None` if it is.
fn skip(path: &Path, backend: &str) -> Option<&'static str> {
    let name = path.file_name()?.to_str()?;
    let network = name.split('.').next()?;
    let entry = SKIPS
        .iter()
        .find(|(skipped, on, _)| (*skipped, *on) == (network, backend));
    entry.map(|(_, _, reason)| *reason)
}

#[test]
fn derivatives_are_those_of_autograd() {
    let paths = models_in(&zoo());
    assert!(paths.len() > 100, "{} models", paths.len());
    let all = faults_of_all(&paths, faults_of);
    assert!(all.is_empty(), "{} faults:\n{}", all.len(), all.join("\n"));
}

/// What is wrong with each of some models, with its name before it; a panic is one fault.
fn faults_of_all(paths: &[PathBuf], faults_of: impl Fn(&Path) -> Vec<String>) -> Vec<String> {
    let mut all = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let faults = catch_unwind(AssertUnwindSafe(|| faults_of(path)));
        let faults = faults.unwrap_or_else(|panic| {
            let message = panic.downcast_ref::<String>().cloned();
            vec![message.unwrap_or_else(|| "it panicked".to_string())]
        });
        all.extend(faults.into_iter().map(|fault| format!("{name}: {fault}")));
    }
    all
}

/// Bound on the difference of ONNX Runtime in f32 from the interpreter in f64, and on that of derivatives from differences in f64.
const OPERATOR_TOLERANCE: f64 = 1e-5;

/// The images of a model of `operators/` or `exporters/`, and what ONNX Runtime made of them.
fn images_and_energies(golden: &SafeTensors<'_>, name: &str) -> [ArrayD<f64>; 2] {
    ["x", "energy"].map(|kind| {
        let tensor = golden.tensor(&format!("{name}/{kind}")).unwrap();
        let (chunks, _) = tensor.data().as_chunks::<4>();
        let values = chunks
            .iter()
            .map(|&chunk| f64::from(f32::from_le_bytes(chunk)));
        ArrayD::from_shape_vec(tensor.shape(), values.collect()).unwrap()
    })
}

/// All that is wrong with a model of `operators/` or `exporters/`.
fn faults_of_operator(path: &Path, golden: &SafeTensors<'_>) -> Vec<String> {
    let name = path.file_stem().unwrap().to_str().unwrap();
    let [x, energy] = images_and_energies(golden, name);
    let model = read_file(path, &Selection::default()).unwrap();
    let waves = (1..=x.len()).map(|place| (place as f64).sin());
    let direction = ArrayD::from_shape_vec(x.raw_dim(), waves.collect()).unwrap();
    let raw = derived(&model, &export(None));
    let at = |shift: f64| {
        let x = &x + &(&direction * shift);
        let inputs = Arrays::from([("x".to_string(), x), ("v".to_string(), direction.clone())]);
        (by_reference(&raw, &model.input, &inputs), inputs)
    };
    let (reference, inputs) = at(0.0);
    let step = 1e-6;
    let (ahead, behind) = (at(step).0, at(-step).0);
    let difference_of = |output: usize| (&ahead[output] - &behind[output]) / (2.0 * step);
    let mut slope = &reference[1] * &direction;
    while slope.ndim() > 1 {
        slope = slope.sum_axis(ndarray::Axis(1));
    }
    let mut found = Vec::new();
    for (what, got, wanted) in [
        ("energy", &reference[0], &energy),
        ("gradient", &slope, &difference_of(0)),
        ("hvp", &reference[2], &difference_of(1)),
    ] {
        let error = (got - wanted).mapv(f64::abs).sum() / wanted.mapv(f64::abs).sum().max(1.0);
        if error.is_nan() || error > OPERATOR_TOLERANCE {
            found.push(format!("{what} is off by {error:e}"));
        }
    }
    let fast = derived(&model, &export(Some(Target::Cpu)));
    for backend in &backends() {
        let shapes = OUTPUTS.into_iter().zip(&reference);
        let outputs: Vec<(&str, &[usize])> =
            shapes.map(|(name, array)| (name, array.shape())).collect();
        let got = run(backend, &fast, &inputs, &outputs);
        let faults = faults(&got, &reference, BACKEND_TOLERANCE).into_iter();
        found.extend(faults.map(|fault| format!("{}: {fault}", backend.name())));
    }
    found
}

#[test]
fn operators_are_those_of_onnx_runtime() {
    let folder = zoo().join("operators");
    let bytes = std::fs::read(folder.join("golden.safetensors")).unwrap();
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    let paths = [models_in(&folder), models_in(&zoo().join("exporters"))].concat();
    assert_eq!(2 * paths.len(), golden.len());
    let all = faults_of_all(&paths, |path| faults_of_operator(path, &golden));
    assert!(all.is_empty(), "{} faults:\n{}", all.len(), all.join("\n"));
}

/// `expected.tsv` says for each file what its error has to name.
#[test]
fn bad_files_are_refused_with_what_is_wrong() {
    let folder = zoo().join("bad");
    let table = std::fs::read_to_string(folder.join("expected.tsv")).unwrap();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .skip(1)
        .map(|line| line.split('\t').collect())
        .collect();
    let listed: Vec<&str> = rows.iter().map(|row| row[0]).collect();
    for path in models_in(&folder) {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(listed.contains(&name), "{name} is not in expected.tsv");
    }
    let mut all = Vec::new();
    for row in rows {
        let [name, needles, reason] = row[..] else {
            panic!("expected three columns, got {row:?}");
        };
        let result = read_file(&folder.join(name), &Selection::default())
            .and_then(|model| Export::default().model(&model, &Form::Gradient));
        let Err(error) = result else {
            all.push(format!("{name}: not refused; {reason}"));
            continue;
        };
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(error) = source {
            text += &format!(": {error}");
            source = error.source();
        }
        let missing: Vec<&str> = needles
            .split(',')
            .filter(|needle| !text.contains(needle))
            .collect();
        if !missing.is_empty() || text.contains('\n') {
            all.push(format!("{name}: lacks {missing:?}: {text}"));
        }
    }
    assert!(all.is_empty(), "{} faults:\n{}", all.len(), all.join("\n"));
}

const N_STEPS: usize = 3;
const STEP_SIZE: f32 = 0.05;
const TEMPERATURE: f32 = 0.1;
const SEED: u64 = 7;

/// Steps of a model of others, each by the reference interpreter, are a chain of the runtime, and as many steps of one run.
#[test]
fn steps_are_those_of_a_chain() {
    let path = zoo().join("sngan.legacy13.onnx");
    let model = read_file(&path, &Selection::default()).unwrap();
    let x = golden(&path)["x"].mapv(|value| f64::from(value as f32));
    let noise = noise_of(&x);
    let wanted = chain(&steps_file(&model, 1), &x, &noise);
    for backend in &backends() {
        for count in [1, N_STEPS] {
            let file = steps_file(&model, count);
            let error = difference(&purified(backend, &file, &x), &wanted);
            let backend = backend.name();
            assert!(
                error <= BACKEND_TOLERANCE,
                "{backend}, {count} steps a run: {error}"
            );
        }
    }
}

fn steps_file(model: &Energy, count: usize) -> Vec<u8> {
    let file = export(Some(Target::Cpu)).model(model, &Form::Steps(count));
    file.unwrap().to_bytes()
}

/// The noise of the runtime for each step, `[k, N, C, H, W]`.
fn noise_of(x: &ArrayD<f64>) -> ArrayD<f64> {
    let n_values = x.len() / x.shape()[0];
    let mut values = Vec::new();
    for step in 0..N_STEPS as u32 {
        for image in 0..x.shape()[0] as u32 {
            let mut noise = vec![0.0; n_values];
            ebm_runtime::noise::fill_normal(SEED, image, 0, step, &mut noise);
            values.extend(noise.into_iter().map(f64::from));
        }
    }
    ArrayD::from_shape_vec([&[N_STEPS], x.shape()].concat(), values).unwrap()
}

fn scalars() -> Arrays {
    let scalar = |value: f32| ArrayD::from_elem(Vec::new(), f64::from(value));
    BTreeMap::from([
        ("step_size".to_string(), scalar(STEP_SIZE)),
        ("temperature".to_string(), scalar(TEMPERATURE)),
    ])
}

/// Step by step in f64.
fn chain(bytes: &[u8], x: &ArrayD<f64>, noise: &ArrayD<f64>) -> ArrayD<f64> {
    let selection = Selection {
        outputs: &["x_next"],
        ..Selection::default()
    };
    let step = read(bytes, &selection).unwrap();
    let mut values = bindings(&step.weights);
    values.extend(scalars());
    let mut x = x.clone();
    for noise in noise.outer_iter() {
        values.insert("x".to_string(), x);
        values.insert("noise".to_string(), noise.to_owned());
        x = evaluate(&step.graph, &values)
            .unwrap()
            .remove("x_next")
            .unwrap();
    }
    x
}

fn purified(backend: &Backend, bytes: &[u8], x: &ArrayD<f64>) -> ArrayD<f64> {
    let model = Model::from_bytes(bytes, "step.onnx").unwrap();
    assert_eq!(model.contract().network_name(), Some("onnx"));
    let purifier = Purifier::builder(&model)
        .backend(backend.clone())
        .steps(N_STEPS)
        .step_size(STEP_SIZE.into())
        .temperature(TEMPERATURE.into())
        .build(SEED)
        .unwrap();
    let values = x.iter().map(|&value| value as f32).collect();
    let images = Images::from_vec(model.contract().image, values).unwrap();
    let purified = purifier.purify(&images).unwrap();
    purified.array().mapv(f64::from).into_dyn()
}

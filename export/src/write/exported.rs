//! The files that a checkpoint becomes.

use std::collections::BTreeMap;

use ndarray::{ArrayD, IxDyn};

use crate::error::Error;
use crate::graph::Batch;
use crate::graph::Graph;
use crate::graph::tensor::Tensors;
use crate::graph::weights::check_weights;
use crate::source::Kind;
use crate::source::checkpoint::{Header, tensors_sha256};
use crate::source::networks::Network;
use crate::transform::langevin::{Steps, written_steps};
use crate::transform::pipeline::{gradient_graph, written};
use crate::transform::potential::{Potential, check_scale};
use crate::transform::precision::{Comparison, Precision, lowered};
use crate::transform::rewrite::{Rewrite, Target, apply};
use crate::write::contract::{Contract, FORMAT_VERSION, Origin, PriorTerm, Terms};
use crate::write::model::Model;
use crate::write::onnx::{Opset, model};

/// How files are written.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Version of ONNX's operators.
    pub opset: Opset,
    /// Any batch or one.
    pub batch: Batch,
    /// Rewrites to apply, in order; none for the networks as they are described.
    pub rewrites: Vec<Rewrite>,
    /// The types that the files work in.
    pub precision: Precision,
    /// What a step of an energy descends; `None` as it was learned, with the Gaussian term of the checkpoint if it has one. What was learned beside a
    /// prior needs it here, as [`read_potential`](crate::transform::potential::read_potential) gives it.
    pub potential: Option<Potential>,
    /// The L2 norm to which the drift of a step is shortened per image, if it is.
    pub clip: Option<f64>,
    /// Langevin steps that `step.onnx` takes in one run, for engines where a run is dear.
    pub steps_per_run: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            opset: Opset::DEFAULT,
            batch: Batch::Symbolic,
            rewrites: Target::Cpu.rewrites(),
            precision: Precision::F32,
            potential: None,
            clip: None,
            steps_per_run: 1,
        }
    }
}

/// One file of an exported model.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportedFile {
    /// `energy.onnx`, `gradient.onnx`, `step.onnx`, `classifier.onnx` or `generator.onnx`.
    pub name: &'static str,
    /// Its content.
    pub model: Model,
}

/// Names of the files that a network becomes.
pub fn file_names(network: &Network) -> &'static [&'static str] {
    match network.kind() {
        Kind::Classifier => &["classifier.onnx"],
        Kind::Generator => &["generator.onnx"],
        _ => &["energy.onnx", "gradient.onnx", "step.onnx"],
    }
}

/// The ONNX files of a checkpoint: energy, gradient and step of an energy network, or the classifier or generator that it holds. With a
/// potential of more terms the three files are those of `T·U`, of which T is an input `temperature []`.
///
/// # Errors
/// The weights are not those of the network, or not finite; the potential does not suit it; the number of steps of one run makes no sense, or is not 1 where
/// there is no energy; or the files would be larger than ONNX files can be.
pub fn exported_files(
    header: &Header,
    weights: &Tensors,
    settings: &Settings,
) -> Result<Vec<ExportedFile>, Error> {
    check_weights(&header.network.graph()?, weights)?;
    let potential = potential(header, settings)?;
    let graphs = Graphs::new(&header.network, &potential, &settings.rewrites)?;
    let graphs = graphs.written(&potential.weights(weights), settings.precision)?;
    let contract = contract(header, &potential, settings, weights);
    let steps = Steps {
        count: settings.steps_per_run,
        clip: settings.clip.map(|clip| clip as f32),
    };
    steps.check()?;
    let written = |name, kind, graph: &Graph| {
        let contract = Contract {
            kind,
            n_steps: (kind == Kind::Step && steps.count > 1).then_some(steps.count),
            ..contract.clone()
        };
        let model = model(graph, &contract, settings.opset, settings.batch)?;
        Ok(ExportedFile { name, model })
    };
    let Some(gradient) = &graphs.gradient else {
        let (name, kind) = (file_names(&header.network)[0], header.network.kind());
        if steps.count > 1 {
            return Err(Error::Onnx(format!(
                "{} steps of one run belong to energies, and this checkpoint holds none",
                steps.count
            )));
        }
        return Ok(vec![written(name, kind, &graphs.forward)?]);
    };
    let step = written_steps(gradient, &steps)?;
    Ok(vec![
        written("energy.onnx", Kind::Energy, &graphs.forward)?,
        written("gradient.onnx", Kind::Gradient, gradient)?,
        written("step.onnx", Kind::Step, &step)?,
    ])
}

/// What tells how far files in a precision are from exact ones: the gradient of an energy, or what a classifier or generator gives.
///
/// # Errors
/// As [`exported_files`].
pub fn comparison(
    header: &Header,
    weights: &Tensors,
    settings: &Settings,
) -> Result<Comparison, Error> {
    check_weights(&header.network.graph()?, weights)?;
    let potential = potential(header, settings)?;
    let graphs = Graphs::new(&header.network, &potential, &settings.rewrites)?;
    let graphs = graphs.written(&potential.weights(weights), Precision::F32)?;
    let (input, output) = match header.network.kind() {
        Kind::Classifier => ("x", "logits"),
        Kind::Generator => ("z", "image"),
        _ => ("x", "gradient"),
    };
    let exact = graphs.gradient.unwrap_or(graphs.forward);
    Ok(Comparison {
        written: lowered(&exact, settings.precision)?,
        exact,
        input: input.to_string(),
        output: output.to_string(),
    })
}

/// Values of the inputs that files have beside x or z, for one image: the temperature that the checkpoint recommends, and of a
/// generator that distinguishes classes the first one.
pub fn other_inputs(header: &Header) -> BTreeMap<String, ArrayD<f64>> {
    let recommended = header.purification.as_ref();
    let temperature = recommended.map_or(1.0, |purification| purification.temperature);
    let temperature = ArrayD::from_elem(IxDyn(&[]), temperature);
    let mut values = BTreeMap::from([("temperature".to_string(), temperature)]);
    if let (Kind::Generator, Some(n_classes)) = (header.network.kind(), header.network.n_classes())
    {
        let first = ArrayD::from_shape_fn(IxDyn(&[1, n_classes]), |index| {
            f64::from(u8::from(index[1] == 0))
        });
        values.insert("class".to_string(), first);
    }
    values
}

/// What the files of a checkpoint are made of.
struct Graphs {
    /// The network, of an energy with its potential.
    forward: Graph,
    /// The gradient of an energy.
    gradient: Option<Graph>,
}

impl Graphs {
    fn new(
        network: &Network,
        potential: &Potential,
        rewrites: &[Rewrite],
    ) -> Result<Graphs, Error> {
        let graph = network.graph()?;
        let forward = apply(&graph, rewrites)?;
        if network.kind() != Kind::Energy {
            return Ok(Graphs {
                forward,
                gradient: None,
            });
        }
        let gradient = gradient_graph(&graph, rewrites)?;
        Ok(Graphs {
            forward: potential.energy_graph(&forward, rewrites)?,
            gradient: Some(potential.gradient_graph(&gradient, rewrites)?),
        })
    }

    fn written(self, weights: &Tensors, precision: Precision) -> Result<Graphs, Error> {
        let written = |graph: &Graph| written(graph, weights, precision);
        Ok(Graphs {
            forward: written(&self.forward)?,
            gradient: self.gradient.as_ref().map(written).transpose()?,
        })
    }
}

/// What the files descend.
pub(crate) fn potential(header: &Header, settings: &Settings) -> Result<Potential, Error> {
    let image = header.network.image();
    if header.network.kind() == Kind::Energy {
        let potential = match &settings.potential {
            Some(potential) => potential.clone(),
            None => learned_without_prior(header)?,
        };
        potential.check(image)?;
        return match settings.clip {
            Some(clip) => check_scale("clip", clip, 1.0 / clip).map(|()| potential),
            None => Ok(potential),
        };
    }
    let is_plain = settings.potential.as_ref().is_none_or(Potential::is_plain);
    match is_plain && settings.clip.is_none() {
        true => Ok(Potential::default()),
        false => Err(Error::Potential {
            problem: "prior, tau and clip belong to energies, and this checkpoint holds none"
                .to_string(),
        }),
    }
}

fn learned_without_prior(header: &Header) -> Result<Potential, Error> {
    if header.prior.is_some() {
        let problem = "the energy was learned beside a prior; say what is descended".to_string();
        return Err(Error::Potential { problem });
    }
    let tau = header.langevin.as_ref().and_then(|langevin| langevin.tau);
    Ok(Potential { prior: None, tau })
}

/// What all files of a checkpoint say of themselves: the kind is left as the network's, and costs are not counted.
pub(crate) fn contract(
    header: &Header,
    potential: &Potential,
    settings: &Settings,
    weights: &Tensors,
) -> Contract {
    Contract {
        format_version: FORMAT_VERSION,
        kind: header.network.kind(),
        network: Origin::Network(header.network.clone()),
        image: Some(header.network.image()),
        value_range: [-1.0, 1.0],
        batch: settings.batch.size(),
        langevin: header.langevin.clone(),
        purification: header.purification.clone(),
        potential: (!potential.is_plain()).then(|| terms(potential)),
        clip: settings.clip,
        n_steps: None,
        n_classes: header.network.n_classes(),
        opset: settings.opset.number(),
        rewrites: settings
            .rewrites
            .iter()
            .map(|rewrite| rewrite.name().to_string())
            .collect(),
        precision: settings.precision,
        n_parameters: n_elements(weights),
        weights_sha256: tensors_sha256(weights),
        config: (!header.config.is_null()).then(|| header.config.clone()),
    }
}

fn terms(potential: &Potential) -> Terms {
    let prior = potential.prior.as_ref().map(|prior| PriorTerm {
        network: prior.network.clone(),
        temperature: prior.temperature,
        n_parameters: n_elements(&prior.weights),
        weights_sha256: tensors_sha256(&prior.weights),
    });
    let tau = potential.tau;
    Terms { prior, tau }
}

fn n_elements(weights: &Tensors) -> usize {
    weights.values().map(|weight| weight.data().len()).sum()
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::source::networks::{Activation, ConvClassifier, Sngan, SnganGenerator};
    use crate::source::onnx::proto::tensor_proto::DataType;
    use crate::source::onnx::proto::{ModelProto, type_proto};
    use crate::source::onnx::{Selection, read};
    use crate::source::{Langevin, Purification};
    use crate::write::derived::{Derivation, EnergyOutput, Names, Request, derived_file};
    use crate::write::triton::{Batching, Content, Served, repository};

    fn energy() -> Network {
        Network::Sngan(Sngan::small(
            8,
            1,
            &[4, 6],
            &[true, false],
            Activation::Silu,
        ))
    }

    #[test]
    fn the_same_checkpoint_gives_the_same_bytes() {
        let header = Header::new(energy());
        let weights = header.network.initial_weights(1).unwrap();
        let files = || exported_files(&header, &weights, &Settings::default()).unwrap();
        assert_eq!(files(), files());
        assert_eq!(
            files().iter().map(|file| file.name).collect::<Vec<_>>(),
            file_names(&header.network)
        );
    }

    #[test]
    fn a_classifier_is_one_file() {
        let header = Header::new(Network::ConvClassifier(ConvClassifier {
            image_size: 8,
            channels: 1,
            widths: vec![4],
            pools: vec![true],
            n_classes: 10,
            activation: Activation::Relu,
        }));
        let weights = header.network.initial_weights(1).unwrap();
        let files = exported_files(&header, &weights, &Settings::default()).unwrap();
        assert_eq!(
            files.iter().map(|file| file.name).collect::<Vec<_>>(),
            ["classifier.onnx"]
        );
    }

    #[test]
    fn a_generator_is_one_file() {
        let network = SnganGenerator {
            latent: 3,
            widths: vec![4, 2],
            ..SnganGenerator::gen_sngan32(1)
        };
        let header = Header::new(Network::SnganGenerator(network));
        let weights = header.network.initial_weights(1).unwrap();
        let files = exported_files(&header, &weights, &Settings::default()).unwrap();
        assert_eq!(files.len(), 1);
        assert_eq!(files[0].name, "generator.onnx");
        let clipped = Settings {
            clip: Some(1.0),
            ..Settings::default()
        };
        let error = exported_files(&header, &weights, &clipped).unwrap_err();
        assert!(error.to_string().contains("belong to energies"), "{error}");
    }

    /// Learned with τ, a checkpoint is exported with it, unless the settings say otherwise.
    #[test]
    fn the_gaussian_term_of_a_checkpoint_is_part_of_its_step() {
        let mut header = Header::new(energy());
        header.langevin = Some(Langevin {
            step_size: 0.01,
            temperature: 1e-4,
            steps: 10,
            tau: Some(0.15),
        });
        let learned = potential(&header, &Settings::default()).unwrap();
        assert_eq!(learned.tau, Some(0.15));
        let contract = contract(&header, &learned, &Settings::default(), &Tensors::new());
        assert_eq!(contract.potential.unwrap().tau, Some(0.15));
        let without = Settings {
            potential: Some(Potential::default()),
            ..Settings::default()
        };
        assert!(potential(&header, &without).unwrap().is_plain());
        let clipped = Settings {
            clip: Some(-1.0),
            ..Settings::default()
        };
        let error = potential(&header, &clipped).unwrap_err().to_string();
        assert!(error.contains("clip must be positive"), "{error}");
    }

    /// A class is half of what a conditional generator takes, and its images are compared as those of any other.
    #[test]
    fn low_types_of_a_conditional_generator_are_measured_at_a_class() {
        use crate::source::networks::{BigganGenerator, Classes};
        use crate::transform::precision::random_images;
        let network = Network::BigganGenerator(BigganGenerator {
            latent: 3,
            channels: 2,
            classes: Some(Classes {
                n_classes: 5,
                embedding: 2,
            }),
            bottom: 8,
            widths: vec![8, 4],
            upsamples: vec![false, true],
            attention: None,
            ..BigganGenerator::gen_biggan128(1)
        });
        let header = Header::new(network);
        let weights = header.network.initial_weights(1).unwrap();
        let others = other_inputs(&header);
        let class = others["class"].iter().copied().collect::<Vec<f64>>();
        assert_eq!(class, [1.0, 0.0, 0.0, 0.0, 0.0]);
        let low = Settings {
            precision: Precision::F16,
            rewrites: Rewrite::COMMON.to_vec(),
            ..Settings::default()
        };
        let comparison = comparison(&header, &weights, &low).unwrap();
        let z = random_images(2, &comparison.extents().unwrap(), 1);
        let errors = comparison.relative_errors(&z, &others).unwrap();
        // Nothing is exact in f16.
        assert!(
            errors.iter().all(|error| (1e-6..1e-1).contains(error)),
            "{errors:?}"
        );
    }

    /// Operators by what they are and the type of their result: those that steps add to the network, and all in a low type.
    type Types = BTreeMap<(String, i32), usize>;

    fn types(bytes: &[u8]) -> [Types; 2] {
        let graph = ModelProto::decode(bytes).unwrap().graph.unwrap();
        let stated = graph.value_info.iter().chain(&graph.output);
        let of_value: BTreeMap<&str, i32> = stated
            .map(|info| match info.r#type.as_ref().unwrap().value.as_ref() {
                Some(type_proto::Value::TensorType(tensor)) => (info.name(), tensor.elem_type()),
                _ => panic!("{} is not a tensor", info.name()),
            })
            .collect();
        let mut counts = [Types::new(), Types::new()];
        for node in &graph.node {
            let dtype = of_value[node.output[0].as_str()];
            let kind = (node.op_type().to_string(), dtype);
            if node.name().starts_with("step.") {
                *counts[0].entry(kind.clone()).or_default() += 1;
            }
            if [DataType::Float16, DataType::Bfloat16].contains(&DataType::try_from(dtype).unwrap())
            {
                *counts[1].entry(kind).or_default() += 1;
            }
        }
        counts
    }

    /// Chains move by steps that f16 would round away: the state, and all that is added to it, is f32, whichever way a file is made.
    #[test]
    fn steps_stay_f32_behind_the_same_network_whatever_a_file_is_made_of() {
        let header = Header::new(energy());
        let weights = header.network.initial_weights(1).unwrap();
        let of_name = |files: Vec<ExportedFile>, name: &str| {
            let mut files = files.into_iter();
            let file = files.find(|file| file.name == name).unwrap();
            file.model.to_bytes()
        };
        let raw = Settings {
            rewrites: Vec::new(),
            ..Settings::default()
        };
        let energy = exported_files(&header, &weights, &raw).unwrap();
        let energy = of_name(energy, "energy.onnx");
        let foreign = read(&energy, &Selection::default()).unwrap();
        let request = Request {
            derivation: Derivation::Steps(Steps::ONE),
            energy: EnergyOutput::Renamed,
            names: Names::default(),
        };
        let served = Served {
            dynamics: Purification {
                step_size: 0.01,
                temperature: 1e-4,
                steps: 1,
            },
            batching: Batching {
                max_batch: 4,
                max_delay_microseconds: 1,
            },
            classifier: None,
        };
        for precision in [Precision::F16, Precision::Bf16, Precision::Mixed] {
            let settings = Settings {
                precision,
                rewrites: Rewrite::COMMON.to_vec(),
                opset: Opset::OLDEST_WITH_BF16,
                ..Settings::default()
            };
            let own = exported_files(&header, &weights, &settings).unwrap();
            let own = types(&of_name(own, "step.onnx"));
            let derived = derived_file(&foreign, &request, &settings).unwrap();
            let derived = types(&derived.to_bytes());
            let purifier = repository(&header, &weights, &settings, &served).unwrap();
            let mut purifier = purifier.into_iter();
            let purifier = purifier.find_map(|file| match file.content {
                Content::Model(model) => Some(types(&model.to_bytes())),
                Content::Bytes(_) => None,
            });
            let [steps, network] = &own;
            assert!(!network.is_empty(), "{precision}");
            let single = DataType::Float as i32;
            assert!(steps.keys().all(|(_, dtype)| *dtype == single), "{steps:?}");
            let [sub, norm] = ["Sub", "Sqrt"].map(|op_type| (op_type.to_string(), single));
            assert!(steps.contains_key(&sub) && steps.contains_key(&norm));
            assert_eq!(derived, own, "{precision}");
            let [purifier_steps, purifier_network] = purifier.unwrap();
            assert_eq!(&purifier_network, network, "{precision}");
            // What ε and T make alone is computed before.
            let is_single = |(kind, count): (&(String, i32), &usize)| {
                kind.1 == single && steps.get(kind).is_some_and(|own| count <= own)
            };
            assert!(purifier_steps.iter().all(is_single), "{purifier_steps:?}");
        }
    }

    #[test]
    fn weights_that_do_not_belong_are_refused() {
        let header = Header::new(energy());
        let weights = header.network.initial_weights(1).unwrap();
        let changed = |change: &dyn Fn(&mut Tensors)| {
            let mut weights = weights.clone();
            change(&mut weights);
            exported_files(&header, &weights, &Settings::default())
                .unwrap_err()
                .to_string()
        };
        let bias = "stem.conv1.bias";
        for (change, wanted) in [
            (
                &|weights: &mut Tensors| drop(weights.remove(bias)) as (),
                "weight \"stem.conv1.bias\": missing",
            ),
            (
                &|weights: &mut Tensors| {
                    drop(weights.insert(bias.into(), crate::Tensor::filled(&[5], 0.0)))
                },
                "expected shape [4], got [5]",
            ),
            (
                &|weights: &mut Tensors| {
                    drop(weights.insert(bias.into(), crate::Tensor::filled(&[4], f32::NAN)))
                },
                "element 0 is NaN",
            ),
            (
                &|weights: &mut Tensors| {
                    drop(weights.insert("more".into(), crate::Tensor::scalar(0.0)))
                },
                "no weight of this name",
            ),
        ] as [(&dyn Fn(&mut Tensors), &str); 4]
        {
            let error = changed(change);
            assert!(error.contains(wanted), "{error}");
        }
    }
}

//! The network whose features are compared: any in ONNX, or the classifier of a run.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use ebm_export::Error;
use ebm_export::graph::Batch;
use ebm_export::graph::op::{Binary, Op};
use ebm_export::graph::tensor::Tensors;
use ebm_export::graph::{Dim, Graph, Value};
use ebm_export::source::checkpoint::{sha256, tensors_sha256};
use ebm_export::source::onnx::{Selection, read_file};
use ebm_export::source::{ImageShape, Kind as NetworkKind};
use ebm_export::transform::pixels::Pixels;
use tch::{Device, Kind, Tensor};

use crate::machine::parallel::{Shared, Team};
use crate::network::{BoundNetwork, Program, Weights, to_device};
use crate::run::saved::Saved;

/// Features of an image, at most: their covariance has as many rows and columns.
const MAX_FEATURES: usize = 8192;
/// The most values of images that are taken at a time, if those are more than one image.
const BATCH_VALUES: usize = 1 << 22;
/// The most images that are taken at a time.
const MAX_BATCH: usize = 1024;
/// Names that an error lists.
const MAX_NAMES: usize = 30;

/// What becomes of images before the network sees them.
#[derive(Clone, Debug, PartialEq)]
pub struct Preparation {
    /// Rows and columns, if images are resized.
    pub resize: Option<usize>,
    /// The numbers that the network was trained on.
    pub pixels: Pixels,
}

/// A network that gives features.
#[derive(Debug)]
pub struct Features {
    /// What it is called.
    pub name: String,
    /// The value that is taken.
    pub output: String,
    /// Features of an image.
    pub n_features: usize,
    /// SHA-256 of the network, its weights and the value that is taken.
    pub sha256: String,
    /// What it takes.
    image: ImageShape,
    preparation: Preparation,
    /// Factor and offset of each channel.
    affine: Vec<(f64, f64)>,
    program: Program,
    weights: Weights,
}

impl Features {
    /// From an ONNX file or a run's folder. `output` is the value to take; `images` are those to come, in case the file leaves extents open.
    ///
    /// # Errors
    /// The network cannot be read, has no such value, takes no images, or gives no numbers per image.
    pub fn open(
        path: &Path,
        output: Option<&str>,
        images: ImageShape,
        preparation: Preparation,
        device: Device,
    ) -> Result<Features> {
        let size = preparation.resize;
        let images = ImageShape {
            height: size.unwrap_or(images.height),
            width: size.unwrap_or(images.width),
            ..images
        };
        let read = match path.is_dir() {
            true => of_run(path, output),
            false => of_file(path, output, images),
        };
        let read = read.with_context(|| format!("cannot read {}", path.display()))?;
        let image = read.image()?;
        let name = path.file_name().unwrap_or(path.as_os_str());
        Ok(Features {
            name: name.to_string_lossy().into_owned(),
            n_features: read.n_features()?,
            sha256: read.sha256,
            affine: preparation.pixels.affine(image.channels)?,
            image,
            preparation,
            program: Program::new(&read.graph, Kind::Float, device),
            weights: to_device(&read.weights, Kind::Float, device),
            output: read.output,
        })
    }

    /// Checks that images of such extents can be taken, once they are resized.
    pub fn check(&self, images: ImageShape) -> Result<()> {
        let (wanted, resize) = (self.image, self.preparation.resize);
        let [height, width] = resize.map_or([images.height, images.width], |size| [size, size]);
        ensure!(
            [height, width] == [wanted.height, wanted.width],
            "{} takes images of {}×{}, got {height}×{width}: say --resize {}",
            self.name,
            wanted.height,
            wanted.width,
            wanted.height
        );
        ensure!(
            wanted.channels == images.channels || images.channels == 1,
            "{} takes images of {} channels, got {}",
            self.name,
            wanted.channels,
            images.channels
        );
        Ok(())
    }

    /// Images to take at a time.
    pub fn batch(&self) -> usize {
        let ImageShape {
            channels,
            height,
            width,
        } = self.image;
        (BATCH_VALUES / (channels * height * width)).clamp(1, MAX_BATCH)
    }

    /// What features depend on beside the images, as text.
    pub fn key(&self) -> String {
        format!("{} {:?}", self.sha256, self.preparation)
    }

    /// The size to which images are resized, if they are.
    pub fn resize(&self) -> Option<usize> {
        self.preparation.resize
    }

    /// The network, ready for batches.
    pub fn bind(&self) -> Result<BoundFeatures<'_>> {
        Ok(BoundFeatures {
            features: self,
            network: self.program.bind(&self.weights)?,
        })
    }
}

/// A network of features, ready for batches.
#[derive(Debug)]
pub struct BoundFeatures<'a> {
    features: &'a Features,
    network: BoundNetwork<'a>,
}

impl BoundFeatures<'_> {
    /// The features `[N, d]` of images f32 `[N, C, H, W]` in `[-1, 1]`.
    pub fn of(&self, images: &Tensor, team: &Team) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let images = self
            .features
            .prepared(&images.to_device(self.network.device()))?;
        let network = Shared::new(&self.network);
        let Features {
            output, n_features, ..
        } = self.features;
        let parts = team.split(&images, self.network.images_at_once())?;
        let parts = team.map(parts, |images: Tensor| {
            let features = network.get().output(output, &images)?;
            Ok(features.f_reshape([-1, *n_features as i64])?)
        })?;
        Ok(Tensor::f_cat(&parts, 0)?)
    }
}

impl Features {
    /// Images as the network takes them.
    fn prepared(&self, images: &Tensor) -> Result<Tensor> {
        let resized = match self.preparation.resize {
            Some(size) => images.f_internal_upsample_bilinear2d_aa(
                [size as i64; 2],
                false,
                None::<f64>,
                None::<f64>,
            )?,
            None => images.shallow_clone(),
        };
        let channels = self.affine.len() as i64;
        let [n, _, height, width] = resized.size()[..] else {
            bail!("images have the shape {:?}", resized.size());
        };
        let (factors, offsets): (Vec<f64>, Vec<f64>) = self.affine.iter().copied().unzip();
        let per_channel = |values: Vec<f64>| {
            Tensor::from_slice(&values)
                .to_kind(Kind::Float)
                .to_device(resized.device())
                .view([1, -1, 1, 1])
        };
        // Grey images have the same value in all channels.
        let coloured = resized.f_expand([n, channels, height, width], false)?;
        Ok(coloured
            .f_mul(&per_channel(factors))?
            .f_add(&per_channel(offsets))?)
    }
}

/// A network that was read.
struct Read {
    graph: Graph,
    weights: Tensors,
    output: String,
    sha256: String,
}

fn of_file(path: &Path, output: Option<&str>, images: ImageShape) -> Result<Read> {
    let read = |image: Option<&[usize]>| {
        let selection = Selection {
            outputs: output.as_slice(),
            input: None,
            image,
            // Many images at once, whatever batch the file fixes.
            batch: Some(Batch::Symbolic),
        };
        read_file(path, &selection)
    };
    // The file may leave rows and columns open, and the number of channels, which grey images do not tell.
    let ImageShape {
        channels,
        height,
        width,
    } = images;
    let model = read(None)
        .or_else(|error| read(Some(&[channels, height, width])).map_err(|_| error))
        .or_else(|error| read(Some(&[3, height, width])).map_err(|_| error))?;
    Ok(Read {
        sha256: sha256(
            format!(
                "{} {} {}",
                model.model().map_or("", |origin| &origin.sha256),
                tensors_sha256(&model.weights),
                model.output
            )
            .as_bytes(),
        ),
        graph: model.graph,
        weights: model.weights,
        output: model.output,
    })
}

fn of_run(path: &Path, output: Option<&str>) -> Result<Read> {
    let saved = Saved::open_kind(path, NetworkKind::Classifier, "--features")?;
    let mut graph = saved.header.network.graph()?;
    let value = match output {
        Some(name) => named(&graph, name)?,
        None => before_last_layer(&graph, graph.output("logits")?)?,
    };
    let output = graph.node(value).name.clone();
    graph.remove_output("logits");
    graph.set_output(&output, value);
    let weights = saved.weights()?;
    let network =
        serde_json::to_string(&saved.header.network).context("cannot write the network")?;
    Ok(Read {
        sha256: sha256(format!("{network} {} {output}", tensors_sha256(&weights)).as_bytes()),
        graph: graph.rebuild(|_, _, _| Ok(None))?,
        weights,
        output,
    })
}

/// The value of that name.
fn named(graph: &Graph, name: &str) -> Result<Value> {
    let found = graph.outputs().iter().find(|(own, _)| own == name);
    let found = found.map(|(_, value)| *value);
    let found = found.or_else(|| computed(graph).find(|&value| graph.node(value).name == name));
    found.ok_or_else(|| {
        let names = computed(graph)
            .rev()
            .map(|value| graph.node(value).name.clone());
        let unknown = Error::UnknownValue {
            kind: "value",
            name: name.to_string(),
            existing: names.take(MAX_NAMES).collect(),
        };
        unknown.into()
    })
}

fn computed(graph: &Graph) -> impl DoubleEndedIterator<Item = Value> + '_ {
    graph
        .values()
        .filter(|&value| graph.operator(value).is_some())
}

/// What the affine map that makes the logits takes.
fn before_last_layer(graph: &Graph, logits: Value) -> Result<Value> {
    let sum = graph.operator(logits);
    let Some((Op::Binary(Binary::Add), &[product, _])) = sum else {
        bail!(
            "the classifier does not end with an affine map: say which value to take with --layer"
        );
    };
    match graph.operator(product) {
        Some((Op::MatMul(_), &[features, _])) => Ok(features),
        _ => bail!(
            "the classifier does not end with an affine map: say which value to take with --layer"
        ),
    }
}

impl Read {
    /// The images that it takes.
    fn image(&self) -> Result<ImageShape> {
        let inputs: Vec<Value> = self.graph.inputs().collect();
        let &[input] = inputs.as_slice() else {
            bail!(
                "the network has {} inputs, expected images alone",
                inputs.len()
            );
        };
        let shape = self.graph.shape(input);
        match shape.0[..] {
            [
                Dim::BATCH,
                Dim::Size(channels),
                Dim::Size(height),
                Dim::Size(width),
            ] => Ok(ImageShape {
                channels,
                height,
                width,
            }),
            _ => bail!("the network takes {shape}, expected images [N, C, H, W]"),
        }
    }

    fn n_features(&self) -> Result<usize> {
        let output = self.graph.output(&self.output)?;
        let shape = self.graph.shape(output);
        ensure!(
            shape.0.first() == Some(&Dim::BATCH),
            "its value {:?} is {shape}, expected numbers for each image, [N, …]",
            self.output
        );
        let n_features = shape.elements_per_image();
        ensure!(
            n_features <= MAX_FEATURES,
            "its value {:?} is {shape}: {n_features} features are more than {MAX_FEATURES}; take a layer behind a pooling with --layer",
            self.output
        );
        Ok(n_features)
    }
}

#[cfg(test)]
mod tests {
    use ebm_export::source::networks::{Activation, ConvClassifier, Network, WideResnet};

    use super::*;

    #[test]
    fn the_features_of_a_classifier_are_what_its_last_layer_takes() {
        let classifier = Network::ConvClassifier(ConvClassifier {
            image_size: 8,
            channels: 1,
            widths: vec![3, 5],
            pools: vec![true, true],
            n_classes: 10,
            activation: Activation::Relu,
        });
        let residual = Network::WideResnet(WideResnet {
            image_size: 8,
            depth: 10,
            ..WideResnet::wrn28(1)
        });
        for (network, wanted, n_features) in [(classifier, "flat", 20), (residual, "head.mean", 64)]
        {
            let graph = network.graph().unwrap();
            let logits = graph.output("logits").unwrap();
            let value = before_last_layer(&graph, logits).unwrap();
            assert_eq!(graph.node(value).name, wanted);
            assert_eq!(graph.shape(value).elements_per_image(), n_features);
            assert_eq!(named(&graph, wanted).unwrap(), value);
            assert_eq!(named(&graph, "logits").unwrap(), logits);
            let error = named(&graph, "nothing").unwrap_err().to_string();
            assert!(error.contains("has no value \"nothing\"; it has [\"head\","));
            assert!(before_last_layer(&graph, value).is_err());
        }
    }
}

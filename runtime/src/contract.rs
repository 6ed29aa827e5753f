//! What an exported model says about itself.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
pub use ebm_common::contract::{CONTRACT_KEY, FORMAT_VERSION, ImageShape, Kind};

/// The pixel values of every model: images are f32 in `[-1, 1]`.
pub const VALUE_RANGE: [f64; 2] = [-1.0, 1.0];

/// More pixels than this in one image are taken for a damaged contract.
const MAX_PIXELS: usize = 1 << 28;

/// Advice on what cannot be used.
pub(crate) const HOW_TO_EXPORT: &str = "export it again with `ebm-export onnx CHECKPOINT -o DIR`";

/// The Langevin dynamics under which the energy was learned.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Langevin {
    /// Step size ε.
    pub step_size: f64,
    /// Temperature T.
    pub temperature: f64,
    /// Number of steps K of one update.
    #[serde(default)]
    pub steps: Option<usize>,
    /// Width τ of the Gaussian term of the potential, if it has one.
    #[serde(default)]
    pub tau: Option<f64>,
}

/// The purification that the maker of the model recommends.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Purification {
    /// Step size ε.
    pub step_size: f64,
    /// Temperature T.
    pub temperature: f64,
    /// Number of steps.
    pub steps: usize,
}

/// What an exported model says about itself. Keys that are not listed here are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Contract {
    /// Version of the contract's format, 1.
    pub format_version: u32,
    /// What the model computes.
    pub kind: Kind,
    /// The network: its `name` and parameters.
    #[serde(default)]
    pub network: serde_json::Value,
    /// Shape of one image.
    pub image: ImageShape,
    /// Range of pixel values, `[-1, 1]`.
    pub value_range: [f64; 2],
    /// The batch that the model is fixed to; `None` if it takes any.
    #[serde(default)]
    pub batch: Option<usize>,
    /// The dynamics under which the energy was learned.
    #[serde(default)]
    pub langevin: Option<Langevin>,
    /// The recommended purification.
    #[serde(default)]
    pub purification: Option<Purification>,
    /// Number of classes of a classifier.
    #[serde(default)]
    pub n_classes: Option<usize>,
    /// ONNX operator set.
    #[serde(default)]
    pub opset: Option<u64>,
    /// Names of the rewrites that were applied on export.
    #[serde(default)]
    pub rewrites: Vec<String>,
    /// The floating-point types in which it works: `f32`, `f16`, `bf16` or `mixed`; `None` stands for `f32`.
    #[serde(default)]
    pub precision: Option<String>,
    /// SHA-256 of the weights of the checkpoint, in hexadecimal digits.
    #[serde(default)]
    pub weights_sha256: Option<String>,
    /// Steps that a step model or a purifier takes in one run; `None` stands for one.
    #[serde(default)]
    pub n_steps: Option<usize>,
    /// The resolved configuration of the run that learned the weights.
    #[serde(default)]
    pub config: serde_json::Value,
}

impl Contract {
    /// The name of the network, if the contract gives one.
    pub fn network_name(&self) -> Option<&str> {
        self.network.get("name")?.as_str()
    }

    /// Returns Ok if the model is of one of these kinds.
    pub(crate) fn expect_kind(&self, kinds: &[Kind]) -> Result<()> {
        if kinds.contains(&self.kind) {
            return Ok(());
        }
        let names = |before: &str, after: &str| -> String {
            let names: Vec<_> = kinds
                .iter()
                .map(|kind| format!("{before}{kind}{after}"))
                .collect();
            names.join(" or ")
        };
        let error = Error::new(ErrorKind::WrongKind, "the model is of another kind")
            .expected(format!("a model of kind {}", names("`", "`")))
            .but_got(format!("kind `{}`", self.kind));
        let files = names("`", ".onnx`");
        Err(error.advise(format!("give the {files} that `ebm-export onnx` wrote")))
    }

    pub(crate) fn parse(json: &str) -> Result<Self> {
        let foreign = |problem: &str| {
            Error::new(
                ErrorKind::Contract,
                format!("the metadata entry `{CONTRACT_KEY}` {problem}"),
            )
            .expected(format!("the contract of format version {FORMAT_VERSION}"))
            .advise(HOW_TO_EXPORT)
        };
        let value: serde_json::Value =
            serde_json::from_str(json).map_err(|e| foreign("is not JSON").caused_by(e))?;
        match value.get("format_version") {
            None => return Err(foreign("has no `format_version`")),
            Some(version) if version.as_u64() != Some(FORMAT_VERSION.into()) => {
                return Err(Error::new(ErrorKind::Version, "the contract has another format version")
                    .expected(FORMAT_VERSION)
                    .but_got(version)
                    .advise("use a version of this program as new as the exporter, or export the model again"));
            }
            Some(_) => {}
        }
        if value.get("image").is_some_and(serde_json::Value::is_null) {
            return Err(foreign("is of a model whose inputs are not images")
                .expected("a model of images [N, C, H, W]"));
        }
        let contract: Self =
            serde_json::from_value(value).map_err(|e| foreign("is not understood").caused_by(e))?;
        contract.check()?;
        Ok(contract)
    }

    fn check(&self) -> Result<()> {
        let refuse = |field: &str| {
            Error::new(
                ErrorKind::Contract,
                format!("the contract's `{field}` is wrong"),
            )
            .advise(HOW_TO_EXPORT)
        };
        let dimensions = self.image.dimensions();
        let n_values = dimensions
            .iter()
            .try_fold(1_usize, |n, &d| n.checked_mul(d));
        if !n_values.is_some_and(|n| (1..=MAX_PIXELS).contains(&n)) {
            return Err(refuse("image")
                .expected(format!(
                    "dimensions from 1, with at most {MAX_PIXELS} values"
                ))
                .but_got(self.image));
        }
        if self.value_range != VALUE_RANGE {
            return Err(refuse("value_range")
                .expected(format!("{VALUE_RANGE:?}"))
                .but_got(format!("{:?}", self.value_range)));
        }
        if self.batch == Some(0) {
            return Err(refuse("batch")
                .expected("null or a number from 1")
                .but_got(0));
        }
        if self.n_steps == Some(0) {
            return Err(refuse("n_steps")
                .expected("null or a number from 1")
                .but_got(0));
        }
        if self.kind == Kind::Classifier && self.n_classes.unwrap_or(0) == 0 {
            return Err(refuse("n_classes")
                .expected("the number of classes of the classifier")
                .but_got(self.n_classes.map_or("null".into(), |n| n.to_string())));
        }
        Ok(())
    }
}

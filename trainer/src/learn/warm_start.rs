//! First weights from an earlier run, in the scale that the new run needs.

use anyhow::{Context, Result, bail, ensure};
use ebm_export::graph::tensor::{Tensor, Tensors};
use ebm_export::source::Kind;
use ebm_export::source::checkpoint::WEIGHTS;
use ebm_export::source::networks::Network;

use crate::config::{Fit, MatchingObjective, WarmStart};
use crate::run::saved::Saved;
use crate::weights::learned::OPTIMIZER;

/// In what scale the new run needs the energy.
#[derive(Clone, Copy, Debug)]
pub enum Scale<'a> {
    /// That of chains at a temperature.
    Temperature(f64),
    /// That of an objective.
    Objective(&'a MatchingObjective),
}

/// What a run begins with.
#[derive(Debug)]
pub struct First {
    /// The weights.
    pub weights: Tensors,
    /// The optimiser's state, and the updates that it has seen; a new one without.
    pub optimizer: Option<(u64, Tensors)>,
}

/// The best weights of the run that a configuration begins from, with the head in the new scale; says so in one line.
///
/// Chains of an energy E at temperature T descend E/T, and near data the energy of a denoiser belongs to the temperature σ². So the head, and
/// with it the energy, is multiplied by the new temperature over the old one.
///
/// # Errors
/// The run is not there, of another network, or its scale is not known.
pub fn first_weights(start: &WarmStart, network: &Network, scale: Scale<'_>) -> Result<Tensors> {
    let saved = opened(start, network)?;
    let mut weights = saved.weights()?;
    let (factor, reason) = factor(start, &saved, scale).with_context(|| named(start))?;
    scale_head(&mut weights, factor)?;
    say(start, &saved, &reason);
    Ok(weights)
}

/// Weights and optimiser of a run that learned flows, as they were, for the second phase.
///
/// # Errors
/// The run is not there, of another network, or learned something else.
pub fn first_phase(start: &WarmStart, network: &Network) -> Result<First> {
    let saved = opened(start, network)?;
    match Fit::of_run(&saved.header.config)? {
        Fit::Matching(old) if matches!(old.objective, MatchingObjective::Flow(_)) => {}
        _ => bail!(
            "{}: objective.contrast is a second phase: expected a run that learned by objective.kind = \"flow\", got another",
            named(start)
        ),
    }
    say(start, &saved, "its optimiser goes on");
    Ok(First {
        weights: saved.group(WEIGHTS)?,
        optimizer: Some((saved.header.update, saved.group(OPTIMIZER)?)),
    })
}

fn named(start: &WarmStart) -> String {
    format!("--from {}", start.checkpoint.display())
}

fn say(start: &WarmStart, saved: &Saved, reason: &str) {
    let (path, update) = (start.checkpoint.display(), saved.header.update);
    note!("beginning with the weights of {path} after update {update}; {reason}");
}

/// The run, if it is of that network.
fn opened(start: &WarmStart, network: &Network) -> Result<Saved> {
    if start.checkpoint.as_os_str().is_empty() {
        bail!("this configuration begins with the weights of another run: name it with --from RUN");
    }
    let saved = Saved::open_kind(&start.checkpoint, Kind::Energy, "--from")?;
    ensure!(
        saved.header.network == *network,
        "{}: expected the weights of the network that [network] describes, {}, got those of {}; \
         take another run, or set [network] to that of the run",
        named(start),
        serde_json::to_string(network)?,
        serde_json::to_string(&saved.header.network)?
    );
    Ok(saved)
}

/// What the head is multiplied by, and why.
fn factor(start: &WarmStart, saved: &Saved, scale: Scale<'_>) -> Result<(f64, String)> {
    match (scale, Fit::of_run(&saved.header.config)?) {
        (Scale::Temperature(new), Fit::Likelihood(old)) => {
            refuse_sigma(start, "that run has a temperature")?;
            Ok(ratio(new, old.langevin.temperature, "T_old"))
        }
        (Scale::Temperature(new), Fit::Matching(old)) => match &old.objective {
            MatchingObjective::Denoise(denoise) => {
                let sigma = sigma(start, denoise.sigma)?;
                Ok(ratio(new, sigma * sigma, "σ₀²"))
            }
            MatchingObjective::Flow(flow) => {
                refuse_sigma(start, "that run learned flows")?;
                let contrast = flow.contrast.as_ref().context(
                    "the first phase of learning flows gives its energy no temperature; take a run of the second phase",
                )?;
                Ok(ratio(new, contrast.temperature, "T_old"))
            }
        },
        (Scale::Objective(new), Fit::Matching(old))
            if std::mem::discriminant(new) == std::mem::discriminant(&old.objective) =>
        {
            refuse_sigma(start, "both runs have the same objective")?;
            Ok((1.0, "its scale stays".to_string()))
        }
        (Scale::Objective(_), _) => bail!(
            "expected a run with the same objective.kind, got one of which the energy has another scale; begin without --from"
        ),
    }
}

fn ratio(new: f64, old: f64, name: &str) -> (f64, String) {
    let factor = new / old;
    (
        factor,
        format!("its head is multiplied by T_new/{name} = {new}/{old} = {factor:.4}"),
    )
}

/// σ₀, which has to be within what the run learned.
fn sigma(start: &WarmStart, [least, most]: [f64; 2]) -> Result<f64> {
    let sigma = start.sigma.with_context(|| {
        let example = (least * most).sqrt().max(least);
        format!(
            "this energy was learned for noise of σ from {least} to {most} and has no temperature of its own: name the σ₀ \
             of which the square is taken for it, for example --set from.sigma={example:.2}"
        )
    })?;
    ensure!(
        (least..=most).contains(&sigma),
        "from.sigma = {sigma}: expected from {least} to {most}, the noise that the run has learned"
    );
    Ok(sigma)
}

fn refuse_sigma(start: &WarmStart, because: &str) -> Result<()> {
    match start.sigma {
        Some(sigma) => bail!("from.sigma = {sigma}: expected none, since {because}; leave it out"),
        None => Ok(()),
    }
}

/// Multiplies the weights of the linear head of an energy network, and with them the energy.
///
/// # Errors
/// The network has no such head.
pub fn scale_head(weights: &mut Tensors, factor: f64) -> Result<()> {
    const HEAD: &str = "head.weight";
    let head = weights
        .get_mut(HEAD)
        .with_context(|| format!("the network has no weights {HEAD:?} that could be scaled"))?;
    let scaled = head.data().iter().map(|value| value * factor as f32);
    *head = Tensor::new(head.shape(), scaled.collect());
    Ok(())
}

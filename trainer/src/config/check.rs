//! Ranges of configured values.

use anyhow::{Context, Error, Result, anyhow, ensure};
use ebm_export::source;
use ebm_export::source::networks::Network;

use super::{
    AdamConfig, BurnInConfig, ClassifierConfig, Configuration, Crop, DataConfig, Dynamics,
    EnergyConfig, GeneratorConfig, OptimizerConfig, Output, RandomCrop, Schedule, Setting, Source,
    Task, WarmStart,
};

impl Configuration for EnergyConfig {
    const KIND: Task = Task::Energy;
    const COMMAND: &'static str = "trainer fit";

    fn kind(&self) -> Task {
        self.kind
    }

    fn check(&self) -> Result<()> {
        let learning = &self.learning;
        check_energy("network", &self.network)?;
        check_data(&self.data)?;
        check_output(&self.output)?;
        at_least_one("learning.updates", learning.updates)?;
        at_least_one("learning.batch", learning.batch as u64)?;
        check_rate("learning.learning_rate", &learning.learning_rate)?;
        check_adam("learning.adam", &learning.adam)?;
        not_negative("learning.data_noise", learning.data_noise)?;
        above_zero_if_on(
            "learning.weight_gradient_clip",
            learning.weight_gradient_clip,
        )?;
        below_one_if_on("learning.ema_decay", learning.ema_decay)?;
        self.check_langevin()?;
        self.check_guard()?;
        Dynamics::from(self.purification).check("purification")?;
        self.check_chains()?;
        self.check_burn_in()?;
        self.check_generator()?;
        self.from.as_ref().map_or(Ok(()), WarmStart::check)?;
        self.check_prior()
    }
}

impl Dynamics {
    /// Says which value is out of its range; `section` is put before its name.
    pub fn check(&self, section: &str) -> Result<()> {
        let key = |name: &str| {
            if section.is_empty() {
                name.to_string()
            } else {
                format!("{section}.{name}")
            }
        };
        at_least_one(&key("steps"), self.steps as u64)?;
        above_zero(&key("step_size"), self.step_size)?;
        above_zero(&key("temperature"), self.temperature)?;
        above_zero_if_on(&key("clip"), self.clip)
    }
}

impl EnergyConfig {
    fn check_langevin(&self) -> Result<()> {
        let langevin = &self.langevin;
        check_schedule("langevin.steps", &langevin.steps, |key, steps| {
            at_least_one(key, steps as u64)
        })?;
        langevin.with_steps(1).check("langevin")?;
        above_zero_if_on("langevin.tau", langevin.tau)
    }

    fn check_guard(&self) -> Result<()> {
        let guard = &self.guard;
        above_zero_if_on("guard.energy_difference", guard.energy_difference)?;
        above_zero_if_on("guard.gradient_strength", guard.gradient_strength)?;
        above_zero_if_on("guard.saturation", guard.saturation)?;
        check_rollbacks(guard.patience, guard.rate_factor)
    }

    fn check_chains(&self) -> Result<()> {
        let chains = &self.chains;
        check_schedule(
            "chains.rejuvenation",
            &chains.rejuvenation,
            |key, chance| within((0.0..=1.0).contains(&chance), key, chance, "from 0 to 1"),
        )?;
        if chains.start.persists() && chains.bank < self.learning.batch {
            return Err(range(
                "chains.bank",
                chains.bank,
                "at least learning.batch, so that no chain is drawn twice in one update",
            ));
        }
        Ok(())
    }

    fn check_burn_in(&self) -> Result<()> {
        let Some(BurnInConfig {
            bank,
            batch,
            steps,
            visits,
        }) = &self.burn_in
        else {
            return Ok(());
        };
        if !self.chains.start.persists() {
            return Err(range(
                "burn_in",
                "a second bank",
                "none, since chains.start keeps no first one that its chains could enter",
            ));
        }
        if !(1..=self.learning.batch).contains(batch) {
            let expected = "from 1 to learning.batch, since chains that have burnt in take the places of updated ones";
            return Err(range("burn_in.batch", batch, expected));
        }
        if bank < batch {
            return Err(range("burn_in.bank", bank, "at least burn_in.batch"));
        }
        check_schedule("burn_in.steps", steps, |key, steps| {
            at_least_one(key, steps as u64)
        })?;
        check_schedule("burn_in.visits", visits, at_least_one)
    }

    fn check_generator(&self) -> Result<()> {
        let is_data = self.data.source == Source::Generator;
        let is_used = is_data || self.chains.start.generates();
        let Some(generator) = &self.generator else {
            return match is_used {
                true => Err(range(
                    "generator",
                    "none",
                    "a section [generator], since chains.start or data.source needs one",
                )),
                false => Ok(()),
            };
        };
        if !is_used {
            return Err(range(
                "generator",
                "a generator",
                "none, since neither chains.start nor data.source uses it",
            ));
        }
        if is_data && matches!(generator, GeneratorConfig::Learned(_)) {
            let expected = "\"fixed\", since data.source is this generator";
            return Err(range("generator.mode", "learned", expected));
        }
        check_network(
            "generator.network",
            generator.network(),
            source::Kind::Generator,
        )?;
        if generator.network().image() != self.network.image() {
            let got = format!("images {:?}", generator.network().image());
            let expected = "images of the same channels and size as those of [network]";
            return Err(range("generator.network", got, expected));
        }
        above_zero_if_on("generator.truncation", generator.truncation())?;
        if let GeneratorConfig::Learned(learned) = generator {
            check_rate("generator.learning_rate", &learned.learning_rate)?;
            check_adam("generator.adam", &learned.adam)?;
            below_one_if_on("generator.ema_decay", learned.ema_decay)?;
            above_zero_if_on(
                "generator.weight_gradient_clip",
                learned.weight_gradient_clip,
            )?;
        }
        Ok(())
    }

    fn check_prior(&self) -> Result<()> {
        let Some(prior) = &self.prior else {
            return Ok(());
        };
        check_energy("prior.network", &prior.network)?;
        above_zero("prior.temperature", prior.temperature)
    }
}

impl Configuration for ClassifierConfig {
    const KIND: Task = Task::Classifier;
    const COMMAND: &'static str = "trainer classifier";

    fn kind(&self) -> Task {
        self.kind
    }

    fn check(&self) -> Result<()> {
        let learning = &self.learning;
        check_network("network", &self.network, source::Kind::Classifier)?;
        check_data(&self.data)?;
        check_output(&self.output)?;
        at_least_one("learning.updates", learning.updates)?;
        at_least_one("learning.batch", learning.batch as u64)?;
        check_rate("learning.learning_rate", &learning.learning_rate)?;
        check_optimizer("learning.optimizer", &learning.optimizer)?;
        not_negative("learning.data_noise", learning.data_noise)?;
        self.check_hardening()?;
        above_zero_if_on("guard.loss", self.guard.loss)?;
        check_rollbacks(self.guard.patience, self.guard.rate_factor)
    }
}

pub(super) fn check_rollbacks(patience: u64, rate_factor: f64) -> Result<()> {
    at_least_one("guard.patience", patience)?;
    let holds = rate_factor > 0.0 && rate_factor <= 1.0;
    within(holds, "guard.rate_factor", rate_factor, "above 0, up to 1")
}

/// Checks that it describes an energy network.
pub(super) fn check_energy(key: &str, network: &Network) -> Result<()> {
    check_network(key, network, source::Kind::Energy)
}

fn check_network(key: &str, network: &Network, kind: source::Kind) -> Result<()> {
    network
        .graph()
        .with_context(|| format!("[{key}] describes no network"))?;
    if network.kind() == kind {
        return Ok(());
    }
    let expected = match kind {
        source::Kind::Classifier => "a classifier, such as \"conv_classifier\"",
        source::Kind::Generator => "a generator, such as \"sngan_generator\"",
        _ => "an energy network, such as \"sngan\"",
    };
    Err(range(
        &format!("{key}.name"),
        format!("a network of kind {:?}", network.kind()),
        expected,
    ))
}

pub(super) fn check_data(data: &DataConfig) -> Result<()> {
    if !(1..=1000).contains(&data.n_classes) {
        return Err(range("data.n_classes", data.n_classes, "from 1 to 1000"));
    }
    if let Crop::Random(RandomCrop { area, aspect }) = data.crop {
        let within =
            |[least, most]: [f64; 2], end: f64| 0.0 < least && least <= most && most <= end;
        if !within(area, 1.0) {
            let expected = "[least, most], above 0 and at most 1";
            return Err(range(
                "data.crop.random.area",
                format!("{area:?}"),
                expected,
            ));
        }
        if !within(aspect, f64::MAX) {
            let expected = "[least, most], above 0";
            return Err(range(
                "data.crop.random.aspect",
                format!("{aspect:?}"),
                expected,
            ));
        }
    }
    below_one("data.max_damaged", data.max_damaged)?;
    at_least_one("data.buffer", data.buffer as u64)
}

pub(super) fn check_output(output: &Output) -> Result<()> {
    at_least_one("output.log_every", output.log_every)?;
    at_least_one("output.keep", output.keep as u64)
}

pub(super) fn check_rate(key: &str, rate: &Schedule<f64>) -> Result<()> {
    check_schedule(key, rate, above_zero)
}

fn check_optimizer(key: &str, optimizer: &OptimizerConfig) -> Result<()> {
    match optimizer {
        OptimizerConfig::Adam(adam) => check_adam(key, adam),
        OptimizerConfig::Sgd(sgd) => {
            below_one(&format!("{key}.momentum"), sgd.momentum)?;
            not_negative(&format!("{key}.weight_decay"), sgd.weight_decay)
        }
    }
}

pub(super) fn check_adam(key: &str, adam: &AdamConfig) -> Result<()> {
    below_one(&format!("{key}.beta1"), adam.beta1)?;
    below_one(&format!("{key}.beta2"), adam.beta2)?;
    above_zero(&format!("{key}.epsilon"), adam.epsilon)
}

/// Checks that a schedule begins at update 0 and ascends, and each of its values.
fn check_schedule<T: Copy + Default + std::fmt::Debug>(
    key: &str,
    schedule: &Schedule<T>,
    check: impl Fn(&str, T) -> Result<()>,
) -> Result<()> {
    if !schedule.is_ordered() {
        let expected = "pairs [from update, value] that begin at update 0 and ascend";
        return Err(range(key, format!("{:?}", schedule), expected));
    }
    schedule
        .values()
        .into_iter()
        .try_for_each(|value| check(key, value))
}

pub(super) fn at_least_one(key: &str, value: u64) -> Result<()> {
    within(value >= 1, key, value, "at least 1")
}

pub(super) fn above_zero(key: &str, value: f64) -> Result<()> {
    within(value > 0.0 && value.is_finite(), key, value, "above 0")
}

pub(super) fn above_zero_if_on(key: &str, setting: Setting) -> Result<()> {
    setting
        .value()
        .map_or(Ok(()), |value| above_zero(key, value))
}

pub(super) fn not_negative(key: &str, value: f64) -> Result<()> {
    within(value >= 0.0 && value.is_finite(), key, value, "0 or above")
}

pub(super) fn below_one(key: &str, value: f64) -> Result<()> {
    let holds = (0.0..1.0).contains(&value);
    within(holds, key, value, "from 0 to below 1")
}

pub(super) fn below_one_if_on(key: &str, setting: Setting) -> Result<()> {
    setting
        .value()
        .map_or(Ok(()), |value| below_one(key, value))
}

/// Checks that a value is in its range.
fn within(holds: bool, key: &str, value: impl ToString, expected: &str) -> Result<()> {
    ensure!(holds, range(key, value, expected));
    Ok(())
}

pub(super) fn range(key: &str, value: impl ToString, expected: &str) -> Error {
    anyhow!("{key} = {}: expected {expected}", value.to_string())
}

//! Ranges of configured values.

use ebm_export::arch::Network;
use ebm_export::contract;

use super::{
    AdamConfig, ClassifierConfig, Configuration, DataConfig, Dynamics, EnergyConfig, Error, Kind,
    Output, Setting, Start,
};

impl Configuration for EnergyConfig {
    const KIND: Kind = Kind::Energy;
    const COMMAND: &'static str = "trainer fit";

    fn kind(&self) -> Kind {
        self.kind
    }

    fn check(&self) -> Result<(), Error> {
        let learning = &self.learning;
        check_network(&self.network, contract::Kind::Energy)?;
        check_data(&self.data)?;
        check_output(&self.output)?;
        check_learning(
            learning.updates,
            learning.batch,
            &learning.learning_rate,
            &learning.adam,
        )?;
        not_negative("learning.data_noise", learning.data_noise)?;
        above_zero_where_on(
            "learning.weight_gradient_clip",
            learning.weight_gradient_clip,
        )?;
        if let Some(decay) = learning.ema_decay.value() {
            below_one("learning.ema_decay", decay)?;
        }
        self.langevin.check("langevin")?;
        Dynamics::from(self.purification).check("purification")?;
        self.check_chains()
    }
}

impl Dynamics {
    /// Says which value is out of its range; `section` is put before its name.
    ///
    /// # Errors
    /// The first such value.
    pub fn check(&self, section: &str) -> Result<(), Error> {
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
        above_zero_where_on(&key("clip"), self.clip)
    }
}

impl EnergyConfig {
    fn check_chains(&self) -> Result<(), Error> {
        let chains = &self.chains;
        if !(0.0..=1.0).contains(&chains.rejuvenation) {
            return Err(range(
                "chains.rejuvenation",
                chains.rejuvenation,
                "from 0 to 1",
            ));
        }
        let persistent = matches!(chains.start, Start::DataPersistent | Start::NoisePersistent);
        if persistent && chains.bank < self.learning.batch {
            return Err(range(
                "chains.bank",
                chains.bank,
                "at least learning.batch, so that no chain is drawn twice in one update",
            ));
        }
        Ok(())
    }
}

impl Configuration for ClassifierConfig {
    const KIND: Kind = Kind::Classifier;
    const COMMAND: &'static str = "trainer classifier";

    fn kind(&self) -> Kind {
        self.kind
    }

    fn check(&self) -> Result<(), Error> {
        let learning = &self.learning;
        check_network(&self.network, contract::Kind::Classifier)?;
        check_data(&self.data)?;
        check_output(&self.output)?;
        check_learning(
            learning.updates,
            learning.batch,
            &learning.learning_rate,
            &learning.adam,
        )?;
        not_negative("learning.data_noise", learning.data_noise)
    }
}

fn check_network(network: &Network, kind: contract::Kind) -> Result<(), Error> {
    network.graph().map_err(|source| Error::Network {
        source: Box::new(source),
    })?;
    if network.kind() != kind {
        let expected = if kind == contract::Kind::Energy {
            "an energy network, such as \"sngan\""
        } else {
            "a classifier, such as \"conv_classifier\""
        };
        return Err(range(
            "network.name",
            format!("a network of kind {:?}", network.kind()),
            expected,
        ));
    }
    Ok(())
}

fn check_data(data: &DataConfig) -> Result<(), Error> {
    if !(1..=256).contains(&data.n_classes) {
        return Err(range("data.n_classes", data.n_classes, "from 1 to 256"));
    }
    Ok(())
}

fn check_output(output: &Output) -> Result<(), Error> {
    at_least_one("output.log_every", output.log_every)?;
    at_least_one("output.keep", output.keep as u64)
}

fn check_learning(
    updates: u64,
    batch: usize,
    learning_rate: &[(u64, f64)],
    adam: &AdamConfig,
) -> Result<(), Error> {
    at_least_one("learning.updates", updates)?;
    at_least_one("learning.batch", batch as u64)?;
    below_one("learning.adam.beta1", adam.beta1)?;
    below_one("learning.adam.beta2", adam.beta2)?;
    above_zero("learning.adam.epsilon", adam.epsilon)?;
    learning_rate
        .iter()
        .try_for_each(|&(_, rate)| above_zero("learning.learning_rate", rate))?;
    let ascending = learning_rate.windows(2).all(|pair| pair[0].0 < pair[1].0);
    if learning_rate.first().map(|first| first.0) != Some(0) || !ascending {
        let shown = format!("{learning_rate:?}");
        return Err(range(
            "learning.learning_rate",
            shown,
            "pairs [from update, rate] that begin at update 0 and ascend",
        ));
    }
    Ok(())
}

fn at_least_one(key: &str, value: u64) -> Result<(), Error> {
    if value >= 1 {
        Ok(())
    } else {
        Err(range(key, value, "at least 1"))
    }
}

fn above_zero(key: &str, value: f64) -> Result<(), Error> {
    if value > 0.0 && value.is_finite() {
        Ok(())
    } else {
        Err(range(key, value, "above 0"))
    }
}

fn above_zero_where_on(key: &str, setting: Setting) -> Result<(), Error> {
    setting
        .value()
        .map_or(Ok(()), |value| above_zero(key, value))
}

fn not_negative(key: &str, value: f64) -> Result<(), Error> {
    if value >= 0.0 && value.is_finite() {
        Ok(())
    } else {
        Err(range(key, value, "0 or above"))
    }
}

fn below_one(key: &str, value: f64) -> Result<(), Error> {
    if (0.0..1.0).contains(&value) {
        Ok(())
    } else {
        Err(range(key, value, "from 0 to below 1"))
    }
}

fn range(key: &str, value: impl ToString, expected: &'static str) -> Error {
    Error::Range {
        key: key.to_string(),
        value: value.to_string(),
        expected,
    }
}

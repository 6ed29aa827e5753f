//! How the outputs of derivatives are called.

use crate::error::{Choice, Error, Result};
use crate::graph::Graph;
use crate::source::Energy;
use crate::write::form::Form;

/// Names of the outputs, and of the input that the Hessian is multiplied with.
#[derive(Clone, Debug, PartialEq)]
pub struct Names {
    /// Of E(x) `[N]`.
    pub energy: String,
    /// Of ∇E(x), shaped as x.
    pub gradient: String,
    /// Of ∇²E(x)·v, shaped as x.
    pub hvp: String,
    /// Of v, shaped as x.
    pub v: String,
    /// Whether the energy keeps the model's name for it too.
    pub own_energy: OwnEnergy,
}

/// Whether the energy is an output under the name that the model has for it as well, behind all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OwnEnergy {
    /// It has one name.
    #[default]
    Renamed,
    /// It has both.
    Kept,
}

impl Default for Names {
    fn default() -> Names {
        let [energy, gradient, hvp, v] = ["energy", "gradient", "hvp", "v"].map(str::to_string);
        Names {
            energy,
            gradient,
            hvp,
            v,
            own_energy: OwnEnergy::Renamed,
        }
    }
}

impl Names {
    /// Checks that no name is empty and no two are the same.
    pub(super) fn check(&self, form: &Form) -> Result<()> {
        let used = self.used(form);
        for (index, &(what, name)) in used.iter().enumerate() {
            if let Some((other, _)) = used[..index].iter().find(|(_, other)| *other == name) {
                let problem = format!("{what} and {other} are both called {name:?}");
                return Err(renamed(what, &problem));
            }
            if name.is_empty() {
                return Err(renamed(what, &format!("{what} has no name")));
            }
        }
        Ok(())
    }

    /// Refuses names that the model uses itself: it is not said which of both a runtime would take.
    pub(super) fn check_against(&self, form: &Form, energy: &Energy) -> Result<()> {
        for (what, name) in self.used(form) {
            if let Some(kind) = own_kind(energy, name) {
                return Err(renamed(
                    what,
                    &format!("the model has {kind} named {name:?}"),
                ));
            }
            let keeps_own = self.own_energy == OwnEnergy::Kept && what != "energy";
            if keeps_own && name == energy.output {
                return Err(renamed(
                    what,
                    &format!("the model calls its energy {name:?}"),
                ));
            }
        }
        Ok(())
    }

    /// What gets a name, and which.
    fn used(&self, form: &Form) -> Vec<(&'static str, &str)> {
        let mut used = vec![
            ("energy", self.energy.as_str()),
            ("gradient", &self.gradient),
        ];
        if *form == Form::HessianVectorProduct {
            used.extend([("hvp", self.hvp.as_str()), ("v", &self.v)]);
        }
        used
    }

    /// A graph with the outputs `energy`, `gradient` and perhaps `hvp`, under these names; `own` is the model's name of the energy.
    pub(super) fn put_on(&self, graph: &Graph, own: &str) -> Result<Graph> {
        let mut named = graph.clone();
        for (name, _) in graph.outputs() {
            named.remove_output(name);
        }
        for (name, value) in graph.outputs() {
            let wanted = match name.as_str() {
                "energy" => &self.energy,
                "gradient" => &self.gradient,
                _ => &self.hvp,
            };
            named.set_output(wanted, *value);
        }
        if self.own_energy == OwnEnergy::Kept {
            named.set_output(own, graph.output("energy")?);
        }
        named.rebuild(|_, _, _| Ok(None))
    }
}

/// An error that asks for another name.
fn renamed(what: &'static str, problem: &str) -> Error {
    let problem = format!("{problem}; give {what} another name");
    Error::choice(Choice::Name(what), problem)
}

/// What of the model has that name: an input, a weight, or an output that is not the energy.
fn own_kind(energy: &Energy, name: &str) -> Option<&'static str> {
    let other_outputs = energy.model().map(|model| model.other_outputs.as_slice());
    let is_output = |output: &String| output == name;
    if energy.inputs().contains(&name) {
        return Some("an input");
    }
    if energy.weights.contains_key(name) {
        return Some("a weight");
    }
    other_outputs
        .is_some_and(|outputs| outputs.iter().any(is_output))
        .then_some("an output")
}

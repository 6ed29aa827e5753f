//! The backends that run the models of a command: said in one line for each, and recorded, with the reason if one is not `native`.

use ebm_runtime::Prepared;
use serde_json::{Value, json};

/// The line about a model.
pub fn backend_line(model: &Prepared) -> String {
    let scalars = match model.footprint() {
        Some(footprint) if footprint.vectors.is_none() => {
            ", with plain scalars: this processor has no vectors that it knows"
        }
        _ => "",
    };
    let reason = model.backend_reason();
    let reason = reason.map_or(String::new(), |reason| format!("; {reason}"));
    let (kind, backend) = (&model.contract().kind, model.backend());
    format!("note: {kind} on backend {backend}{scalars}{reason}")
}

/// Records the backends of some models, each once.
pub fn record<'a>(results: &mut Value, models: impl IntoIterator<Item = &'a Prepared>) {
    let (mut names, mut reasons) = (Vec::new(), Vec::new());
    for model in models {
        names.push(model.backend().name());
        reasons.extend(model.backend_reason());
    }
    names.dedup();
    reasons.dedup();
    results["backend"] = json!(names.join(", "));
    if !reasons.is_empty() {
        results["backend_reason"] = json!(reasons.join("; "));
    }
}

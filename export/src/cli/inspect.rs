//! `export inspect`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use ebm_export::contract::{Contract, FORMAT_VERSION};
use ebm_export::onnx::{Inspection, inspect};

use super::print;

/// Show what an ONNX file says and costs.
#[derive(Args)]
#[command(after_help = "Examples:
  export inspect model/gradient.onnx
  export inspect model/gradient.onnx --json | jq .multiplications_per_image")]
pub struct Arguments {
    /// An ONNX file
    file: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let inspection = inspect(&arguments.file)?;
    if arguments.json {
        return print(&(serde_json::to_string_pretty(&inspection)? + "\n"));
    }
    print(&described(&arguments.file, &inspection)?)
}

fn described(file: &Path, inspection: &Inspection) -> Result<String> {
    let mut text = format!("{}\n", file.display());
    text += &match &inspection.contract {
        Some(contract) => format!(
            "contract: {}{}\n",
            serde_json::to_string_pretty(contract)?,
            foreign(contract)
        ),
        None => "contract: none (not written by this project)\n".to_string(),
    };
    for (title, values) in [
        ("input", &inspection.inputs),
        ("output", &inspection.outputs),
    ] {
        for value in values {
            text += &format!("{title}: {} [{}]\n", value.name, value.shape.join(", "));
        }
    }
    let number =
        |count: Option<usize>| count.map_or("unknown".to_string(), |count| count.to_string());
    text += &format!(
        "opset: {}\n",
        inspection
            .opset
            .map_or("unknown".to_string(), |opset| opset.to_string())
    );
    text += &format!("parameters: {}\n", number(inspection.parameters));
    text += &format!("stored values: {}\n", number(inspection.stored_values));
    text += &format!(
        "{:<20} {:>6} {:>28}\n",
        "operator", "nodes", "multiplications per image"
    );
    for (name, operator) in &inspection.operators {
        text += &format!(
            "{name:<20} {:>6} {:>28}\n",
            operator.nodes,
            number(operator.multiplications_per_image)
        );
    }
    let nodes: usize = inspection
        .operators
        .values()
        .map(|operator| operator.nodes)
        .sum();
    text += &format!(
        "{:<20} {nodes:>6} {:>28}\n",
        "all",
        number(inspection.multiplications_per_image)
    );
    if inspection.multiplications_per_image.is_none() {
        text +=
            "unknown: the file does not state all shapes, or has operators that are not counted\n";
    }
    Ok(text)
}

/// A remark on a contract that this version does not understand.
fn foreign(contract: &serde_json::Value) -> String {
    match serde_json::from_value::<Contract>(contract.clone()) {
        Ok(contract) if contract.format_version == FORMAT_VERSION => String::new(),
        Ok(contract) => format!(
            "\n(of format_version {}, this program knows {FORMAT_VERSION})",
            contract.format_version
        ),
        Err(error) => format!("\n(not a contract that this program knows: {error})"),
    }
}

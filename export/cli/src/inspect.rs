//! `ebm-export inspect`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use crate::print;
use ebm_export::check::inspect::{Inspection, OperatorCount, inspect};
use ebm_export::check::memory::Memory;
use ebm_export::write::contract::{Contract, FORMAT_VERSION};

/// Show what an ONNX file says and costs.
#[derive(Args)]
#[command(
    after_help = "Multiplications are those of convolutions and matrix products. `--raw` writes a
file without rewrites to compare with.
Live values are inputs, outputs, and results from the node that makes them to the last one that uses them, node by node in the order of the file.

Examples:
  ebm-export inspect model/gradient.onnx
  ebm-export inspect model/gradient.onnx --json | jq .multiplications_per_image"
)]
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
    text += &format!(
        "opset: {}\n",
        inspection
            .opset
            .map_or("unknown".to_string(), |opset| opset.to_string())
    );
    text += &format!("parameters: {}\n", number(inspection.parameters));
    text += &format!("stored values: {}\n", number(inspection.stored_values));
    text += &memory(&inspection.memory);
    text += &operators(inspection);
    if inspection.multiplications_per_image.is_none() {
        text += "unknown: the file does not state all shapes, or has operators that are not read\n";
    }
    Ok(text)
}

fn number(count: Option<usize>) -> String {
    count.map_or("unknown".to_string(), |count| count.to_string())
}

fn memory(memory: &Memory) -> String {
    let kilobytes = |bytes: Option<usize>| {
        bytes.map_or("unknown".to_string(), |bytes| {
            format!("{:.1} kB", bytes as f64 / 1e3)
        })
    };
    let place = memory.peak_node.as_ref();
    format!(
        "memory: weights {}; live values of one image at most {}{}\n",
        kilobytes(memory.weight_bytes),
        kilobytes(memory.peak_bytes_per_image),
        place.map_or(String::new(), |node| format!(", at {node}"))
    )
}

/// Per operator: how often it stands in the file, and the multiplications of one image.
fn operators(inspection: &Inspection) -> String {
    let nodes = inspection.operators.values();
    let all = OperatorCount {
        nodes: nodes.map(|operator| operator.nodes).sum(),
        multiplications_per_image: inspection.multiplications_per_image,
    };
    let mut text = row(["operator", "nodes", "multiplications per image"]);
    let operators = inspection.operators.iter();
    for (name, operator) in operators.chain([(&"all".to_string(), &all)]) {
        text += &row([
            name,
            &operator.nodes.to_string(),
            &number(operator.multiplications_per_image),
        ]);
    }
    text
}

fn row([name, nodes, multiplications]: [&str; 3]) -> String {
    format!("{name:<20} {nodes:>6} {multiplications:>26}\n")
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

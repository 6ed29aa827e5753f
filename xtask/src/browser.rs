//! `cargo xtask browser`: one file that purifies pictures in a browser, without a server.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::step::{self, Step};
use crate::surroundings::Surroundings;
use crate::tool;

/// The platform of browsers.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// What is built, below the target folder: the library, and what browsers load.
const LIBRARY: &str = "wasm32-unknown-unknown/web/ebm_runtime_web.wasm";
const FOLDER: &str = "browser";
const GLUED_LIBRARY: &str = "ebm_runtime_web_bg.wasm";
const GLUE: &str = "ebm_runtime_web.js";

/// The page, below the target folder.
pub const PAGE: &str = "browser/purify.html";

/// The sources of the page, and the model that comes with it, below the clone.
const SOURCES: &str = "examples/browser";
const MODEL: &str = "examples/browser/model/step.onnx";
const DIGITS: &str = "trainer/data/digits/digits.csv.gz";

/// Builds the library and writes the page with `model` in it, or with the one that comes with the clone.
pub fn browser(
    surroundings: &Surroundings,
    model: Option<&Path>,
    output: Option<&Path>,
) -> Result<()> {
    tool::target(surroundings, TARGET)?;
    let folder = surroundings.target().join(FOLDER);
    let library = surroundings.target().join(LIBRARY);
    let build = format!("build --profile web -p ebm-runtime-web --target {TARGET}");
    let glue = Step::cargo("glue", "run --quiet -p xtask --features glue --bin glue --")
        .argument(library.display().to_string())
        .argument(folder.display().to_string());
    step::run_all(surroundings, &[Step::cargo("library", &build), glue])?;

    let page = page(surroundings.workspace(), &folder, model)?;
    let output = match output {
        Some(output) => output.to_path_buf(),
        None => surroundings.target().join(PAGE),
    };
    write(&output, &page)?;
    println!(
        "{} ({:.1} MB): open it in a browser; it needs no server and no network.",
        output.display(),
        page.len() as f64 / 1e6
    );
    Ok(())
}

/// The page with everything in it.
fn page(workspace: &Path, built: &Path, model: Option<&Path>) -> Result<String> {
    let source = |name: &str| text(&workspace.join(SOURCES).join(name));
    let model = model.map_or_else(|| workspace.join(MODEL), Path::to_path_buf);
    let parts = [
        ("page.css", source("page.css")?),
        ("worker.js", source("worker.js")?),
        ("engine.js", source("engine.js")?),
        ("page.js", source("page.js")?),
        ("glue.js", text(&built.join(GLUE))?),
        ("library", packed(&bytes(&built.join(GLUED_LIBRARY))?)?),
        ("shipped", shipped(workspace, &model)?.to_string()),
    ];
    filled(&source("page.html")?, &parts)
}

/// The template with each `{{name}}` replaced by the part of that name.
fn filled(template: &str, parts: &[(&str, String)]) -> Result<String> {
    let mut page = String::new();
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once("{{") {
        let (name, after) = behind
            .split_once("}}")
            .context("page.html has a {{ without its }}")?;
        let Some((_, part)) = parts.iter().find(|(part, _)| *part == name) else {
            bail!("page.html names {{{{{name}}}}}, which is not a part of the page");
        };
        ensure!(
            !part.to_ascii_lowercase().contains("</script"),
            "{name} holds </script, which would end its place in the page"
        );
        page.push_str(before);
        page.push_str(part);
        rest = after;
    }
    page.push_str(rest);
    Ok(page)
}

/// The model and the digits that come with the page.
fn shipped(workspace: &Path, model: &Path) -> Result<Value> {
    let name = model.file_name().unwrap_or(model.as_os_str());
    Ok(json!({
        "model": {"name": name.to_string_lossy(), "bytes": packed(&bytes(model)?)?},
        "digits": digits(&workspace.join(DIGITS))?,
    }))
}

/// The first digit of each sort, with the grey values 0 to 16 of the file as bytes.
fn digits(path: &Path) -> Result<Vec<Value>> {
    let could_not = || format!("{} does not hold digits", path.display());
    let mut lines = String::new();
    GzDecoder::new(&bytes(path)?[..])
        .read_to_string(&mut lines)
        .with_context(could_not)?;
    let mut digits: Vec<Option<Value>> = vec![None; 10];
    for line in lines.lines() {
        let numbers: Vec<u16> = line
            .split(',')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .with_context(could_not)?;
        let [pixels @ .., label] = numbers.as_slice() else {
            continue;
        };
        let pixels: Vec<u16> = pixels.iter().map(|grey| grey * 255 / 16).collect();
        let digit = digits
            .get_mut(usize::from(*label))
            .with_context(could_not)?;
        digit.get_or_insert_with(|| json!({"label": label, "pixels": pixels}));
    }
    Ok(digits.into_iter().flatten().collect())
}

/// Bytes as text that a page may hold: gzip, then base64.
fn packed(bytes: &[u8]) -> Result<String> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(BASE64_STANDARD.encode(encoder.finish()?))
}

fn bytes(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("could not read {}", path.display()))
}

fn text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))
}

/// Writes a file under a temporary name, which it then loses.
fn write(path: &Path, content: &str) -> Result<()> {
    let could_not = || format!("could not write {}", path.display());
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".unfinished");
    let temporary = PathBuf::from(temporary);
    fs::write(&temporary, content).with_context(could_not)?;
    fs::rename(&temporary, path).with_context(could_not)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_filled_with_its_parts() {
        let parts = [("a", "1 {{b}}".to_string()), ("b", "2".to_string())];
        assert_eq!(filled("x{{a}}y{{b}}z", &parts).unwrap(), "x1 {{b}}y2z");
    }

    #[test]
    fn what_cannot_be_filled_is_named() {
        let parts = [("a", "</SCRIPT>".to_string())];
        for (template, part) in [
            ("{{a", "without its }}"),
            ("{{c}}", "{{c}}"),
            ("{{a}}", "a holds"),
        ] {
            let message = filled(template, &parts).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn there_is_a_digit_of_each_sort() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .join(DIGITS);
        let digits = digits(&path).unwrap();
        for (label, digit) in digits.iter().enumerate() {
            assert_eq!(digit["label"], label);
            let pixels = digit["pixels"].as_array().unwrap();
            assert_eq!(pixels.len(), 64);
            assert!(pixels.iter().any(|pixel| pixel.as_u64() > Some(200)));
        }
        assert_eq!(digits.len(), 10);
    }

    #[test]
    fn packed_bytes_can_be_unpacked() {
        let compressed = BASE64_STANDARD.decode(packed(b"abc").unwrap()).unwrap();
        let mut unpacked = String::new();
        GzDecoder::new(&compressed[..])
            .read_to_string(&mut unpacked)
            .unwrap();
        assert_eq!(unpacked, "abc");
    }
}

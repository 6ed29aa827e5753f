//! `trainer data check`.

use std::fmt::Write;

use anyhow::{Result, bail, ensure};
use ebm_common::staged::write_whole;
use ebm_common::target::Existing;

use super::data_source::{DataSource, data_source};
use super::n_threads;
use crate::cli::DataCheckArgs;
use crate::data::inspection::{Inspection, Part};
use crate::data::load;
use crate::draw::sheet::{Block, sheet};
use crate::machine::console;
use crate::run::folder::expect_free;
use crate::run::record::Progress;
use crate::run::stop::End;

/// Sizes, classes, damaged images and duplicates that are listed for people; JSON has all of them.
const LISTED: usize = 10;

/// `trainer data check`.
pub fn check(args: &DataCheckArgs) -> Result<End> {
    if let Some(sheet) = &args.output {
        expect_free(sheet, Existing::of(args.force))?;
    }
    let DataSource {
        data,
        directory,
        network,
    } = subject(args)?;
    let n_threads = n_threads(args.threads);
    let mut progress = None;
    let mut show = |done: usize, total: usize| {
        let progress = progress.get_or_insert_with(|| Progress::new("image", 0, total as u64));
        progress.show(done as u64, "");
    };
    let inspection = Inspection::of(&data, directory.as_deref(), n_threads, &mut show)?;
    if let Some(progress) = progress {
        progress.finish();
    }
    match args.json {
        true => console::print(&serde_json::to_string_pretty(&inspection)?)?,
        false => console::print(described(&inspection)?.trim_end())?,
    }
    if let Some(path) = &args.output {
        let blocks = inspection.parts.iter().zip(&inspection.shown);
        let blocks = blocks.map(|(part, images)| Block::new(part.name, images.shallow_clone()));
        write_whole(path, &sheet(&blocks.collect::<Vec<_>>())?)?;
        note!("contact sheet: {}", path.display());
    }
    for part in &inspection.parts {
        check_damage(part, data.max_damaged)?;
    }
    if let Some(network) = network {
        load(&data, directory.as_deref(), network.image(), n_threads)?;
        note!("the data fit {}", args.what);
    }
    Ok(End::Complete)
}

fn subject(args: &DataCheckArgs) -> Result<DataSource> {
    let mut subject = data_source(&args.what, args.data.as_deref(), args.source)?;
    let data = &mut subject.data;
    data.source = args.source.unwrap_or(data.source);
    data.max_damaged = args.max_damaged.unwrap_or(data.max_damaged);
    data.image_column = args.image_column.clone().or(data.image_column.take());
    data.label_column = args.label_column.clone().or(data.label_column.take());
    ensure!(
        (0.0..=1.0).contains(&data.max_damaged),
        "--max-damaged {}: expected from 0 to 1",
        data.max_damaged
    );
    Ok(subject)
}

fn check_damage(part: &Part, most: f64) -> Result<()> {
    if part.damaged_share() <= most {
        return Ok(());
    }
    bail!(
        "{} of {} images in the part {:?} are damaged, a share of {:.4} where {most} may be: mend or remove them, or raise data.max_damaged",
        part.damaged.len(),
        part.n_images,
        part.name,
        part.damaged_share(),
    )
}

/// For people.
fn described(inspection: &Inspection) -> Result<String> {
    let mut text = String::new();
    writeln!(text, "data.source = \"{}\"", inspection.source)?;
    for part in &inspection.parts {
        describe(&mut text, part)?;
    }
    Ok(text)
}

fn describe(text: &mut String, part: &Part) -> Result<()> {
    let n_grey = part.n_images - part.damaged.len() - part.n_coloured;
    writeln!(
        text,
        "{}: {} images ({} in colour, {n_grey} grey)",
        part.name, part.n_images, part.n_coloured
    )?;
    let sizes = part
        .sizes
        .iter()
        .map(|size| format!("{}×{}: {}", size.width, size.height, size.n_images));
    list(text, "sizes", sizes)?;
    let classes = part
        .classes
        .iter()
        .map(|class| format!("{}: {}", class.name, class.n_images));
    list(text, "classes", classes)?;
    for (n, what) in [
        (part.n_deep, "16 bits a channel, of which 8 are kept"),
        (part.n_transparent, "transparent pixels, which show white"),
    ] {
        if n > 0 {
            writeln!(text, "  {what}: {n}")?;
        }
    }
    if part.n_unlabelled > 0 {
        writeln!(text, "  without a label: {}", part.n_unlabelled)?;
    }
    let numbers = |values: &[f64]| {
        let values = values.iter().map(|value| format!("{value:.4}"));
        values.collect::<Vec<String>>().join(", ")
    };
    writeln!(
        text,
        "  mean {}, deviation {} (pixels from 0 to 1)",
        numbers(&part.mean),
        numbers(&part.deviation)
    )?;
    let damaged = part
        .damaged
        .iter()
        .map(|damage| format!("{} {}", damage.name, damage.reason));
    list(text, "damaged", damaged)?;
    list(
        text,
        "the same",
        part.duplicates.iter().map(|names| names.join(" = ")),
    )
}

/// What there is of something: how much, and the first of it.
fn list(text: &mut String, what: &str, items: impl ExactSizeIterator<Item = String>) -> Result<()> {
    let n = items.len();
    if n == 0 {
        return Ok(());
    }
    let listed: Vec<String> = items.take(LISTED).collect();
    let more = match n.saturating_sub(LISTED) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    writeln!(text, "  {what} ({n}): {}{more}", listed.join("; "))?;
    Ok(())
}

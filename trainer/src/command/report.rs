//! `trainer report`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use ebm_common::staged::write_whole;
use ebm_common::target::Existing;

use crate::cli::ReportArgs;
use crate::machine::console;
use crate::report::page::page;
use crate::report::run::{folder_name, runs};
use crate::run::folder::{REPORT, expect_free};
use crate::run::stop::End;

/// `trainer report`.
pub fn report(args: &ReportArgs) -> Result<End> {
    if let Some(file) = &args.output {
        expect_free(file, Existing::of(args.force))?;
    }
    let page = write_page(&args.run, args.output.as_deref())?;
    console::print(&page.display().to_string())?;
    Ok(End::Complete)
}

/// Writes the page about a run, or about all runs in a folder, and says where.
pub(super) fn write_page(path: &Path, output: Option<&Path>) -> Result<PathBuf> {
    let page = page(&folder_name(path), &runs(path)?)?;
    let output = output.map_or_else(|| path.join(REPORT), Path::to_path_buf);
    write_whole(&output, page.as_bytes())?;
    Ok(output)
}

//! `trainer resume`.

use anyhow::Result;
use ebm_export::source::Kind as NetworkKind;
use tch::Device;

use super::classifier::go_on_with_classifier;
use super::fit::go_on_with_fit;
use super::old_run::{ChangedData, Continued, OldRun};
use crate::cli::ResumeArgs;
use crate::machine::device_name;
use crate::run::folder::RunFolder;
use crate::run::record::sessions;
use crate::run::resumption::{Resumed, Resumption};
use crate::run::stop::{End, StopSignal};

/// `trainer resume`.
pub fn resume(args: &ResumeArgs) -> Result<End> {
    let old = OldRun {
        resumed: Resumed::of(&args.run, args.checkpoint.as_deref())?,
        data: args.data.clone(),
        changed_data: ChangedData::from_flag(args.allow_changed_data),
        machine: args.machine,
    };
    go_on(&old, &StopSignal::listen()?)
}

/// Continues a run.
pub(super) fn go_on(old: &OldRun, stop: &StopSignal) -> Result<End> {
    let mut folder = RunFolder::open(&old.resumed.run)?;
    let machine = match folder.kind()? {
        NetworkKind::Classifier => old.machine.alone()?,
        _ => old.machine.among_ranks()?,
    };
    let is_first = machine.team.ranks().is_first();
    if is_first {
        folder = folder.locked()?;
    }
    let resumption = Resumption::choose(&folder, old.resumed.checkpoint.as_deref())?;
    if is_first {
        resumption.tell();
        let (run, update) = (folder.path().display(), resumption.saved.header.update);
        note!("resuming {run} after update {update}");
        warn_of_another_device(&folder, machine.device);
    }
    let run = Continued {
        old,
        resumption: &resumption,
        folder: &folder,
        machine,
        stop,
    };
    match resumption.saved.header.kind {
        NetworkKind::Classifier => go_on_with_classifier(run),
        _ => go_on_with_fit(run),
    }
}

/// Warns if a run continues on another device than before.
fn warn_of_another_device(folder: &RunFolder, device: Device) {
    let earlier = sessions::read(&folder.sessions());
    let Some(last) = earlier.last() else {
        return;
    };
    // Which of several GPUs it is makes no difference.
    let kind = |name: &str| name.split(':').next().unwrap_or_default().to_string();
    let (before, now) = (kind(&last.device), kind(&device_name(device)));
    if before != now {
        warning!(
            "this run was on {before} and now continues on {now}, where results differ by rounding; give --device {before} to stay there"
        );
    }
}

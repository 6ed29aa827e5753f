//! Changes of pictures that nobody asked for: told once for each kind, since it would be the same line for thousands.

use std::collections::BTreeMap;

use ebm_runtime::PictureChange;

use crate::inputs::Item;

/// The first picture of each kind, and how many more there were.
#[derive(Default)]
pub struct Notes(BTreeMap<PictureChange, (String, usize)>);

impl Notes {
    pub fn add(&mut self, item: &Item<'_>) {
        for change in &item.changes {
            // The others were asked for.
            if let PictureChange::Depth | PictureChange::Transparency = change {
                let entry = self.0.entry(*change);
                let entry = entry.and_modify(|(_, n_more)| *n_more += 1);
                entry.or_insert_with(|| (item.to_string(), 0));
            }
        }
    }

    pub fn tell(&self) {
        for (change, (first, n_more)) in &self.0 {
            match n_more {
                0 => eprintln!("note: `{first}` {change}"),
                n_more => eprintln!("note: `{first}` {change}; {n_more} more are like it"),
            }
        }
    }
}

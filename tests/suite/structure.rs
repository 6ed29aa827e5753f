//! The modules of each crate form layers: no folder imports, by whatever way round, from one that imports from it.
//!
//! Imports are paths through `crate`, `self`, `super` and the names that a `use` brings in; tests do not count. A file may name
//! what is in the folder below it, because it is the list of that folder.

mod cycles;
mod tree;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use cycles::{Arrows, Room};
use tree::Tree;

/// Cycles that are still there, by crate: rooms beside each other, or files of one room. Each must be exactly as it is found, so that
/// whoever cuts an arrow also shortens this table. It is to become empty.
const ALLOWED: &[(&str, &[&str])] = &[(
    "export/src/lib.rs",
    &[
        "graph/op/activation",
        "graph/op/conv",
        "graph/op/conv_weight",
        "graph/op/elementwise",
        "graph/op/max_pool",
        "graph/op/pool",
        "graph/op/power",
        "graph/op/reduce",
        "graph/op/resize",
        "graph/op/select",
        "graph/op/singular",
    ],
)];

/// The most files of one folder that may import from each other in a circle.
const MOST_FILES: usize = 3;

/// Where packages are looked for.
const FOLDERS: [&str; 5] = ["common", "engine", "export", "runtime", "trainer"];

#[test]
fn no_folder_imports_in_a_circle() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut complaints = Vec::new();
    let mut met = BTreeSet::new();
    for root in roots(&workspace) {
        let name = root.strip_prefix(&workspace).unwrap();
        let name = name.display().to_string();
        for cycle in cycles_of(&Tree::read(&workspace, &root)) {
            let rooms: Vec<&str> = cycle.rooms.iter().map(String::as_str).collect();
            let known = ALLOWED
                .iter()
                .position(|known| *known == (name.as_str(), &rooms));
            met.extend(known);
            if known.is_none() {
                complaints.push(format!("(\"{name}\", &{rooms:?}),\n{}", cycle.evidence));
            }
        }
    }
    let stale = (0..ALLOWED.len()).filter(|index| !met.contains(index));
    let stale = stale.map(|index| format!("not so any more, take it out: {:?}", ALLOWED[index]));
    complaints.extend(stale);
    assert!(complaints.is_empty(), "{}", complaints.join("\n\n"));
}

struct Cycle {
    rooms: Vec<String>,
    evidence: String,
}

/// The cycles between rooms, and those within a room that are too long.
fn cycles_of(tree: &Tree) -> Vec<Cycle> {
    let imports = tree.imports();
    let file_name = |module: &[String]| module.join("/");
    let room = |module: &[String]| module.first().cloned();
    let mut between = Arrows::default();
    let mut within = Arrows::default();
    for import in &imports {
        // The root lists the rooms, and stands in none.
        let (Some(from), Some(to)) = (room(&import.from), room(&import.to)) else {
            continue;
        };
        if from == to {
            let [from, to] = [&import.from, &import.to].map(|module| file_name(module));
            within.add(from, to, &import.evidence);
        } else {
            between.add(from, to, &import.evidence);
        }
    }
    let between = between.cycles().into_iter().map(|rooms| (rooms, &between));
    let within = within.cycles().into_iter().map(|files| (files, &within));
    let within = within.filter(|(files, _)| files.len() > MOST_FILES);
    let cycles = between.chain(within);
    let cycles = cycles.map(|(rooms, arrows): (BTreeSet<Room>, &Arrows)| Cycle {
        evidence: arrows.shortest_circle(&rooms),
        rooms: rooms.into_iter().collect(),
    });
    cycles.collect()
}

/// The root files of the libraries and programs of all packages.
fn roots(workspace: &Path) -> Vec<PathBuf> {
    let mut roots = Vec::new();
    for folder in FOLDERS {
        let folder = workspace.join(folder);
        let below = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let packages = below.chain([folder.clone()]);
        for package in packages.filter(|package| package.join("Cargo.toml").exists()) {
            let source = package.join("src");
            let files = ["lib.rs", "main.rs"].map(|name| source.join(name));
            roots.extend(files.into_iter().find(|file| file.exists()));
            let programs = fs::read_dir(source.join("bin"));
            let programs = programs
                .into_iter()
                .flatten()
                .map(|entry| entry.unwrap().path());
            let programs = programs.map(|folder| folder.join("main.rs"));
            roots.extend(programs.filter(|file| file.exists()));
        }
    }
    roots.sort();
    roots
}

#[test]
fn a_cycle_is_found_with_the_lines_that_make_it() {
    let tree = Tree::of(&[
        ("lib.rs", "mod a; mod b; mod c; pub use c::C; use a::x;"),
        (
            "a/mod.rs",
            "mod x; pub use x::X; use crate::{b::{self, B}, d};\nfn f() { b::f() }",
        ),
        ("a/x.rs", "use super::f; use std::b::Y; // use crate::c"),
        (
            "b.rs",
            "use crate::C;\n#[cfg(test)] mod tests { use crate::a::X; }",
        ),
        ("c.rs", "fn f() -> crate::d::D {}"),
        ("d/mod.rs", "mod e;\nmod f { use super::super::a::X as Z; }"),
        ("d/e.rs", "#[cfg(test)]\nmod testing;"),
        ("d/e/testing.rs", "use crate::a::X;"),
        ("g.rs", "use crate::a::X;"),
    ]);
    let found = cycles_of(&tree);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].rooms, ["a", "b", "c", "d"]);
    assert_eq!(
        found[0].evidence,
        "a → d\n    a/mod.rs:1: mod x; pub use x::X; use crate::{b::{self, B}, d};\n\
         d → a\n    d/mod.rs:2: mod f { use super::super::a::X as Z; }"
    );
}

#[test]
fn a_long_circle_within_a_folder_is_found_and_a_short_one_is_not() {
    let chain = |names: &[&'static str]| {
        let next = names.iter().cycle().skip(1);
        let files = names.iter().zip(next);
        let files =
            files.map(|(name, next)| (format!("a/{name}.rs"), format!("use super::{next};")));
        let files: Vec<_> = files.collect();
        let files: Vec<_> = files
            .iter()
            .map(|(name, text)| (&**name, &**text))
            .collect();
        let list = [("lib.rs", ""), ("a/mod.rs", "mod b; use b::x;")];
        cycles_of(&Tree::of(&[&list[..], &files].concat()))
    };
    assert!(chain(&["b", "c", "d"]).is_empty());
    let found = chain(&["b", "c", "d", "e"]);
    assert_eq!(found[0].rooms, ["a/b", "a/c", "a/d", "a/e"]);
    assert!(
        found[0]
            .evidence
            .contains("a/e → a/b\n    a/e.rs:1: use super::b;")
    );
}

//! The modules of one crate, and which file imports from which.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use xtask::rust_source::{RustSource, Token};

/// Names from the root of a crate: `crate::a::b` is `["a", "b"]`.
type ModulePath = Vec<String>;

/// The files of one crate, by the module that each is.
#[derive(Debug, Default)]
pub struct Tree {
    files: BTreeMap<ModulePath, SourceFile>,
}

#[derive(Debug)]
struct SourceFile {
    name: String,
    text: String,
}

/// A line of one file that names what is in another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    pub from: ModulePath,
    pub to: ModulePath,
    /// `FILE:LINE: TEXT`
    pub evidence: String,
}

/// A path as it is written, and the module in which it is written.
#[derive(Debug, Clone)]
struct Written<'a> {
    within: ModulePath,
    segments: Vec<&'a str>,
    line: usize,
    /// The name that a `use` gives it.
    name: Option<&'a str>,
}

/// What each `use` of each module brings in, by name.
type Names<'a> = BTreeMap<(&'a [String], &'a str), &'a [&'a str]>;

impl Tree {
    /// The crate whose root file is `root`, without its test modules.
    pub fn read(workspace: &Path, root: &Path) -> Self {
        let folder = root.parent().unwrap();
        let mut files = vec![(root.to_path_buf(), Vec::new())];
        files.extend(modules_in(folder));
        let files = files.into_iter().map(|(path, module)| {
            let name = path.strip_prefix(workspace).unwrap_or(&path);
            let name = name.display().to_string();
            let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
            (module, SourceFile { name, text })
        });
        Self::without_tests(files.collect())
    }

    /// The same of files that are given as paths below the root's folder and texts.
    pub fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(name, text)| {
            let file = SourceFile {
                name: name.to_string(),
                text: text.to_string(),
            };
            (module_of(name), file)
        });
        Self::without_tests(files.collect())
    }

    fn without_tests(mut files: BTreeMap<ModulePath, SourceFile>) -> Self {
        let mut tests = BTreeSet::new();
        for (module, file) in &files {
            for name in RustSource::new(&file.text).test_modules {
                tests.insert([module.as_slice(), &[name.to_string()]].concat());
            }
        }
        files.retain(|module, _| !(1..=module.len()).any(|n| tests.contains(&module[..n])));
        Self { files }
    }

    /// What is imported across files. A file may name what is below it: it is the list of its folder.
    pub fn imports(&self) -> Vec<Import> {
        let sources = self.files.iter();
        let sources = sources.map(|(module, file)| (module, RustSource::new(&file.text)));
        let sources: Vec<_> = sources.collect();
        let written = sources.iter();
        let written = written.flat_map(|(module, source)| paths(module, &source.tokens));
        let written: Vec<Written<'_>> = written.collect();
        let names = written.iter().filter_map(|path| {
            let name = path.name?;
            Some(((path.within.as_slice(), name), path.segments.as_slice()))
        });
        let names: Names<'_> = names.collect();
        let imports = written.iter().filter_map(|path| {
            let from = self.file_of(&path.within);
            let to = self.file_of(&self.resolved(&path.segments, &path.within, &names, 0)?);
            let file = &self.files[&from];
            let text = file.text.lines().nth(path.line - 1).unwrap_or_default();
            let evidence = format!("{}:{}: {}", file.name, path.line, text.trim());
            (!to.starts_with(&from)).then_some(Import { from, to, evidence })
        });
        imports.collect()
    }

    /// The module that has a file of its own in which `module` is written.
    fn file_of(&self, module: &[String]) -> ModulePath {
        let known = (0..=module.len())
            .rev()
            .find(|n| self.files.contains_key(&module[..*n]));
        module[..known.unwrap_or(0)].to_vec()
    }

    /// The module in which what a path names is defined. `None`: it is not of this crate.
    fn resolved(
        &self,
        segments: &[&str],
        within: &[String],
        names: &Names<'_>,
        depth: usize,
    ) -> Option<ModulePath> {
        // `use` may go in a circle of names, each an alias of the next, only in what does not compile.
        if depth > 20 {
            return None;
        }
        let child = |module: &[String], name: &str| [module, &[name.to_string()]].concat();
        let (first, rest) = segments.split_first()?;
        let parent = within.len().saturating_sub(1);
        let (mut at, rest) = match *first {
            "crate" => (Vec::new(), rest),
            "self" => (within.to_vec(), rest),
            "super" => (within[..parent].to_vec(), rest),
            name if self.files.contains_key(&child(within, name)) => (within.to_vec(), segments),
            name => {
                let target = names.get(&(within, name))?;
                let own = target.first() == Some(first);
                let target = (!own).then(|| self.resolved(target, within, names, depth + 1))??;
                (target, rest)
            }
        };
        for name in rest {
            let below = child(&at, name);
            if *name == "super" {
                at.pop();
            } else if self.files.contains_key(&below) {
                at = below;
            } else if let Some(target) = names.get(&(at.as_slice(), *name)) {
                at = self.resolved(target, &at, names, depth + 1).unwrap_or(at);
            }
        }
        Some(at)
    }
}

/// The module that a file is: `a/b.rs` and `a/b/mod.rs` are `["a", "b"]`, the root is `[]`.
fn module_of(name: &str) -> ModulePath {
    let name = name.strip_suffix(".rs").unwrap_or(name);
    let name = name.strip_suffix("/mod").unwrap_or(name);
    match name {
        "lib" | "main" => Vec::new(),
        name => name.split('/').map(String::from).collect(),
    }
}

/// The files below a folder other than the roots of crates.
fn modules_in(folder: &Path) -> Vec<(std::path::PathBuf, ModulePath)> {
    let mut folders = vec![folder.to_path_buf()];
    let mut modules = Vec::new();
    while let Some(next) = folders.pop() {
        let is_root = next == folder;
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.extend((!is_root || name != "bin").then_some(path));
            } else if name.ends_with(".rs") && !(is_root && ["lib.rs", "main.rs"].contains(&&*name))
            {
                let below = path.strip_prefix(folder).unwrap().display().to_string();
                modules.push((path, module_of(&below)));
            }
        }
    }
    modules
}

/// The paths that a file writes.
fn paths<'a>(file: &[String], tokens: &[Token<'a>]) -> Vec<Written<'a>> {
    let mut found = Vec::new();
    let mut within = file.to_vec();
    let (mut inline, mut depth, mut at) = (Vec::new(), 0, 0);
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    while at < tokens.len() {
        let line = tokens[at].line;
        match text(at) {
            "mod" if text(at + 2) == "{" => {
                within.push(text(at + 1).to_string());
                inline.push(depth);
                at += 2;
                continue;
            }
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                if inline.last() == Some(&depth) {
                    inline.pop();
                    within.pop();
                }
            }
            "use" if text(at + 1) != "<" => {
                let end = at + tokens[at..].iter().take_while(|t| t.text != ";").count();
                let root = Written {
                    within: within.clone(),
                    segments: Vec::new(),
                    line,
                    name: None,
                };
                branch(&tokens[at + 1..end], &root, &mut found);
                at = end;
                continue;
            }
            first if text(at + 1) == "::" && is_name(first) => {
                // Behind another `::` it goes on from a type, or names an outer crate; behind `in` it is a visibility.
                let begins = at == 0 || !["::", "in"].contains(&text(at - 1));
                let mut segments = vec![first];
                while text(at + 1) == "::" && is_name(text(at + 2)) {
                    segments.push(text(at + 2));
                    at += 2;
                }
                if begins {
                    found.push(Written {
                        within: within.clone(),
                        segments,
                        line,
                        name: None,
                    });
                }
            }
            _ => {}
        }
        at += 1;
    }
    found
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Reads one branch of a `use` below `prefix`, and returns how many tokens it has.
fn branch<'a>(tokens: &[Token<'a>], prefix: &Written<'a>, found: &mut Vec<Written<'a>>) -> usize {
    let mut path = prefix.clone();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token.text {
            "::" => {}
            "," | "}" => {
                at -= 1;
                break;
            }
            "{" => {
                while tokens.get(at).is_some_and(|token| token.text != "}") {
                    at += branch(&tokens[at..], &path, found);
                    at += usize::from(tokens.get(at).is_some_and(|token| token.text == ","));
                }
                return at + 1;
            }
            "as" => {
                path.name = tokens.get(at).map(|token| token.text);
                at += 1;
            }
            // A module under its own name, behind the names of what is in it.
            "self" if path.segments.len() > 1 => {}
            text => {
                path.segments.push(text);
                path.name = Some(text);
                path.line = token.line;
            }
        }
    }
    found.push(path);
    at
}

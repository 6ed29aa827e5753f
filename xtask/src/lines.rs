//! `cargo xtask lines`: how much Rust the packages of the product hold outside their tests, now and at another revision.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::rust_source::{RustSource, Token};
use crate::surroundings::Surroundings;

/// The folders that are counted, with all packages in them.
const FOLDERS: [&str; 4] = ["common", "export", "trainer", "runtime"];

/// Shorter lines, such as `}`, are found everywhere: that they are elsewhere does not say that they were moved.
const LEAST_MOVED_CHARACTERS: usize = 12;

/// How many of the largest files are listed.
const N_LARGEST: usize = 10;

/// Prints the count of the working tree, and how it differs from a revision.
pub fn lines(surroundings: &Surroundings, revision: Option<&str>) -> Result<()> {
    let now = Code::of(&working_tree(surroundings)?);
    print!("{}", now.table());
    if let Some(revision) = revision {
        let before = Code::of(&at_revision(surroundings, revision)?);
        println!("\nat {revision}:");
        print!("{}", before.table());
        println!("\n{}", now.difference(&before));
    }
    Ok(())
}

/// Rust files by their paths from the root of the clone.
type Files = BTreeMap<String, String>;

fn working_tree(surroundings: &Surroundings) -> Result<Files> {
    let listed = git(
        surroundings,
        &[
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "*.rs",
        ],
    )?;
    let present = listed
        .lines()
        .map(|name| (name, surroundings.workspace().join(name)));
    let present = present.filter(|(_, path)| path.exists());
    let files = present.map(|(name, path)| {
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {name}"))?;
        Ok((name.to_string(), text))
    });
    files.collect()
}

fn at_revision(surroundings: &Surroundings, revision: &str) -> Result<Files> {
    let listed = git(surroundings, &["ls-tree", "-r", "--name-only", revision])?;
    let names = listed.lines().filter(|name| name.ends_with(".rs"));
    let files = names.map(|name| {
        let text = git(surroundings, &["show", &format!("{revision}:{name}")])?;
        Ok((name.to_string(), text))
    });
    files.collect()
}

fn git(surroundings: &Surroundings, arguments: &[&str]) -> Result<String> {
    let mut command: Command = surroundings.command("git");
    let output = command
        .args(["-c", "core.quotePath=false"])
        .args(arguments)
        .output();
    let output = output.context("could not start git, which this task asks for the files")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("git {} failed: {}", arguments.join(" "), said.trim());
    }
    String::from_utf8(output.stdout).context("git did not answer in UTF-8")
}

/// One file that is counted.
struct Counted {
    name: String,
    n_lines: usize,
    /// Lines that are not blank and not only a comment.
    n_code: usize,
    n_pub: usize,
}

/// What is counted, and what lines there are elsewhere.
struct Code {
    files: Vec<Counted>,
    inside: Lines,
    outside: Lines,
}

/// How often each line occurs, without the blanks around it.
type Lines = HashMap<String, usize>;

impl Code {
    fn of(files: &Files) -> Self {
        let sources = files.iter();
        let sources = sources.map(|(name, text)| (name, text, RustSource::new(text)));
        let sources: Vec<_> = sources.collect();
        let for_tests = sources.iter().flat_map(|(name, _, source)| {
            let below = folder_of_children(name);
            source
                .test_modules
                .iter()
                .map(move |module| format!("{below}/{module}"))
        });
        let for_tests: Vec<String> = for_tests.collect();
        let mut code = Self {
            files: Vec::new(),
            inside: Lines::new(),
            outside: Lines::new(),
        };
        for (name, text, source) in sources {
            let is_inside =
                is_of_product(name, text) && !for_tests.iter().any(|t| is_part(name, t));
            let mut n_lines = 0;
            for (index, line) in text.lines().enumerate() {
                let is_counted =
                    is_inside && !source.test_lines.iter().any(|r| r.contains(&(index + 1)));
                n_lines += usize::from(is_counted);
                let lines = match is_counted {
                    true => &mut code.inside,
                    false => &mut code.outside,
                };
                *lines.entry(line.trim().to_string()).or_default() += 1;
            }
            if is_inside {
                let mut with_code: Vec<usize> = source.tokens.iter().map(|t| t.line).collect();
                with_code.dedup();
                code.files.push(Counted {
                    name: name.clone(),
                    n_lines,
                    n_code: with_code.len(),
                    n_pub: public_items(&source.tokens),
                });
            }
        }
        code
    }

    fn table(&self) -> String {
        let row = |name: &str, files: &[&Counted]| {
            let sum = |of: fn(&Counted) -> usize| files.iter().map(|file| of(file)).sum::<usize>();
            let [lines, code, public] = [sum(|f| f.n_lines), sum(|f| f.n_code), sum(|f| f.n_pub)];
            let median = median(files.iter().map(|file| file.n_lines).collect());
            format!(
                "{name:<10}{lines:>8}{code:>8}{:>7}{median:>8}{public:>7}\n",
                files.len()
            )
        };
        let mut table = format!(
            "{:<10}{:>8}{:>8}{:>7}{:>8}{:>7}\n",
            "folder", "lines", "code", "files", "median", "pub"
        );
        let all: Vec<&Counted> = self.files.iter().collect();
        for folder in FOLDERS {
            let files = all.iter().filter(|file| is_part(&file.name, folder));
            table += &row(folder, &files.copied().collect::<Vec<_>>());
        }
        table += &row("together", &all);
        let mut largest = all;
        largest.sort_by_key(|file| std::cmp::Reverse(file.n_lines));
        let largest = largest.iter().take(N_LARGEST);
        let largest = largest.map(|file| format!("  {} {}", file.name, file.n_lines));
        table + "largest files:\n" + &largest.collect::<Vec<_>>().join("\n") + "\n"
    }

    fn n_lines(&self) -> usize {
        self.files.iter().map(|file| file.n_lines).sum()
    }

    /// How the count has changed, in all and without what only moved into or out of what is counted.
    fn difference(&self, before: &Self) -> String {
        let (gone, new) = (
            less(&before.inside, &self.inside),
            less(&self.inside, &before.inside),
        );
        let out = common(&gone, &less(&self.outside, &before.outside));
        let into = common(&new, &less(&before.outside, &self.outside));
        let [gone, new] = [gone, new].map(|lines| lines.values().sum::<usize>());
        let difference = self.n_lines() as i64 - before.n_lines() as i64;
        let unmoved = difference + out as i64 - into as i64;
        format!(
            "difference: {difference:+} lines ({gone} gone, {new} new). Lines that are equal to the letter in another file of the four folders \
             do not count on either side.\n\
             Of the gone ones {out} are now in tests or other folders, of the new ones {into} were: {unmoved:+} lines without what only moved."
        )
    }
}

/// Whether a file is Rust of the four folders that people wrote and that is not there for tests, benchmarks or examples.
fn is_of_product(name: &str, text: &str) -> bool {
    let is_generated = text
        .lines()
        .take(5)
        .any(|line| line.starts_with("//") && line.contains("@generated"));
    let is_source = name.contains("/src/") || name.ends_with("/build.rs");
    FOLDERS.iter().any(|folder| is_part(name, folder))
        && is_source
        && !is_generated
        && !name
            .split('/')
            .any(|part| ["tests", "benches", "examples"].contains(&part))
}

/// Whether a file is `module` or below it.
fn is_part(name: &str, module: &str) -> bool {
    name.strip_prefix(module)
        .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

/// Where the modules lie that a file declares.
fn folder_of_children(name: &str) -> &str {
    let own = name.strip_suffix(".rs").unwrap_or(name);
    match own.rsplit_once('/') {
        Some((folder, "lib" | "main" | "mod")) => folder,
        _ => own,
    }
}

/// Items and methods that are public without restriction; fields do not count.
fn public_items(tokens: &[Token<'_>]) -> usize {
    const ITEMS: [&str; 12] = [
        "async", "const", "enum", "extern", "fn", "mod", "static", "struct", "trait", "type",
        "unsafe", "use",
    ];
    let pairs = tokens.windows(2);
    pairs
        .filter(|pair| pair[0].text == "pub" && ITEMS.contains(&pair[1].text))
        .count()
}

fn median(mut sizes: Vec<usize>) -> usize {
    sizes.sort_unstable();
    sizes.get(sizes.len() / 2).copied().unwrap_or(0)
}

/// The lines of `all` that are more often there than in `others`.
fn less(all: &Lines, others: &Lines) -> Lines {
    let more = all.iter().map(|(line, n)| {
        let others = others.get(line).copied().unwrap_or(0);
        (line.clone(), n.saturating_sub(others))
    });
    more.filter(|(_, n)| *n > 0).collect()
}

/// How many lines two counts have in common, of those long enough to be told apart.
fn common(one: &Lines, other: &Lines) -> usize {
    let long = one
        .iter()
        .filter(|(line, _)| line.chars().count() >= LEAST_MOVED_CHARACTERS);
    long.map(|(line, n)| *other.get(line).unwrap_or(&0).min(n))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(files: &[(&str, &str)]) -> Code {
        let files = files
            .iter()
            .map(|(name, text)| (name.to_string(), text.to_string()));
        Code::of(&files.collect())
    }

    #[test]
    fn tests_generated_files_and_other_folders_are_not_counted() {
        let counted = code(&[
            (
                "export/src/lib.rs",
                "//! Doc.\n\npub mod a;\npub(crate) fn f() {}\n#[cfg(test)]\nmod testing;\n",
            ),
            ("export/src/testing.rs", "fn f() {}\n"),
            ("export/src/testing/deep.rs", "fn f() {}\n"),
            (
                "export/src/a.rs",
                "pub struct A {\n    pub b: u8,\n}\n#[cfg(test)]\nmod tests {\n}\n",
            ),
            (
                "export/src/proto.rs",
                "// This file is @generated by something.\nfn f() {}\n",
            ),
            ("export/tests/cli/main.rs", "fn f() {}\n"),
            ("exporter/src/lib.rs", "fn f() {}\n"),
            ("trainer/build.rs", "fn main() {}\n"),
            ("engine/src/lib.rs", "fn f() {}\n"),
        ]);
        let found = counted
            .files
            .iter()
            .map(|f| (&*f.name, f.n_lines, f.n_code, f.n_pub));
        assert_eq!(
            Vec::from_iter(found),
            [
                ("export/src/a.rs", 3, 3, 1),
                ("export/src/lib.rs", 4, 2, 1),
                ("trainer/build.rs", 1, 1, 0),
            ]
        );
        let table = counted.table();
        assert!(
            table.contains("export           7       5      2       4      2\n"),
            "{table}"
        );
        assert!(
            table.contains("together         8       6      3       3      2\n"),
            "{table}"
        );
    }

    #[test]
    fn what_only_moved_is_told_from_what_is_gone() {
        let before = code(&[
            (
                "export/src/a.rs",
                "fn moved_within() {}\nfn moved_away() {}\nfn simply_gone() {}\n}\n",
            ),
            ("engine/src/a.rs", "fn moved_here() {}\n"),
        ]);
        let now = code(&[
            (
                "trainer/src/b.rs",
                "fn moved_within() {}\nfn moved_here() {}\n",
            ),
            ("engine/src/a.rs", "fn moved_away() {}\n}\n"),
        ]);
        let said = now.difference(&before);
        assert!(
            said.starts_with("difference: -2 lines (3 gone, 1 new)"),
            "{said}"
        );
        assert!(said.ends_with("1 are now in tests or other folders, of the new ones 1 were: -2 lines without what only moved."), "{said}");
    }
}

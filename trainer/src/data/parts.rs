//! Which folders or files of a data set are for training and which for testing, by their names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use heck::ToSnakeCase;

use super::folder::no_pictures;
use super::say;

/// The parts of a data set.
#[derive(Debug)]
pub(super) struct Parts<T> {
    /// What is learned from.
    pub(super) train: T,
    /// What is never learned from, if the files say so.
    pub(super) test: Option<T>,
}

impl<T> Parts<T> {
    /// The same parts of something else.
    pub(super) fn map<U>(self, change: impl Fn(T) -> Result<U>) -> Result<Parts<U>> {
        Ok(Parts {
            train: change(self.train)?,
            test: self.test.map(&change).transpose()?,
        })
    }
}

/// What the pictures of a part are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Train,
    /// Used for testing.
    Validation,
    /// Used for testing if there is no validation part.
    Test,
    /// Left out.
    Unlabelled,
}

/// For each role, the words that mean it if they stand alone, and short words. These count only if all names beside them mean a part, since
/// they may as well be classes: `tr` is also a country.
const WORDS: [(Role, &[&str], &[&str]); 4] = [
    (
        Role::Train,
        &["train", "training", "trainset", "traindata", "trainval"],
        &["tr", "trn"],
    ),
    (
        Role::Validation,
        &["val", "valid", "validation", "validate", "valset"],
        &["dev", "development", "eval", "evaluation", "va", "vali"],
    ),
    (
        Role::Test,
        &["test", "testing", "testset", "testdata"],
        &["te", "ts", "tst", "holdout", "heldout"],
    ),
    (
        Role::Unlabelled,
        &["unlabeled", "unlabelled"],
        &["pred", "predict", "prediction"],
    ),
];
/// Words that change nothing about the meaning of those.
const NEUTRAL: &[&str] = &[
    "seg", "set", "sets", "data", "dataset", "image", "images", "img", "imgs", "picture",
    "pictures", "pic", "pics", "photo", "photos", "split", "part", "folder", "sample", "samples",
    "orig", "original", "x", "of",
];

/// What a name says.
#[derive(Debug, PartialEq)]
struct Said {
    role: Role,
    /// The word that says it.
    word: String,
    is_short: bool,
    /// The other words of the name, without those that change nothing.
    rest: Vec<String>,
}

impl Said {
    /// What a name says of a part. A name with two such words says nothing.
    fn by(name: &str) -> Option<Said> {
        let (mut said, mut rest) = (Vec::new(), Vec::new());
        for word in words(name) {
            let is_in = |words: &[&str]| words.contains(&word.as_str());
            let found = WORDS
                .iter()
                .find(|(_, clear, short)| is_in(clear) || is_in(short));
            match found {
                Some((role, _, short)) => said.push((*role, is_in(short), word)),
                None if is_in(NEUTRAL) => {}
                None => rest.push(word),
            }
        }
        let [(role, is_short, word)] = <[_; 1]>::try_from(said).ok()?;
        Some(Said {
            role,
            word,
            is_short,
            rest,
        })
    }

    /// Whether the name can only mean a part, not a class.
    fn is_clear(&self) -> bool {
        !self.is_short && self.rest.is_empty()
    }
}

/// The words of a name in small letters: `TrainSet-01` has `train` and `set`.
fn words(name: &str) -> Vec<String> {
    let name = name.to_snake_case();
    let words = name.split(|letter: char| !letter.is_alphabetic());
    words
        .filter(|word| !word.is_empty())
        .map(str::to_string)
        .collect()
}

/// The error of names that can be understood in two ways.
fn unclear(directory: &Path, problem: &str) -> anyhow::Error {
    anyhow!(
        "{}: cannot tell what is for training and what for testing: {problem}; expected one folder or one word for each part \
         (train; val or test), or only folders of classes: merge, move or rename what does not fit",
        directory.display()
    )
}

/// The folders of a data set's parts, such as `Training` and `Testing`, or `directory` itself; `pictures` are all that lie below it.
///
/// # Errors
/// The names of the folders can be understood in two ways.
pub(super) fn by_folder(directory: &Path, pictures: &[PathBuf]) -> Result<Parts<PathBuf>> {
    let below = pictures
        .iter()
        .filter_map(|path| path.strip_prefix(directory).ok());
    let whole = Parts {
        train: directory.to_path_buf(),
        test: None,
    };
    Ok(in_folder(directory, below.collect())?.unwrap_or(whole))
}

/// What lies in a folder.
struct Inside<'a> {
    /// Folders with pictures, and the paths of these below them.
    folders: BTreeMap<String, Vec<&'a Path>>,
    /// Pictures in no folder.
    n_loose: usize,
}

impl Inside<'_> {
    fn of(pictures: Vec<&Path>) -> Inside<'_> {
        let mut inside = Inside {
            folders: BTreeMap::new(),
            n_loose: 0,
        };
        for picture in pictures {
            let mut components = picture.components();
            let first = components.next().map(|first| first.as_os_str());
            match (first, components.as_path()) {
                (Some(folder), rest) if rest != Path::new("") => {
                    let folder = folder.to_string_lossy().into_owned();
                    inside.folders.entry(folder).or_default().push(rest);
                }
                _ => inside.n_loose += 1,
            }
        }
        inside
    }

    /// The only folder, if there is nothing beside it.
    fn only_folder(&self) -> Option<&str> {
        match (self.folders.len(), self.n_loose) {
            (1, 0) => self.folders.keys().next().map(String::as_str),
            _ => None,
        }
    }
}

/// The parts in a folder, or in the only folder in it. `None` if there are none.
fn in_folder(place: &Path, pictures: Vec<&Path>) -> Result<Option<Parts<PathBuf>>> {
    let inside = Inside::of(pictures);
    let names: Vec<&str> = inside.folders.keys().map(String::as_str).collect();
    if let Some(roles) = roles(place, &names)? {
        let parts = chosen(place, inside, &roles);
        if parts.test.is_none() {
            refuse_empty(place)?;
        }
        return Ok(Some(parts));
    }
    let only = inside.only_folder().map(str::to_string);
    for (name, pictures) in inside.folders {
        let folder = place.join(&name);
        match in_folder(&folder, pictures)? {
            Some(_) if only.is_none() => {
                return Err(unclear(
                    &folder,
                    "it lies beside other folders or pictures but holds folders for training and testing itself",
                ));
            }
            Some(parts) => return Ok(Some(parts)),
            None => {}
        }
    }
    Ok(None)
}

/// What each folder is for; `None` if they are classes.
fn roles(place: &Path, names: &[&str]) -> Result<Option<Vec<Role>>> {
    let said: Vec<Option<Said>> = names.iter().map(|name| Said::by(name)).collect();
    let those = |wanted: fn(&Option<Said>) -> bool| -> Vec<&str> {
        let pairs = names.iter().zip(&said);
        pairs
            .filter(|(_, said)| wanted(said))
            .map(|(name, _)| *name)
            .collect()
    };
    let clear = those(|said| said.as_ref().is_some_and(Said::is_clear));
    let others = those(Option::is_none);
    let refused = |problem: String| Err(unclear(place, &problem));
    if !others.is_empty() && clear.is_empty() {
        return Ok(None);
    }
    if !others.is_empty() {
        return refused(format!("{} beside {}", listed(&clear), listed(&others)));
    }
    let said: Vec<Said> = said.into_iter().flatten().collect();
    let roles: Vec<Role> = said.iter().map(|said| said.role).collect();
    let distinct: BTreeSet<Role> = roles.iter().copied().collect();
    let has_train = distinct.contains(&Role::Train);
    if clear.is_empty() && !(has_train && distinct.len() > 1) {
        return Ok(None);
    }
    if !has_train {
        return refused(format!("{} and none for training", listed(&clear)));
    }
    let same_rest = said.iter().all(|one| one.rest == said[0].rest);
    if distinct.len() < roles.len() || !same_rest {
        return refused(format!(
            "{}, of which several may be the same part",
            listed(names)
        ));
    }
    Ok(Some(roles))
}

/// Takes the folder of each part.
fn chosen(place: &Path, mut inside: Inside<'_>, roles: &[Role]) -> Parts<PathBuf> {
    let names: Vec<String> = inside.folders.keys().cloned().collect();
    let mut take = |wanted: Role| {
        let name = &names[roles.iter().position(|role| *role == wanted)?];
        let pictures = inside.folders.remove(name)?;
        Some(innermost(place.join(name), wanted, pictures))
    };
    let train = take(Role::Train).unwrap_or_else(|| place.to_path_buf());
    let test = take(Role::Validation).or_else(|| take(Role::Test));
    let shown = |folder: &Path| {
        let below = folder.strip_prefix(place).unwrap_or(folder);
        format!("{}/", below.display())
    };
    let mut left_out: Vec<String> = inside
        .folders
        .keys()
        .map(|name| format!("{name}/"))
        .collect();
    left_out.extend(match inside.n_loose {
        0 => None,
        1 => Some("1 picture beside them".to_string()),
        n => Some(format!("{n} pictures beside them")),
    });
    tell(place, &shown(&train), test.as_deref().map(shown), &left_out);
    Parts { train, test }
}

/// Refuses a folder for testing that has no pictures: leaving it out would hold back training images instead.
fn refuse_empty(place: &Path) -> Result<()> {
    let is_test = |folder: &PathBuf| {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let said = Said::by(&name).filter(Said::is_clear);
        let is_test = said.is_some_and(|said| [Role::Validation, Role::Test].contains(&said.role));
        folder.is_dir() && is_test
    };
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    match entries.map(|entry| entry.path()).find(is_test) {
        Some(directory) => Err(no_pictures(&directory)),
        None => Ok(()),
    }
}

/// The folder of a part, or one of the same meaning that is all it holds, as `seg_train/seg_train`.
fn innermost(folder: PathBuf, role: Role, pictures: Vec<&Path>) -> PathBuf {
    let mut inside = Inside::of(pictures);
    let only = inside.only_folder().map(str::to_string);
    let only = only.filter(|name| Said::by(name).is_some_and(|said| said.role == role));
    match only.and_then(|name| Some((folder.join(&name), inside.folders.remove(&name)?))) {
        Some((inner, pictures)) => innermost(inner, role, pictures),
        None => folder,
    }
}

/// Divides files by the words of their names and of the folders below `directory`: `train-00000.tar`, `data/validation-0.parquet`,
/// `val/7.tar`. If there are validation and test files, the test files are left out. Files without such a word are for training if no file
/// says that it is.
///
/// # Errors
/// Names can be understood in two ways.
pub(super) fn by_name(directory: &Path, files: Vec<PathBuf>) -> Result<Parts<Vec<PathBuf>>> {
    let mut by_role: BTreeMap<Option<Role>, Vec<PathBuf>> = BTreeMap::new();
    let mut spellings: BTreeMap<Role, BTreeSet<String>> = BTreeMap::new();
    let said: Vec<Option<Said>> = files
        .iter()
        .map(|file| said_by_file(directory, file))
        .collect();
    let all_say = said.iter().all(Option::is_some);
    for (file, said) in files.into_iter().zip(said) {
        let said = said.filter(|said| all_say || !said.is_short);
        let role = said.as_ref().map(|said| said.role);
        by_role.entry(role).or_default().push(file);
        if let Some(said) = said {
            spellings.entry(said.role).or_default().insert(said.word);
        }
    }
    if let Some(words) = spellings.values().find(|words| words.len() > 1) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let words = listed(&words);
        let problem = format!("files whose names say {words}, which mean the same part");
        return Err(unclear(directory, &problem));
    }
    if spellings.is_empty() {
        return Ok(Parts {
            train: by_role.remove(&None).unwrap_or_default(),
            test: None,
        });
    }
    let with = |role: Option<Role>, files: &[PathBuf]| {
        let n = files.len();
        let files = if n == 1 { "file" } else { "files" };
        match role.and_then(|role| spellings.get(&role)?.first()) {
            Some(word) => format!("{n} {files} of {word:?}"),
            None => format!("{n} {files} without such a word"),
        }
    };
    let mut take = |role: Option<Role>| Some((role, by_role.remove(&role)?));
    let train = take(Some(Role::Train)).or_else(|| take(None));
    let test = take(Some(Role::Validation)).or_else(|| take(Some(Role::Test)));
    let (train_role, train) = train.unwrap_or_default();
    let left_out: Vec<String> = by_role
        .iter()
        .map(|(role, files)| with(*role, files))
        .collect();
    let shown = test.as_ref().map(|(role, files)| with(*role, files));
    tell(directory, &with(train_role, &train), shown, &left_out);
    Ok(Parts {
        train,
        test: test.map(|(_, files)| files),
    })
}

/// What a file's own name says, or that of the nearest folder that says something.
fn said_by_file(directory: &Path, file: &Path) -> Option<Said> {
    let below = file
        .strip_prefix(directory)
        .unwrap_or(file)
        .with_extension("");
    let names: Vec<String> = below
        .components()
        .map(|name| name.as_os_str().to_string_lossy().into_owned())
        .collect();
    names.iter().rev().find_map(|name| Said::by(name))
}

/// Prints which files or folders are used for what.
fn tell(place: &Path, train: &str, test: Option<String>, left_out: &[String]) {
    let test = test.map_or(String::new(), |test| format!(", {test} for testing"));
    let left_out = match left_out {
        [] => String::new(),
        left_out => format!("; left out: {}", left_out.join(", ")),
    };
    say(&format!(
        "{}: {train} for training{test}{left_out}",
        place.display()
    ));
}

/// The first few of some names.
fn listed(names: &[&str]) -> String {
    const N_SHOWN: usize = 5;
    let shown: Vec<String> = names
        .iter()
        .take(N_SHOWN)
        .map(|name| format!("{name:?}"))
        .collect();
    match names.len().saturating_sub(N_SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(names: &[&str]) -> Vec<PathBuf> {
        names
            .iter()
            .map(|name| Path::new("/d").join(name))
            .collect()
    }

    #[test]
    fn names_are_made_of_words() {
        for (name, wanted) in [
            ("TrainSet-01", &["train", "set"][..]),
            ("PublicTest", &["public", "test"]),
            ("XTrain", &["x", "train"]),
            ("TRAIN", &["train"]),
            ("seg_pred", &["seg", "pred"]),
            ("train2017", &["train"]),
            ("Größe", &["größe"]),
            ("123", &[]),
        ] {
            assert_eq!(words(name), wanted, "{name}");
        }
    }

    /// The folders for training and testing below `/d`.
    fn found(folders: &[&str]) -> Result<(String, String), String> {
        let pictures: Vec<PathBuf> = folders
            .iter()
            .flat_map(|folder| paths(&[&format!("{folder}/1.png"), &format!("{folder}/2.png")]))
            .collect();
        let parts = by_folder(Path::new("/d"), &pictures).map_err(|error| error.to_string())?;
        let shown = |folder: PathBuf| match folder.strip_prefix("/d") {
            Ok(below) => below.display().to_string(),
            Err(_) => panic!("{folder:?}"),
        };
        Ok((
            shown(parts.train),
            parts.test.map(shown).unwrap_or_default(),
        ))
    }

    #[test]
    fn the_usual_names_of_folders_are_parts_in_any_case() {
        for (folders, train, test) in [
            (&["Training/a", "Testing/a"][..], "Training", "Testing"),
            (&["Train/a", "Test/a"], "Train", "Test"),
            (&["TRAIN/a", "VALID/a"], "TRAIN", "VALID"),
            (
                &["seg_train/a", "seg_test/a", "seg_pred"],
                "seg_train",
                "seg_test",
            ),
            (
                &[
                    "seg_train/seg_train/a",
                    "seg_train/seg_train/b",
                    "seg_test/seg_test/a",
                ],
                "seg_train/seg_train",
                "seg_test/seg_test",
            ),
            (&["train/a", "test/a", "unlabeled"], "train", "test"),
            (
                &["train_images", "test_images", "unlabeled_images"],
                "train_images",
                "test_images",
            ),
            (&["train", "dev", "test"], "train", "dev"),
            (&["tr", "te"], "tr", "te"),
            (&["train2017", "val2017"], "train2017", "val2017"),
            (
                &["asl_alphabet_train/A", "asl_alphabet_test"],
                "asl_alphabet_train",
                "asl_alphabet_test",
            ),
            (&["trainA", "testA"], "trainA", "testA"),
            (&["train"], "train", ""),
            (
                &["chest_xray/train/a", "chest_xray/val/a"],
                "chest_xray/train",
                "chest_xray/val",
            ),
            (
                &["one/two/Train", "one/two/Eval"],
                "one/two/Train",
                "one/two/Eval",
            ),
        ] {
            let wanted = Ok((train.to_string(), test.to_string()));
            assert_eq!(found(folders), wanted, "{folders:?}");
        }
    }

    #[test]
    fn folders_that_name_no_part_are_classes() {
        for folders in [
            &["cat", "dog"][..],
            &["bullet_train", "bus"],
            &["train station", "airport"],
            &["test_tube", "flask"],
            &["de", "fr", "tr"],
            &["testament", "trainer"],
            &["trainA", "trainB"],
            &["cat"],
            &["set/cat", "set/dog"],
            &["2019", "2020"],
        ] {
            assert_eq!(
                found(folders),
                Ok((String::new(), String::new())),
                "{folders:?}"
            );
        }
    }

    #[test]
    fn folders_with_two_meanings_are_refused() {
        for (folders, wanted) in [
            (
                &["train", "Training", "test"][..],
                "several may be the same part",
            ),
            (
                &["train", "cat", "dog"],
                "\"train\" beside \"cat\", \"dog\"",
            ),
            (&["cat", "Test"], "\"Test\" beside \"cat\""),
            (
                &["train.X1", "train.X2", "val.X"],
                "several may be the same part",
            ),
            (
                &["trainA", "trainB", "testA", "testB"],
                "several may be the same part",
            ),
            (&["train", "train_extra"], "several may be the same part"),
            (&["train", "train_val"], "\"train\" beside \"train_val\""),
            (&["test", "val"], "none for training"),
            (
                &["cat/train", "cat/test", "dog/train", "dog/test"],
                "/d/cat",
            ),
            (
                &["Training/a", "PublicTest/a", "PrivateTest/a"],
                "several may be the same part",
            ),
        ] {
            let error = found(folders).unwrap_err();
            assert!(error.contains(wanted), "{folders:?}: {error}");
        }
    }

    #[test]
    fn pictures_beside_parts_are_left_out() {
        let pictures = paths(&["train/1.png", "test/2.png", "3.png"]);
        let parts = by_folder(Path::new("/d"), &pictures).unwrap();
        assert_eq!(parts.train, Path::new("/d/train"));
        assert_eq!(parts.test.unwrap(), Path::new("/d/test"));
    }

    #[test]
    fn files_are_divided_by_the_words_of_their_names() {
        for (names, train, test) in [
            (&["0.tar", "1.tar"][..], &["0.tar", "1.tar"][..], &[][..]),
            (
                &["train-0.tar", "train-1.tar", "val-0.tar"],
                &["train-0.tar", "train-1.tar"],
                &["val-0.tar"],
            ),
            (
                &[
                    "data/test-0.tar",
                    "data/train-0.tar",
                    "data/validation-0.tar",
                ],
                &["data/train-0.tar"],
                &["data/validation-0.tar"],
            ),
            (
                &["imagenet_train_00.tar", "imagenet_test_00.tar"],
                &["imagenet_train_00.tar"],
                &["imagenet_test_00.tar"],
            ),
            (
                &["test/0.tar", "train/0.tar"],
                &["train/0.tar"],
                &["test/0.tar"],
            ),
            (
                &["Testing/0.tar", "Training/0.tar"],
                &["Training/0.tar"],
                &["Testing/0.tar"],
            ),
            (
                &["test/train-0.tar", "test/val-0.tar"],
                &["test/train-0.tar"],
                &["test/val-0.tar"],
            ),
            (
                &["TRAIN-0.tar", "dev-0.tar"],
                &["TRAIN-0.tar"],
                &["dev-0.tar"],
            ),
            (&["de-0.tar", "tr-0.tar"], &["de-0.tar", "tr-0.tar"], &[]),
            (&["train-0.tar", "more.tar"], &["train-0.tar"], &[]),
            (&["testament.tar"], &["testament.tar"], &[]),
            (
                &["restrained.tar", "test.tar"],
                &["restrained.tar"],
                &["test.tar"],
            ),
            (&["test.tar"], &[], &["test.tar"]),
        ] {
            let parts = by_name(Path::new("/d"), paths(names)).unwrap();
            assert_eq!(parts.train, paths(train), "{names:?}");
            assert_eq!(parts.test.unwrap_or_default(), paths(test), "{names:?}");
        }
        let error =
            by_name(Path::new("/d"), paths(&["train-0.tar", "training-0.tar"])).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("\"train\", \"training\""), "{error}");
    }
}

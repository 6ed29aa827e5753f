//! Pictures in tar files, as WebDataset has them: `key.jpg` beside `key.cls` or `key.json`.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use ebm_common::PictureFormat;
use ebm_common::name::has_extension;
use serde_json::Value;

use super::files::{Files, Found, Problem, below};
use super::parts::{Parts, by_name};
use super::{missing, say, unreadable};

/// Pictures in tar files. Only their places are in memory.
#[derive(Debug)]
struct Shards {
    shards: Vec<PathBuf>,
    samples: Vec<Sample>,
}

/// A picture in one of them.
#[derive(Debug)]
struct Sample {
    shard: u32,
    offset: u64,
    length: usize,
    key: Box<str>,
}

impl Files for Shards {
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn bytes(&self) -> u64 {
        let samples = self.samples.iter();
        samples
            .map(|sample| size_of_val(sample) + sample.key.len())
            .sum::<usize>() as u64
    }

    fn name(&self, index: usize) -> String {
        let sample = &self.samples[index];
        format!(
            "{}:{}",
            self.shards[sample.shard as usize].display(),
            sample.key
        )
    }

    fn own_name(&self, index: usize) -> String {
        let sample = &self.samples[index];
        let shard = self.shards[sample.shard as usize].file_name();
        format!("{}:{}", shard.unwrap_or_default().display(), sample.key)
    }

    fn file(&self, index: usize) -> PathBuf {
        self.shards[self.samples[index].shard as usize].clone()
    }

    fn read(&self, index: usize) -> Result<Vec<u8>, Problem> {
        let Sample {
            shard,
            offset,
            length,
            ..
        } = self.samples[index];
        let shard = &self.shards[shard as usize];
        let mut file = File::open(shard).map_err(|source| Problem::lost(shard, source))?;
        let mut bytes = vec![0; length];
        file.seek(SeekFrom::Start(offset))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|error| Problem::Damage(format!("cannot be read: {error}")))?;
        Ok(bytes)
    }
}

/// All tar files of a folder, divided by their names.
pub(super) fn open(directory: &Path) -> Result<Parts<Found>> {
    let shards = by_name(
        directory,
        below(directory, |path| has_extension(path, &["tar"]))?,
    )?;
    shards.map(|shards| part(directory, shards))
}

fn part(directory: &Path, shards: Vec<PathBuf>) -> Result<Found> {
    let (mut samples, mut labels) = (Vec::new(), Vec::new());
    let mut oddities = Oddities::default();
    for (number, shard) in shards.iter().enumerate() {
        for member in members(shard, &mut oddities)? {
            let label = member.label();
            let Some((offset, length)) = member.picture else {
                if label.is_some() {
                    oddities.add(ALONE, shard, &member.key);
                }
                continue;
            };
            samples.push(Sample {
                shard: number as u32,
                offset,
                length,
                key: member.key.into(),
            });
            labels.push(label);
        }
    }
    oddities.tell();
    if samples.is_empty() {
        let members = PictureFormat::patterns().replace('*', "KEY");
        let expected =
            format!("*.tar (not compressed) with members {members}, some of them for training");
        return Err(missing(directory, &expected));
    }
    Ok(Found {
        place: directory.to_path_buf(),
        files: Arc::new(Shards { shards, samples }),
        labels,
        classes: Vec::new(),
    })
}

/// The files of one key.
#[derive(Debug, Default)]
struct Member {
    key: String,
    /// Where the picture begins, and its length.
    picture: Option<(u64, usize)>,
    /// The label of a `cls` file, and that of a `json` file.
    own: Option<u32>,
    described: Option<u32>,
}

impl Member {
    fn label(&self) -> Option<u32> {
        self.own.or(self.described)
    }
}

const WORDS: &str = "labels that are not whole numbers count as none";
const ALONE: &str = "labels without a picture of their key in their shard are left out";
const DOUBLED: &str = "pictures of the same key as another in their shard are left out";

/// What is left out of shards. For each reason: how often, and the first one.
#[derive(Debug, Default)]
struct Oddities(BTreeMap<&'static str, (usize, String)>);

impl Oddities {
    fn add(&mut self, reason: &'static str, shard: &Path, what: &str) {
        let first = || (0, shard.join(what).display().to_string());
        self.0.entry(reason).or_insert_with(first).0 += 1;
    }

    fn tell(&self) {
        for (reason, (n, first)) in &self.0 {
            say(&format!("{n} {reason}, the first is {first}"));
        }
    }
}

/// The files of each key of a tar file, in the order in which the keys first appear.
fn members(shard: &Path, oddities: &mut Oddities) -> Result<Vec<Member>> {
    let damaged = || {
        format!(
            "{} is truncated or is not a tar archive: fetch it again, or unpack it if it is packed",
            shard.display()
        )
    };
    let file = File::open(shard).with_context(|| unreadable(shard))?;
    let end = file.metadata().with_context(|| unreadable(shard))?.len();
    let mut archive = tar::Archive::new(BufReader::new(file));
    let mut members: Vec<Member> = Vec::new();
    let mut by_key: HashMap<String, usize> = HashMap::new();
    for entry in archive.entries_with_seek().with_context(damaged)? {
        let mut entry = entry.with_context(damaged)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry
            .path()
            .with_context(damaged)?
            .to_string_lossy()
            .into_owned();
        let Some((key, extension)) = divided(&path) else {
            continue;
        };
        let place = (entry.raw_file_position(), entry.size());
        if place.0.saturating_add(place.1) > end {
            bail!(damaged());
        }
        let number = *by_key.entry(key.to_string()).or_insert(members.len());
        if number == members.len() {
            members.push(Member {
                key: key.to_string(),
                ..Member::default()
            });
        }
        let member = &mut members[number];
        if PictureFormat::of_extension(&extension).is_some() {
            match member.picture {
                None => member.picture = Some((place.0, place.1 as usize)),
                Some(_) => oddities.add(DOUBLED, shard, &path),
            }
        } else if ["cls", "json"].contains(&extension.as_str()) {
            let mut text = Vec::new();
            entry.read_to_end(&mut text).with_context(damaged)?;
            let known = match extension.as_str() {
                "cls" => &mut member.own,
                _ => &mut member.described,
            };
            match label(&extension, &text) {
                Ok(label) => *known = known.or(label),
                Err(NoNumber) => oddities.add(WORDS, shard, &path),
            }
        }
    }
    Ok(members)
}

/// The key of a member and its ending in small letters. A key ends at the first dot of the name.
fn divided(path: &str) -> Option<(&str, String)> {
    let name = path.rfind('/').map_or(0, |slash| slash + 1);
    let dot = name + path[name..].find('.')?;
    (dot > name).then(|| (&path[..dot], path[dot + 1..].to_lowercase()))
}

/// The label is not a whole number.
struct NoNumber;

/// The label in a `cls` file, which is a number, or in a `json` file, in which `label` or `cls` is one.
fn label(extension: &str, text: &[u8]) -> Result<Option<u32>, NoNumber> {
    let number = |text: &str| text.trim().parse().map(Some).map_err(|_| NoNumber);
    if extension == "cls" {
        return number(&String::from_utf8_lossy(text));
    }
    let object: Value = serde_json::from_slice(text).map_err(|_| NoNumber)?;
    match object.get("label").or(object.get("cls")) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => number(text),
        Some(label) => number(&label.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tar file of some members.
    fn write_tar(path: &Path, members: &[(&str, &[u8])]) {
        let mut builder = tar::Builder::new(File::create(path).unwrap());
        for (name, bytes) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
        builder.finish().unwrap();
    }

    #[test]
    fn members_with_the_same_key_belong_together() {
        let folder = tempfile::tempdir().unwrap();
        let long = format!("{}/c.jpg", "deep".repeat(60));
        write_tar(
            &folder.path().join("train-0.tar"),
            &[
                ("a.jpg", b"first"),
                ("a.cls", b"3\n"),
                ("b.cls", b"1"),
                ("b.seg.png", b"not the picture"),
                ("b.PNG", b"second"),
            ],
        );
        write_tar(
            &folder.path().join("train-1.tar"),
            &[
                (&long, b"third"),
                (
                    &long.replace(".jpg", ".json"),
                    br#"{"label": 2, "text": "x"}"#,
                ),
            ],
        );
        write_tar(
            &folder.path().join("val-0.tar"),
            &[("d.webp", b"fourth"), ("README", b"hello")],
        );
        let parts = open(folder.path()).unwrap();
        assert_eq!(parts.train.labels, [Some(3), Some(1), Some(2)]);
        let read = |found: &Found| -> Vec<Vec<u8>> {
            (0..found.files.len())
                .map(|index| found.files.read(index).unwrap())
                .collect()
        };
        assert_eq!(
            read(&parts.train),
            [b"first".to_vec(), b"second".to_vec(), b"third".to_vec()]
        );
        assert!(parts.train.files.name(1).ends_with("train-0.tar:b"));
        let test = parts.test.unwrap();
        assert_eq!(
            (read(&test), test.labels),
            (vec![b"fourth".to_vec()], vec![None])
        );
    }

    type Members<'a> = &'a [(&'a str, &'a [u8])];

    /// Labels and keys of a shard with those members.
    fn found(members: Members<'_>) -> Vec<(String, Option<u32>)> {
        let folder = tempfile::tempdir().unwrap();
        let shard = folder.path().join("0.tar");
        write_tar(&shard, members);
        let found = open(folder.path()).unwrap().train;
        let prefix = format!("{}:", shard.display());
        let names =
            (0..found.files.len()).map(|index| found.files.name(index).replace(&prefix, ""));
        names.zip(found.labels).collect()
    }

    #[test]
    fn labels_are_joined_with_their_pictures_wherever_they_stand() {
        let picture = |key: &str, label| (key.to_string(), label);
        let cases: [(Members<'_>, Vec<_>); 5] = [
            (
                &[
                    ("a.jpg", b"1"),
                    ("b.jpg", b"2"),
                    ("a.cls", b"3"),
                    ("b.json", br#"{"cls": 4}"#),
                ],
                vec![picture("a", Some(3)), picture("b", Some(4))],
            ),
            (
                &[
                    ("b.cls", b"4"),
                    ("a.cls", b"3"),
                    ("a.jpg", b"1"),
                    ("b.jpg", b"2"),
                ],
                vec![picture("b", Some(4)), picture("a", Some(3))],
            ),
            (
                &[
                    ("deep/a.jpg", b"1"),
                    ("a.jpg", b"2"),
                    ("a.cls", b"3"),
                    ("alone.cls", b"5"),
                ],
                vec![picture("deep/a", None), picture("a", Some(3))],
            ),
            (
                &[
                    ("a.json", br#"{"label": 1}"#),
                    ("a.png", b"1"),
                    ("a.cls", b"2"),
                    ("a.jpg", b"other"),
                ],
                vec![picture("a", Some(2))],
            ),
            (
                &[
                    ("a.jpg", b"1"),
                    ("a.json", br#"{"label": "7"}"#),
                    ("b.jpg", b"2"),
                ],
                vec![picture("a", Some(7)), picture("b", None)],
            ),
        ];
        for (members, wanted) in cases {
            assert_eq!(found(members), wanted, "{members:?}");
        }
    }

    #[test]
    fn labels_that_are_not_whole_numbers_count_as_none() {
        for (name, text) in [
            ("a.cls", &b"cat"[..]),
            ("a.cls", b""),
            ("a.cls", b"-1"),
            ("a.cls", b"1.5"),
            ("a.cls", &[0xff, 0xfe]),
            ("a.json", b"{"),
            ("a.json", br#"{"label": "cat"}"#),
            ("a.json", br#"{"label": -1}"#),
            ("a.json", br#"{"label": null}"#),
            ("a.json", br#"{"label": [1]}"#),
            ("a.json", br#"{"text": "a cat"}"#),
            ("a.json", br#"{"label": 5000000000}"#),
            ("a.json", b"[1, 2]"),
        ] {
            let labels = found(&[("a.jpg", b"1"), (name, text)]);
            assert_eq!(labels, [("a".to_string(), None)], "{name} {text:?}");
        }
    }

    #[test]
    fn a_shard_without_pictures_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        write_tar(
            &folder.path().join("0.tar"),
            &[("README", b"hello"), ("a.cls", b"1")],
        );
        let error = open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("no data in"), "{error}");
    }

    #[test]
    fn a_truncated_shard_and_one_that_is_none_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.tar");
        write_tar(&path, &[("a.jpg", &[7; 3000])]);
        let bytes = std::fs::read(&path).unwrap();
        for cut in [
            b"this is no archive at all".repeat(40),
            bytes[..1000].to_vec(),
            bytes[..300].to_vec(),
        ] {
            std::fs::write(&path, cut).unwrap();
            let error = open(folder.path()).unwrap_err().to_string();
            assert!(
                error.contains("0.tar is truncated or is not a tar archive"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_shard_that_is_gone_is_the_end_and_one_that_shrank_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.tar");
        write_tar(&path, &[("a.jpg", &[7; 3000])]);
        let files = open(folder.path()).unwrap().train.files;
        std::fs::write(&path, b"short").unwrap();
        assert!(matches!(files.read(0), Err(Problem::Damage(_))));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(files.read(0), Err(Problem::Lost(_))));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_tar_file_or_refused(bytes: Vec<u8>, place in 0usize..2000, value: u8) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("0.tar");
            std::fs::write(&path, &bytes).unwrap();
            let _ = open(folder.path());
            write_tar(&path, &[("a.jpg", &[7; 700]), ("a.cls", b"1")]);
            let mut changed = std::fs::read(&path).unwrap();
            let place = place % changed.len();
            changed[place] = value;
            std::fs::write(&path, &changed).unwrap();
            if let Ok(parts) = open(folder.path()) {
                let _ = parts.train.files.read(0);
            }
        }
    }
}

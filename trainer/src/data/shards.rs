//! Pictures in tar files, as WebDataset has them: `key.jpg` beside `key.cls` or `key.json`.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ebm_common::name::EXTENSIONS;

use super::Error;
use super::files::{Files, Found, Parts, Problem, below, by_name};

/// Pictures in tar files, of which only the places are in memory.
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
pub(super) fn open(directory: &Path) -> Result<Parts<Found>, Error> {
    let shards = by_name(directory, below(directory, &["tar"])?);
    shards.map(|shards| part(directory, shards))
}

fn part(directory: &Path, shards: Vec<PathBuf>) -> Result<Found, Error> {
    let (mut samples, mut labels) = (Vec::new(), Vec::new());
    for (number, shard) in shards.iter().enumerate() {
        for member in members(shard)? {
            let Some((offset, length)) = member.picture else {
                continue;
            };
            samples.push(Sample {
                shard: number as u32,
                offset,
                length,
                key: member.key.into(),
            });
            labels.push(member.label);
        }
    }
    if samples.is_empty() {
        return Err(Error::Missing {
            directory: directory.to_path_buf(),
            candidates: "*.tar (not packed) with members KEY.jpg, KEY.png or KEY.webp, of which some are for training".to_string(),
        });
    }
    Ok(Found {
        place: directory.to_path_buf(),
        files: Arc::new(Shards { shards, samples }),
        labels,
        classes: Vec::new(),
    })
}

/// What stands under one key.
#[derive(Debug, Default)]
struct Member {
    key: String,
    /// Where the picture begins, and its length.
    picture: Option<(u64, usize)>,
    label: Option<u32>,
}

/// What stands under each key of a tar file, in its order.
fn members(shard: &Path) -> Result<Vec<Member>, Error> {
    let unreadable = |source| Error::Unreadable {
        file: shard.to_path_buf(),
        source,
    };
    let damaged = |source| Error::Archive {
        file: shard.to_path_buf(),
        source,
    };
    let file = File::open(shard).map_err(unreadable)?;
    let end = file.metadata().map_err(unreadable)?.len();
    let mut archive = tar::Archive::new(BufReader::new(file));
    let mut members: Vec<Member> = Vec::new();
    for entry in archive.entries_with_seek().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry
            .path()
            .map_err(damaged)?
            .to_string_lossy()
            .into_owned();
        let Some((key, extension)) = divided(&path) else {
            continue;
        };
        let place = (entry.raw_file_position(), entry.size());
        if place.0.saturating_add(place.1) > end {
            return Err(damaged(std::io::ErrorKind::UnexpectedEof.into()));
        }
        if members.last().is_none_or(|last| last.key != key) {
            members.push(Member {
                key: key.to_string(),
                ..Member::default()
            });
        }
        let Some(member) = members.last_mut() else {
            continue;
        };
        if EXTENSIONS.contains(&extension.as_str()) {
            member.picture = member.picture.or(Some((place.0, place.1 as usize)));
        } else if ["cls", "json"].contains(&extension.as_str()) {
            let mut text = String::new();
            entry.read_to_string(&mut text).map_err(damaged)?;
            member.label = member.label.or(label(shard, &path, &extension, &text)?);
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

/// The label in a `cls` file, which is a number, or in a `json` file, in which `label` or `cls` is one.
fn label(shard: &Path, path: &str, extension: &str, text: &str) -> Result<Option<u32>, Error> {
    let foreign = || Error::Foreign {
        file: shard.join(path),
        expected: "a label (a whole number in a .cls file, or as \"label\" in a .json file)",
        got: format!("{:?}", text.chars().take(40).collect::<String>()),
    };
    if extension == "cls" {
        return text.trim().parse().map(Some).map_err(|_| foreign());
    }
    let object: serde_json::Value = serde_json::from_str(text).map_err(|_| foreign())?;
    let Some(label) = object.get("label").or(object.get("cls")) else {
        return Ok(None);
    };
    let label = label.as_u64().and_then(|label| u32::try_from(label).ok());
    label.map(Some).ok_or_else(foreign)
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

    #[test]
    fn shards_that_make_no_set_are_refused() {
        type Members<'a> = &'a [(&'a str, &'a [u8])];
        let cases: [(Members<'_>, &str); 4] = [
            (&[("README", b"hello")], "no data in"),
            (
                &[("a.jpg", b"1"), ("a.cls", b"cat")],
                "0.tar/a.cls is not a label",
            ),
            (
                &[("a.jpg", b"1"), ("a.json", b"{")],
                "0.tar/a.json is not a label",
            ),
            (
                &[("a.jpg", b"1"), ("a.json", br#"{"label": -1}"#)],
                "0.tar/a.json is not a label",
            ),
        ];
        for (members, wanted) in cases {
            let folder = tempfile::tempdir().unwrap();
            write_tar(&folder.path().join("0.tar"), members);
            let error = open(folder.path()).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
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
                error.contains("0.tar is truncated or no tar archive"),
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

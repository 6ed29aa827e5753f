//! Pictures in a column of Parquet files, as public hubs of data sets have them.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use ebm_common::name::has_extension;
use parquet::basic::{Compression, Type};
use parquet::column::reader::{ColumnReader, get_column_reader};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::serialized_reader::SerializedPageReader;

use super::files::{Files, Found, Problem, below};
use super::parts::{Parts, by_name};
use super::{check_count, missing, say, unreadable};
use crate::config::DataConfig;

/// Names of the column of pictures: a struct with `bytes`, or the bytes themselves.
const PICTURES: &[&str] = &["image.bytes", "img.bytes", "image", "img"];
/// Names of the column of labels.
const LABELS: &[&str] = &["label", "labels", "fine_label", "cls"];

/// Pictures in Parquet files. Only their places are in memory.
#[derive(Debug)]
struct Tables {
    tables: Vec<PathBuf>,
    groups: Vec<Group>,
}

/// The pictures of a row group.
#[derive(Debug)]
struct Group {
    table: u32,
    /// The number of its first row among all, and in its file.
    first: usize,
    first_in_table: usize,
    n_rows: usize,
    column: ColumnChunkMetaData,
}

impl Files for Tables {
    fn len(&self) -> usize {
        self.groups
            .last()
            .map_or(0, |last| last.first + last.n_rows)
    }

    fn bytes(&self) -> u64 {
        size_of_val(self.groups.as_slice()) as u64
    }

    fn name(&self, index: usize) -> String {
        let group = self.group(index);
        let row = group.first_in_table + index - group.first;
        format!(
            "{}, row {row},",
            self.tables[group.table as usize].display()
        )
    }

    fn own_name(&self, index: usize) -> String {
        let group = self.group(index);
        let table = self.tables[group.table as usize].file_name();
        let row = group.first_in_table + index - group.first;
        format!("{}:{row}", table.unwrap_or_default().display())
    }

    fn file(&self, index: usize) -> PathBuf {
        self.tables[self.group(index).table as usize].clone()
    }

    fn read(&self, index: usize) -> Result<Vec<u8>, Problem> {
        let group = self.group(index);
        let table = &self.tables[group.table as usize];
        let file = File::open(table).map_err(|source| Problem::lost(table, source))?;
        guarded(|| group.picture(file, index - group.first))
            .map_err(|error| Problem::Damage(format!("cannot be read: {error}")))?
            .ok_or_else(|| Problem::Damage("has no bytes in the table".to_string()))
    }
}

impl Tables {
    fn group(&self, index: usize) -> &Group {
        let behind = self.groups.partition_point(|group| group.first <= index);
        &self.groups[behind.saturating_sub(1)]
    }
}

impl Group {
    /// The bytes of a row, if it has any. Pages before it are not decoded.
    fn picture(&self, file: File, row: usize) -> Result<Option<Vec<u8>>, ParquetError> {
        let mut reader = match column(file, &self.column, self.n_rows)? {
            ColumnReader::ByteArrayColumnReader(reader) => reader,
            _ => {
                return Err(ParquetError::General(
                    "the column holds no bytes".to_string(),
                ));
            }
        };
        reader.skip_records(row)?;
        let (mut levels, mut values) = (Vec::new(), Vec::new());
        reader.read_records(1, Some(&mut levels), None, &mut values)?;
        Ok(values.first().map(|value| value.data().to_vec()))
    }
}

/// Does work on a file. If the reader panics, the file is damaged.
fn guarded<T>(work: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    let done = catch_unwind(AssertUnwindSafe(work));
    done.unwrap_or_else(|_| Err(ParquetError::General("the reader fails on it".to_string())))
}

fn column(
    file: File,
    column: &ColumnChunkMetaData,
    n_rows: usize,
) -> Result<ColumnReader, ParquetError> {
    let pages = SerializedPageReader::new(Arc::new(file), column, n_rows, None)?;
    Ok(get_column_reader(
        column.column_descr_ptr(),
        Box::new(pages),
    ))
}

/// All Parquet files of a folder, divided by their names.
pub(super) fn open(config: &DataConfig, directory: &Path) -> Result<Parts<Found>> {
    let tables = by_name(
        directory,
        below(directory, |path| has_extension(path, &["parquet"]))?,
    )?;
    tables.map(|tables| part(config, directory, tables))
}

fn part(config: &DataConfig, directory: &Path, tables: Vec<PathBuf>) -> Result<Found> {
    let mut groups: Vec<Group> = Vec::new();
    let mut labels = Vec::new();
    let mut n_rows = 0;
    for (number, table) in tables.iter().enumerate() {
        let metadata = metadata(table)?;
        let Columns { picture, label } = Columns::find(config, table, &metadata)?;
        if number == 0 {
            say(&line(table, &metadata, picture, label));
        }
        let first_in_table = n_rows;
        for group in metadata.row_groups() {
            let rows = group.num_rows().max(0) as usize;
            if rows == 0 {
                continue;
            }
            check_compression(table, group.column(picture))?;
            labels.extend(match label {
                Some(label) => labels_of(table, group.column(label), rows)?,
                None => vec![None; rows],
            });
            groups.push(Group {
                table: number as u32,
                first: n_rows,
                first_in_table: n_rows - first_in_table,
                n_rows: rows,
                column: group.column(picture).clone(),
            });
            n_rows += rows;
        }
    }
    if n_rows == 0 {
        let expected = "*.parquet with rows, some of them for training";
        return Err(missing(directory, expected));
    }
    Ok(Found {
        place: directory.to_path_buf(),
        files: Arc::new(Tables { tables, groups }),
        labels,
        classes: Vec::new(),
    })
}

/// The numbers of the columns that are read.
struct Columns {
    picture: usize,
    label: Option<usize>,
}

impl Columns {
    /// The columns that the configuration names, else those with the usual names.
    fn find(config: &DataConfig, table: &Path, metadata: &ParquetMetaData) -> Result<Columns> {
        let named = |column: &String| [column.clone(), format!("{column}.bytes")];
        let usual = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        let pictures =
            (config.image_column.as_ref()).map_or_else(|| usual(PICTURES), |own| named(own).into());
        let labels =
            (config.label_column.as_ref()).map_or_else(|| usual(LABELS), |own| vec![own.clone()]);
        let integers = [Type::INT32, Type::INT64];
        let label = match find(
            table,
            metadata,
            labels,
            &integers,
            "whole numbers",
            "data.label_column",
        ) {
            Err(error) if config.label_column.is_some() => return Err(error),
            found => found.ok(),
        };
        Ok(Columns {
            picture: find(
                table,
                metadata,
                pictures,
                &[Type::BYTE_ARRAY],
                "the bytes of pictures",
                "data.image_column",
            )?,
            label,
        })
    }
}

/// Says which columns are used.
fn line(table: &Path, metadata: &ParquetMetaData, picture: usize, label: Option<usize>) -> String {
    let columns = names(metadata);
    let labels = match label {
        Some(label) => format!("labels in {:?}", columns[label]),
        None => "no labels that are whole numbers".to_string(),
    };
    format!(
        "{}: pictures in column {:?}, {labels} (data.image_column and data.label_column name others)",
        table.display(),
        columns[picture]
    )
}

fn names(metadata: &ParquetMetaData) -> Vec<String> {
    let columns = metadata.file_metadata().schema_descr().columns();
    columns
        .iter()
        .map(|column| column.path().string())
        .collect()
}

/// LZO is the one compression of the format that is not built in.
fn check_compression(table: &Path, column: &ColumnChunkMetaData) -> Result<()> {
    match column.compression() {
        Compression::LZO => bail!(
            "{} is compressed by {}, expected snappy, gzip, brotli, lz4, lz4_raw, zstd or nothing: write it again with one of these",
            table.display(),
            column.compression()
        ),
        _ => Ok(()),
    }
}

fn metadata(table: &Path) -> Result<ParquetMetaData> {
    let file = File::open(table).with_context(|| unreadable(table))?;
    let metadata = guarded(|| ParquetMetaDataReader::new().parse_and_finish(&file));
    metadata.with_context(|| damaged(table))
}

/// What is wrong with a file that the Parquet reader refuses.
fn damaged(table: &Path) -> String {
    format!(
        "{} is truncated or is not a Parquet file: fetch it again",
        table.display()
    )
}

/// The number of the first wanted column that is there and has one of `types`. `key` is the setting that names another.
fn find(
    table: &Path,
    metadata: &ParquetMetaData,
    wanted: Vec<String>,
    types: &[Type],
    content: &str,
    key: &str,
) -> Result<usize> {
    let columns = metadata.file_metadata().schema_descr().columns();
    let at = |name: &String| {
        columns.iter().position(|column| {
            column.path().string() == *name
                && types.contains(&column.physical_type())
                && column.max_rep_level() == 0
        })
    };
    wanted.iter().find_map(at).with_context(|| {
        format!(
            "{} has columns {}: expected one of {} with {content}; name it with {key}",
            table.display(),
            names(metadata).join(", "),
            wanted.join(", ")
        )
    })
}

/// The labels of a row group. A value that is not a whole number from 0 up counts as no label.
fn labels_of(table: &Path, label: &ColumnChunkMetaData, n_rows: usize) -> Result<Vec<Option<u32>>> {
    check_compression(table, label)?;
    let file = File::open(table).with_context(|| unreadable(table))?;
    let read = guarded(|| numbers(file, label, n_rows));
    let (labels, levels) = read.with_context(|| damaged(table))?;
    let full = label.column_descr().max_def_level();
    let n_read = match full {
        0 => labels.len(),
        _ => levels.len(),
    };
    check_count((table, n_rows), (table, n_read))?;
    let mut labels = labels.into_iter();
    let row = |row| match levels.get(row) {
        Some(level) if *level < full => None,
        _ => labels.next().and_then(|label| u32::try_from(label).ok()),
    };
    Ok((0..n_rows).map(row).collect())
}

/// The numbers of a column, and for each row the level that says whether it has a number.
fn numbers(
    file: File,
    numbers: &ColumnChunkMetaData,
    n_rows: usize,
) -> Result<(Vec<i64>, Vec<i16>), ParquetError> {
    let (mut levels, mut long) = (Vec::new(), Vec::new());
    match column(file, numbers, n_rows)? {
        ColumnReader::Int32ColumnReader(mut reader) => {
            let mut short = Vec::new();
            reader.read_records(n_rows, Some(&mut levels), None, &mut short)?;
            long.extend(short.into_iter().map(i64::from));
        }
        ColumnReader::Int64ColumnReader(mut reader) => {
            reader.read_records(n_rows, Some(&mut levels), None, &mut long)?;
        }
        _ => {}
    }
    Ok((long, levels))
}

#[cfg(test)]
mod tests {
    use parquet::data_type::{ByteArray, ByteArrayType};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::*;

    /// As hubs have them.
    const HUB: &str = "message schema {
        optional group image { optional binary bytes; optional binary path (UTF8); }
        optional int64 label;
    }";
    const BARE: &str = "message schema { required int32 label; required binary img; }";

    fn opened(directory: &Path) -> Result<Parts<Found>> {
        open(&DataConfig::digits_for_tests(), directory)
    }

    /// A row: a picture and a label.
    type Row<'a> = (Option<&'a [u8]>, i64);

    /// A file of row groups. Pages hold few bytes, so that there are several.
    fn write(path: &Path, schema: &str, compression: Compression, groups: &[Vec<Row<'_>>]) {
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let properties = WriterProperties::builder()
            .set_compression(compression)
            .set_data_page_size_limit(64)
            .set_write_batch_size(2)
            .set_dictionary_page_size_limit(32)
            .build();
        let file = File::create(path).unwrap();
        let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
        for rows in groups {
            let mut group = writer.next_row_group().unwrap();
            while let Some(mut column) = group.next_column().unwrap() {
                use parquet::column::writer::ColumnWriter;
                let n = rows.len();
                match column.untyped() {
                    ColumnWriter::Int32ColumnWriter(writer) => {
                        let labels: Vec<i32> = rows.iter().map(|row| row.1 as i32).collect();
                        writer.write_batch(&labels, None, None).unwrap();
                    }
                    ColumnWriter::Int64ColumnWriter(writer) => {
                        let labels: Vec<i64> = rows.iter().map(|row| row.1).collect();
                        writer
                            .write_batch(&labels, Some(&vec![1; n]), None)
                            .unwrap();
                    }
                    ColumnWriter::ByteArrayColumnWriter(writer) => {
                        let descriptor = writer.get_descriptor().clone();
                        write_bytes(
                            writer,
                            descriptor.path().string() == "image.path",
                            rows,
                            descriptor.max_def_level(),
                        );
                    }
                    _ => panic!("no such column"),
                }
                column.close().unwrap();
            }
            group.close().unwrap();
        }
        writer.close().unwrap();
    }

    fn write_bytes(
        writer: &mut parquet::column::writer::ColumnWriterImpl<'_, ByteArrayType>,
        is_path: bool,
        rows: &[Row<'_>],
        full: i16,
    ) {
        let values: Vec<ByteArray> = match is_path {
            true => rows.iter().map(|_| ByteArray::from("a.png")).collect(),
            false => rows
                .iter()
                .filter_map(|row| row.0.map(|bytes| ByteArray::from(bytes.to_vec())))
                .collect(),
        };
        let levels: Vec<i16> = (rows.iter())
            .map(|row| {
                if is_path || row.0.is_some() {
                    full
                } else {
                    full - 1
                }
            })
            .collect();
        let levels = (full > 0).then_some(levels.as_slice());
        writer.write_batch(&values, levels, None).unwrap();
    }

    fn names(n: usize) -> Vec<String> {
        (0..n)
            .map(|i| format!("picture {i} {}", "x".repeat(i % 40)))
            .collect()
    }

    #[test]
    fn every_row_of_every_group_is_found_in_any_order() {
        for (schema, compression) in [
            (HUB, Compression::SNAPPY),
            (HUB, Compression::UNCOMPRESSED),
            (HUB, Compression::ZSTD(Default::default())),
            (HUB, Compression::GZIP(Default::default())),
            (HUB, Compression::BROTLI(Default::default())),
            (HUB, Compression::LZ4),
            (HUB, Compression::LZ4_RAW),
            (BARE, Compression::SNAPPY),
            (BARE, Compression::GZIP(Default::default())),
        ] {
            let names = names(50);
            let rows: Vec<Row<'_>> = names
                .iter()
                .enumerate()
                .map(|(i, name)| (Some(name.as_bytes()), i as i64 % 7))
                .collect();
            let folder = tempfile::tempdir().unwrap();
            let groups = [rows[..13].to_vec(), rows[13..30].to_vec()];
            write(
                &folder.path().join("train-00000-of-00002.parquet"),
                schema,
                compression,
                &groups,
            );
            write(
                &folder.path().join("train-00001-of-00002.parquet"),
                schema,
                compression,
                &[rows[30..45].to_vec()],
            );
            write(
                &folder.path().join("test-00000-of-00001.parquet"),
                schema,
                compression,
                &[rows[45..].to_vec()],
            );
            let parts = opened(folder.path()).unwrap();
            let train = parts.train;
            assert_eq!(train.files.len(), 45);
            assert_eq!(
                train.labels,
                (0..45).map(|i| Some(i % 7)).collect::<Vec<_>>()
            );
            for index in (0..45).rev() {
                assert_eq!(
                    train.files.read(index).unwrap(),
                    names[index].as_bytes(),
                    "{schema}, {compression:?}, {index}"
                );
            }
            assert!(
                train
                    .files
                    .name(31)
                    .ends_with("train-00001-of-00002.parquet, row 1,")
            );
            assert!(
                train
                    .files
                    .name(14)
                    .ends_with("train-00000-of-00002.parquet, row 14,")
            );
            assert_eq!(
                parts.test.unwrap().files.read(0).unwrap(),
                names[45].as_bytes()
            );
        }
    }

    #[test]
    fn a_row_without_bytes_is_damaged_and_its_neighbours_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let rows: Vec<Row<'_>> = vec![(Some(b"a"), 0), (None, 1), (Some(b"c"), 2)];
        write(
            &folder.path().join("0.parquet"),
            HUB,
            Compression::SNAPPY,
            &[rows],
        );
        let files = opened(folder.path()).unwrap().train.files;
        assert!(
            matches!(files.read(1), Err(Problem::Damage(reason)) if reason.contains("no bytes"))
        );
        assert_eq!(files.read(0).unwrap(), b"a");
        assert_eq!(files.read(2).unwrap(), b"c");
        std::fs::remove_file(folder.path().join("0.parquet")).unwrap();
        assert!(matches!(files.read(2), Err(Problem::Lost(_))));
    }

    #[test]
    fn a_table_of_something_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.parquet");
        let error = || opened(folder.path()).unwrap_err().to_string();
        assert!(error().contains("no data in"));
        std::fs::write(&path, b"PAR1 and so on").unwrap();
        assert!(error().contains("0.parquet is truncated or is not a Parquet file"));
        write(
            &path,
            BARE,
            Compression::SNAPPY,
            &[vec![(Some(b"a"), -1), (Some(b"b"), 1)]],
        );
        assert_eq!(opened(folder.path()).unwrap().train.labels, [None, Some(1)]);
        write(&path, BARE, Compression::SNAPPY, &[]);
        assert!(error().contains("no data in"));
        write(
            &path,
            "message schema { required binary text; }",
            Compression::SNAPPY,
            &[vec![(Some(b"a"), 0)]],
        );
        for piece in [
            "columns text",
            "expected one of image.bytes, ",
            "data.image_column",
        ] {
            assert!(error().contains(piece), "{}", error());
        }
    }

    #[test]
    fn columns_of_other_names_are_read_if_they_are_named() {
        const OTHER: &str =
            "message schema { required binary image; required binary photo; required int32 kind; }";
        let folder = tempfile::tempdir().unwrap();
        let rows: Vec<Row<'_>> = vec![(Some(b"a"), 3), (Some(b"b"), 4)];
        write(
            &folder.path().join("0.parquet"),
            OTHER,
            Compression::SNAPPY,
            &[rows],
        );
        let opened = |image: Option<&str>, label: Option<&str>| {
            let config = DataConfig {
                image_column: image.map(str::to_string),
                label_column: label.map(str::to_string),
                ..DataConfig::digits_for_tests()
            };
            let found = open(&config, folder.path())
                .map_err(|error| error.to_string())?
                .train;
            Ok::<_, String>((found.files.read(1).unwrap(), found.labels))
        };
        assert_eq!(opened(None, None), Ok((b"b".to_vec(), vec![None, None])));
        assert_eq!(
            opened(Some("photo"), Some("kind")),
            Ok((b"b".to_vec(), vec![Some(3), Some(4)]))
        );
        for (image, label, wanted) in [
            (
                "picture",
                "kind",
                "expected one of picture, picture.bytes with the bytes of pictures; name it with data.image_column",
            ),
            ("kind", "kind", "columns image, photo, kind"),
            (
                "photo",
                "class",
                "expected one of class with whole numbers; name it with data.label_column",
            ),
            ("photo", "image", "data.label_column"),
        ] {
            let error = opened(Some(image), Some(label)).unwrap_err();
            assert!(error.contains(wanted), "{image}, {label}: {error}");
        }
    }

    #[test]
    fn a_truncated_table_is_refused_and_a_changed_one_never_ends_the_process() {
        let names = names(20);
        let rows: Vec<Row<'_>> = names
            .iter()
            .map(|name| (Some(name.as_bytes()), 0))
            .collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.parquet");
        write(&path, HUB, Compression::SNAPPY, &[rows]);
        let bytes = std::fs::read(&path).unwrap();
        for length in [0, 3, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert!(opened(folder.path()).is_err(), "{length} bytes");
        }
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 0x55;
            std::fs::write(&path, &changed).unwrap();
            if let Ok(parts) = opened(folder.path()) {
                let n = parts.train.files.len().min(20);
                (0..n).for_each(|index| drop(parts.train.files.read(index)));
            }
        }
    }
}

//! Checkpoints as `torch.save` writes them: a zip file since PyTorch 1.6, before that pickles in a row with the storages behind.
//!
//! Nothing in them is executed. Of the pickle, dictionaries and calls of `torch._utils._rebuild_tensor_v2` are understood; whatever else
//! stands there (an optimiser's numbers, arguments of a command) is passed over.

use std::collections::BTreeMap;
use std::ops::Range;

use rawzip::{CompressionMethod, ZipArchive};

use super::pickle::{Id, Item, Pickle};
use super::source::{Element, Stored};

/// First bytes of an older file: a pickle of its magic number.
pub(super) const LEGACY_START: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// Dictionaries within dictionaries; more is not a checkpoint.
const MAX_DEPTH: usize = 16;
/// Entries of all dictionaries.
const MAX_ENTRIES: usize = 1 << 20;

type Tensors = BTreeMap<String, Stored>;

/// The tensors of a zip file.
pub(super) fn zipped(bytes: &[u8]) -> Result<Tensors, String> {
    let files = stored_files(bytes)?;
    let (path, range) = files
        .iter()
        .find(|(path, _)| *path == "data.pkl" || path.ends_with("/data.pkl"))
        .ok_or("a zip file without data.pkl: no PyTorch checkpoint (torch.save)")?;
    let folder = path.trim_end_matches("data.pkl");
    if let Some(order) = files.get(&format!("{folder}byteorder"))
        && bytes[order.clone()] != *b"little"
    {
        return Err(
            "its numbers have the highest byte first; save it on a common machine".to_string(),
        );
    }
    let pickle = Pickle::read(&bytes[range.clone()])?;
    let storage = |key: &str| files.get(&format!("{folder}data/{key}")).cloned();
    tensors(&pickle, &storage)
}

/// Path and bytes of all files that are stored as they are, which is how `torch.save` stores them.
fn stored_files(bytes: &[u8]) -> Result<BTreeMap<String, Range<usize>>, String> {
    let damaged = |error: rawzip::Error| format!("a damaged zip file: {error}");
    let archive = ZipArchive::from_slice(bytes).map_err(damaged)?;
    let mut entries = archive.entries();
    let mut files = BTreeMap::new();
    while let Some(entry) = entries.next_entry().map_err(damaged)? {
        let path = String::from_utf8_lossy(entry.file_path().as_bytes()).into_owned();
        if entry.compression_method() != CompressionMethod::STORE {
            return Err(format!(
                "{path} is compressed, which torch.save never does; save it again with PyTorch"
            ));
        }
        let file = archive.get_entry(entry.wayfinder()).map_err(damaged)?;
        let (start, end) = file.compressed_data_range();
        files.insert(path, start as usize..end as usize);
    }
    Ok(files)
}

/// The tensors of an older file: pickles of magic number, version, machine, object and keys; then each storage behind its length.
pub(super) fn legacy(bytes: &[u8]) -> Result<Tensors, String> {
    let mut position = 0;
    let mut next = || {
        let pickle = Pickle::read(&bytes[position..])?;
        position += pickle.length;
        Ok::<Pickle, String>(pickle)
    };
    let [_magic, _version, _machine, object, keys] = [next()?, next()?, next()?, next()?, next()?];
    let widths = storage_widths(&object);
    let mut storages = BTreeMap::new();
    let keys_there = keys.members(keys.root()).ok_or("no list of storages")?;
    for key in keys_there.iter().filter_map(|&key| keys.text(key)) {
        let cut_off = || format!("storage {key} is cut off");
        let length = bytes.get(position..).and_then(<[u8]>::first_chunk::<8>);
        let count = u64::from_le_bytes(*length.ok_or_else(cut_off)?);
        let width = *widths
            .get(key)
            .ok_or_else(|| format!("storage {key} has no element type"))?;
        let start = position + 8;
        let end = usize::try_from(count)
            .ok()
            .and_then(|count| count.checked_mul(width)?.checked_add(start))
            .filter(|&end| end <= bytes.len())
            .ok_or_else(cut_off)?;
        storages.insert(key.to_string(), start..end);
        position = end;
    }
    tensors(&object, &|key| storages.get(key).cloned())
}

/// Bytes of an element of each storage that a pickle refers to.
fn storage_widths(pickle: &Pickle) -> BTreeMap<String, usize> {
    pickle
        .persistent()
        .filter_map(|id| storage_of(pickle, id))
        .filter_map(|(class, key)| Some((key.to_string(), element_of(class)?.1)))
        .collect()
}

/// Class and key of a storage: `("storage", torch.FloatStorage, key, place, count, …)`.
fn storage_of(pickle: &Pickle, id: Id) -> Option<(&str, &str)> {
    let [kind, class, key, ..] = *pickle.members(id)? else {
        return None;
    };
    let (_, class) = pickle.global(class)?;
    (pickle.text(kind)? == "storage").then_some((class, pickle.text(key)?))
}

/// Type and bytes of the elements of a class of storages.
fn element_of(class: &str) -> Option<(Element, usize)> {
    let other = |width| {
        Some((
            Element::Other(class.trim_end_matches("Storage").to_string()),
            width,
        ))
    };
    match class {
        "DoubleStorage" => Some((Element::F64, 8)),
        "FloatStorage" => Some((Element::F32, 4)),
        "HalfStorage" => Some((Element::F16, 2)),
        "BFloat16Storage" => Some((Element::BF16, 2)),
        "LongStorage" | "ComplexFloatStorage" => other(8),
        "IntStorage" | "QInt32Storage" => other(4),
        "ShortStorage" => other(2),
        "CharStorage" | "ByteStorage" | "BoolStorage" | "QInt8Storage" | "QUInt8Storage"
        | "UntypedStorage" => other(1),
        "ComplexDoubleStorage" => other(16),
        _ => None,
    }
}

type Storages<'a> = &'a dyn Fn(&str) -> Option<Range<usize>>;

/// All tensors that dictionaries hold, by their keys joined by dots.
fn tensors(pickle: &Pickle, storages: Storages<'_>) -> Result<Tensors, String> {
    let mut found = Tensors::new();
    let mut open = vec![(String::new(), pickle.root(), 0)];
    let mut n_entries = 0;
    while let Some((path, id, depth)) = open.pop() {
        if let Some(tensor) =
            tensor(pickle, id, storages).map_err(|problem| format!("tensor {path:?}: {problem}"))?
        {
            found.insert(path, tensor);
        } else if let Item::Dict(entries) = pickle.item(id) {
            n_entries += entries.len();
            if depth == MAX_DEPTH || n_entries > MAX_ENTRIES {
                return Err(
                    "dictionaries that are too deep or too many: no PyTorch checkpoint".to_string(),
                );
            }
            for &(key, value) in entries {
                let key = match pickle.item(key) {
                    Item::Text(text) => text.clone(),
                    Item::Int(number) => number.to_string(),
                    _ => continue,
                };
                let path = if path.is_empty() {
                    key
                } else {
                    format!("{path}.{key}")
                };
                open.push((path, value, depth + 1));
            }
        }
    }
    match found.is_empty() {
        true => Err(no_tensors(pickle)),
        false => Ok(found),
    }
}

fn no_tensors(pickle: &Pickle) -> String {
    let class = match *pickle.item(pickle.root()) {
        Item::Call { callable, .. } => pickle.global(callable),
        _ => None,
    };
    match class {
        Some((module, name)) => format!(
            "it holds an object of class {module}.{name}; load it in Python and save its state_dict()"
        ),
        None => "it holds no dictionary of tensors; save a state_dict()".to_string(),
    }
}

/// The tensor that an item stands for, if it is one.
fn tensor(pickle: &Pickle, id: Id, storages: Storages<'_>) -> Result<Option<Stored>, String> {
    let Item::Call {
        callable,
        arguments,
    } = *pickle.item(id)
    else {
        return Ok(None);
    };
    match (pickle.global(callable), pickle.members(arguments)) {
        (Some(("torch._utils", "_rebuild_parameter")), Some([data, ..])) => {
            match *pickle.item(*data) {
                Item::Call {
                    callable,
                    arguments,
                } if is_tensor(pickle, callable) => {
                    let arguments = pickle.members(arguments).unwrap_or_default();
                    rebuilt(pickle, arguments, storages).map(Some)
                }
                _ => Err("a parameter of a kind that is not known".to_string()),
            }
        }
        (Some(_), Some(arguments)) if is_tensor(pickle, callable) => {
            rebuilt(pickle, arguments, storages).map(Some)
        }
        _ => Ok(None),
    }
}

fn is_tensor(pickle: &Pickle, callable: Id) -> bool {
    pickle.global(callable) == Some(("torch._utils", "_rebuild_tensor_v2"))
}

/// `_rebuild_tensor_v2(storage, offset, sizes, strides, …)`.
fn rebuilt(pickle: &Pickle, arguments: &[Id], storages: Storages<'_>) -> Result<Stored, String> {
    let unknown = || "a tensor that was written in an unknown way".to_string();
    let [storage, offset, sizes, strides, ..] = *arguments else {
        return Err(unknown());
    };
    let Item::Persistent(storage) = *pickle.item(storage) else {
        return Err(unknown());
    };
    let (class, key) = storage_of(pickle, storage).ok_or_else(unknown)?;
    let (element, width) =
        element_of(class).ok_or_else(|| format!("unknown storage class {class}"))?;
    let range = storages(key).ok_or_else(|| format!("storage {key} is missing"))?;
    let offset = pickle.size(offset).ok_or_else(unknown)?;
    let start = offset
        .checked_mul(width)
        .and_then(|bytes| bytes.checked_add(range.start))
        .filter(|&start| start <= range.end)
        .ok_or_else(|| format!("it starts behind its storage {key}"))?;
    Ok(Stored {
        element,
        sizes: pickle.sizes(sizes).ok_or_else(unknown)?,
        strides: pickle.sizes(strides).ok_or_else(unknown)?,
        range: start..range.end,
    })
}

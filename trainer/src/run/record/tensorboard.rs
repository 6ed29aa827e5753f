//! Event files as TensorBoard reads them.
//!
//! A file is a sequence of records: the length of the data (u64, little-endian), the masked CRC-32C of that length, the data, their
//! masked CRC-32C. The data are `Event` messages of TensorBoard's `event.proto`, of which only what is written here is declared.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use crc::{CRC_32_ISCSI, Crc};
use prost::{Message, Oneof};

use crate::draw::sheet::Picture;

/// How names of event files begin.
pub const PREFIX: &str = "events.out.tfevents.";

/// What the first event of a file says.
const FILE_VERSION: &str = "brain.Event:2";

/// `SessionLog.SessionStatus.START`.
const START: i32 = 1;

/// `Summary.Image.colorspace` of pictures in colour.
const RGB: i32 = 3;

/// The event file of one process.
#[derive(Debug)]
pub struct Events {
    file: File,
}

impl Events {
    /// A new file in a folder, for the updates behind `update`: TensorBoard forgets what earlier files say of these.
    pub fn create(folder: &Path, update: u64) -> Result<Events> {
        // Files are read in the order of their names.
        let path = folder.join(format!("{PREFIX}{:.6}.trainer", seconds_since_1970()));
        let file =
            File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut events = Events { file };
        events.write(&Event::of(0, What::FileVersion(FILE_VERSION.to_string())))?;
        events.write(&Event::of(
            update + 1,
            What::Session(SessionLog { status: START }),
        ))?;
        Ok(events)
    }

    /// Adds values of an update by name.
    pub fn scalars(
        &mut self,
        update: u64,
        values: impl IntoIterator<Item = (String, f64)>,
    ) -> Result<()> {
        let values = values.into_iter().map(|(tag, value)| Value {
            tag,
            content: Some(Content::Scalar(value as f32)),
        });
        self.summary(update, values.collect())
    }

    /// Adds pictures of an update.
    pub fn pictures(&mut self, update: u64, pictures: Vec<Picture>) -> Result<()> {
        let values = pictures.into_iter().map(|picture| Value {
            tag: picture.tag,
            content: Some(Content::Image(Image {
                height: picture.height as i32,
                width: picture.width as i32,
                colorspace: RGB,
                png: picture.png,
            })),
        });
        self.summary(update, values.collect())
    }

    fn summary(&mut self, update: u64, values: Vec<Value>) -> Result<()> {
        self.write(&Event::of(update, What::Summary(Summary { values })))
    }

    fn write(&mut self, event: &Event) -> Result<()> {
        self.file
            .write_all(&record(&event.encode_to_vec()))
            .context("cannot write the event file for TensorBoard")
    }
}

fn seconds_since_1970() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0.0, |time| time.as_secs_f64())
}

fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut bytes = Vec::with_capacity(data.len() + 16);
    bytes.extend(length);
    bytes.extend(masked_crc(&length).to_le_bytes());
    bytes.extend(data);
    bytes.extend(masked_crc(data).to_le_bytes());
    bytes
}

/// The checksum is masked so that data which hold checksums have good checksums themselves.
fn masked_crc(data: &[u8]) -> u32 {
    const CRC_32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
    const MASK: u32 = 0xa282_ead8;
    CRC_32C.checksum(data).rotate_right(15).wrapping_add(MASK)
}

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "What", tags = "3, 5, 7")]
    what: Option<What>,
}

#[derive(Clone, PartialEq, Oneof)]
enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
    #[prost(message, tag = "7")]
    Session(SessionLog),
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    values: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(oneof = "Content", tags = "2, 4")]
    content: Option<Content>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Content {
    #[prost(float, tag = "2")]
    Scalar(f32),
    #[prost(message, tag = "4")]
    Image(Image),
}

#[derive(Clone, PartialEq, Message)]
struct Image {
    #[prost(int32, tag = "1")]
    height: i32,
    #[prost(int32, tag = "2")]
    width: i32,
    #[prost(int32, tag = "3")]
    colorspace: i32,
    #[prost(bytes = "vec", tag = "4")]
    png: Vec<u8>,
}

impl Event {
    fn of(update: u64, what: What) -> Event {
        Event {
            wall_time: seconds_since_1970(),
            step: update as i64,
            what: Some(what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tests/tensorboard/make_golden.py` wrote it with TensorBoard's own classes.
    const GOLDEN: &[u8] = include_bytes!("../../../tests/tensorboard/golden.tfevents");

    #[test]
    fn the_bytes_are_those_that_tensorboard_itself_writes() {
        let values = vec![
            Value {
                tag: "energy_difference".to_string(),
                content: Some(Content::Scalar(-0.125)),
            },
            Value {
                tag: "loss".to_string(),
                content: Some(Content::Scalar(0.0)),
            },
        ];
        let picture = Value {
            tag: "data".to_string(),
            content: Some(Content::Image(Image {
                height: 2,
                width: 300,
                colorspace: RGB,
                png: (0..=255).collect(),
            })),
        };
        let whats = [
            (0, What::FileVersion(FILE_VERSION.to_string())),
            (11, What::Session(SessionLog { status: START })),
            (20, What::Summary(Summary { values })),
            (
                1 << 40,
                What::Summary(Summary {
                    values: vec![picture],
                }),
            ),
        ];
        let bytes: Vec<u8> = whats
            .into_iter()
            .flat_map(|(update, what)| {
                let event = Event {
                    wall_time: 1_700_000_000.25,
                    ..Event::of(update, what)
                };
                record(&event.encode_to_vec())
            })
            .collect();
        assert_eq!(
            bytes, GOLDEN,
            "tests/tensorboard/make_golden.py makes the file"
        );
    }

    #[test]
    fn the_checksum_is_the_one_of_rfc_3720() {
        let unmasked = |data: &[u8]| masked_crc(data).wrapping_sub(0xa282_ead8).rotate_left(15);
        assert_eq!(unmasked(&[0; 32]), 0x8a91_36aa);
        assert_eq!(unmasked(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
        assert_eq!(unmasked(b"123456789"), 0xe306_9283);
    }
}

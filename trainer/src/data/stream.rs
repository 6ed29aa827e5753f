//! Training images in the order in which updates use them, decoded ahead in the background.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use anyhow::{Context, Result};
use tch::Tensor;

use super::Images;
use super::images::Held;
use super::order::Order;
use super::pictures::{Decoded, Pictures};

/// The part of each batch that a process learns from.
#[derive(Clone, Debug)]
pub struct Share {
    /// Images of a batch.
    pub n: usize,
    /// Those of this process.
    pub rows: Range<usize>,
}

/// The images of each update.
///
/// They follow from the seed and the number of the update alone. So there is nothing to save, and a stream can go on or back to any update.
#[derive(Debug)]
pub struct Stream {
    images: Images,
    order: Order,
    ahead: Ahead,
}

/// Images that are being decoded, or wait to be used.
#[derive(Debug)]
struct Ahead {
    /// The largest number of images that wait.
    most: usize,
    /// The number of the first, among those of the share.
    front: u64,
    waiting: VecDeque<Receiver<Result<Decoded>>>,
}

impl Stream {
    /// A stream of images. If they have to be decoded, up to `buffer` are decoded ahead.
    pub fn new(images: Images, seed: u64, buffer: usize) -> Stream {
        Stream {
            order: Order::new(seed, images.len()),
            images,
            ahead: Ahead {
                most: buffer,
                front: 0,
                waiting: VecDeque::new(),
            },
        }
    }

    /// The images themselves.
    pub fn images(&self) -> &Images {
        &self.images
    }

    /// Bytes that are in memory: those of the images, and of the images that are decoded ahead.
    pub fn bytes(&self) -> u64 {
        let ahead = match &self.images.0 {
            Held::Stored(_) => 0,
            Held::Pictures(pictures) => self.ahead.most as u64 * pictures.bytes_of_image(),
        };
        self.images.bytes() + ahead
    }

    /// The images of an update and their labels, not augmented: f32 `[n, C, H, W]` in `[-1, 1]` and int64 `[n]`, on the CPU.
    ///
    /// Pictures outside the share are not decoded: their rows are background of class 0.
    ///
    /// # Errors
    /// More pictures are damaged than may be, or they cannot be reached any more.
    pub fn batch(&mut self, update: u64, share: &Share) -> Result<(Tensor, Tensor)> {
        let Stream {
            images,
            order,
            ahead,
        } = self;
        let pictures = match &images.0 {
            Held::Stored(stored) => return Ok(stored.batch(&order.batch(update, share.n))),
            Held::Pictures(pictures) => pictures,
        };
        ahead.begin(update * share.rows.len() as u64);
        let own = share
            .rows
            .clone()
            .map(|_| ahead.next(share, pictures, order));
        let (images, labels) = pictures.joined(own)?;
        ahead.fill(share, pictures, order);
        let rows: Vec<usize> = share.rows.clone().collect();
        Ok((
            among_others(share.n, &rows, &images, -1.0),
            among_others(share.n, &rows, &labels, 0.0),
        ))
    }
}

impl Share {
    /// All of it.
    pub fn whole(n: usize) -> Share {
        Share { n, rows: 0..n }
    }

    /// The position among all images of image `number` of the share.
    fn position(&self, number: u64) -> u64 {
        let n_rows = self.rows.len().max(1) as u64;
        number / n_rows * self.n as u64 + self.rows.start as u64 + number % n_rows
    }
}

/// A batch of `n` rows. Some are given, the others are filled with a value.
pub fn among_others(n: usize, rows: &[usize], given: &Tensor, value: f64) -> Tensor {
    if rows.len() == n {
        return given.shallow_clone();
    }
    let mut size = given.size();
    size[0] = n as i64;
    let mut all = Tensor::full(&size, value, (given.kind(), given.device()));
    let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
    let _ = all.index_copy_(0, &Tensor::from_slice(&rows), given);
    all
}

impl Ahead {
    /// Goes to an image. If it is not the next one, what waits is dropped.
    fn begin(&mut self, number: u64) {
        if number != self.front {
            self.waiting.clear();
            self.front = number;
        }
    }

    /// Asks for images until as many wait as may.
    fn fill(&mut self, share: &Share, pictures: &Arc<Pictures>, order: &mut Order) {
        while self.waiting.len() < self.most {
            let number = self.front + self.waiting.len() as u64;
            let pick = order.at(share.position(number));
            self.waiting.push_back(pictures.ask(pick));
        }
    }

    /// The next image.
    fn next(
        &mut self,
        share: &Share,
        pictures: &Arc<Pictures>,
        order: &mut Order,
    ) -> Result<Decoded> {
        self.fill(share, pictures, order);
        let image = self.waiting.pop_front();
        self.front += 1;
        let image = image.and_then(|image| image.recv().ok());
        image.context(
            "a thread that decodes pictures ended too early; go on with `trainer resume`",
        )?
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    use ebm_common::contract::ImageShape;
    use image::ImageFormat;

    use super::*;
    use crate::config::{Crop, RandomCrop};
    use crate::data::files::{Files, Found, Problem};
    use crate::data::form::Form;
    use crate::data::form::tests::{encoded, plain};
    use crate::data::order::Pick;
    use crate::data::pictures::{Decoders, Reading};

    /// Pictures of which each has a grey value and a size of its own; some are damaged. Counts how often it is read.
    #[derive(Debug)]
    pub(crate) struct Made {
        n: usize,
        damaged: Vec<usize>,
        pub(crate) n_read: AtomicUsize,
    }

    impl Files for Made {
        fn len(&self) -> usize {
            self.n
        }

        fn bytes(&self) -> u64 {
            0
        }

        fn name(&self, index: usize) -> String {
            format!("{index}.png")
        }

        fn own_name(&self, index: usize) -> String {
            self.name(index)
        }

        fn file(&self, index: usize) -> PathBuf {
            self.name(index).into()
        }

        fn read(&self, index: usize) -> Result<Vec<u8>, Problem> {
            self.n_read.fetch_add(1, Ordering::SeqCst);
            // Later ones are read sooner, so that threads overtake each other.
            std::thread::sleep(Duration::from_micros(50 * (index as u64 % 7)));
            if self.damaged.contains(&index) {
                return Ok(Vec::new());
            }
            let side = 8 + index as u32 % 5;
            let grey = [(index * 5) as u8; 3];
            Ok(encoded(plain(side, side + 3, grey), ImageFormat::Png))
        }
    }

    pub(crate) fn made(n: usize, damaged: &[usize]) -> Arc<Made> {
        Arc::new(Made {
            n,
            damaged: damaged.to_vec(),
            n_read: AtomicUsize::new(0),
        })
    }

    pub(crate) fn stream(
        files: Arc<Made>,
        n_threads: usize,
        buffer: usize,
        max_damaged: f64,
    ) -> Stream {
        let n = files.len();
        let random = RandomCrop {
            area: [0.2, 1.0],
            aspect: [0.5, 2.0],
        };
        let shape = ImageShape {
            channels: 3,
            height: 4,
            width: 4,
        };
        let reading = Reading {
            form: Form {
                shape,
                crop: Crop::Random(random),
            },
            padding: 1,
            max_damaged,
            decoders: Decoders::new(n_threads).unwrap(),
        };
        let labels = (0..n as u32).collect();
        let found = Found {
            place: PathBuf::from("made"),
            files,
            labels: vec![None; n],
            classes: Vec::new(),
        };
        let pictures = Pictures::new(&found, (0..n as u32).collect(), labels, &reading);
        Stream::new(Images(Held::Pictures(Arc::new(pictures))), 5, buffer)
    }

    fn values((images, labels): (Tensor, Tensor)) -> (Vec<f32>, Vec<i64>) {
        let images = Vec::try_from(images.flatten(0, -1)).unwrap();
        (images, Vec::try_from(labels).unwrap())
    }

    #[test]
    fn batches_do_not_depend_on_threads_or_buffer_or_on_where_a_run_begins() {
        let damaged = [3, 4, 20];
        let mut whole = stream(made(40, &damaged), 1, 1, 0.1);
        let batches: Vec<_> = (0..12)
            .map(|update| values(whole.batch(update, &Share::whole(9)).unwrap()))
            .collect();
        for (n_threads, buffer) in [(1, 64), (2, 5), (7, 40), (3, 1)] {
            let mut other = stream(made(40, &damaged), n_threads, buffer, 0.1);
            for (update, batch) in batches.iter().enumerate() {
                let got = values(other.batch(update as u64, &Share::whole(9)).unwrap());
                assert_eq!(
                    &got, batch,
                    "update {update}, {n_threads} threads, a buffer of {buffer}"
                );
            }
        }
        let mut resumed = stream(made(40, &damaged), 2, 16, 0.1);
        for update in [7, 8, 11, 2, 3] {
            let got = values(resumed.batch(update, &Share::whole(9)).unwrap());
            assert_eq!(
                got, batches[update as usize],
                "update {update} after another"
            );
        }
    }

    #[test]
    fn rows_of_others_are_background_and_its_own_are_those_of_one_process() {
        let mut whole = stream(made(40, &[3]), 1, 8, 0.1);
        let mut parts = [(0..4), (4..9)].map(|rows| (rows, stream(made(40, &[3]), 2, 6, 0.1)));
        for update in 0..8 {
            let (images, labels) = whole.batch(update, &Share::whole(9)).unwrap();
            for (rows, stream) in &mut parts {
                let (got, got_labels) = stream
                    .batch(
                        update,
                        &Share {
                            n: 9,
                            rows: rows.clone(),
                        },
                    )
                    .unwrap();
                for row in 0..9 {
                    let index = row as i64;
                    let background = images.get(index).full_like(-1.0);
                    let (wanted, label) = match rows.contains(&row) {
                        true => (images.get(index), labels.int64_value(&[index])),
                        false => (background, 0),
                    };
                    assert!(got.get(index).equal(&wanted), "update {update}, row {row}");
                    assert_eq!(got_labels.int64_value(&[index]), label);
                }
            }
        }
    }

    #[test]
    fn the_next_picture_with_its_label_takes_the_place_of_a_damaged_one() {
        let mut stream = stream(made(10, &[3, 4, 9]), 2, 8, 0.3);
        let (_, labels) = values(stream.batch(0, &Share::whole(10)).unwrap());
        let mut sorted = labels.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, [0, 0, 1, 2, 5, 5, 5, 6, 7, 8]);
        let picks: Vec<Pick> = (0..10).map(Pick::centred).collect();
        let (images, labels) = stream.images().batch(&picks).unwrap();
        assert_eq!(
            Vec::<i64>::try_from(labels).unwrap(),
            [0, 1, 2, 5, 5, 5, 6, 7, 8, 0]
        );
        let corner = images.select(0, 3).select(0, 0);
        assert_eq!(corner.double_value(&[0, 0]), -1.0, "padding is background");
        let middle = corner.double_value(&[2, 2]);
        assert!((middle - (25.0 / 127.5 - 1.0)).abs() < 1e-6, "{middle}");
    }

    #[test]
    fn more_damage_than_allowed_stops_in_the_same_update_with_any_number_of_threads() {
        let damaged: Vec<usize> = (0..6).map(|i| 7 * i).collect();
        let stops_in = |n_threads, buffer| {
            let mut stream = stream(made(60, &damaged), n_threads, buffer, 0.06);
            let mut errors = (0..).map(|update| (update, stream.batch(update, &Share::whole(6))));
            let (update, error) = errors.find(|(_, batch)| batch.is_err()).unwrap();
            (update, error.unwrap_err().to_string())
        };
        let wanted = stops_in(1, 1);
        assert!(wanted.1.contains("4 of 60"), "{}", wanted.1);
        for (n_threads, buffer) in [(1, 30), (4, 30), (4, 2)] {
            assert_eq!(stops_in(n_threads, buffer), wanted);
        }
    }

    #[test]
    fn a_set_that_is_damaged_throughout_is_refused() {
        let damaged: Vec<usize> = (0..20).collect();
        let error = stream(made(20, &damaged), 2, 8, 0.5)
            .batch(0, &Share::whole(4))
            .unwrap_err();
        assert!(error.to_string().contains("11 of 20"), "{error}");
    }

    #[test]
    fn never_more_is_decoded_ahead_than_the_buffer_holds() {
        let (batch, buffer) = (6, 10);
        let files = made(100, &[]);
        let mut stream = stream(files.clone(), 4, buffer, 0.0);
        for update in 0..5 {
            drop(stream.batch(update, &Share::whole(batch)).unwrap());
            let most = (update as usize + 1) * batch + buffer;
            let deadline = Instant::now() + Duration::from_secs(20);
            while files.n_read.load(Ordering::SeqCst) < most && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(20));
            assert_eq!(files.n_read.load(Ordering::SeqCst), most, "update {update}");
        }
    }
}

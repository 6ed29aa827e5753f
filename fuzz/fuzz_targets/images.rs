//! Any bytes are images of the runtime or give an error: the first byte chooses the format, the rest is the file.
#![no_main]

use ebm_runtime::{
    ImageShape, PictureColours, PictureCrop, PictureFit, decode_picture_fitted,
};
use ebm_runtime_cli::dataset::{DataSetFormat, FloatRange, decode_data_set};
use libfuzzer_sys::fuzz_target;

/// Small shapes, of which the last is that of CIFAR.
const SHAPES: [ImageShape; 3] = [shape(1, 4), shape(3, 4), shape(3, 32)];

const fn shape(channels: usize, size: usize) -> ImageShape {
    ImageShape {
        channels,
        height: size,
        width: size,
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, file)) = bytes.split_first() else {
        return;
    };
    let shape = SHAPES[usize::from(choice) % SHAPES.len()];
    let format = match usize::from(choice) / SHAPES.len() % 5 {
        0 => DataSetFormat::Npy,
        1 => DataSetFormat::Npz,
        2 => DataSetFormat::Idx,
        3 => DataSetFormat::Cifar,
        _ => {
            let fit = PictureFit {
                crop: PictureCrop::Centre,
                colours: PictureColours::Converted,
            };
            let _ = decode_picture_fitted(file, shape, fit);
            return;
        }
    };
    let _ = decode_data_set(file.to_vec(), format, shape, FloatRange::default());
});

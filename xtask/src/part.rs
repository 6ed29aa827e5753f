//! The libraries that are fetched, each as pinned wheels and the places where their files go.

use std::path::{Path, PathBuf};

use crate::wheel::Wheel;

/// A library in the cache: one folder, filled from the files of some wheels.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// What messages call it.
    pub title: &'static str,
    /// Name of its folder in the cache.
    pub folder: &'static str,
    /// Name of the link to that folder below `.deps` in the clone.
    pub link: &'static str,
    /// What it is made of.
    pub wheels: &'static [Wheel],
    /// Place in the folder of a file of a wheel, or nothing for a file that is left out.
    pub place: fn(&str) -> Option<PathBuf>,
    /// Links inside the folder: (path, what it points to).
    pub links: &'static [(&'static str, &'static str)],
    /// Small files that no wheel has: (path, text).
    pub texts: &'static [(&'static str, &'static str)],
    /// Files without which the folder is of no use.
    pub needed: &'static [&'static str],
    /// Room that the filled folder takes.
    pub unpacked_bytes: u64,
}

impl Part {
    /// Size of all its wheels.
    pub fn download_bytes(&self) -> u64 {
        self.wheels.iter().map(|wheel| wheel.bytes).sum()
    }

    /// Room wanted while it is being made: all wheels, one of them twice (pip copies it from where it
    /// downloads), and the filled folder.
    pub fn peak_bytes(&self) -> u64 {
        let largest = self
            .wheels
            .iter()
            .map(|wheel| wheel.bytes)
            .max()
            .unwrap_or(0);
        self.download_bytes() + largest + self.unpacked_bytes
    }
}

/// What libtorch_cpu.so needs, and nothing of CUDA but two small libraries that it cannot be loaded without.
pub const LIBTORCH_CPU: Part = Part {
    title: "libtorch 2.11.0 for CPUs",
    folder: "libtorch-2.11.0-cpu",
    link: "libtorch",
    wheels: &[TORCH, CUDART, CUPTI],
    place: place_libtorch_cpu,
    links: LIBTORCH_LINKS,
    texts: &[("build-version", "2.11.0+cpu\n")],
    needed: &[
        "include/torch/csrc/api/include/torch/torch.h",
        "lib/libtorch_cpu.so",
        "lib/libc10.so",
        "lib/libgomp.so.1",
        "lib/libcudart.so.13",
        "lib/libcupti.so.13",
    ],
    unpacked_bytes: 530_000_000,
};

/// All libraries of pip's PyTorch in one `lib` folder: their run paths contain `$ORIGIN`, so they find each other.
pub const LIBTORCH_CUDA: Part = Part {
    title: "libtorch 2.11.0 for CUDA 13",
    folder: "libtorch-2.11.0-cuda",
    link: "libtorch",
    wheels: &[
        TORCH,
        CUDART,
        CUPTI,
        Wheel {
            project: "nvidia-cublas",
            version: "13.1.0.3",
            platform: "manylinux_2_27_x86_64",
            bytes: 423_133_236,
            sha256: "ee8722c1f0145ab246bccb9e452153b5e0515fd094c3678df50b2a0888b8b171",
        },
        Wheel {
            project: "nvidia-cuda-nvrtc",
            version: "13.0.88",
            platform: "manylinux_2_12_x86_64",
            bytes: 90_215_200,
            sha256: "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575",
        },
        Wheel {
            project: "nvidia-cudnn-cu13",
            version: "9.19.0.56",
            platform: "manylinux_2_27_x86_64",
            bytes: 366_066_321,
            sha256: "d20e1734305e9d68889a96e3f35094d733ff1f83932ebe462753973e53a572bf",
        },
        Wheel {
            project: "nvidia-cufft",
            version: "12.0.0.61",
            platform: "manylinux2014_x86_64",
            bytes: 214_085_489,
            sha256: "6c44f692dce8fd5ffd3e3df134b6cdb9c2f72d99cf40b62c32dde45eea9ddad3",
        },
        Wheel {
            project: "nvidia-cufile",
            version: "1.15.1.6",
            platform: "manylinux2014_x86_64",
            bytes: 1_223_672,
            sha256: "08a3ecefae5a01c7f5117351c64f17c7c62efa5fffdbe24fc7d298da19cd0b44",
        },
        Wheel {
            project: "nvidia-curand",
            version: "10.4.0.35",
            platform: "manylinux_2_27_x86_64",
            bytes: 59_544_258,
            sha256: "1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc",
        },
        Wheel {
            project: "nvidia-cusolver",
            version: "12.0.4.66",
            platform: "manylinux_2_27_x86_64",
            bytes: 200_941_980,
            sha256: "0a759da5dea5c0ea10fd307de75cdeb59e7ea4fcb8add0924859b944babf1112",
        },
        Wheel {
            project: "nvidia-cusparse",
            version: "12.6.3.3",
            platform: "manylinux2014_x86_64",
            bytes: 145_942_937,
            sha256: "2b3c89c88d01ee0e477cb7f82ef60a11a4bcd57b6b87c33f789350b59759360b",
        },
        Wheel {
            project: "nvidia-cusparselt-cu13",
            version: "0.8.0",
            platform: "manylinux2014_x86_64",
            bytes: 169_884_119,
            sha256: "25e30a8a7323935d4ad0340b95a0b69926eee755767e8e0b1cf8dd85b197d3fd",
        },
        Wheel {
            project: "nvidia-nccl-cu13",
            version: "2.28.9",
            platform: "manylinux_2_18_x86_64",
            bytes: 196_493_177,
            sha256: "e4553a30f34195f3fa1da02a6da3d6337d28f2003943aa0a3d247bbc25fefc42",
        },
        Wheel {
            project: "nvidia-nvjitlink",
            version: "13.0.88",
            platform: "manylinux_2_12_x86_64",
            bytes: 40_713_933,
            sha256: "13a74f429e23b921c1109976abefacc69835f2f433ebd323d3946e11d804e47b",
        },
        Wheel {
            project: "nvidia-nvshmem-cu13",
            version: "3.4.5",
            platform: "manylinux2014_x86_64",
            bytes: 60_412_546,
            sha256: "290f0a2ee94c9f3687a02502f3b9299a9f9fe826e6d0287ee18482e78d495b80",
        },
        Wheel {
            project: "nvidia-nvtx",
            version: "13.0.85",
            platform: "manylinux1_x86_64",
            bytes: 148_047,
            sha256: "4936d1d6780fbe68db454f5e72a42ff64d1fd6397df9f363ae786930fd5c1cd4",
        },
    ],
    place: place_libtorch_cuda,
    links: LIBTORCH_LINKS,
    texts: &[("build-version", "2.11.0+cu130\n")],
    needed: &[
        "include/torch/csrc/api/include/torch/torch.h",
        "lib/libtorch_cpu.so",
        "lib/libtorch_cuda.so",
        "lib/libtorch_cuda_linalg.so",
        "lib/libc10_cuda.so",
        "lib/libcudart.so.13",
        "lib/libcublas.so.13",
        "lib/libcudnn.so.9",
        "lib/libnccl.so.2",
    ],
    unpacked_bytes: 3_900_000_000,
};

/// The library that the runtime's `ort` backend loads.
pub const ONNXRUNTIME: Part = Part {
    title: "ONNX Runtime 1.32.0",
    folder: "onnxruntime-1.32.0",
    link: "onnxruntime",
    wheels: &[Wheel {
        project: "onnxruntime",
        version: "1.32.0",
        platform: "manylinux_2_28_x86_64",
        bytes: 27_773_237,
        sha256: "5a34fc4dfeb5a7b4a74c95dcba1e773d722abda720b474edf1b0c419dc6d163d",
    }],
    place: place_onnxruntime,
    links: &[("libonnxruntime.so", "libonnxruntime.so.1.32.0")],
    texts: &[],
    needed: &["libonnxruntime.so.1.32.0"],
    unpacked_bytes: 36_000_000,
};

const TORCH: Wheel = Wheel {
    project: "torch",
    version: "2.11.0",
    platform: "manylinux_2_28_x86_64",
    bytes: 530_604_548,
    sha256: "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a",
};

const CUDART: Wheel = Wheel {
    project: "nvidia-cuda-runtime",
    version: "13.0.96",
    platform: "manylinux2014_x86_64",
    bytes: 2_243_632,
    sha256: "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
};

const CUPTI: Wheel = Wheel {
    project: "nvidia-cuda-cupti",
    version: "13.0.85",
    platform: "manylinux_2_25_x86_64",
    bytes: 10_715_597,
    sha256: "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
};

/// Names that only the linker asks for. The stub `libtorch.so` of the wheel would drag CUDA into every program.
const LIBTORCH_LINKS: &[(&str, &str)] = &[
    ("lib/libtorch.so", "libtorch_cpu.so"),
    ("lib/libgomp.so", "libgomp.so.1"),
];

fn place_libtorch_cpu(file: &str) -> Option<PathBuf> {
    const LIBRARIES: &[&str] = &[
        "libtorch_cpu.so",
        "libc10.so",
        "libgomp.so.1",
        "libcudart.so.13",
        "libcupti.so.13",
    ];
    place_libtorch_cuda(file).filter(|place| {
        !place.starts_with("lib") || LIBRARIES.iter().any(|library| place.ends_with(library))
    })
}

fn place_libtorch_cuda(file: &str) -> Option<PathBuf> {
    /// Of use to Python only, or replaced by one of [`LIBTORCH_LINKS`].
    const LEFT_OUT: &[&str] = &[
        "libtorch.so",
        "libtorch_python.so",
        "libtorch_global_deps.so",
        "libshm.so",
    ];
    if let Some(header) = file.strip_prefix("torch/include/") {
        return Some(Path::new("include").join(header));
    }
    let (folder, name) = file.rsplit_once('/')?;
    let is_library =
        folder == "torch/lib" || (folder.starts_with("nvidia/") && folder.ends_with("/lib"));
    if is_library && name.contains(".so") && !LEFT_OUT.contains(&name) {
        return Some(Path::new("lib").join(name));
    }
    place_licence(file)
}

fn place_onnxruntime(file: &str) -> Option<PathBuf> {
    match file {
        "onnxruntime/capi/libonnxruntime.so.1.32.0" => Some("libonnxruntime.so.1.32.0".into()),
        "onnxruntime/LICENSE" | "onnxruntime/ThirdPartyNotices.txt" => {
            Some(Path::new("licenses").join(file))
        }
        _ => None,
    }
}

/// Licences travel with the libraries: `torch-2.11.0.dist-info/licenses/LICENSE` → `licenses/torch-2.11.0/LICENSE`.
fn place_licence(file: &str) -> Option<PathBuf> {
    let (distribution, name) = file.split_once(".dist-info/licenses/")?;
    (!name.is_empty()).then(|| Path::new("licenses").join(distribution).join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_wheels_go_where_the_linker_and_the_loader_look() {
        let cases: &[(&str, Option<&str>, Option<&str>)] = &[
            (
                "torch/include/ATen/ATen.h",
                Some("include/ATen/ATen.h"),
                Some("include/ATen/ATen.h"),
            ),
            (
                "torch/lib/libtorch_cpu.so",
                Some("lib/libtorch_cpu.so"),
                Some("lib/libtorch_cpu.so"),
            ),
            (
                "torch/lib/libgomp.so.1",
                Some("lib/libgomp.so.1"),
                Some("lib/libgomp.so.1"),
            ),
            ("torch/lib/libtorch.so", None, None),
            ("torch/lib/libtorch_python.so", None, None),
            (
                "torch/lib/libtorch_cuda.so",
                None,
                Some("lib/libtorch_cuda.so"),
            ),
            ("torch/_C.cpython-311-x86_64-linux-gnu.so", None, None),
            (
                "nvidia/cu13/lib/libcudart.so.13",
                Some("lib/libcudart.so.13"),
                Some("lib/libcudart.so.13"),
            ),
            (
                "nvidia/cu13/lib/libnvperf_host.so",
                None,
                Some("lib/libnvperf_host.so"),
            ),
            (
                "nvidia/cudnn/lib/libcudnn.so.9",
                None,
                Some("lib/libcudnn.so.9"),
            ),
            (
                "torch-2.11.0.dist-info/licenses/NOTICE",
                Some("licenses/torch-2.11.0/NOTICE"),
                Some("licenses/torch-2.11.0/NOTICE"),
            ),
        ];
        for (file, cpu, cuda) in cases {
            assert_eq!(
                place_libtorch_cpu(file),
                cpu.map(PathBuf::from),
                "{file} for CPUs"
            );
            assert_eq!(
                place_libtorch_cuda(file),
                cuda.map(PathBuf::from),
                "{file} for CUDA"
            );
        }
    }

    #[test]
    fn the_runtime_looks_for_onnx_runtime_where_it_is_fetched_to() {
        let source = include_str!("../../runtime/src/backend/ort/library.rs");
        let constant = format!("FOLDER_OF_SETUP: &str = {:?};", ONNXRUNTIME.folder);
        assert!(source.contains(&constant), "expected {constant}");
        assert_eq!(ONNXRUNTIME.links[0].0, "libonnxruntime.so");
    }

    #[test]
    fn every_pin_is_a_sha256() {
        for part in [LIBTORCH_CPU, LIBTORCH_CUDA, ONNXRUNTIME] {
            for wheel in part.wheels {
                let hexadecimal = wheel
                    .sha256
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
                assert!(wheel.sha256.len() == 64 && hexadecimal, "{}", wheel.project);
            }
        }
    }

    #[test]
    fn the_cpu_parts_fit_into_the_room_that_the_documentation_names() {
        assert!((LIBTORCH_CPU.peak_bytes() + ONNXRUNTIME.unpacked_bytes) < 1_700_000_000);
    }
}

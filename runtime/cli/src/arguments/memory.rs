//! Amounts of memory.

use std::str::FromStr;

/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory(pub usize);

const UNITS: [(&str, usize); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

impl FromStr for Memory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unit = UNITS
            .iter()
            .find_map(|&(name, size)| Some((text.strip_suffix(name)?, size)));
        let (number, size) = unit.unwrap_or((text, 1));
        let bytes = number.trim().parse::<usize>().ok();
        let bytes = bytes
            .and_then(|number| number.checked_mul(size))
            .filter(|&bytes| bytes > 0);
        bytes.map(Self).ok_or_else(|| {
            "expected a number of bytes from 1, or one with KiB, MiB or GiB, such as 64MiB"
                .to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_bytes_or_have_a_unit() {
        let cases = [
            ("1", Some(1)),
            ("4096", Some(4096)),
            ("3KiB", Some(3 << 10)),
            ("64 MiB", Some(64 << 20)),
            ("2GiB", Some(2 << 30)),
            ("0", None),
            ("-1", None),
            ("1.5GiB", None),
            ("64MB", None),
            ("99999999999GiB", None),
            ("MiB", None),
            ("", None),
        ];
        for (text, bytes) in cases {
            assert_eq!(text.parse().ok(), bytes.map(Memory), "{text}");
        }
    }
}

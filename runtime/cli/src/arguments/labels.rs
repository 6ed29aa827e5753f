//! Where labels are said to be.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where labels are said to be.
#[derive(Debug, Clone, PartialEq)]
pub enum LabelSource {
    /// In the files of images, beside them, or in the names of class folders, as far as they are there.
    Auto,
    None,
    /// In the names of the folders in which pictures lie.
    Folders,
    File(PathBuf),
}

impl FromStr for LabelSource {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "auto" => Self::Auto,
            "none" => Self::None,
            "folders" => Self::Folders,
            file => Self::File(file.into()),
        })
    }
}

impl fmt::Display for LabelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::None => f.write_str("none"),
            Self::Folders => f.write_str("folders"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

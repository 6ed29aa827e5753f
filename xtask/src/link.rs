//! Links from the clone into the cache, where `.cargo/config.toml` expects the libraries.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Lets `link` point to `target`, in one step when it pointed elsewhere. Anything but a link there is refused.
pub fn point(link: &Path, target: &Path) -> Result<()> {
    match fs::read_link(link) {
        Ok(current) if current == target => return Ok(()),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(_) => bail!(
            "{} should be a link that this task makes, but something else is there: move it away and repeat",
            link.display()
        ),
    }
    let could_not = || format!("could not link {} to {}", link.display(), target.display());
    let folder = link.parent().with_context(could_not)?;
    fs::create_dir_all(folder).with_context(could_not)?;
    let name = link.file_name().unwrap_or_default().to_string_lossy();
    let fresh = folder.join(format!(".{name}.{}", std::process::id()));
    symlink(target, &fresh).with_context(could_not)?;
    fs::rename(&fresh, link).with_context(could_not)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_made_kept_and_moved() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join(".deps/libtorch");
        for target in ["/one", "/one", "/two"] {
            point(&link, Path::new(target)).unwrap();
            assert_eq!(fs::read_link(&link).unwrap(), Path::new(target));
        }
        assert_eq!(
            fs::read_dir(folder.path().join(".deps")).unwrap().count(),
            1
        );
    }

    #[test]
    fn a_folder_in_the_place_of_a_link_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("libtorch");
        fs::create_dir(&link).unwrap();
        let error = point(&link, Path::new("/one")).unwrap_err().to_string();
        assert!(error.contains("move it away"), "{error}");
        assert!(link.is_dir());
    }
}

//! Loads models, which can be damaged.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Loads the model of a folder, if the folder exists. A model that cannot be read gives a warning. The library for networks can
/// panic if a file is damaged.
pub(crate) fn load<T>(
    folder: &Path,
    warnings: &mut Vec<String>,
    load: impl FnOnce(&Path) -> Result<T, String>,
) -> Option<T> {
    if !folder.is_dir() {
        return None;
    }
    let found = catch_unwind(AssertUnwindSafe(|| load(folder)));
    match found.unwrap_or_else(|_| Err("a file is damaged".to_owned())) {
        Ok(model) => Some(model),
        Err(error) => {
            warnings.push(format!("the model in {} cannot be used: {error}", folder.display()));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_while_a_model_loads_is_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let mut warnings = Vec::new();
        assert_eq!(load::<()>(folder.path(), &mut warnings, |_| panic!("a test of a damaged file")), None);
        assert_eq!(load(folder.path(), &mut warnings, |_| Ok(1)), Some(1));
        assert_eq!(warnings.len(), 1, "{warnings:?}");
    }
}

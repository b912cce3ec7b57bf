//! Files, and sentences about those that cannot be read or written.

use std::fs;
use std::path::{Path, PathBuf};

/// What is in `file`.
pub fn read(file: &Path) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|problem| format!("cannot read {}: {problem}", file.display()))
}

/// The same as text.
pub fn read_text(file: &Path) -> Result<String, String> {
    String::from_utf8(read(file)?).map_err(|_| format!("{} is no text", file.display()))
}

/// Puts `bytes` into `file`, and makes the folder it is in.
pub fn write(file: &Path, bytes: &[u8]) -> Result<(), String> {
    let written = file.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(file, bytes));
    written.map_err(|problem| format!("cannot write {}: {problem}", file.display()))
}

/// Copies every file below `from` to the same place below `to`.
pub fn copy_folder(from: &Path, to: &Path) -> Result<(), String> {
    for file in below(from)? {
        let copy = to.join(&file);
        write(&copy, &[])?;
        // Scripts stay scripts.
        fs::copy(from.join(&file), &copy)
            .map_err(|problem| format!("cannot copy {} to {}: {problem}", file.display(), to.display()))?;
    }
    Ok(())
}

/// Every file below `folder`, in order, as named from there.
pub fn below(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(inner) = folders.pop() {
        let failed =
            |problem: std::io::Error| format!("cannot read {}: {problem}", folder.join(&inner).display());
        for entry in fs::read_dir(folder.join(&inner)).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = inner.join(entry.file_name());
            if entry.file_type().map_err(failed)?.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    Ok(found)
}

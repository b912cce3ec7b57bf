//! `SHA256SUMS`, as `sha256sum -c` reads it.

use crate::files::{below, read};
use sha2::{Digest as _, Sha256};
use std::path::Path;

/// The sums of all files below `folder`, but for those of the list itself.
pub fn of(folder: &Path) -> Result<String, String> {
    let mut sums = String::new();
    for file in below(folder)?.into_iter().filter(|it| it != Path::new(FILE)) {
        let name = file.to_str().ok_or_else(|| format!("{} is no text", file.display()))?.replace('\\', "/");
        sums += &format!("{}  {name}\n", hash(&read(&folder.join(&file))?));
    }
    Ok(sums)
}

/// The SHA-256 of `bytes` in hexadecimal digits.
pub fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|it| format!("{it:02x}")).collect()
}

/// What the list is called.
pub const FILE: &str = "SHA256SUMS";

#[test]
fn each_file_is_a_line() {
    let folder = tempfile::tempdir().unwrap();
    // The known answers of FIPS 180-2, and of nothing.
    for (file, text) in [("b/abc", "abc"), ("a", ""), (FILE, "old")] {
        crate::files::write(&folder.path().join(file), text.as_bytes()).unwrap();
    }
    assert_eq!(
        of(folder.path()).unwrap(),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  a\n\
         ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  b/abc\n"
    );
}

//! A release read back: whether its lists say the truth about its files.

use crate::files::{below, read, read_text};
use crate::layout::{Descriptor, Index, Manifest};
use crate::sums;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Fails unless `SHA256SUMS` names every file with its sum, and the layout in `oci` has every blob that it names, whole,
/// and no other.
pub fn everything(folder: &Path) -> Result<(), String> {
    if read_text(&folder.join(sums::FILE))? != sums::of(folder)? {
        return Err(format!("{} does not fit the files beside it", folder.join(sums::FILE).display()));
    }
    let layout = folder.join("oci");
    let index: Index = parse(&layout.join("index.json"))?;
    let mut named = BTreeSet::from(["index.json", "oci-layout"].map(PathBuf::from));
    for manifest in &index.manifests {
        named.insert(whole(&layout, manifest)?);
        let parts: Manifest = parse(&manifest.file(&layout))?;
        for part in std::iter::once(&parts.config).chain(&parts.layers) {
            named.insert(whole(&layout, part)?);
        }
    }
    match below(&layout)?.into_iter().find(|it| !named.contains(it)) {
        Some(other) => Err(format!("{} belongs to no artifact", layout.join(other).display())),
        None => Ok(()),
    }
}

/// The file of a blob in `layout`, if it is the one that is meant.
fn whole(layout: &Path, blob: &Descriptor) -> Result<PathBuf, String> {
    let file = blob.file(layout);
    let found = Descriptor::of(&blob.media_type, &read(&file)?);
    if (&found.digest, found.size) == (&blob.digest, blob.size) {
        Ok(blob.file(Path::new("")))
    } else {
        Err(format!("{} has other bytes than its name says", file.display()))
    }
}

fn parse<T: DeserializeOwned>(file: &Path) -> Result<T, String> {
    serde_json::from_slice(&read(file)?).map_err(|problem| format!("{}: {problem}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::Artifact;
    use crate::files::write;
    use crate::layout;

    #[test]
    fn passes_what_is_whole_and_refuses_what_was_changed() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let layout = folder.join("oci");
        let interface = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/gateway");
        let artifact = Artifact::interface(&interface, "Apache-2.0").unwrap();
        let blob = Descriptor::of("application/wasm", &artifact.bytes).file(&layout);
        let bytes = artifact.bytes.clone();
        layout::write(&layout, &[artifact]).unwrap();
        let checked = || {
            write(&folder.join(sums::FILE), sums::of(folder).unwrap().as_bytes()).unwrap();
            everything(folder)
        };
        assert_eq!(checked(), Ok(()));

        write(&folder.join("more"), b"").unwrap();
        let does_not_fit = format!("{} does not fit the files beside it", folder.join(sums::FILE).display());
        assert_eq!(everything(folder), Err(does_not_fit));

        write(&blob, &bytes[1..]).unwrap();
        assert_eq!(checked(), Err(format!("{} has other bytes than its name says", blob.display())));
        write(&blob, &bytes).unwrap();

        let other = layout.join("blobs/sha256/0123");
        write(&other, b"").unwrap();
        assert_eq!(checked(), Err(format!("{} belongs to no artifact", other.display())));
    }
}

//! A directory that is laid out and renewed as the kubelet does with a projected volume.
//!
//! Source: kubernetes/kubernetes, `pkg/volume/util/atomic_writer.go`.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// How the webhook of workload identity mounts the token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Layout {
    /// Up to 1.5: the file is a link.
    File,
    /// From 1.6 on: its directory is a link.
    Directory,
}

impl Layout {
    pub(crate) const ALL: [Self; 2] = [Self::File, Self::Directory];

    const fn path(self) -> &'static str {
        match self {
            Self::File => NAME,
            Self::Directory => "token/azure-identity-token",
        }
    }
}

pub(crate) struct Volume {
    directory: TempDir,
    layout: Layout,
    renewals: Cell<usize>,
}

impl Volume {
    /// Mounts a volume with this content of its token file.
    pub(crate) fn new(layout: Layout, content: impl AsRef<[u8]>) -> Self {
        let volume = Self { directory: TempDir::new().unwrap(), layout, renewals: Cell::new(0) };
        volume.renew(content);
        let link = Path::new(layout.path()).components().next().unwrap();
        symlink(Path::new("..data").join(link), volume.path().join(link)).unwrap();
        volume
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The path for `AZURE_FEDERATED_TOKEN_FILE`.
    pub(crate) fn file(&self) -> PathBuf {
        self.path().join(self.layout.path())
    }

    /// Writes a new directory, moves the link `..data` to it, and removes the old one.
    pub(crate) fn renew(&self, content: impl AsRef<[u8]>) {
        let data = |number: usize| format!("..2026_11_28_{number}");
        let number = self.renewals.replace(self.renewals.get() + 1);
        let (new, old) = (self.path().join(data(number + 1)), self.path().join(data(number)));
        let file = new.join(self.layout.path());
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
        let link = self.path().join("..data_tmp");
        symlink(data(number + 1), &link).unwrap();
        fs::rename(link, self.path().join("..data")).unwrap();
        if number > 0 {
            fs::remove_dir_all(old).unwrap();
        }
    }
}

const NAME: &str = "azure-identity-token";

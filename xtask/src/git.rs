//! What git knows of a working tree.

use crate::process::{root, words_of};
use std::path::Path;
use std::process::Command;

/// Whether this is a repository. In a working tree of its own, `.git` is a file.
pub(crate) fn is_repository() -> bool {
    root().join(".git").exists()
}

/// Git in the repository `folder`, and in none that a hook of git has named.
pub(crate) fn git(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(folder);
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR"] {
        command.env_remove(name);
    }
    command
}

/// The files below `paths` that are not as they are at HEAD, and those that are not there: untracked and ignored ones too.
/// `index` is a file that this may write.
pub(crate) fn uncommitted(folder: &Path, index: &Path, paths: &[&str]) -> Result<Vec<String>, String> {
    // The index of the user may say of a file that a change of it is to be overlooked, and this one does not.
    let git = || {
        let mut command = git(folder);
        command.env("GIT_INDEX_FILE", index);
        command
    };
    words_of(git().args(["read-tree", "HEAD"]))?;
    let mut status = git();
    status.args(["status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--ignored", "--"]);
    let files = words_of(status.args(paths))?;
    // Before each name are two letters, of which one may be a space, and a space.
    let names = files.split_terminator('\0').filter_map(|it| it.trim_start().split_once(' '));
    Ok(names.map(|(_, name)| name.trim_start().to_owned()).collect())
}

#[test]
fn finds_what_is_not_committed() -> Result<(), Box<dyn std::error::Error>> {
    if Command::new("git").arg("--version").output().is_err() {
        println!("NOT RUN: git is not installed");
        return Ok(());
    }
    let folder = std::env::temp_dir().join(format!("keyvault-gateway-xtask-{}", std::process::id()));
    drop(std::fs::remove_dir_all(&folder));
    let put = |file: &str, text: &str| {
        let file = folder.join(file);
        file.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(file, text))
    };
    let found = || uncommitted(&folder, &folder.join(".git/of-head"), &["deploy", "spin.toml"]);
    for file in ["deploy/start.sh", "deploy/settings.env", "deploy/removed", "spin.toml", "other"] {
        put(file, "")?;
    }
    put(".gitignore", "*.secret\n/deploy/hidden\n")?;
    words_of(git(&folder).args(["init", "--quiet"]))?;
    words_of(git(&folder).args(["add", "."]))?;
    let who = ["-c", "user.name=test", "-c", "user.email=test", "-c", "commit.gpgsign=false"];
    words_of(git(&folder).args(who).args(["commit", "--quiet", "--no-verify", "-m", "first"]))?;
    put("other", "changed")?;
    put("new", "")?;
    assert_eq!(found()?, [""; 0]);

    put("deploy/settings.env", "AZURE_CLIENT_SECRET=…")?;
    words_of(git(&folder).args(["update-index", "--assume-unchanged", "deploy/settings.env"]))?;
    put("deploy/azure/filled in", "")?;
    words_of(git(&folder).args(["add", "deploy/azure/filled in"]))?;
    put("deploy/hidden/one", "")?;
    put("deploy/Schlüssel.secret", "")?;
    put("deploy/untracked/one", "")?;
    put("spin.toml", "changed")?;
    std::fs::remove_file(folder.join("deploy/removed"))?;
    let mut found = found()?;
    found.sort();
    assert_eq!(
        found,
        [
            "deploy/Schlüssel.secret",
            "deploy/azure/filled in",
            "deploy/hidden/one",
            "deploy/removed",
            "deploy/settings.env",
            "deploy/untracked/one",
            "spin.toml",
        ]
    );
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

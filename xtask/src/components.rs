//! The components this repository builds, one for each kind of host.

use crate::process::{cargo, cargo_home, root, run, rustc, target, words_of};
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A component: the gateway in one of its worlds, or what stands between it and the applications that are composed with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Component {
    Proxy,
    Service,
    ProxySpin,
    ServiceSpin,
    ConfigStore,
}

impl Component {
    pub(crate) const ALL: [Self; 5] =
        [Self::Proxy, Self::Service, Self::ProxySpin, Self::ServiceSpin, Self::ConfigStore];

    pub(crate) fn named(text: &OsStr) -> Option<Self> {
        Self::ALL.into_iter().find(|it| text == it.name())
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Service => "service",
            Self::ProxySpin => "proxy-spin",
            Self::ServiceSpin => "service-spin",
            Self::ConfigStore => "config-store",
        }
    }

    /// The Cargo package that it is made of.
    pub(crate) fn package(self) -> &'static str {
        match self {
            Self::Proxy | Self::Service | Self::ProxySpin | Self::ServiceSpin => "keyvault-gateway",
            Self::ConfigStore => "config-store",
        }
    }

    /// The package's manifest, from the root of the repository.
    pub(crate) fn manifest(self) -> &'static str {
        match self {
            Self::Proxy | Self::Service | Self::ProxySpin | Self::ServiceSpin => "Cargo.toml",
            Self::ConfigStore => "crates/config-store/Cargo.toml",
        }
    }

    /// The Cargo features that pick its host, if it has some.
    pub(crate) fn features(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Service => "service",
            Self::ProxySpin => "proxy,spin",
            Self::ServiceSpin => "service,spin",
            Self::ConfigStore => "component",
        }
    }

    /// Where the built component is.
    pub(crate) fn path(self) -> PathBuf {
        path(self.name())
    }
}

/// Builds `components` and says how large they are.
pub(crate) fn build(components: &[Component]) -> Result<(), String> {
    add_target()?;
    for component in components {
        let built = build_as(component.name(), component.package(), component.features(), "release")?;
        say_size(&built)?;
    }
    Ok(())
}

/// Builds a package with these features, and keeps the component as the file that [`path`] has for `name`.
pub(crate) fn build_as(name: &str, package: &str, features: &str, profile: &str) -> Result<PathBuf, String> {
    let mut build = cargo(["build", "--profile", profile, "--target", TARGET, "-p", package]);
    build.args(["--no-default-features", "--features", features]);
    run(build.env("CARGO_ENCODED_RUSTFLAGS", flags()?))?;
    let file = package.replace('-', "_");
    let (built, kept) = (target().join(TARGET).join(profile).join(file).with_extension("wasm"), path(name));
    copy(&built, &kept).map_err(|problem| format!("cannot copy {built:?} to {kept:?}: {problem}"))?;
    Ok(kept)
}

/// Where the component called `name` is, once it is built.
pub(crate) fn path(name: &str) -> PathBuf {
    target().join("components").join(name).with_extension("wasm")
}

/// Prints where a component is and how large it is.
pub(crate) fn say_size(file: &Path) -> Result<(), String> {
    let size =
        fs::metadata(file).map_err(|problem| format!("cannot read {}: {problem}", file.display()))?.len();
    let shown = file.strip_prefix(root()).unwrap_or(file);
    eprintln!("  {:<40} {:>4} KiB", shown.display(), size.div_ceil(1024));
    Ok(())
}

/// The user's flags for rustc, and ours, which make the component the same wherever it is built: messages name the file
/// they come from, and without them that would be a file of this machine.
fn flags() -> Result<OsString, String> {
    let (cargo_home, library) = (cargo_home()?, sources_of_library(&sysroot()?));
    let compiled_as = name_of_library(&words_of(rustc().arg("-vV"))?)?;
    // Of those that fit, the last counts.
    let [ours, built, home] = NAMES;
    let folders: [(&Path, &str); 4] =
        [(root(), ours), (target(), built), (&cargo_home, home), (&library, &compiled_as)];
    let mut flags = match (env::var_os("CARGO_ENCODED_RUSTFLAGS"), env::var("RUSTFLAGS")) {
        (Some(encoded), _) => encoded,
        (None, Ok(words)) => words.split_whitespace().collect::<Vec<_>>().join(SEPARATOR).into(),
        (None, Err(_)) => OsString::new(),
    };
    for (folder, name) in folders {
        if !flags.is_empty() {
            flags.push(SEPARATOR);
        }
        flags.push(renamed(folder, name));
    }
    Ok(flags)
}

/// The flag that has rustc write `name` wherever it would write `folder`.
fn renamed(folder: &Path, name: &str) -> OsString {
    let mut flag = OsString::from("--remap-path-prefix=");
    flag.push(folder);
    flag.push("=");
    flag.push(name);
    flag
}

/// Where the toolchain is.
fn sysroot() -> Result<PathBuf, String> {
    words_of(rustc().args(["--print", "sysroot"])).map(PathBuf::from)
}

/// Where a toolchain with the component `rust-src` has the standard library's files. It writes these paths where the code
/// of a generic function is the caller's.
fn sources_of_library(sysroot: &Path) -> PathBuf {
    sysroot.join("lib/rustlib/src/rust")
}

/// What the same files are called by a toolchain that has them only compiled.
fn name_of_library(version: &str) -> Result<String, String> {
    let field = |name| version.lines().find_map(|it| it.strip_prefix(name));
    // Who compiles Rust without a repository has no hash.
    let build = field("commit-hash: ").filter(|it| *it != "unknown").or_else(|| field("release: "));
    build.map(|it| format!("/rustc/{it}")).ok_or_else(|| format!("rustc does not say which it is: {version}"))
}

/// Folders of this machine that no component may name, if it is built in `root` and `target`.
pub(crate) fn folders_of_this_machine(root: &Path, target: &Path) -> Result<Vec<PathBuf>, String> {
    let mut folders = vec![root.to_owned(), target.to_owned(), cargo_home()?, sysroot()?];
    folders.extend(env::home_dir());
    // The root of all is in every path, and a folder that is called as we call it tells nothing.
    folders.retain(|it| it.parent().is_some() && !NAMES.iter().any(|name| it == Path::new(name)));
    Ok(folders)
}

/// Fails if one of `folders` is named in the bytes of `file`.
pub(crate) fn expect_none_of(folders: &[PathBuf], file: &Path) -> Result<(), String> {
    let bytes = fs::read(file).map_err(|problem| format!("cannot read {}: {problem}", file.display()))?;
    match folders.iter().find(|it| is_named(&bytes, it)) {
        Some(folder) => Err(format!("{} names the folder {}", file.display(), folder.display())),
        None => Ok(()),
    }
}

/// Whether `folder` is in these bytes. In a component texts stand side by side with nothing in between, so that what is around a
/// path tells little. But a path of one name only is in others all over: of `/src`, only what begins and ends there counts.
fn is_named(bytes: &[u8], folder: &Path) -> bool {
    let path = folder.as_os_str().as_encoded_bytes();
    if folder.parent().is_some_and(|it| it.parent().is_some()) {
        return is_in(bytes, path);
    }
    let goes_on = |it: u8| it.is_ascii_alphanumeric() || b"-_.+~@".contains(&it);
    bytes.windows(path.len()).enumerate().filter(|(_, it)| *it == path).any(|(at, _)| {
        let before = at.checked_sub(1).map(|it| bytes[it]);
        let after = bytes.get(at + path.len()).copied();
        !before.is_some_and(|it| goes_on(it) || it == b'/') && !after.is_some_and(goes_on)
    })
}

fn is_in(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|it| it == part)
}

/// What the root of the repository, the target folder and Cargo's home are called in a component.
const NAMES: [&str; 3] = ["/gateway", "/target", "/cargo"];

/// Between the flags of `CARGO_ENCODED_RUSTFLAGS`, so that a path may have spaces.
const SEPARATOR: &str = "\u{1f}";

/// Adds the target that components are compiled for, unless the toolchain has it.
pub(crate) fn add_target() -> Result<(), String> {
    let library = words_of(rustc().args(["--print", "target-libdir", "--target", TARGET]))?;
    if Path::new(&library).is_dir() {
        return Ok(());
    }
    eprintln!("adding the target {TARGET} to the toolchain");
    run(Command::new("rustup").args(["target", "add", TARGET]).current_dir(root())).map_err(|problem| {
        format!(
            "the Rust toolchain has no {TARGET} target, and adding it needs rustup (https://rustup.rs) and \
             the network ({problem})"
        )
    })
}

pub(crate) const TARGET: &str = "wasm32-wasip2";

fn copy(from: &Path, to: &Path) -> std::io::Result<u64> {
    fs::create_dir_all(to.with_file_name(""))?;
    fs::copy(from, to)
}

#[test]
fn the_standard_library_is_called_by_its_commit() {
    let table = [
        ("rustc 1.95.0\ncommit-hash: 0123abc\nrelease: 1.95.0\n", Ok("/rustc/0123abc".to_owned())),
        ("rustc 1.95.0\ncommit-hash: unknown\nrelease: 1.95.0\n", Ok("/rustc/1.95.0".to_owned())),
        ("rustc 1.95.0", Err("rustc does not say which it is: rustc 1.95.0".to_owned())),
    ];
    for (version, name) in table {
        assert_eq!(name_of_library(version), name, "{version:?}");
    }
}

#[test]
fn finds_a_folder_in_a_file() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/components.rs");
    let [absent, here] = [["/somewhere", "/else"].concat(), "/somewhere/here".to_owned()].map(PathBuf::from);
    assert_eq!(expect_none_of(std::slice::from_ref(&absent), &file), Ok(()));
    let found = expect_none_of(&[absent, here], &file);
    assert_eq!(found, Err(format!("{} names the folder /somewhere/here", file.display())));
}

#[cfg(unix)]
#[test]
fn a_folder_of_one_name_is_not_taken_for_a_part_of_another_path() {
    let table = [
        ("/src", "/cargo/registry/src/index/http-1.5.0/src/lib.rs", false),
        ("/src", "pkg:cargo/src@1.0.0", false),
        ("/src", "/src-of-others/lib.rs", false),
        ("/g", "/gateway/src/lib.rs", false),
        ("/src", "at /src/lib.rs", true),
        ("/src", "\0/src\0", true),
        ("/src", "/src", true),
        // What stands before it may be the end of another text.
        ("/home/me", "is not set/home/me/src/lib.rs", true),
        ("/home/me", "/gateway/src/lib.rs/home/meis not set", true),
        ("/home/me", "/home/you", false),
    ];
    for (folder, text, named) in table {
        assert_eq!(is_named(text.as_bytes(), Path::new(folder)), named, "{folder} in {text:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_toolchain_with_the_sources_of_the_standard_library_makes_the_same() {
    use std::os::unix::fs::symlink;

    let (real, folder) = (sysroot().unwrap(), target().join("tests").join("sysroot"));
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    // The toolchain as it is, but for these sources.
    let library = folder.join("lib/rustlib");
    let sources = library.join("src/rust/library");
    fs::create_dir_all(sources.join("std/src")).unwrap();
    fs::write(sources.join("std/src/lib.rs"), "").unwrap();
    for entry in
        fs::read_dir(real.join("lib/rustlib")).unwrap().flatten().filter(|it| it.file_name() != "src")
    {
        symlink(entry.path(), library.join(entry.file_name())).unwrap();
    }
    let program = folder.join("program.rs");
    fs::write(&program, "pub fn cut(values: &mut Vec<String>, at: usize) -> String { values.remove(at) }")
        .unwrap();

    let name = name_of_library(&words_of(rustc().arg("-vV")).unwrap()).unwrap();
    let compiled = |sysroot: &Path, flag: Option<OsString>| {
        let object = folder.join("program.o");
        let mut compile = rustc();
        compile.args(["--crate-type", "lib", "--emit", "obj", "--sysroot"]).arg(sysroot);
        run(compile.args(flag).arg("-o").arg(&object).arg(&program)).unwrap();
        fs::read(&object).unwrap()
    };
    let with_flag = |sysroot: &Path| compiled(sysroot, Some(renamed(&sources_of_library(sysroot), &name)));
    let plain = with_flag(&real);
    assert!(is_in(&plain, name.as_bytes()));
    assert!(plain == with_flag(&folder), "they differ");
    // Without the flag they would.
    assert!(is_in(&compiled(&folder, None), sources.as_os_str().as_encoded_bytes()));
}

//! Links of the documents have targets, the book has all pages, and the pages are short and plain.

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn links_have_targets() {
    let mut checked = 0;
    for page in files_below(Path::new(env!("CARGO_MANIFEST_DIR"))) {
        if page.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next()) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.with_file_name(file) };
            assert!(target.exists(), "{}: {link}", page.display());
            if !heading.is_empty() && target.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(&target).unwrap();
                let found = text.lines().any(|line| line.starts_with('#') && anchor(line) == heading);
                assert!(found, "{}: {link}", page.display());
            }
            checked += 1;
        }
    }
    assert!(checked > 50, "{checked}");
}

#[test]
fn the_book_has_every_page() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let summary = fs::read_to_string(docs.join("SUMMARY.md")).unwrap();
    let missing: Vec<_> = files_below(&docs)
        .into_iter()
        .filter(|page| page.extension().is_some_and(|extension| extension == "md"))
        .map(|page| page.strip_prefix(&docs).unwrap().display().to_string().replace('\\', "/"))
        .filter(|page| page != "SUMMARY.md" && !summary.contains(&format!("]({page})")))
        .collect();
    assert_eq!(missing, [""; 0]);
}

#[test]
fn pages_are_short_and_plain() {
    const WORDS: [&str; 11] = [
        "whoever",
        "nobody",
        "somebody",
        "everybody",
        "anybody",
        "at hand",
        "as good as none",
        "in vain",
        "heeded",
        "named from memory",
        "from memory, and to be",
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut checked = 0;
    for page in files_below(root) {
        let name = page.strip_prefix(root).unwrap();
        if page.extension().is_none_or(|extension| extension != "md") && name != Path::new("src/openapi.json")
        {
            continue;
        }
        let text = fs::read_to_string(&page).unwrap();
        let lower = text.to_lowercase();
        let words: Vec<_> = WORDS.into_iter().filter(|word| lower.contains(word)).collect();
        assert_eq!(words, [""; 0], "{}", page.display());
        let limit = match name {
            name if name == Path::new("README.md") => 120,
            name if name.starts_with("docs") && !name.starts_with("docs/reference") => 200,
            _ => usize::MAX,
        };
        assert!(text.lines().count() <= limit, "{} has more than {limit} lines", page.display());
        checked += 1;
    }
    assert!(checked > 40, "{checked}");
}

/// The files below `folder`, without build output and the files of git.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let ours = paths.filter(|path| !path.ends_with("target") && !path.ends_with(".git"));
    ours.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// The anchor that GitHub gives a heading.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    text.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, '-' | '_')).collect()
}

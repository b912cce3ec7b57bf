//! Links of the documents lead to files and headings that exist.

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn links_lead_to_files_and_headings() {
    let mut checked = 0;
    for page in pages(Path::new(env!("CARGO_MANIFEST_DIR"))) {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next()) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.with_file_name(file) };
            assert!(target.exists(), "{}: {link}", page.display());
            if !heading.is_empty() && target.extension().is_some_and(|it| it == "md") {
                let text = fs::read_to_string(&target).unwrap();
                let found = text.lines().filter(|line| line.starts_with('#')).any(|it| anchor(it) == heading);
                assert!(found, "{}: {link}", page.display());
            }
            checked += 1;
        }
    }
    assert!(checked > 50, "{checked}");
}

fn pages(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let visible = entries.filter(|it| !["target", ".git"].iter().any(|name| it.file_name() == *name));
    let below = visible.flat_map(|entry| match entry.path() {
        path if path.is_dir() => pages(&path),
        path => vec![path],
    });
    below.filter(|path| path.extension().is_some_and(|it| it == "md")).collect()
}

/// How GitHub links to a heading.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    text.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, '-' | '_')).collect()
}

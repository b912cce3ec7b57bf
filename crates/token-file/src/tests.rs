//! Tables of names and contents.

use std::cell::RefCell;
use std::collections::VecDeque;

use super::*;

/// Directories, what the next reads return, and what was read.
struct Fake {
    directories: Vec<String>,
    contents: RefCell<VecDeque<Result<Vec<u8>, Problem>>>,
    read: RefCell<Vec<(usize, String)>>,
}

impl Files for Fake {
    fn directories(&self) -> Vec<String> {
        self.directories.clone()
    }

    fn read(&self, directory: usize, path: &str, limit: u64) -> Result<Vec<u8>, Problem> {
        self.read.borrow_mut().push((directory, path.to_owned()));
        let content = self.contents.borrow_mut().pop_front().expect("one read too many");
        content.map(|content| content.into_iter().take(limit as usize).collect())
    }
}

fn fake(directories: &[&str], contents: &[Result<&[u8], Problem>]) -> Fake {
    Fake {
        directories: directories.iter().map(|name| (*name).to_owned()).collect(),
        contents: RefCell::new(contents.iter().map(|content| content.map(<[u8]>::to_vec)).collect()),
        read: RefCell::default(),
    }
}

#[test]
fn a_name_is_a_plain_path_below_a_given_directory() {
    let azure = ["/var/run/secrets/azure"];
    for (directories, name, expected) in [
        (
            &azure[..],
            "/var/run/secrets/azure/tokens/azure-identity-token",
            Ok((0, "tokens/azure-identity-token")),
        ),
        (
            &azure,
            "/var/run/secrets/azure/wi/token/azure-identity-token",
            Ok((0, "wi/token/azure-identity-token")),
        ),
        (&["/var/run/secrets/azure/"], "/var/run/secrets/azure/a", Ok((0, "a"))),
        (&["/"], "/a/b", Ok((0, "a/b"))),
        // The innermost of several directories.
        (&["/a", "/a/b", "/"], "/a/b/c", Ok((1, "c"))),
        (&azure, "/var/run/secrets/azure/..data/token", Ok((0, "..data/token"))),
        (&azure, "/var/run/secrets/azure2/a", Err(Problem::NoDirectory)),
        (&azure, "/var/run/secrets/azure", Err(Problem::NoDirectory)),
        (&azure, "/etc/shadow", Err(Problem::NoDirectory)),
        (&[], "/var/run/secrets/azure/a", Err(Problem::NoDirectory)),
        (&["."], "/a", Err(Problem::NoDirectory)),
        (&azure, "/var/run/secrets/azure/../../a", Err(Problem::InvalidName)),
        (&azure, "/var/run/secrets/azure/./a", Err(Problem::InvalidName)),
        (&azure, "/var/run/secrets/azure//a", Err(Problem::InvalidName)),
        (&azure, "/var/run/secrets/azure/a/", Err(Problem::InvalidName)),
        (&azure, "/var/run/secrets/azure/", Err(Problem::InvalidName)),
        (&azure, "var/run/secrets/azure/a", Err(Problem::InvalidName)),
        (&azure, "a", Err(Problem::InvalidName)),
        (&azure, "/var/run/secrets/azure/0-a_B.key", Ok((0, "0-a_B.key"))),
        (&azure, "/var/run/secrets/azure/a/b.key", Err(Problem::InvalidName)),
        (&azure, "/var/run/secrets/azure/..data/b.key", Err(Problem::InvalidName)),
        (&azure, "/var/run/secrets/azure/.key", Err(Problem::InvalidName)),
        (&azure, "/var/run/secrets/azure/a.b.key", Err(Problem::InvalidName)),
        (&azure, "/var/run/secrets/azure/a@b.key", Err(Problem::InvalidName)),
        (&azure, "", Err(Problem::InvalidName)),
        (&azure, "/", Err(Problem::InvalidName)),
        (&azure, "/var/run/secrets/azure/a b", Err(Problem::InvalidName)),
        (&azure, "/var/run/secrets/azure/a\0", Err(Problem::InvalidName)),
        (&azure, "/var/run/secrets/azure/ü", Err(Problem::InvalidName)),
        (&azure, &format!("/var/run/secrets/azure/{}", "a".repeat(1024)), Err(Problem::InvalidName)),
    ] {
        let files = fake(directories, &[Ok(b"a.b.c")]);
        let found = read(&files, name);
        let expected_reads: Vec<_> =
            expected.iter().map(|(number, path): &(usize, &str)| (*number, (*path).to_owned())).collect();
        assert_eq!(*files.read.borrow(), expected_reads, "{directories:?} {name}");
        assert_eq!(found, expected.map(|_| "a.b.c".to_owned()), "{directories:?} {name}");
    }
}

#[test]
fn a_content_is_a_token_or_a_key() {
    let (longest, longest_key) = (vec![b'x'; 16 * 1024], vec![b'x'; 4096]);
    let longer = [&longest[..], b"x"].concat();
    let longer_key = [&longest_key[..], b"x"].concat();
    for (name, content, expected) in [
        ("token", &b"eyJ-_.a.b"[..], Ok("eyJ-_.a.b")),
        ("token", b" \t\r\na.b.c\n", Ok("a.b.c")),
        ("token", &longest, Ok(str::from_utf8(&longest).unwrap())),
        ("token", &longer, Err(Problem::TooLarge)),
        ("token", b"", Err(Problem::Empty)),
        ("token", b" \n", Err(Problem::Empty)),
        ("token", b"a b", Err(Problem::NotAToken)),
        ("token", b"a\nb", Err(Problem::NotAToken)),
        ("token", b"a\0", Err(Problem::NotAToken)),
        ("token", b"\xff", Err(Problem::NotAToken)),
        ("token", "ü".as_bytes(), Err(Problem::NotAToken)),
        ("token", b"a+/=", Err(Problem::NotAToken)),
        ("token", b"root:x:0:0:root:/root:/bin/bash", Err(Problem::NotAToken)),
        ("1.key", b"a+/=\n", Ok("a+/=")),
        ("1.key", &longest_key, Ok(str::from_utf8(&longest_key).unwrap())),
        ("1.key", &longer_key, Err(Problem::TooLarge)),
    ] {
        let found = read(&fake(&["/d"], &[Ok(content)]), &format!("/d/{name}"));
        assert_eq!(found, expected.map(str::to_owned), "{name} {}", String::from_utf8_lossy(content));
    }
}

#[test]
fn a_file_that_has_just_vanished_is_opened_once_more() {
    let gone = Err(Problem::NotFound);
    for (contents, expected, reads) in [
        (&[gone, Ok(&b"a"[..])][..], Ok("a"), 2),
        (&[gone, gone], Err(Problem::NotFound), 2),
        (&[gone, Err(Problem::NotPermitted)], Err(Problem::NotPermitted), 2),
        (&[Err(Problem::NotPermitted)], Err(Problem::NotPermitted), 1),
        (&[Err(Problem::Failed)], Err(Problem::Failed), 1),
    ] {
        let files = fake(&["/d"], contents);
        assert_eq!(read(&files, "/d/a"), expected.map(str::to_owned), "{contents:?}");
        assert_eq!(files.read.borrow().len(), reads);
    }
}

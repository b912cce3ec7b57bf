//! Seals what is kept outside of an instance: whoever reads it without the key learns nothing, and whoever writes it can plant
//! nothing.
//!
//! An entry is `1`, the second of its end, a nonce, and what XChaCha20-Poly1305 makes of the content. What the entry is about
//! and its end are authenticated with it, so that no entry passes for another one, or for a longer time. Nonces are random: with
//! 24 bytes it takes 2^80 entries under one key until two of them have the same with a probability of 2^-32
//! (draft-irtf-cfrg-xchacha, section 1).

use std::fmt;

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

/// The keys that the one of the settings stands for, each for its own purpose (HKDF, RFC 5869).
pub struct Seal {
    names: Hmac<Sha256>,
    contents: XChaCha20Poly1305,
}

/// What an entry is about: its kind, and all that tells it from the others of that kind.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// What kind of entry it is.
    pub kind: &'static str,
    /// What tells it apart.
    pub parts: &'a [&'a str],
}

impl Seal {
    /// The keys that come of `key`. They always do; but what seals must not go on with less, so this can say no.
    pub fn new(key: &[u8]) -> Option<Self> {
        let derived = Hkdf::<Sha256>::new(None, key);
        let derive = |purpose: &str| {
            let mut key = Zeroizing::new([0; 32]);
            derived.expand(purpose.as_bytes(), &mut *key).ok().map(|()| key)
        };
        let names = derive("keyvault-gateway 1 names")?;
        let contents = derive("keyvault-gateway 1 contents")?;
        Some(Self {
            names: <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&*names).ok()?,
            contents: XChaCha20Poly1305::new((&*contents).into()),
        })
    }

    /// The name of an entry, which tells nobody what it is about. Those of one key begin with [`prefix`](Self::prefix).
    pub fn name(&self, about: About<'_>) -> String {
        let digest = base16ct::lower::encode_string(&self.digest(about));
        [self.prefix().as_str(), &digest].concat()
    }

    /// How the names of all entries of this key begin: ours, among those of others.
    pub fn prefix(&self) -> String {
        let digest = base16ct::lower::encode_string(&self.digest(About { kind: "key", parts: &[] }));
        ["keyvault-gateway-", digest.get(..16).unwrap_or_default(), "-"].concat()
    }

    /// Seals `content` until `end`, in seconds since 1970; `nonce` is random.
    pub fn close(&self, about: About<'_>, end: u64, nonce: [u8; 24], content: &[u8]) -> Option<Vec<u8>> {
        let head = [&[VERSION], &end.to_be_bytes()[..]].concat();
        let aad = [&head[..], &self.digest(about)].concat();
        let sealed = self.contents.encrypt(&XNonce::from(nonce), Payload { msg: content, aad: &aad }).ok()?;
        Some([&head, &nonce[..], &sealed].concat())
    }

    /// The content of `entry`, if it is about this, was sealed with this key, and is not over at `unix_time`.
    pub fn open(&self, about: About<'_>, unix_time: u64, entry: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (head, rest) = entry.split_at_checked(HEAD)?;
        let (version, end) = head.split_first()?;
        let end = end.first_chunk().copied().map(u64::from_be_bytes)?;
        if *version != VERSION || end <= unix_time {
            return None;
        }
        let (nonce, sealed) = rest.split_first_chunk::<24>()?;
        let aad = [head, &self.digest(about)].concat();
        let content = self.contents.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: &aad });
        content.ok().map(Zeroizing::new)
    }

    /// What stands for `about`: a keyed hash of each part with its length, so that no two are the same.
    fn digest(&self, about: About<'_>) -> [u8; 32] {
        let mut mac = self.names.clone();
        for part in std::iter::once(&about.kind).chain(about.parts) {
            mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            mac.update(part.as_bytes());
        }
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal(..)")
    }
}

const VERSION: u8 = 1;

/// The version and the end.
const HEAD: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;

    const ABOUT: About<'static> = About { kind: "secret", parts: &["vault", "a"] };

    #[test]
    fn what_is_closed_opens_until_its_end() {
        let seal = Seal::new(&[7; 32]).unwrap();
        let entry = seal.close(ABOUT, 1000, [1; 24], b"content").unwrap();
        assert_eq!(seal.open(ABOUT, 999, &entry).unwrap().as_slice(), b"content");
        assert!(seal.open(ABOUT, 1000, &entry).is_none());
        assert!(!entry.windows(7).any(|it| it == b"content"));
    }

    #[test]
    fn nothing_else_opens() {
        let seal = Seal::new(&[7; 32]).unwrap();
        let entry = seal.close(ABOUT, 1000, [1; 24], b"content").unwrap();
        for about in [
            About { kind: "token", ..ABOUT },
            About { parts: &["vault", "b"], ..ABOUT },
            About { parts: &["vaul", "ta"], ..ABOUT },
            About { parts: &["vault"], ..ABOUT },
            About { parts: &["vault", "a", ""], ..ABOUT },
        ] {
            assert!(seal.open(about, 0, &entry).is_none(), "{about:?}");
            assert_ne!(seal.name(about), seal.name(ABOUT), "{about:?}");
        }
        assert!(Seal::new(&[8; 32]).unwrap().open(ABOUT, 0, &entry).is_none());
        for index in 0..entry.len() {
            let mut changed = entry.clone();
            changed[index] ^= 1;
            assert!(seal.open(ABOUT, 0, &changed).is_none(), "{index}");
            assert!(seal.open(ABOUT, 0, &entry[..index]).is_none(), "{index}");
        }
        assert!(seal.open(ABOUT, 0, &[&entry[..], &[0]].concat()).is_none());
    }

    #[test]
    fn names_tell_nothing_and_depend_on_the_key() {
        let name = Seal::new(&[7; 32]).unwrap().name(ABOUT);
        let digest = name.strip_prefix(&Seal::new(&[7; 32]).unwrap().prefix()).unwrap();
        assert!(digest.len() == 64 && digest.bytes().all(|it| it.is_ascii_hexdigit()), "{name}");
        assert_ne!(name, Seal::new(&[8; 32]).unwrap().name(ABOUT));
        assert_ne!(Seal::new(&[7; 32]).unwrap().prefix(), Seal::new(&[8; 32]).unwrap().prefix());
    }

    #[test]
    fn no_key_shows() {
        assert_eq!(format!("{:?}", Seal::new(&[7; 32]).unwrap()), "Seal(..)");
    }
}

//! Seals the entries of the shared store: without the key they tell nothing, and no other entry is accepted.
//!
//! An entry is `1`, the second of its end, a nonce, and what XChaCha20-Poly1305 makes of the content. The id
//! of the entry and its end are authenticated with it, so that no entry passes for another one, or for a
//! longer time. Nonces are random: with 24 bytes it takes 2^80 entries under one key until two of them have
//! the same with a probability of 2^-32 (draft-irtf-cfrg-xchacha, section 1).

use std::fmt;

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

/// The keys that are derived from the key of the settings, each for its own purpose (HKDF, RFC 5869).
pub struct Seal {
    names: Hmac<Sha256>,
    contents: XChaCha20Poly1305,
}

/// The id of an entry: a keyed hash of its kind and of all that tells it from others of that kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryId([u8; 32]);

impl Seal {
    /// Derives the keys from `key`. HKDF cannot fail for this length; `None` keeps this free of panics and
    /// fails closed.
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

    /// The id of an entry. The length of each part counts, so that no two entries share one.
    pub fn id(&self, kind: &str, parts: &[&str]) -> EntryId {
        let mut mac = self.names.clone();
        for part in std::iter::once(&kind).chain(parts) {
            mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            mac.update(part.as_bytes());
        }
        EntryId(mac.finalize().into_bytes().into())
    }

    /// The name of an entry in the store, which tells nothing. All names of one key begin with
    /// [`prefix`](Self::prefix).
    pub fn name(&self, id: EntryId) -> String {
        [self.prefix().as_str(), &base16ct::lower::encode_string(&id.0)].concat()
    }

    /// The prefix of the names of all entries of this key.
    pub fn prefix(&self) -> String {
        let digest = base16ct::lower::encode_string(&self.id("key", &[]).0);
        ["keyvault-gateway-", digest.get(..16).unwrap_or_default(), "-"].concat()
    }

    /// Seals `content` until `end`, in seconds since 1970; `nonce` is random.
    pub fn close(&self, id: EntryId, end: u64, nonce: [u8; 24], content: &[u8]) -> Option<Vec<u8>> {
        let head = [&[VERSION], &end.to_be_bytes()[..]].concat();
        let aad = [&head[..], &id.0].concat();
        let sealed = self.contents.encrypt(&XNonce::from(nonce), Payload { msg: content, aad: &aad }).ok()?;
        Some([&head, &nonce[..], &sealed].concat())
    }

    /// The content of `entry`, if it has this id, was sealed with this key, and has not ended at `unix_time`.
    pub fn open(&self, id: EntryId, unix_time: u64, entry: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (head, rest) = entry.split_at_checked(HEAD)?;
        let (version, end) = head.split_first()?;
        let end = end.first_chunk().copied().map(u64::from_be_bytes)?;
        if *version != VERSION || end <= unix_time {
            return None;
        }
        let (nonce, sealed) = rest.split_first_chunk::<24>()?;
        let aad = [head, &id.0].concat();
        let content = self.contents.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: &aad });
        content.ok().map(Zeroizing::new)
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

    #[test]
    fn a_sealed_entry_opens_until_its_end() {
        let seal = Seal::new(&[7; 32]).unwrap();
        let entry = seal.close(id(&seal), 1000, [1; 24], b"content").unwrap();
        assert_eq!(seal.open(id(&seal), 999, &entry).unwrap().as_slice(), b"content");
        assert!(seal.open(id(&seal), 1000, &entry).is_none());
        assert!(!entry.windows(7).any(|window| window == b"content"));
    }

    #[test]
    fn a_forged_moved_or_truncated_entry_does_not_open() {
        let seal = Seal::new(&[7; 32]).unwrap();
        let entry = seal.close(id(&seal), 1000, [1; 24], b"content").unwrap();
        for (kind, parts) in [
            ("token", &["vault", "a"][..]),
            ("secret", &["vault", "b"]),
            ("secret", &["vaul", "ta"]),
            ("secret", &["vault"]),
            ("secret", &["vault", "a", ""]),
        ] {
            let other = seal.id(kind, parts);
            assert!(seal.open(other, 0, &entry).is_none(), "{kind} {parts:?}");
            assert_ne!(seal.name(other), seal.name(id(&seal)), "{kind} {parts:?}");
        }
        let other_key = Seal::new(&[8; 32]).unwrap();
        assert!(
            other_key.open(id(&other_key), 0, &entry).is_none()
                && other_key.open(id(&seal), 0, &entry).is_none()
        );
        for index in 0..entry.len() {
            let mut changed = entry.clone();
            changed[index] ^= 1;
            assert!(seal.open(id(&seal), 0, &changed).is_none(), "{index}");
            assert!(seal.open(id(&seal), 0, &entry[..index]).is_none(), "{index}");
        }
        assert!(seal.open(id(&seal), 0, &[&entry[..], &[0]].concat()).is_none());
    }

    #[test]
    fn names_tell_nothing_and_depend_on_the_key() {
        let (seal, other_key) = (Seal::new(&[7; 32]).unwrap(), Seal::new(&[8; 32]).unwrap());
        let name = seal.name(id(&seal));
        let digest = name.strip_prefix(&seal.prefix()).unwrap();
        assert!(digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
        assert_ne!(name, other_key.name(id(&other_key)));
        assert_ne!(seal.prefix(), other_key.prefix());
    }

    #[test]
    fn no_key_shows() {
        assert_eq!(format!("{:?}", Seal::new(&[7; 32]).unwrap()), "Seal(..)");
    }

    fn id(seal: &Seal) -> EntryId {
        seal.id("secret", &["vault", "a"])
    }
}

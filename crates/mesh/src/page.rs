//! Lists in pages (AIP-158), by keyset: a token says after which row to go on, for which filter,
//! and is signed, so that nobody can make one up.

use std::{fmt, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::{Error, Result, Secret};

/// The page size when none is asked for.
pub const DEFAULT_PAGE_SIZE: u32 = 50;
/// The largest page; who asks for more gets this.
pub const MAX_PAGE_SIZE: u32 = 1000;

const MAC_BYTES: usize = 32;
/// Longer tokens are none of ours.
const MAX_TOKEN: usize = 4096;

/// The rows of a page: 0 gives 50, more than 1000 gives 1000, a negative size is
/// INVALID_ARGUMENT.
pub fn page_size(asked: i32) -> Result<u32> {
    match u32::try_from(asked) {
        Ok(0) => Ok(DEFAULT_PAGE_SIZE),
        Ok(size) => Ok(size.min(MAX_PAGE_SIZE)),
        Err(_) => Err(
            Error::invalid_argument("INVALID_FIELD", "page_size is negative")
                .field("page_size", "must not be negative"),
        ),
    }
}

/// Makes and reads page tokens. All replicas of a service need the same key.
#[derive(Clone)]
pub struct PageTokens([u8; 32]);

impl fmt::Debug for PageTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PageTokens")
    }
}

#[derive(Serialize, Deserialize)]
struct Content<C> {
    /// The filter's hash: a page goes on with the list that it began.
    f: String,
    c: C,
}

impl PageTokens {
    /// With a key from the configuration.
    pub fn from_secret(secret: &Secret) -> Self {
        Self(Sha256::digest(secret.expose()).into())
    }

    /// With a key of its own: tokens end with the process.
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// With the key in this file, which is made if it is not there, readable by its owner alone.
    pub fn from_file(path: &Path) -> std::io::Result<Self> {
        let made = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        match made {
            Ok(mut file) => {
                let key: [u8; 32] = rand::random();
                file.write_all(&key)?;
                file.sync_all()?;
                Ok(Self(key))
            }
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                let key = std::fs::read(path)?.try_into();
                key.map(Self).map_err(|_| {
                    std::io::Error::other("the page token key is damaged; remove its file")
                })
            }
            Err(e) => Err(e),
        }
    }

    /// The token of the page after `cursor`, of the list that `filter` describes (all that decides
    /// what is in it and in which order, the project and the method included).
    pub fn encode<F: Serialize, C: Serialize>(&self, filter: &F, cursor: &C) -> Result<String> {
        let content = Content {
            f: filter_hash(filter)?,
            c: cursor,
        };
        let content = serde_json::to_vec(&content).map_err(Error::internal)?;
        let mut token = self.mac(&content).finalize().into_bytes().to_vec();
        token.extend(content);
        Ok(URL_SAFE_NO_PAD.encode(token))
    }

    /// The cursor of a token; `None` for the empty token, which is the first page. A token that is
    /// damaged, forged or of another list is INVALID_ARGUMENT, `PAGE_TOKEN_INVALID`.
    pub fn decode<F: Serialize, C: DeserializeOwned>(
        &self,
        filter: &F,
        token: &str,
    ) -> Result<Option<C>> {
        if token.is_empty() {
            return Ok(None);
        }
        let content: Content<C> = self.open(token).ok_or_else(|| {
            invalid("the page token is not one of ours").hint("begin again without page_token")
        })?;
        if content.f != filter_hash(filter)? {
            return Err(invalid("the page token is of another list").hint(
                "keep all other fields as in the first page, or begin again without page_token",
            ));
        }
        Ok(Some(content.c))
    }

    fn open<C: DeserializeOwned>(&self, token: &str) -> Option<Content<C>> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (mac, content) = bytes.split_at_checked(MAC_BYTES)?;
        self.mac(content).verify_slice(mac).ok()?;
        serde_json::from_slice(content).ok()
    }

    fn mac(&self, content: &[u8]) -> Hmac<Sha256> {
        // HMAC fills its key up to the hash's block with zeros (RFC 2104).
        let mut block = [0; 64];
        block[..self.0.len()].copy_from_slice(&self.0);
        let mut mac = Hmac::<Sha256>::new(&block.into());
        mac.update(b"aegis.page.v1\0");
        mac.update(content);
        mac
    }
}

fn filter_hash<F: Serialize>(filter: &F) -> Result<String> {
    let filter = serde_json::to_vec(filter).map_err(Error::internal)?;
    let hash = Sha256::digest(filter);
    Ok(hex::encode(&hash[..8]))
}

fn invalid(message: &str) -> Error {
    Error::invalid_argument("PAGE_TOKEN_INVALID", message).field("page_token", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Cursor = (i64, String);

    #[test]
    fn the_page_size_rule() {
        assert_eq!(page_size(0), Ok(50));
        assert_eq!(page_size(1), Ok(1));
        assert_eq!(page_size(i32::MAX), Ok(1000));
        let error = page_size(-1).expect_err("negative");
        assert_eq!(error.fields()[0].path, "page_size");
    }

    #[test]
    fn a_token_goes_on_with_its_own_list_only() {
        let tokens = PageTokens::random();
        let cursor: Cursor = (7, "b".to_owned());
        let token = tokens
            .encode(&("scans", "default"), &cursor)
            .expect("a token");
        assert_eq!(
            tokens.decode(&("scans", "default"), &token),
            Ok(Some(cursor))
        );
        let other = tokens.decode::<_, Cursor>(&("scans", "other"), &token);
        assert_eq!(
            other.expect_err("another list").reason(),
            "PAGE_TOKEN_INVALID"
        );
        assert_eq!(tokens.decode::<_, Cursor>(&"x", ""), Ok(None));
    }

    #[test]
    fn a_forged_or_damaged_token_is_refused() {
        let tokens = PageTokens::random();
        let token = tokens.encode(&"scans", &(7, "b")).expect("a token");
        let foreign = PageTokens::random()
            .encode(&"scans", &(7, "b"))
            .expect("a token");
        let mut flipped = token.clone().into_bytes();
        let last = flipped.len() - 3;
        flipped[last] = if flipped[last] == b'A' { b'B' } else { b'A' };
        let flipped = String::from_utf8(flipped).expect("ASCII");
        for bad in [
            &foreign,
            &flipped,
            "x",
            "é",
            &token[..20],
            &"A".repeat(4000),
        ] {
            let error = tokens.decode::<_, Cursor>(&"scans", bad).expect_err(bad);
            assert_eq!(error.reason(), "PAGE_TOKEN_INVALID");
        }
    }

    #[test]
    fn the_key_in_the_file_stays() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("page.key");
        let first = PageTokens::from_file(&file).expect("made");
        let token = first.encode(&"x", &1).expect("a token");
        let second = PageTokens::from_file(&file).expect("read");
        assert_eq!(second.decode(&"x", &token), Ok(Some(1)));
        let mode = std::fs::metadata(&file)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(&file, "short").expect("written");
        assert!(PageTokens::from_file(&file).is_err());
    }
}

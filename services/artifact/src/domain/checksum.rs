//! What bytes must be.

use std::fmt;

use aegis_mesh::Error;
use sha2::{Digest, Sha256};

/// SHA-256 and size of a whole content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checksum {
    /// SHA-256.
    pub sha256: [u8; 32],
    /// Bytes.
    pub size: u64,
}

impl Checksum {
    /// Reads the form that contracts have.
    ///
    /// # Errors
    /// INVALID_ARGUMENT / INVALID_FIELD, naming the part of `field` that is wrong.
    pub fn parse(field: &str, sha256: &str, size: i64) -> aegis_mesh::Result<Self> {
        let mut bytes = [0; 32];
        if sha256.bytes().any(|b| b.is_ascii_uppercase())
            || hex::decode_to_slice(sha256, &mut bytes).is_err()
        {
            let message = "not 64 lower-case hexadecimal digits";
            return Err(Error::invalid_argument(
                "INVALID_FIELD",
                format!("{field}.sha256: {message}"),
            )
            .field(format!("{field}.sha256"), message));
        }
        let Ok(size) = u64::try_from(size) else {
            let message = format!("{size} is less than 0");
            return Err(Error::invalid_argument(
                "INVALID_FIELD",
                format!("{field}.size_bytes: {message}"),
            )
            .field(format!("{field}.size_bytes"), message));
        };
        Ok(Self {
            sha256: bytes,
            size,
        })
    }

    /// SHA-256 in lower-case hexadecimal digits.
    pub fn sha256_hex(&self) -> String {
        hex::encode(self.sha256)
    }

    /// The size as contracts have it.
    pub fn size_i64(&self) -> i64 {
        i64::try_from(self.size).unwrap_or(i64::MAX)
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256 {}, {} bytes", self.sha256_hex(), self.size)
    }
}

/// Makes a [`Checksum`] of bytes as they pass.
#[derive(Debug, Clone, Default)]
pub struct Hasher {
    sha256: Sha256,
    size: u64,
}

impl Hasher {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.size += bytes.len() as u64;
    }

    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The checksum of all bytes so far.
    pub fn checksum(&self) -> Checksum {
        Checksum {
            sha256: self.sha256.clone().finalize().into(),
            size: self.size,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_nothing_else() {
        let mut hasher = Hasher::default();
        hasher.update(b"abc");
        let checksum = hasher.checksum();
        let hex = checksum.sha256_hex();
        assert_eq!(
            hex,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(Checksum::parse("finish", &hex, 3).unwrap(), checksum);
        for (hex, size, field) in [
            ("", 3, "finish.sha256"),
            (&hex[1..], 3, "finish.sha256"),
            (&hex.to_uppercase(), 3, "finish.sha256"),
            (&hex, -1, "finish.size_bytes"),
        ] {
            let error = Checksum::parse("finish", hex, size).unwrap_err();
            assert!(error.message().starts_with(field), "{}", error.message());
        }
    }
}

//! How large a message may be, on both sides and in both directions.

use crate::{ClientConfig, ServerConfig};

/// 4 MiB: gRPC's usual bound.
pub(crate) const DEFAULT_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// Something that says how large a message may be.
pub trait MessageLimit {
    /// The most bytes of one encoded message, in each direction.
    fn max_message_bytes(&self) -> usize;
}

impl MessageLimit for ServerConfig {
    fn max_message_bytes(&self) -> usize {
        self.max_message_bytes
    }
}

impl MessageLimit for ClientConfig {
    fn max_message_bytes(&self) -> usize {
        self.max_message_bytes
    }
}

impl<T: MessageLimit> MessageLimit for &T {
    fn max_message_bytes(&self) -> usize {
        (**self).max_message_bytes()
    }
}

/// A generated server or client whose messages are bounded in both directions by a
/// [`MessageLimit`]. tonic bounds what is decoded but, by default, not what is encoded.
///
/// ```text
/// builder.add_service(sized!(ScanServiceServer::new(service), &config.server))
/// let client = sized!(ScanServiceClient::new(channel), &config.catalog);
/// ```
#[macro_export]
macro_rules! sized {
    ($service:expr, $limit:expr) => {{
        let limit = $crate::MessageLimit::max_message_bytes(&$limit);
        $service
            .max_decoding_message_size(limit)
            .max_encoding_message_size(limit)
    }};
}

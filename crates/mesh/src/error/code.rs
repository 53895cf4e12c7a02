//! The codes an RPC may end with, and their numbers, in one place.

/// Why a call did not succeed: gRPC's codes without OK and without UNKNOWN, which tells nobody
/// what to do next. The HTTP numbers are grpc-gateway's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The caller must change the request.
    InvalidArgument,
    /// No such thing, or not visible to the caller's project.
    NotFound,
    /// It is there already.
    AlreadyExists,
    /// The thing is in a state which does not allow this; change the state first.
    FailedPrecondition,
    /// Lost against another writer: read again, then redo. A lost lease means: stop.
    Aborted,
    /// Past the end of what is there, as an upload's offset is.
    OutOfRange,
    /// A quota or a queue is full; retried only if the error says when.
    ResourceExhausted,
    /// Not now; retry with backoff.
    Unavailable,
    /// The time that the caller gave ran out.
    DeadlineExceeded,
    /// The caller gave up.
    Cancelled,
    /// No valid credential.
    Unauthenticated,
    /// A valid credential that does not allow this.
    PermissionDenied,
    /// No such method here.
    Unimplemented,
    /// A fault of ours; the error's id leads to the log.
    Internal,
    /// Bytes are lost or damaged beyond repair.
    DataLoss,
}

impl Code {
    /// Every code.
    pub const ALL: [Self; 15] = [
        Self::InvalidArgument,
        Self::NotFound,
        Self::AlreadyExists,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::ResourceExhausted,
        Self::Unavailable,
        Self::DeadlineExceeded,
        Self::Cancelled,
        Self::Unauthenticated,
        Self::PermissionDenied,
        Self::Unimplemented,
        Self::Internal,
        Self::DataLoss,
    ];

    /// The number, the HTTP status and the name: `google/rpc/code.proto`.
    const fn entry(self) -> (i32, u16, &'static str) {
        match self {
            Self::Cancelled => (1, 499, "CANCELLED"),
            Self::InvalidArgument => (3, 400, "INVALID_ARGUMENT"),
            Self::DeadlineExceeded => (4, 504, "DEADLINE_EXCEEDED"),
            Self::NotFound => (5, 404, "NOT_FOUND"),
            Self::AlreadyExists => (6, 409, "ALREADY_EXISTS"),
            Self::PermissionDenied => (7, 403, "PERMISSION_DENIED"),
            Self::ResourceExhausted => (8, 429, "RESOURCE_EXHAUSTED"),
            Self::FailedPrecondition => (9, 400, "FAILED_PRECONDITION"),
            Self::Aborted => (10, 409, "ABORTED"),
            Self::OutOfRange => (11, 400, "OUT_OF_RANGE"),
            Self::Unimplemented => (12, 501, "UNIMPLEMENTED"),
            Self::Internal => (13, 500, "INTERNAL"),
            Self::Unavailable => (14, 503, "UNAVAILABLE"),
            Self::DataLoss => (15, 500, "DATA_LOSS"),
            Self::Unauthenticated => (16, 401, "UNAUTHENTICATED"),
        }
    }

    /// The number on the wire of gRPC, 1 to 16.
    pub const fn grpc(self) -> i32 {
        self.entry().0
    }

    /// The HTTP status.
    pub const fn http(self) -> u16 {
        self.entry().1
    }

    /// The name in JSON and in logs, such as `INVALID_ARGUMENT`.
    pub const fn name(self) -> &'static str {
        self.entry().2
    }

    /// The code with this gRPC number. OK (0) and UNKNOWN (2) are none of ours.
    pub fn from_grpc(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.grpc() == number)
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_tonics_and_names_are_unique() {
        for code in Code::ALL {
            assert_eq!(i32::from(tonic::Code::from(code.grpc())), code.grpc());
            assert_eq!(Code::from_grpc(code.grpc()), Some(code));
            let upper = format!("{code:?}").to_uppercase();
            assert_eq!(code.name().replace('_', ""), upper);
        }
        assert_eq!(Code::from_grpc(0), None);
        assert_eq!(Code::from_grpc(2), None);
    }

    #[test]
    fn http_follows_grpc_gateway() {
        assert_eq!(Code::Aborted.http(), 409);
        assert_eq!(Code::FailedPrecondition.http(), 400);
        assert_eq!(Code::Cancelled.http(), 499);
        assert_eq!(Code::DataLoss.http(), 500);
    }
}

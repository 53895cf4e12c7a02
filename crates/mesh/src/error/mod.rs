//! The one error model of the mesh: a code, a reason that programs read, a message that people
//! read, and details. On the wire it is `google.rpc.Status` with `google.rpc.ErrorInfo` and at
//! most one of each other detail (AIP-193).

mod code;
mod status;

use std::{borrow::Cow, collections::BTreeMap, fmt, time::Duration};

pub use code::Code;
pub(crate) use status::is_tonics_expiry;

/// The domain of every reason (`ErrorInfo.domain`).
pub const DOMAIN: &str = "aegis.dev";

/// What fallible functions of the mesh return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed, with what the caller can do about it. No secret and no prompt's text
/// belongs in any part of it: all of it leaves the process.
#[derive(Clone, PartialEq)]
pub struct Error(Box<Parts>);

#[derive(Clone, PartialEq)]
struct Parts {
    code: Code,
    reason: Cow<'static, str>,
    message: String,
    metadata: BTreeMap<String, String>,
    fields: Vec<Field>,
    preconditions: Vec<Precondition>,
    resource: Option<Resource>,
    retry_delay: Option<Duration>,
}

/// A field of the request that is wrong (`BadRequest.FieldViolation`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The path in proto3 JSON's dotted form, such as `spec.probes[3]`.
    pub path: String,
    /// What is wrong with it.
    pub description: String,
}

/// A state that must change first (`PreconditionFailure.Violation`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Precondition {
    /// UPPER_SNAKE, such as `STATE`.
    pub kind: String,
    /// What it is about, such as a scan's id.
    pub subject: String,
    /// How it fails and what would help.
    pub description: String,
}

/// What the error is about (`ResourceInfo`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// The type in lower snake case, such as `scan`.
    pub kind: String,
    /// Its id.
    pub id: String,
}

/// The metadata key of [`Error::hint`].
const HINT: &str = "hint";

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident => $code:ident;)*) => {
        $(
            $(#[$doc])*
            pub fn $name(reason: &'static str, message: impl Into<String>) -> Self {
                Self::new(Code::$code, reason, message)
            }
        )*
    };
}

impl Error {
    /// An error with a `reason` in UPPER_SNAKE of at most 63 characters and a `message` in lower
    /// case without full stop.
    pub fn new(code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        Self::from_parts(code, Cow::Borrowed(reason), message.into())
    }

    fn from_parts(code: Code, reason: Cow<'static, str>, message: String) -> Self {
        Self(Box::new(Parts {
            code,
            reason,
            message,
            metadata: BTreeMap::new(),
            fields: Vec::new(),
            preconditions: Vec::new(),
            resource: None,
            retry_delay: None,
        }))
    }

    constructors! {
        /// The request is wrong; name the fields with [`Error::field`].
        invalid_argument => InvalidArgument;
        /// The state does not allow it; say which with [`Error::precondition`].
        failed_precondition => FailedPrecondition;
        /// Lost against another writer (`ETAG_MISMATCH`, `LEASE_LOST`, `CONCURRENT_WRITE`).
        aborted => Aborted;
        /// Past what is there (`WRITE_OFFSET`); say where to go on with [`Error::with`].
        out_of_range => OutOfRange;
        /// A quota or queue is full; retried by callers only with [`Error::retry_after`].
        resource_exhausted => ResourceExhausted;
        /// No valid credential.
        unauthenticated => Unauthenticated;
        /// The credential does not allow it.
        permission_denied => PermissionDenied;
        /// No such method or form of it here.
        unimplemented => Unimplemented;
        /// The time ran out.
        deadline_exceeded => DeadlineExceeded;
        /// The caller gave up.
        cancelled => Cancelled;
        /// Bytes are lost or damaged.
        data_loss => DataLoss;
    }

    /// `INVALID_FIELD`: one field of the request is wrong.
    pub fn invalid_field(path: impl Into<String>, description: impl Into<String>) -> Self {
        let (path, description) = (path.into(), description.into());
        Self::invalid_argument("INVALID_FIELD", format!("{path}: {description}"))
            .field(path, description)
    }

    /// No such thing. The reason comes from the type: `scan` gives `SCAN_NOT_FOUND`.
    pub fn not_found(resource_type: &str, id: impl fmt::Display) -> Self {
        Self::about(Code::NotFound, resource_type, &id.to_string(), "not found")
    }

    /// It is there already. The reason comes from the type: `scan` gives `SCAN_ALREADY_EXISTS`.
    pub fn already_exists(resource_type: &str, id: impl fmt::Display) -> Self {
        let id = id.to_string();
        Self::about(Code::AlreadyExists, resource_type, &id, "already exists")
    }

    fn about(code: Code, resource_type: &str, id: &str, what: &str) -> Self {
        let reason = format!("{}_{}", resource_type.to_uppercase(), code.name());
        let shown: String = id.chars().take(128).collect();
        let message = format!("{resource_type} {shown:?} {what}");
        let mut error = Self::from_parts(code, Cow::Owned(reason), message);
        error.0.resource = Some(Resource {
            kind: resource_type.to_owned(),
            id: shown,
        });
        error
    }

    /// Not now; callers come back after `retry_after`.
    pub fn unavailable(
        reason: &'static str,
        message: impl Into<String>,
        retry_after: Duration,
    ) -> Self {
        Self::new(Code::Unavailable, reason, message).retry_after(retry_after)
    }

    /// A fault of ours. Logs `source` under a new id, here and only here; the caller gets the id
    /// (metadata `error_id`) and no detail.
    pub fn internal(source: impl fmt::Display) -> Self {
        let error_id = uuid::Uuid::new_v4().simple().to_string();
        tracing::error!(%error_id, error = %source, "internal error");
        Self::new(Code::Internal, "INTERNAL", "an internal error occurred")
            .with("error_id", error_id)
            .hint("report the error_id to whoever runs this service")
    }

    /// Adds a wrong field; repeat for each, so that a caller learns of all at once.
    pub fn field(mut self, path: impl Into<String>, description: impl Into<String>) -> Self {
        self.0.fields.push(Field {
            path: path.into(),
            description: description.into(),
        });
        self
    }

    /// Adds metadata for programs: whatever is dynamic in the message belongs here too.
    pub fn with(mut self, key: &'static str, value: impl ToString) -> Self {
        self.0.metadata.insert(key.to_owned(), value.to_string());
        self
    }

    /// Says what to do next (metadata `hint`).
    pub fn hint(self, what_to_do_next: impl Into<String>) -> Self {
        self.with(HINT, what_to_do_next.into())
    }

    /// Says when to come back (`RetryInfo`).
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.0.retry_delay = Some(delay);
        self
    }

    /// Adds a state that must change first.
    pub fn precondition(
        mut self,
        kind: impl Into<String>,
        subject: impl Into<String>,
        description: impl Into<String>,
    ) -> Self {
        self.0.preconditions.push(Precondition {
            kind: kind.into(),
            subject: subject.into(),
            description: description.into(),
        });
        self
    }

    /// The code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The reason, UPPER_SNAKE. A peer that gave none gets its code's name.
    pub fn reason(&self) -> &str {
        &self.0.reason
    }

    /// The message for people.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The wrong fields.
    pub fn fields(&self) -> &[Field] {
        &self.0.fields
    }

    /// The states that must change first.
    pub fn preconditions(&self) -> &[Precondition] {
        &self.0.preconditions
    }

    /// What the error is about, if it says so.
    pub fn resource(&self) -> Option<&Resource> {
        self.0.resource.as_ref()
    }

    /// The metadata, the hint among it.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.0.metadata
    }

    /// What to do next.
    pub fn hint_text(&self) -> Option<&str> {
        self.0.metadata.get(HINT).map(String::as_str)
    }

    /// When to come back.
    pub fn retry_delay(&self) -> Option<Duration> {
        self.0.retry_delay
    }

    /// Whether the same call may simply be sent again: UNAVAILABLE (AIP-194), and
    /// RESOURCE_EXHAUSTED if it says when.
    pub fn is_retryable(&self) -> bool {
        match self.0.code {
            Code::Unavailable => true,
            Code::ResourceExhausted => self.0.retry_delay.is_some(),
            _ => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = &self.0;
        f.debug_struct("Error")
            .field("code", &parts.code)
            .field("reason", &parts.reason)
            .field("message", &parts.message)
            .field("metadata", &parts.metadata)
            .field("fields", &parts.fields)
            .field("preconditions", &parts.preconditions)
            .field("retry_delay", &parts.retry_delay)
            .finish()
    }
}

impl std::error::Error for Error {}

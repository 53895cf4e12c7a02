//! HTTP/JSON to gRPC and back, from the `google.api.http` annotations alone: a new RPC is an
//! HTTP route by its annotation. Knows no RPC by name.

pub mod bind;
pub mod body;
pub mod codec;
pub mod percent;
pub mod routes;
pub mod template;
#[cfg(test)]
mod tests;

use std::{future::Future, time::Duration};

use aegis_mesh::{CallContext, Error, Principal, Result, with_context};
use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage, Value};
use tokio::time::timeout;
use tonic::{Request, Streaming, client::Grpc};

use self::{
    codec::DynamicCodec,
    routes::{BodyRule, Found, Route, Routes},
    template::PathParts,
};
use crate::public::{Deps, PublicMethods};

/// Finds routes, makes their messages, calls their methods.
#[derive(Clone)]
pub struct Transcoder {
    routes: Routes,
    deps: Deps,
    deadline: Duration,
}

/// What an HTTP request says, apart from its path.
#[derive(Debug, Clone, Copy, Default)]
pub struct Said<'a> {
    /// The query, without `?`.
    pub query: &'a str,
    /// The body; empty when there is none.
    pub body: &'a [u8],
    /// The `Idempotency-Key` header.
    pub idempotency_key: Option<&'a str>,
}

/// A server stream whose first message is there.
#[derive(Debug)]
pub struct Answers {
    /// The first message; `None` when the stream ended with OK before any.
    pub first: Option<DynamicMessage>,
    /// The others.
    pub rest: Streaming<DynamicMessage>,
}

impl Transcoder {
    /// The routes of the public methods, over these channels; `deadline` is for a unary call and for
    /// the first message of a stream.
    ///
    /// # Errors
    /// CONTRACT_MISMATCH when an annotation is wrong or two of them conflict.
    pub fn new(
        pool: &DescriptorPool,
        methods: &PublicMethods,
        deps: Deps,
        deadline: Duration,
    ) -> Result<Self> {
        let routes = Routes::of(pool, methods)?;
        Ok(Self {
            routes,
            deps,
            deadline,
        })
    }

    /// The route of a request.
    pub fn find(&self, http: &http::Method, path: &PathParts<'_>) -> Found<'_> {
        self.routes.find(http, path)
    }

    /// The request message of a route.
    ///
    /// # Errors
    /// INVALID_ARGUMENT, naming the field.
    pub fn message(
        &self,
        route: &Route,
        path: &PathParts<'_>,
        said: Said<'_>,
    ) -> Result<DynamicMessage> {
        let mut message = from_body(route, said.body)?;
        let bound = route
            .template
            .capture(path)
            .map_err(|field| bind::invalid(field, "the path is not percent-encoded UTF-8"))?;
        let parameters = bind::parameters(said.query)?;
        if let (BodyRule::Whole, Some((name, _))) = (&route.body, parameters.first()) {
            return Err(bind::invalid(
                name,
                "this route takes its fields from the body, not from the query",
            ));
        }
        for (field, value) in bound {
            bind::set(&mut message, field, &value)?;
        }
        for (name, value) in parameters {
            bind::set(&mut message, &name, &value)?;
        }
        if let Some(key) = said.idempotency_key {
            use_as_request_id(&mut message, key);
        }
        Ok(message)
    }

    /// Calls a method that answers once; the answer as JSON.
    ///
    /// # Errors
    /// The upstream's, or DEADLINE_EXCEEDED.
    pub async fn unary(
        &self,
        principal: Principal,
        route: &Route,
        message: DynamicMessage,
    ) -> Result<Vec<u8>> {
        let (mut grpc, codec) = self.client(route);
        let path = route.path.clone();
        let call = async move {
            ready(&mut grpc).await?;
            Ok(grpc.unary(Request::new(message), path, codec).await?)
        };
        let context = CallContext::new(principal).within(self.deadline);
        let answer = self.in_time(with_context(context, call)).await;
        let answer = answer.map_err(|error| route.method.upstream.explain(error))?;
        body::to_json(answer.get_ref(), route.response_body.as_ref())
    }

    /// Calls a method that answers with a stream, and waits for the first message,
    /// so that a refusal is an HTTP status and not the end of a stream.
    ///
    /// # Errors
    /// The upstream's, or DEADLINE_EXCEEDED when no message comes.
    pub async fn stream(
        &self,
        principal: Principal,
        route: &Route,
        message: DynamicMessage,
    ) -> Result<Answers> {
        let (mut grpc, codec) = self.client(route);
        let path = route.path.clone();
        let call = async move {
            ready(&mut grpc).await?;
            let answer = grpc
                .server_streaming(Request::new(message), path, codec)
                .await?;
            let mut rest = answer.into_inner();
            let first = rest.message().await?;
            Ok(Answers { first, rest })
        };
        let answers = self
            .in_time(with_context(CallContext::new(principal), call))
            .await;
        answers.map_err(|error| route.method.upstream.explain(error))
    }

    fn client(&self, route: &Route) -> (Grpc<aegis_mesh::MeshChannel>, DynamicCodec) {
        let grpc = Grpc::new(self.deps.channel(route.method.upstream))
            .max_decoding_message_size(LARGEST_MESSAGE)
            .max_encoding_message_size(LARGEST_MESSAGE);
        let output = route.method.descriptor.output();
        (grpc, DynamicCodec { output })
    }

    async fn in_time<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        timeout(self.deadline, call)
            .await
            .unwrap_or_else(|_| Err(too_late(self.deadline)))
    }
}

/// What the mesh's servers send and take at most, in bytes.
pub const LARGEST_MESSAGE: usize = 4 << 20;

/// DEADLINE_EXCEEDED after so long.
pub fn too_late(deadline: Duration) -> Error {
    let text = format!("no answer within {} s", deadline.as_secs());
    Error::deadline_exceeded("DEADLINE_EXCEEDED", text)
}

async fn ready(grpc: &mut Grpc<aegis_mesh::MeshChannel>) -> Result<()> {
    let unavailable = |error| {
        Error::unavailable(
            "DEPENDENCY_DOWN",
            format!("{error}"),
            Duration::from_secs(1),
        )
    };
    grpc.ready().await.map_err(unavailable)
}

fn from_body(route: &Route, json: &[u8]) -> Result<DynamicMessage> {
    let input = route.method.descriptor.input();
    let field = match &route.body {
        BodyRule::Whole => {
            let message = body::parse(input, json)?;
            let twice = route.template.fields().find(|field| has(&message, field));
            return match twice {
                Some(field) => Err(bind::invalid(
                    field,
                    "is in the path, and may not be in the body too",
                )),
                None => Ok(message),
            };
        }
        BodyRule::None if json.is_empty() => return Ok(DynamicMessage::new(input)),
        BodyRule::None => {
            let text = "this route takes no body";
            return Err(Error::invalid_argument("UNEXPECTED_BODY", text));
        }
        BodyRule::Field(field) => field,
    };
    let mut message = DynamicMessage::new(input);
    if let prost_reflect::Kind::Message(inner) = field.kind() {
        message.set_field(field, Value::Message(body::parse(inner, json)?));
    }
    Ok(message)
}

fn has(message: &DynamicMessage, path: &str) -> bool {
    let (name, rest) = match path.split_once('.') {
        Some((name, rest)) => (name, Some(rest)),
        None => (path, None),
    };
    let Some(field) = message.descriptor().get_field_by_name(name) else {
        return false;
    };
    match (rest, &*message.get_field(&field)) {
        (None, _) => message.has_field(&field),
        (Some(rest), Value::Message(inner)) => has(inner, rest),
        (Some(_), _) => false,
    }
}

/// `Idempotency-Key` is HTTP's word for our `request_id`; one in the message wins.
fn use_as_request_id(message: &mut DynamicMessage, key: &str) {
    let field = message.descriptor().get_field_by_name("request_id");
    if let Some(field) = field.filter(|field| !message.has_field(field)) {
        message.set_field(&field, Value::String(key.to_owned()));
    }
}

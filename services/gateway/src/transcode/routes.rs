//! The table of HTTP routes, read from the `google.api.http` annotations.

use std::collections::BTreeSet;

use aegis_mesh::{Error, Result};
use http::{Method, uri::PathAndQuery};
use prost_reflect::{
    DescriptorPool, DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor,
    Value,
};

use super::template::{PathParts, Template};
use crate::public::{PublicMethod, PublicMethods};

/// One annotation of one method.
#[derive(Debug, Clone)]
pub struct Route {
    /// The HTTP method.
    pub http: Method,
    /// The path.
    pub template: Template,
    /// Where the request's body goes.
    pub body: BodyRule,
    /// The part of the answer that is sent; all of it when unset.
    pub response_body: Option<FieldDescriptor>,
    /// What is called.
    pub method: PublicMethod,
    /// Its gRPC path.
    pub path: PathAndQuery,
}

/// Where a request's body goes (`google.api.HttpRule.body`).
#[derive(Debug, Clone)]
pub enum BodyRule {
    /// No body; the query fills what the path does not.
    None,
    /// `"*"`: the body is the message, and there is no query.
    Whole,
    /// The body is this field; the query fills the rest.
    Field(FieldDescriptor),
}

/// What a method and path lead to.
#[derive(Debug)]
pub enum Found<'a> {
    /// A route.
    Route(&'a Route),
    /// The path is there for these methods only.
    OtherMethods(Vec<Method>),
    /// There is no such path.
    Nothing,
}

/// Every route, the more specific first.
#[derive(Debug, Clone)]
pub struct Routes(Vec<Route>);

impl Routes {
    /// The routes of the public methods.
    ///
    /// # Errors
    /// A template or rule that is wrong, or two routes for the same paths.
    pub fn of(pool: &DescriptorPool, methods: &PublicMethods) -> Result<Self> {
        let extension = pool
            .get_extension_by_name("google.api.http")
            .ok_or_else(|| wrong("the descriptors have no google.api.http"))?;
        let mut routes = Vec::new();
        for (path, method) in methods.iter() {
            for rule in rules(method, &extension)? {
                routes.push(route(path, method, &rule)?);
            }
        }
        routes.sort_by_key(|route| route.template.specificity());
        refuse_conflicts(&routes)?;
        Ok(Self(routes))
    }

    /// The route of a request. HEAD finds the GET of a method that answers once.
    pub fn find(&self, http: &Method, path: &PathParts<'_>) -> Found<'_> {
        let mut matching = self
            .0
            .iter()
            .filter(|route| route.template.matches(path))
            .peekable();
        if matching.peek().is_none() {
            return Found::Nothing;
        }
        let mut others = Vec::new();
        for route in matching {
            if allowed(route).contains(http) {
                return Found::Route(route);
            }
            others.extend(allowed(route));
        }
        Found::OtherMethods(others)
    }

    /// Every route.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.0.iter()
    }
}

fn allowed(route: &Route) -> Vec<Method> {
    let once = !route.method.descriptor.is_server_streaming();
    match route.http == Method::GET && once {
        true => vec![Method::GET, Method::HEAD],
        false => vec![route.http.clone()],
    }
}

fn refuse_conflicts(routes: &[Route]) -> Result<()> {
    for (at, route) in routes.iter().enumerate() {
        let earlier = routes[..at]
            .iter()
            .find(|other| other.http == route.http && other.template.same_shape(&route.template));
        if let Some(earlier) = earlier {
            let (one, other) = (earlier.path.path(), route.path.path());
            let text = format!(
                "{one} and {other} have the same route {} {}",
                route.http, route.template
            );
            return Err(wrong(text));
        }
    }
    Ok(())
}

/// A method's rule and its additional bindings.
fn rules(method: &PublicMethod, extension: &ExtensionDescriptor) -> Result<Vec<DynamicMessage>> {
    let options = method.descriptor.options();
    if !options.has_extension(extension) {
        return Ok(Vec::new());
    }
    let name = method.descriptor.full_name();
    let Value::Message(rule) = options.get_extension(extension).into_owned() else {
        return Err(wrong(format!("{name}: google.api.http is no message")));
    };
    let mut rules = vec![rule.clone()];
    if let Some(more) = rule.get_field_by_name("additional_bindings") {
        let more = more.as_list().unwrap_or_default().iter();
        rules.extend(more.filter_map(|rule| rule.as_message().cloned()));
    }
    Ok(rules)
}

fn route(path: &str, method: &PublicMethod, rule: &DynamicMessage) -> Result<Route> {
    let name = method.descriptor.full_name();
    let wrong = |problem: String| wrong(format!("{name}: {problem}"));
    let text = |field: &str| {
        let value = rule.get_field_by_name(field)?;
        value
            .as_str()
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let patterns = [
        ("get", Method::GET),
        ("put", Method::PUT),
        ("post", Method::POST),
        ("delete", Method::DELETE),
        ("patch", Method::PATCH),
    ];
    let pattern = patterns
        .into_iter()
        .find_map(|(field, http)| Some((http, text(field)?)));
    let (http, template) =
        pattern.ok_or_else(|| wrong("no HTTP method that is supported".into()))?;
    let template = Template::parse(&template).map_err(|error| wrong(error.to_string()))?;
    if method.descriptor.is_client_streaming() {
        return Err(wrong("a client stream has no HTTP form".into()));
    }

    let input = method.descriptor.input();
    for field in template.fields() {
        bindable(&input, field)
            .ok_or_else(|| wrong(format!("the path binds {field}, which is no scalar field")))?;
    }
    let body = match text("body").as_deref() {
        None => BodyRule::None,
        Some("*") => BodyRule::Whole,
        Some(field) => BodyRule::Field(
            message_field(&input, field)
                .ok_or_else(|| wrong("the body is no message field".into()))?,
        ),
    };
    let output = method.descriptor.output();
    let response_body = text("response_body")
        .map(|field| message_field(&output, &field).ok_or(field))
        .transpose()
        .map_err(|field| wrong(format!("no response message field {field}")))?;
    Ok(Route {
        http,
        template,
        body,
        response_body,
        method: method.clone(),
        path: path
            .parse()
            .map_err(|error| wrong(format!("bad gRPC path: {error}")))?,
    })
}

/// A field that is one message.
fn message_field(message: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    let field = message.get_field_by_name(name)?;
    let one = !field.is_list() && !field.is_map() && matches!(field.kind(), Kind::Message(_));
    one.then_some(field)
}

/// A scalar field by its dotted path.
fn bindable(message: &MessageDescriptor, path: &str) -> Option<FieldDescriptor> {
    let (first, rest) = match path.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (path, None),
    };
    let field = message.get_field_by_name(first)?;
    match (field.kind(), rest) {
        (_, _) if field.is_list() || field.is_map() => None,
        (Kind::Message(inner), Some(rest)) => bindable(&inner, rest),
        (Kind::Message(_), None) | (_, Some(_)) => None,
        (_, None) => Some(field),
    }
}

/// For the `Allow` header: each method once, in order.
pub fn allow(methods: &[Method]) -> String {
    let names: BTreeSet<&str> = methods.iter().map(Method::as_str).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

fn wrong(problem: impl Into<String>) -> Error {
    Error::failed_precondition("CONTRACT_MISMATCH", problem.into())
}

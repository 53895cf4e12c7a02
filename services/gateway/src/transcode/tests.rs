//! The whole of `google.api.http`, on contracts made for it: what Aegis' own do not use yet is
//! there when they do.

use std::path::Path;

use http::Method;
use prost_reflect::DescriptorPool;
use protox::file::{
    ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver,
};
use serde_json::{Value, json};

use super::*;
use aegis_mesh::MeshChannel;

const MESSAGES: &str = "
    message Part { string name = 1; int64 size = 2; Part part = 3; }
    message Request { string name = 1; Part part = 2; repeated int32 numbers = 3; string request_id = 4; map<string, string> labels = 5; }
    message Response { Part part = 1; string text = 2; }
";

struct OneFile(String);

impl FileResolver for OneFile {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match name {
            "test.proto" => File::from_source(name, &self.0),
            _ => Err(protox::Error::file_not_found(name)),
        }
    }
}

/// A contract with these RPCs, and its routes.
fn transcoder(rpcs: &str) -> Result<Transcoder> {
    let source = format!(
        "syntax = \"proto3\"; package test; import \"google/api/annotations.proto\"; {MESSAGES} service S {{ {rpcs} }}"
    );
    let googleapis = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../third_party/googleapis");
    let mut files = ChainFileResolver::new();
    files.add(OneFile(source));
    files.add(IncludeFileResolver::new(googleapis));
    files.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(files);
    compiler
        .include_imports(true)
        .open_file("test.proto")
        .unwrap();
    let pool = DescriptorPool::decode(&*compiler.encode_file_descriptor_set()).unwrap();
    let (channel, _) = MeshChannel::local_late();
    let deps = Deps {
        orchestrator: channel.clone(),
        catalog: channel.clone(),
        artifact: channel,
    };
    Transcoder::new(
        &pool,
        &PublicMethods::all_of(&pool),
        deps,
        Duration::from_secs(1),
    )
}

fn rpc(name: &str, rule: &str) -> String {
    format!("rpc {name}(Request) returns (Response) {{ option (google.api.http) = {{ {rule} }}; }}")
}

/// The method that a request finds, and its message.
fn message(
    transcoder: &Transcoder,
    http: &Method,
    path: &str,
    said: Said<'_>,
) -> Result<(String, Value)> {
    let path = PathParts::of(path);
    let Found::Route(route) = transcoder.find(http, &path) else {
        return Err(Error::not_found("route", "test"));
    };
    let message = transcoder.message(route, &path, said)?;
    let json = serde_json::to_value(&message).unwrap();
    Ok((route.method.descriptor.name().to_owned(), json))
}

#[test]
fn a_body_may_be_one_field_and_the_query_the_rest() {
    let transcoder = transcoder(&rpc("Put", "put: \"/v1/things/{name}\" body: \"part\"")).unwrap();
    let said = Said {
        query: "numbers=1&numbers=2",
        body: br#"{"size": "5"}"#,
        idempotency_key: Some("key"),
    };
    let (_, message) = message(&transcoder, &Method::PUT, "/v1/things/n", said).unwrap();
    let expected =
        json!({"name": "n", "part": {"size": "5"}, "numbers": [1, 2], "requestId": "key"});
    assert_eq!(message, expected);
}

#[test]
fn a_path_may_bind_a_nested_field_over_several_segments() {
    let transcoder = transcoder(&rpc("Get", "get: \"/v1/{part.name=files/**}\"")).unwrap();
    let (_, message) = message(
        &transcoder,
        &Method::GET,
        "/v1/files/a%20b/c%2Fd",
        Said::default(),
    )
    .unwrap();
    assert_eq!(message, json!({"part": {"name": "files/a b/c%2Fd"}}));
}

#[test]
fn a_method_may_have_several_routes_and_the_more_specific_wins() {
    let rpcs = [
        rpc("Any", "get: \"/v1/{name=**}\""),
        rpc(
            "One",
            "get: \"/v1/things/{name}\" additional_bindings { post: \"/v1/things:find\" body: \"*\" }",
        ),
        rpc("Own", "get: \"/v1/things/own\""),
    ];
    let transcoder = transcoder(&rpcs.join("\n")).unwrap();
    for (http, path, expected) in [
        (Method::GET, "/v1/things/own", "Own"),
        (Method::GET, "/v1/things/other", "One"),
        (Method::GET, "/v1/things/other/deep", "Any"),
        (Method::POST, "/v1/things:find", "One"),
    ] {
        let (name, _) = message(&transcoder, &http, path, Said::default()).unwrap();
        assert_eq!(name, expected, "{path}");
    }
}

#[test]
fn an_answer_may_be_one_field() {
    let transcoder =
        transcoder(&rpc("Get", "get: \"/v1/things\" response_body: \"part\"")).unwrap();
    let Found::Route(route) = transcoder.find(&Method::GET, &PathParts::of("/v1/things")) else {
        panic!("no route");
    };
    let mut answer = DynamicMessage::new(route.method.descriptor.output());
    bind::set(&mut answer, "part.size", "5").unwrap();
    let json = body::to_json(&answer, route.response_body.as_ref()).unwrap();
    let json: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json, json!({"name": "", "size": "5"}));
}

#[test]
fn contracts_that_are_wrong_are_refused_at_the_start() {
    let two = |one: &str, other: &str| [rpc("One", one), rpc("Other", other)].join("\n");
    for (rpcs, problem) in [
        (
            two("get: \"/v1/{name}\"", "get: \"/v1/{request_id}\""),
            "the same route",
        ),
        (rpc("One", "get: \"v1/things\""), "bad path template"),
        (rpc("One", "get: \"/v1/{nothing}\""), "binds nothing"),
        (rpc("One", "get: \"/v1/{part}\""), "binds part"),
        (rpc("One", "get: \"/v1/{numbers}\""), "binds numbers"),
        (
            rpc("One", "post: \"/v1\" body: \"nothing\""),
            "the body is no message field",
        ),
        (
            rpc("One", "post: \"/v1\" body: \"name\""),
            "the body is no message field",
        ),
        (
            rpc("One", "get: \"/v1\" response_body: \"text\""),
            "no response message field",
        ),
        (rpc("One", "body: \"*\""), "no HTTP method"),
        (
            rpc("One", "custom { kind: \"LINK\" path: \"/v1\" }"),
            "no HTTP method",
        ),
    ] {
        let refused = transcoder(&rpcs).map(|_| ()).expect_err(&rpcs);
        assert_eq!(refused.reason(), "CONTRACT_MISMATCH");
        assert!(refused.message().contains(problem), "{refused}");
    }
    let same_path = two("get: \"/v1/{name}\"", "delete: \"/v1/{request_id}\"");
    assert!(transcoder(&same_path).is_ok());
}

#[test]
fn a_body_cannot_say_what_the_path_says() {
    let transcoder = transcoder(&rpc("Post", "post: \"/v1/{part.name}\" body: \"*\"")).unwrap();
    let said = |body| Said {
        body,
        ..Said::default()
    };
    let refused = message(
        &transcoder,
        &Method::POST,
        "/v1/n",
        said(br#"{"part": {"name": "m"}}"#),
    );
    assert_eq!(refused.unwrap_err().fields()[0].path, "part.name");
    let (_, fine) = message(
        &transcoder,
        &Method::POST,
        "/v1/n",
        said(br#"{"part": {"size": 1}}"#),
    )
    .unwrap();
    assert_eq!(fine, json!({"part": {"name": "n", "size": "1"}}));
}

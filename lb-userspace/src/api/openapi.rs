//! The API described in OpenAPI 3.1, made from the router's table and the types of the bodies.

use std::collections::BTreeMap;

use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use super::types::ApiError;

/// What can be asked at a path by one method.
pub struct Operation {
    pub method: &'static str,
    pub path: &'static str,
    summary: &'static str,
    query: Option<Shape>,
    header: Option<(&'static str, &'static str)>,
    body: Option<Shape>,
    answer: Option<Shape>,
    /// Bytes.
    pub longest_body: usize,
    /// The answer is a stream of events, each of the answer's type.
    is_stream: bool,
    /// The answer is text of this type.
    text: Option<&'static str>,
    /// Nothing is changed, whatever the method.
    reads_only: bool,
    /// A body, or a query, to show it by.
    example: Option<&'static str>,
    /// Codes of refusals that come with its own matter; others any operation may have.
    refusals: &'static [&'static str],
}

/// A kind of refusal.
pub struct Code {
    pub code: &'static str,
    pub status: u16,
    pub about: &'static str,
}

pub const CODES: &[Code] = &[
    code("bad_request", 400, "The body or a parameter is not what is asked for, or it is not possible so."),
    code("config", 400, "A config or a plan has problems; `problems` has all of them, each in lines."),
    code("forbidden", 403, "Who asked may not look, or not change anything."),
    code("not_found", 404, "There is no host, service, number or path of that name."),
    code("bad_request", 405, "The path has no such method."),
    code("bad_request", 408, "The body did not come in time."),
    code(
        "conflict",
        409,
        "It does not fit what is so now: it is over, waits to be confirmed, or there is no room for it.",
    ),
    code(
        "rule",
        409,
        "Rules for drains would be broken; `rules` has each of them with its mend, and `force` does it all the same.",
    ),
    code("bad_request", 413, "The body is too long."),
    code("too_many", 429, "This user asks too often."),
    code("internal", 500, "It was tried, and did not work: see the daemon's log."),
    code("internal", 503, "The daemon is about to end."),
    code("too_many", 503, "There are too many connections, of this user or of all."),
    code("not_ready", 503, "The balancer asks for no traffic."),
];

const fn code(code: &'static str, status: u16, about: &'static str) -> Code {
    Code { code, status, about }
}

/// Bytes of a body, unless the operation says otherwise: a thousand names of hosts.
const BODY: usize = 64 << 10;

type Shape = fn(&mut SchemaGenerator) -> Schema;

fn reference<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// The fields themselves: a query has no name that could be referred to.
fn fields<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    T::json_schema(generator)
}

impl Operation {
    const fn new(method: &'static str, path: &'static str, summary: &'static str) -> Self {
        Operation {
            method,
            path,
            summary,
            query: None,
            header: None,
            body: None,
            answer: None,
            longest_body: BODY,
            is_stream: false,
            text: None,
            reads_only: false,
            example: None,
            refusals: &[],
        }
    }

    pub const fn get(path: &'static str, summary: &'static str) -> Self {
        Operation::new("get", path, summary)
    }

    pub const fn post(path: &'static str, summary: &'static str) -> Self {
        Operation::new("post", path, summary)
    }

    /// With the fields of `T` as parameters.
    pub const fn asks<T: JsonSchema>(mut self) -> Self {
        self.query = Some(fields::<T>);
        self
    }

    pub const fn with_header(mut self, name: &'static str, about: &'static str) -> Self {
        self.header = Some((name, about));
        self
    }

    pub const fn takes<T: JsonSchema>(mut self) -> Self {
        self.body = Some(reference::<T>);
        self
    }

    pub const fn answers<T: JsonSchema>(mut self) -> Self {
        self.answer = Some(reference::<T>);
        self
    }

    pub const fn streams<T: JsonSchema>(mut self) -> Self {
        self.is_stream = true;
        self.answers::<T>()
    }

    pub const fn answers_in_text(mut self, content_type: &'static str) -> Self {
        self.text = Some(content_type);
        self
    }

    /// For those who may only look, too, although it is a `post`.
    pub const fn reads_only(mut self) -> Self {
        self.reads_only = true;
        self
    }

    /// With a body of up to so many bytes.
    pub const fn of_up_to(mut self, bytes: usize) -> Self {
        self.longest_body = bytes;
        self
    }

    /// Shown by this body, or by this query.
    pub const fn like(mut self, example: &'static str) -> Self {
        self.example = Some(example);
        self
    }

    /// By what codes it may be refused, besides those that any operation may be.
    pub const fn refuses(mut self, codes: &'static [&'static str]) -> Self {
        self.refusals = codes;
        self
    }

    /// Statuses of its refusals, each with their codes.
    fn statuses(&self) -> BTreeMap<u16, Vec<&'static str>> {
        let is_asked = self.body.is_some() || self.query.is_some() || self.path.contains('{');
        let mut statuses = BTreeMap::<u16, Vec<&'static str>>::new();
        for Code { code, status, .. } in CODES {
            let may_be = match (*code, *status) {
                ("bad_request", 400) => is_asked,
                // Bodies are read of any operation, used or not.
                ("bad_request", 408 | 413) => true,
                ("bad_request", _) => false,
                ("forbidden" | "too_many" | "internal", _) => true,
                (code, _) => self.refusals.contains(&code),
            };
            if may_be {
                statuses.entry(*status).or_default().push(*code);
            }
        }
        statuses
    }

    /// Whether who may only look may not ask this.
    pub fn changes(&self) -> bool {
        self.method != "get" && !self.reads_only
    }

    /// `read` makes the schemas of what clients send, `write` of what they get.
    fn describe(&self, read: &mut SchemaGenerator, write: &mut SchemaGenerator) -> Value {
        let (description, content) =
            if self.is_stream { ("A stream of such events", "text/event-stream") } else { ("Done", JSON) };
        let mut ok = json!({ "description": description });
        if let Some(answer) = self.answer {
            ok["content"] = json!({ content: { "schema": answer(write) } });
        }
        if let Some(content) = self.text {
            ok["content"] = json!({ content: { "schema": { "type": "string" } } });
        }
        let error = json!({ "schema": write.subschema_for::<ApiError>() });
        let mut responses = json!({ "200": ok });
        for (status, codes) in self.statuses() {
            let description = codes.iter().map(|code| format!("`{code}`")).collect::<Vec<_>>().join(" or ");
            responses[status.to_string()] = json!({ "description": description, "content": { JSON: error } });
        }
        let mut operation = json!({
            "operationId": self.id(),
            "summary": self.summary,
            "x-access": if self.changes() { "change" } else { "look" },
            "responses": responses,
        });
        let parameters = self.parameters(read);
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        if let Some(body) = self.body {
            let example: Value =
                self.example.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
            let content = json!({ JSON: { "schema": body(read), "example": example } });
            let about = format!("At most {} bytes", self.longest_body);
            operation["requestBody"] = json!({ "required": true, "description": about, "content": content });
        }
        operation
    }

    /// `get_v1_kicks_id`
    fn id(&self) -> String {
        let path = self.path.replace(['/', '.'], "_").replace(['{', '}'], "");
        format!("{}{path}", self.method)
    }

    fn parameters(&self, read: &mut SchemaGenerator) -> Vec<Value> {
        let mut parameters = Vec::new();
        for name in self.path.split(['{', '}']).skip(1).step_by(2) {
            let (schema, about, example) = match name {
                "host" => (json!({ "type": "string" }), "Name of the host.".to_owned(), json!("web-2")),
                "id" => (number(), "Its number.".to_owned(), json!(7)),
                name => (number(), format!("Number of the {name}."), json!(7)),
            };
            parameters.push(json!({
                "name": name, "in": "path", "required": true, "schema": schema, "description": about, "example": example,
            }));
        }
        let examples: Vec<(&str, &str)> = match self.body {
            Some(_) => Vec::new(),
            None => self
                .example
                .iter()
                .flat_map(|query| query.split('&'))
                .filter_map(|pair| pair.split_once('='))
                .collect(),
        };
        let query = self.query.map(|query| query(read).to_value()).unwrap_or_default();
        for (name, schema) in query["properties"].as_object().unwrap_or(&Map::new()) {
            let mut schema = schema.clone();
            let about = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            let mut parameter = json!({ "name": name, "in": "query", "schema": schema });
            parameter["description"] = about.unwrap_or_else(|| format!("Only of this {name}.").into());
            if let Some((_, example)) = examples.iter().find(|(of, _)| of == name) {
                parameter["example"] = serde_json::from_str(example).unwrap_or_else(|_| json!(example));
            }
            parameters.push(parameter);
        }
        if let Some((name, about)) = self.header {
            let schema = json!({ "type": "string" });
            parameters.push(json!({ "name": name, "in": "header", "schema": schema, "description": about }));
        }
        parameters
    }
}

const JSON: &str = "application/json";

fn number() -> Value {
    json!({ "type": "integer", "format": "uint64", "minimum": 0 })
}

/// The whole document.
pub fn document<'a>(operations: impl Iterator<Item = &'a Operation>) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut write = settings.clone().for_serialize().into_generator();
    let mut read = settings.for_deserialize().into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations {
        let described = operation.describe(&mut read, &mut write);
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method] = described;
    }
    // What clients both send and get looks alike, but for fields that may be missing when it is sent.
    let mut schemas = read.take_definitions(true);
    schemas.extend(write.take_definitions(true));
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Sluice",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The API of the daemon, HTTP/1.1 on its Unix socket: /run/sluice/INSTANCE.sock. Times are Unix seconds, \
                            durations seconds, rates per second over the daemon's last sampling interval.",
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "http://sluice", "description": "Any name will do" }],
        "paths": paths,
        "components": { "schemas": schemas },
    });
    plain_words(&mut document);
    document
}

/// Links of Rust's documentation lead nowhere here.
fn plain_words(value: &mut Value) {
    match value {
        Value::String(text) => *text = text.replace("[`", "`").replace("`]", "`"),
        Value::Array(elements) => elements.iter_mut().for_each(plain_words),
        Value::Object(fields) => fields.values_mut().for_each(plain_words),
        _ => {}
    }
}

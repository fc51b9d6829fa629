//! The API described in OpenAPI 3.1, made from the router's table and the types of the bodies.

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
    /// Nothing is changed, whatever the method.
    reads_only: bool,
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
            reads_only: false,
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
        let error = json!({ "schema": write.subschema_for::<ApiError>() });
        let mut operation = json!({
            "operationId": self.id(),
            "summary": self.summary,
            "responses": {
                "200": ok,
                "default": { "description": "Refused; nothing was changed", "content": { JSON: error } },
            },
        });
        let parameters = self.parameters(read);
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        if let Some(body) = self.body {
            operation["requestBody"] =
                json!({ "required": true, "content": { JSON: { "schema": body(read) } } });
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
            let number = json!({ "type": "integer", "format": "uint64", "minimum": 0 });
            parameters.push(json!({ "name": name, "in": "path", "required": true, "schema": number }));
        }
        let query = self.query.map(|query| query(read).to_value()).unwrap_or_default();
        for (name, schema) in query["properties"].as_object().unwrap_or(&Map::new()) {
            let mut schema = schema.clone();
            let about = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            let mut parameter = json!({ "name": name, "in": "query", "schema": schema });
            parameter["description"] = about.unwrap_or_else(|| format!("Only of this {name}.").into());
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

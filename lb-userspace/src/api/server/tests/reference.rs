//! docs/api.md is made from the OpenAPI document.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use super::super::routes::described;
use crate::api::openapi::{CODES, Code};

const BEFORE: &str = "# API reference

<!-- Made from the OpenAPI document: SLUICE_WRITE_DOCS=1 cargo test -p lb-userspace --lib reference -->

The daemon is asked by HTTP/1.1 on its Unix socket, `/run/sluice/INSTANCE.sock`; INSTANCE is `default` where nothing else was said. Bodies are JSON.
The commands of `sluice` ask the same, and print the same bodies with `--json`. For programs: [openapi.json](openapi.json), which the daemon has at
`GET /v1/openapi.json`; in Rust, the crate `lb-userspace` has a typed client ([an example](../lb-userspace/examples/drain.rs)).

- Times are Unix seconds, durations seconds, rates per second over the daemon's last sampling interval.
- A field or a parameter that is not known is refused. Answers may get more fields: pass over those that you do not know.
- Who may *look* may ask what changes nothing; who may *change*, all: [Who may do what](operations.md#who-may-do-what), with the bounds for all of it.
- A change is in the journal, and in force, when its answer comes. What was refused, with less than 500, has changed nothing.
- A field that may be null may be left out.

";

fn reference() -> String {
    let document = described();
    let mut text = BEFORE.to_owned();
    text += "| | for who may | |\n|---|---|---|\n";
    each_operation(&document, |method, path, operation| {
        let (name, access) = (heading(method, path), words(&operation["x-access"]));
        let summary = words(&operation["summary"]);
        writeln!(text, "| [`{name}`](#{}) | {access} | {summary} |", anchor(&name)).unwrap();
    });
    text += "\n## Refusals\n\nAnswers of 400 and above have an [`ApiError`](#apierror), with one of these codes. Those of 400, 404 and 409, \
             and `not_ready`,\nare told with each operation that may come to them; any may come to the others.\n\n";
    text += "| status | code | when |\n|---|---|---|\n";
    for Code { code, status, about } in CODES {
        writeln!(text, "| {status} | `{code}` | {about} |").unwrap();
    }
    each_operation(&document, |method, path, operation| {
        describe(&mut text, method, path, operation, &document)
    });
    text += "\n## Types\n";
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let bodies = bodies(&document);
    for (name, schema) in schemas.iter().filter(|(name, _)| !bodies.contains(name.as_str())) {
        write!(text, "\n### `{name}`\n\n").unwrap();
        let about = prose(schema);
        if !about.is_empty() {
            write!(text, "{about}\n\n").unwrap();
        }
        shape(&mut text, schema);
    }
    text
}

fn each_operation(document: &Value, mut each: impl FnMut(&str, &str, &Value)) {
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            each(method, path, operation);
        }
    }
}

/// Schemas that are told of where they are asked for, once each.
fn bodies(document: &Value) -> BTreeSet<String> {
    let mut bodies = BTreeSet::new();
    each_operation(document, |_, _, operation| {
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        bodies.extend(schema["$ref"].as_str().map(|reference| last(reference).to_owned()));
    });
    bodies
}

fn heading(method: &str, path: &str) -> String {
    format!("{} {path}", method.to_uppercase())
}

/// As GitHub makes it of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}

fn last(reference: &str) -> &str {
    reference.rsplit('/').next().unwrap_or(reference)
}

fn words(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// In one line.
fn prose(schema: &Value) -> String {
    words(&schema["description"]).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn describe(text: &mut String, method: &str, path: &str, operation: &Value, document: &Value) {
    let name = heading(method, path);
    write!(
        text,
        "\n## `{name}`\n\n{}. For who may {}.\n\n",
        words(&operation["summary"]),
        words(&operation["x-access"])
    )
    .unwrap();
    let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
    if !parameters.is_empty() {
        *text += "| parameter | in | type | meaning |\n|---|---|---|---|\n";
        for parameter in parameters {
            let (name, place) = (words(&parameter["name"]), words(&parameter["in"]));
            row(text, &[&format!("`{name}`"), place, &kind(&parameter["schema"]), &prose(parameter)]);
        }
        *text += "\n";
    }
    let body = &operation["requestBody"];
    let content = &body["content"]["application/json"];
    if let Some(reference) = content["schema"]["$ref"].as_str() {
        let schema = &document["components"]["schemas"][last(reference)];
        let most = words(&body["description"]).to_lowercase();
        // Its first words are the method and path.
        let about = prose(schema);
        let about = about.split_once([':', '.']).filter(|(front, _)| front.starts_with("`POST"));
        let about = about.map_or("", |(_, about)| about.trim());
        write!(text, "The body, {most}:\n\n").unwrap();
        shape(text, schema);
        if !about.is_empty() {
            let mut letters = about.chars();
            let first = letters.next().into_iter().flat_map(char::to_uppercase);
            write!(text, "{}\n\n", first.chain(letters).collect::<String>()).unwrap();
        }
    }
    write!(text, "```console\n{}\n```\n\n", line(method, path, operation)).unwrap();
    let answers = operation["responses"]["200"]["content"].as_object().into_iter().flatten();
    for (kind_of_text, answer) in answers {
        let what = match kind_of_text.as_str() {
            "application/json" => kind(&answer["schema"]),
            "text/event-stream" => format!("a stream of {}, as `{kind_of_text}`", kind(&answer["schema"])),
            other => format!("`{other}`"),
        };
        write!(text, "Answer: {what}.").unwrap();
    }
    let own = operation["responses"].as_object().unwrap().iter().filter_map(|(status, refusal)| {
        let codes = words(&refusal["description"]).split('`').skip(1).step_by(2);
        let codes: Vec<String> =
            codes.filter(|code| !is_of_all(status, code)).map(|code| format!("`{code}`")).collect();
        (!codes.is_empty()).then(|| format!("{status} {}", codes.join(" or ")))
    });
    let own: Vec<String> = own.collect();
    if !own.is_empty() {
        write!(text, " Refusals of its own: {}.", own.join(", ")).unwrap();
    }
    *text += "\n";
}

/// Refusals that any operation may come to.
fn is_of_all(status: &str, code: &str) -> bool {
    matches!(
        (status, code),
        ("403", "forbidden")
            | ("408" | "413", "bad_request")
            | ("429" | "503", "too_many")
            | ("500" | "503", "internal")
    )
}

/// What one types to ask this.
fn line(method: &str, path: &str, operation: &Value) -> String {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let (mut target, mut query) = (path.to_owned(), Vec::new());
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let (name, Some(example)) = (words(&parameter["name"]), parameter.get("example").map(plain)) else {
            continue;
        };
        match words(&parameter["in"]) {
            "path" => target = target.replace(&format!("{{{name}}}"), &example),
            _ => query.push(format!("{name}={example}")),
        }
    }
    if !query.is_empty() {
        target = format!("{target}?{}", query.join("&"));
    }
    let url = if target.contains(['?', '&']) {
        format!("'http://sluice{target}'")
    } else {
        format!("http://sluice{target}")
    };
    let body = match operation["requestBody"]["content"]["application/json"].get("example") {
        Some(body) => format!(" --json '{body}'"),
        None if method == "post" => " -X POST".to_owned(),
        None => String::new(),
    };
    format!("# curl --unix-socket /run/sluice/default.sock{body} {url}")
}

fn row(text: &mut String, cells: &[&str]) {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    writeln!(text, "| {} |", cells.join(" | ")).unwrap();
}

/// The fields of an object, or what it is one of.
fn shape(text: &mut String, schema: &Value) {
    if let Some(properties) = schema["properties"].as_object() {
        let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().map(words).collect();
        let is_body = schema["additionalProperties"] == false;
        *text += "| field | type | meaning |\n|---|---|---|\n";
        for (name, field) in properties {
            let must = if is_body && required.contains(&name.as_str()) { ", required" } else { "" };
            row(text, &[&format!("`{name}`"), &(kind(field) + must), &prose(field)]);
        }
        *text += "\n";
    }
    let choices = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array());
    for choice in choices.into_iter().flatten() {
        let about = prose(choice);
        let about = if about.is_empty() { about } else { format!(": {about}") };
        match choice["properties"].as_object() {
            Some(fields) => {
                let named = fields
                    .iter()
                    .find_map(|(_, field)| field.get("const"))
                    .map(|name| format!("`{}`", words(name)));
                let fields: Vec<String> = fields
                    .iter()
                    .filter(|(_, field)| field.get("const").is_none())
                    .map(|(name, field)| format!("`{name}` ({})", kind(field)))
                    .collect();
                let with =
                    if fields.is_empty() { String::new() } else { format!(" With {}.", fields.join(", ")) };
                let named = named.unwrap_or_else(|| "an object".to_owned());
                let about = if about.is_empty() { "." } else { &about };
                writeln!(text, "- {named}{about}{with}").unwrap();
            }
            None => writeln!(text, "- {}{about}", kind(choice)).unwrap(),
        }
    }
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
        writeln!(text, "One of {}.", words.join(", ")).unwrap();
    }
    if schema["type"] == "string" && schema.get("enum").is_none() {
        *text += "A string.\n";
    }
}

fn kind(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        return format!("[`{0}`](#{1})", last(reference), last(reference).to_lowercase());
    }
    if let Some(word) = schema.get("const") {
        return format!("`{word}`");
    }
    if let Some(choices) = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array()) {
        return choices.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    let one = |name: &str| match name {
        "array" => format!("array of {}", kind(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("object of {} by name", kind(&schema["additionalProperties"]))
        }
        name => name.to_owned(),
    };
    match &schema["type"] {
        Value::String(name) => one(name),
        Value::Array(names) => names.iter().map(|name| one(words(name))).collect::<Vec<_>>().join(" or "),
        _ => "any".to_owned(),
    }
}

#[test]
fn the_reference_in_docs_is_this_one() {
    crate::made::is_kept("api.md", &reference());
}

#[test]
fn what_can_be_asked_for_is_told_of_and_shown() {
    let document = described();
    let schemas = &document["components"]["schemas"];
    for (name, schema) in schemas.as_object().unwrap() {
        for (field, of) in schema["properties"].as_object().into_iter().flatten() {
            assert!(!prose(of).is_empty(), "{name}.{field} has no comment");
        }
    }
    for name in bodies(&document) {
        assert!(!prose(&schemas[&name]).is_empty(), "{name} has no comment");
    }
    let mut count = 0;
    each_operation(&document, |method, path, operation| {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            assert!(!prose(parameter).is_empty(), "{method} {path}: {parameter}");
        }
        let content = &operation["requestBody"]["content"]["application/json"];
        if content.is_object() {
            let mut schema = document.clone();
            schema["$ref"] = content["schema"]["$ref"].clone();
            let validator = jsonschema::validator_for(&schema).unwrap();
            let example = &content["example"];
            assert!(validator.is_valid(example), "{method} {path}: {example}");
            count += 1;
        }
        let codes: Vec<&str> = operation["responses"]
            .as_object()
            .unwrap()
            .values()
            .flat_map(|response| words(&response["description"]).split('`').skip(1).step_by(2))
            .collect();
        assert!(codes.iter().all(|code| CODES.iter().any(|known| known.code == *code)), "{codes:?}");
    });
    assert!(count >= 20, "{count}");
}

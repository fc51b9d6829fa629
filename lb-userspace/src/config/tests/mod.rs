//! Tests of the config as a whole: its rules, its robustness and its reference.

mod drains;
mod fields;
mod files;
mod health;
mod hooks;
mod limits;
mod machine;
mod models;
mod mutations;
mod packets;
mod reference;
mod rules;
mod service;
mod written;

use super::{ConfigErrors, Problem, parse};

const EXAMPLE: &str = include_str!("../../../../docs/sluice.example.toml");

fn refused(toml: &str) -> ConfigErrors {
    match parse(toml, "test.toml") {
        Ok(loaded) => panic!("accepted as {:?}:\n{toml}", loaded.model),
        Err(errors) => errors,
    }
}

/// `line:column path: message`
fn line(problem: &Problem) -> String {
    let Problem { line, column, path, message, .. } = problem;
    format!("{line}:{column} {path}: {message}")
}

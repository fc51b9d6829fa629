//! Names for completions: of hosts and services, as the daemon knows them at that moment.

use std::time::Duration;

use clap::{Arg, Command, CommandFactory};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};

use super::{Cli, DEFAULT_INSTANCE};
use crate::api::client::Client;
use crate::api::types::Status;

/// Somebody waits at a prompt.
const PATIENCE: Duration = Duration::from_millis(700);

/// The command line, with what can be said in the places of hosts and services.
pub fn command() -> Command {
    with_names(Cli::command())
}

fn with_names(command: Command) -> Command {
    command.mut_args(with_name).mut_subcommands(with_names)
}

fn with_name(arg: Arg) -> Arg {
    match arg.get_id().as_str() {
        "host" | "hosts" => arg.add(ArgValueCandidates::new(hosts)),
        "service" => arg.add(ArgValueCandidates::new(services)),
        _ => arg,
    }
}

fn hosts() -> Vec<CompletionCandidate> {
    let status = status();
    let hosts = status.iter().flat_map(|status| &status.hosts);
    hosts.map(|host| CompletionCandidate::new(&host.name)).collect()
}

fn services() -> Vec<CompletionCandidate> {
    let status = status();
    let services = status.iter().flat_map(|status| &status.services);
    services.map(|service| CompletionCandidate::new(&service.name)).collect()
}

/// Of the daemon that the line means so far. Without one there are no names.
fn status() -> Option<Status> {
    let client = Client::new(socket(std::env::args())).with_timeout(PATIENCE);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(client.get("/v1/status")).ok()
}

/// By the words of the line that is being completed, which are this process's own arguments.
fn socket(words: impl Iterator<Item = String>) -> String {
    let (mut socket, mut instance) = (None, DEFAULT_INSTANCE.to_owned());
    let words: Vec<String> = words.collect();
    for (at, word) in words.iter().enumerate() {
        let value = |option: &str| match word.strip_prefix(option)? {
            "" => words.get(at + 1).cloned(),
            rest => rest.strip_prefix('=').map(str::to_owned),
        };
        socket = value("--socket").or(socket);
        instance = value("--instance").unwrap_or(instance);
    }
    socket.unwrap_or_else(|| format!("/run/sluice/{instance}.sock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_which_daemon_is_meant() {
        let of = |line: &str| socket(line.split(' ').map(str::to_owned));
        assert_eq!(of("sluice drain w"), "/run/sluice/default.sock");
        assert_eq!(of("sluice --instance b drain w"), "/run/sluice/b.sock");
        assert_eq!(of("sluice drain --instance=b w"), "/run/sluice/b.sock");
        assert_eq!(of("sluice drain --socket /x --instance b"), "/x");
        assert_eq!(of("sluice drain --instance"), "/run/sluice/default.sock");
    }

    /// Whoever adds an option for a host names it so.
    #[test]
    fn every_place_of_a_host_or_service_has_names() {
        fn check(command: &Command, found: &mut usize) {
            for arg in command.get_arguments() {
                let means = |word: &str| {
                    arg.get_value_names().unwrap_or_default().iter().any(|name| name.as_str() == word)
                };
                let is_host = matches!(arg.get_id().as_str(), "host" | "hosts");
                assert_eq!(is_host, means("HOST"), "{} of {}", arg.get_id(), command.get_name());
                let has = arg.get::<ArgValueCandidates>().is_some();
                assert_eq!(has, is_host || arg.get_id() == "service", "{}", arg.get_id());
                *found += usize::from(has);
            }
            command.get_subcommands().for_each(|command| check(command, found));
        }
        let mut found = 0;
        check(&command(), &mut found);
        assert!(found >= 15, "{found}");
    }
}

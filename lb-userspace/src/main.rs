//! The one binary: daemon and command line.

use std::process::ExitCode;

use lb_userspace::cli::{self, Cli, Command, Failure};

pub fn main() -> ExitCode {
    // `cargo xtask` sets it for what is built to be used.
    cli::name_commit(option_env!("SLUICE_COMMIT"));
    // A shell asks what could come next on a line; then the process ends here.
    cli::completions::answer();
    match cli::parse() {
        Ok(cli) => cli::finish(dispatch(&cli)),
        Err(code) => code,
    }
}

fn dispatch(Cli { global, command }: &Cli) -> Result<(), Failure> {
    match command {
        Command::Run(args) => cli::run::run(global, args),
        Command::Status(args) => cli::status::run(global, args),
        Command::Top(args) => cli::top::run(global, args),
        Command::Drain(args) => cli::drain::run(global, args),
        Command::Undrain(args) => cli::undrain::run(global, args),
        Command::Drains(args) => cli::drains::run(global, args),
        Command::Wait(args) => cli::wait_for::run(global, args),
        Command::Receipts(args) => cli::receipts::run(global, args),
        Command::Receipt(args) => cli::receipt::run(global, args),
        Command::Plan(args) => cli::plan::run(global, args),
        Command::Flows(args) => cli::flows::run(global, args),
        Command::Kick(args) => cli::kick::run(global, args),
        Command::Maintain(args) => cli::maintain::run(global, args),
        Command::Shift(args) => cli::shift::run(global, args),
        Command::Events(args) => cli::events::run(global, args),
        Command::Health(args) => cli::health::run(global, args),
        Command::Apply(args) => cli::apply::run(global, args),
        Command::Confirm(args) => cli::confirm::run(global, args),
        Command::Rollback(args) => cli::rollback::run(global, args),
        Command::History(args) => cli::history::run(global, args),
        Command::Show(args) => cli::show::run(global, args),
        Command::Diff(args) => cli::diff::run(global, args),
        Command::Rings(args) => cli::rings::run(global, args),
        Command::Explain(args) => cli::explain::run(global, args),
        Command::Trace(args) => cli::trace::run(global, args),
        Command::Capture(args) => cli::capture::run(global, args),
        Command::Check(args) => cli::check::run(args),
        Command::Doctor(args) => cli::doctor::run(global, args),
        Command::Upgrade(args) => cli::upgrade::run(global, args),
        Command::Detach(args) => cli::detach::run(global, args),
        Command::Decap(args) => cli::decap::run(global, args),
        Command::Completions(args) => cli::completions::run(args),
        Command::Man(args) => cli::man::run(args),
    }
}

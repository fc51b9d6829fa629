//! The program with another layout of the maps: what tests upgrade to, and downgrade from.

#[path = "../main.rs"]
mod sluice;

fn main() -> std::process::ExitCode {
    sluice::main()
}

mod cases;
mod plans;
mod proofs;
mod random;
pub(super) mod world;

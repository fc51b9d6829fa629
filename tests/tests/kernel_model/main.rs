//! The XDP program in the kernel against two references: the model of the handover rules, with the program as its data path, and
//! the rules of a single flow, written down once more. Needs root.

mod agree;
mod atomic;
mod cases;
mod client;
mod histories;
mod kernel;
mod product;
mod random_steps;
mod renumbered;
mod rig;
mod rules;
mod steps;
mod table;

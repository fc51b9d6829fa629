//! Kernel and host agree on any frame: verdict, bytes and every counter. The frames are those that fuzzing found, and changed
//! ones. Needs root.

mod bench;
mod changed;
mod decap;
mod dry;
mod found;

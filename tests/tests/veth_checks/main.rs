//! Checks of each kind with the servers that they are for, what follows from a host that is down, and a thousand hosts that come and go.

// Tests begin in the order of their names, and the longest is here: the others run beside it.
mod crowd;
mod ends;
mod kinds;

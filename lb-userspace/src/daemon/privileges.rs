//! What the daemon may do: said before anything fails half-way.

use caps::{CapSet, Capability};

use crate::dataplane::Error;

/// Capabilities that the data path needs: `CAP_PERFMON` for packet offsets that vary (Linux 5.8).
const NEEDED: [Capability; 3] = [Capability::CAP_BPF, Capability::CAP_NET_ADMIN, Capability::CAP_PERFMON];

/// An error that names every capability that is missing. `CAP_SYS_ADMIN` stands for the BPF ones.
pub fn check() -> Result<(), Error> {
    let missing = missing();
    if missing.is_empty() { Ok(()) } else { Err(Error::Capability { missing: missing.join(", ") }) }
}

/// Names of those that are missing.
pub fn missing() -> Vec<String> {
    let held = caps::read(None, CapSet::Effective).unwrap_or_default();
    let has = |capability: &Capability| {
        held.contains(capability)
            || *capability != Capability::CAP_NET_ADMIN && held.contains(&Capability::CAP_SYS_ADMIN)
    };
    NEEDED.iter().filter(|capability| !has(capability)).map(ToString::to_string).collect()
}

//! The names of all fields, section by section: what the reader accepts and what the reference must describe.

pub(super) type Fields = &'static [&'static str];

pub(super) const TOP: Fields = &[
    "interfaces",
    "xdp_mode",
    "vip_mode",
    "ping",
    "mss_clamp",
    "outer_source",
    "gue_port",
    "ring_size",
    "hash_key",
    "flow_table",
    "timeouts",
    "rules",
    "health",
    "hooks",
    "journal",
    "api",
    "announce",
    "hosts",
    "services",
];
/// Of an element of `interfaces` that is a table.
pub(super) const INTERFACE: Fields = &["name", "xdp_mode"];
pub(super) const FLOW_TABLE: Fields = &["pins", "overflow", "flood_gate"];
pub(super) const TIMEOUTS: Fields = &["half_open", "established", "closing", "udp", "udp_gap"];
pub(super) const RULES: Fields = &["min_healthy", "one_zone_at_a_time"];
pub(super) const HEALTH: Fields = &[
    "interval",
    "timeout",
    "jitter",
    "rise",
    "fall",
    "damping",
    "down_flows",
    "down_after",
    "panic",
    "max_ejected",
    "ramp",
    "join_below",
    "leave_at",
];
/// Of an element of a service's `checks`.
pub(super) const CHECK: Fields =
    &["type", "through", "port", "path", "host", "status", "body", "send", "expect", "command"];
pub(super) const HOST: Fields = &["addresses", "weight", "disabled", "zone", "groups"];
pub(super) const JOURNAL: Fields = &["keep_for", "keep_revisions"];
pub(super) const ANNOUNCE: Fields = &["interface"];
pub(super) const API: Fields = &["read_group", "change_group"];
/// Each event but `lost`, which is for readers.
pub(super) const HOOKS: Fields = &[
    "timeout",
    "on_drain_began",
    "on_drain_amended",
    "on_drain_overdue",
    "on_deadline",
    "on_drained",
    "on_undrained",
    "on_lease_over",
    "on_kick_began",
    "on_kick_ended",
    "on_host_up",
    "on_host_down",
    "on_published",
    "on_config_applied",
    "on_config_confirmed",
    "on_config_failed",
    "on_host_left",
    "on_violation",
    "on_daemon_started",
    "on_daemon_stopping",
    "on_self_drain_began",
    "on_self_drained",
    "on_self_undrained",
];
pub(super) const SERVICE: Fields = &[
    "name",
    "vip",
    "protocol",
    "port",
    "forward",
    "outer",
    "backend_port",
    "fragments",
    "tracking",
    "affinity",
    "udp_handover",
    "timeouts",
    "rules",
    "when_empty",
    "checks",
    "health",
    "standby",
    "hosts",
];

/// Where a field belongs that stands in the wrong section; a top-level field behind a header is the usual slip.
pub(super) fn home_of(name: &str) -> Option<&'static str> {
    const HOMES: [(Fields, &str); 12] = [
        (TOP, "to the top of the file, above the first line in [brackets]"),
        (FLOW_TABLE, "under [flow_table]"),
        (TIMEOUTS, "under [timeouts], or in the timeouts of a service"),
        (RULES, "under [rules], or in the rules of a service"),
        (HEALTH, "under [health], or in the health of a service"),
        (CHECK, "under [[services.checks]]"),
        (HOOKS, "under [hooks]"),
        (JOURNAL, "under [journal]"),
        (API, "under [api]"),
        (ANNOUNCE, "under [announce]"),
        (HOST, "under [hosts.NAME]"),
        (SERVICE, "under [[services]]"),
    ];
    HOMES.iter().find(|(fields, _)| fields.contains(&name)).map(|(_, home)| *home)
}

//! All fields that a config may have, table by table: the reader takes these and no others, and docs/configuration-reference.md is made of
//! them and of what is said of each in the comment above it.

mod tables;

use std::ops::RangeInclusive;
use std::time::Duration;

pub use tables::*;

/// A table of the file.
#[derive(Debug)]
pub struct Table {
    /// How it begins, `""` for the top of the file.
    pub header: &'static str,
    /// Lines of its comment.
    pub about: &'static [&'static str],
    pub fields: &'static [Field],
}

#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    /// Lines of its comment.
    pub about: &'static [&'static str],
    pub form: Form,
    pub usual: Usual,
    pub change: Change,
}

/// What a field may hold.
#[derive(Debug)]
pub enum Form {
    /// A string with this in it.
    Text(&'static str),
    /// An array of such strings.
    Texts(&'static str),
    /// Whatever this says: more than one type.
    Any(&'static str),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Whole number from, to, and of what.
    Number(u64, u64, &'static str),
    /// In whole units of the last one.
    Duration(Duration, Duration, &'static str),
    /// Whole percent from, to.
    Percent(u8, u8),
    Flag,
    /// The table of this header.
    Table(&'static str),
    /// An array of such tables.
    Tables(&'static str),
}

/// What counts where a file has no such line.
#[derive(Debug)]
pub enum Usual {
    /// It must have one.
    Required,
    /// As if this was written.
    Value(&'static str),
    /// As this tells.
    As(&'static str),
    None,
}

/// What brings another value in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// `sluice apply`, or a reload of the file.
    Apply,
    /// A restart of the daemon, which costs no flow.
    Restart,
    /// `sluice detach` and a start, which forgets all flows.
    Detach,
}

impl Table {
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.fields.iter().map(|field| field.name)
    }

    pub fn has(&self, name: &str) -> bool {
        self.names().any(|known| known == name)
    }
}

/// Lets one change be left out in what [`fields`] is given.
macro_rules! change {
    () => {
        Change::Apply
    };
    ($change:ident) => {
        Change::$change
    };
}

/// `/// about` `NAME "header" { /// about` `field: form, usual; }`, with `=> Restart` or `=> Detach` behind a field that cannot be changed
/// by `sluice apply`.
macro_rules! fields {
    ($($(#[doc = $about:literal])* $table:ident $header:literal {
        $($(#[doc = $doc:literal])* $name:ident: $form:expr, $usual:expr $(=> $change:ident)?;)*
    })*) => {
        $(pub const $table: Table = Table {
            header: $header,
            about: &[$($about),*],
            fields: &[$(Field {
                name: stringify!($name),
                about: &[$($doc),*],
                form: $form,
                usual: $usual,
                change: change!($($change)?),
            }),*],
        };)*
        /// In the order of the reference.
        pub const TABLES: &[&Table] = &[$(&$table),*];
    };
}
use {change, fields};

const fn number(range: &RangeInclusive<u32>, of: &'static str) -> Form {
    Form::Number(*range.start() as u64, *range.end() as u64, of)
}

/// Of whole seconds.
const fn seconds(range: &RangeInclusive<Duration>) -> Form {
    Form::Duration(*range.start(), *range.end(), "seconds")
}

/// Where a field belongs that stands in the wrong table; a top-level field behind a header is the usual slip.
pub(super) fn home_of(name: &str) -> Option<&'static str> {
    const HOMES: [(&Table, &str); 15] = [
        (&TOP, "to the top of the file, above the first line in [brackets]"),
        (&FLOW_TABLE, "under [flow_table]"),
        (&TIMEOUTS, "under [timeouts], or in the timeouts of a service"),
        (&RULES, "under [rules], or in the rules of a service"),
        (&HEALTH, "under [health], or in the health of a service"),
        (&PASSIVE, "under [health.passive], or in the health.passive of a service"),
        (&CHECK, "under [[services.checks]]"),
        (&HOOKS, "under [hooks]"),
        (&JOURNAL, "under [journal]"),
        (&API, "under [api]"),
        (&METRICS, "under [metrics]"),
        (&UI, "under [ui]"),
        (&ANNOUNCE, "under [announce]"),
        (&HOST, "under [hosts.NAME]"),
        (&SERVICE, "under [[services]]"),
    ];
    HOMES.iter().find(|(table, _)| table.has(name)).map(|(_, home)| *home)
}

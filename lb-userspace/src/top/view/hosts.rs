//! The table of hosts: the columns of `sluice status`, of which a narrow screen shows those that matter most.

use ratatui::text::{Line, Span};

use crate::api::types::HostStatus;
use crate::cli::render::status::{HOSTS, host_row};
use crate::cli::render::text::{Align, clean, cut};

use super::super::state::Top;
use super::paint::Paint;

/// Columns of the screen from which on all of the table is shown.
const WIDE: u16 = 120;
/// Places in [`HOSTS`].
const FEW: &[usize] = &[0, 1, 2, 4, 5, 10, 11, 12];
const ALL: &[usize] = &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
/// Columns that each takes; the name takes what is left.
const WIDTHS: [usize; 13] = [0, 8, 11, 6, 5, 7, 6, 6, 6, 6, 5, 5, 5];
/// Of the longest name that is worth it, and the least.
const NAME: (usize, usize) = (12, 40);
const GAP: &str = "  ";

/// The header and the hosts on the screen.
pub fn lines(top: &Top) -> Vec<Line<'static>> {
    let paint = Paint::of(top);
    let columns = if top.size.0 >= WIDE { ALL } else { FEW };
    let others: usize = columns[1..].iter().map(|&column| WIDTHS[column] + GAP.len()).sum();
    // The mark takes one.
    let room = usize::from(top.size.0).saturating_sub(others + 1);
    let longest = top.hosts().iter().map(|host| host.name.chars().count()).max().unwrap_or(0);
    let name = longest.clamp(NAME.0, NAME.1).min(room);
    let width = |column: usize| if column == 0 { name } else { WIDTHS[column] };

    let titles = columns.iter().map(|&column| cell(HOSTS[column].0, width(column), HOSTS[column].1));
    let header = format!(" {}", titles.collect::<Vec<_>>().join(GAP));
    let mut lines = vec![Line::styled(header, paint.header())];
    for (place, is_chosen) in top.list.visible() {
        let host = &top.hosts()[place];
        let row = host_row(host);
        let mut spans = vec![Span::raw(if top.list.marked.contains(&host.name) { "*" } else { " " })];
        for (i, &column) in columns.iter().enumerate() {
            let text = clean(&row[column], top.settings.ascii);
            let text = cell(&cut(&text, width(column)), width(column), HOSTS[column].1);
            if i > 0 {
                spans.push(Span::raw(GAP));
            }
            spans.push(match column {
                1 | 2 => Span::styled(text, state(host, column, paint)),
                _ => Span::raw(text),
            });
        }
        let line = Line::from(spans);
        lines.push(if is_chosen { line.patch_style(paint.chosen()) } else { line });
    }
    if top.list.shown() == 0 {
        let nothing = if top.hosts().is_empty() { "no hosts" } else { "no host is like that; Esc shows all" };
        lines.push(Line::raw(format!(" {nothing}")));
    }
    lines
}

fn state(host: &HostStatus, column: usize, paint: Paint) -> ratatui::style::Style {
    use crate::api::types::{AdminState, OperState};
    match (column, host.admin, host.oper) {
        (1, AdminState::Active, _) => paint.good(),
        (1, AdminState::Draining, _) => paint.warn(),
        (1, AdminState::Drained | AdminState::Disabled, _) => paint.dim(),
        (_, _, OperState::Down) => paint.bad(),
        _ if !host.down_for.is_empty() => paint.bad(),
        (_, _, OperState::Up) => paint.good(),
        (_, _, OperState::Unknown) => paint.warn(),
    }
}

fn cell(text: &str, width: usize, align: Align) -> String {
    match align {
        Align::Left => format!("{text:<width$}"),
        Align::Right => format!("{text:>width$}"),
    }
}

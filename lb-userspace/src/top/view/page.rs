//! The text of pages and dialogs: what other verbs print, for this screen.

use crate::api::types::Happening;
use crate::cli::render::number::{exact, percent, plural, rate};
use crate::cli::render::text::{clean, wrap};
use crate::cli::render::{drain, event, health, maintain, progress, shift, status};
use crate::cli::terminal::Style;

use super::super::dialog::Dialog;
use super::super::state::{PAGES, Page, Top};
use super::{dialog, layout};

/// The lines of the page; none of the first, which is a table.
pub fn text(top: &Top) -> Vec<String> {
    let (now, style) = (top.now.unix, top.style());
    // The last look may have been for another page.
    let is_seen = top.look.wanted == top.wanted();
    let text = match &top.page {
        Page::Hosts => return Vec::new(),
        Page::Drains if !is_seen => looking(),
        Page::Drains => progress::drains(&top.look.drains, now, style),
        Page::Health => {
            let problems = top.look.status.problems.iter().map(|problem| {
                wrap(&clean(&format!("problem: {problem}"), style.ascii), usize::from(style.width), 2) + "\n"
            });
            let mut text: String = problems.collect();
            match &top.look.health {
                Some(report) if is_seen => text += &health::report(report, false, style),
                _ => text += &looking(),
            }
            text
        }
        Page::Runs => runs(top, style),
        Page::Events => {
            let told = top.events.iter().rev();
            let told = told.filter(|event| !matches!(event.happening, Happening::Published { .. }));
            let lines: Vec<String> =
                told.map(|told| wrap(&event::line(told, style), usize::from(style.width), 2)).collect();
            if lines.is_empty() {
                "nothing has happened since the daemon's start\n".to_owned()
            } else {
                lines.concat()
            }
        }
        Page::Host(name) => host(top, name, style),
    };
    text.lines().map(str::to_owned).collect()
}

fn looking() -> String {
    "looking ...\n".to_owned()
}

fn runs(top: &Top, style: Style) -> String {
    let runs = top.look.runs.iter().map(|run| maintain::status(run, style));
    let shifts = top.look.status.services.iter().filter_map(|service| service.split.as_ref());
    let all: Vec<String> = runs.chain(shifts.map(|run| shift::shift(run, style))).collect();
    if all.is_empty() {
        return "no maintenance run and no shift: see `sluice maintain` and `sluice shift`\n".to_owned();
    }
    all.join("\n")
}

/// All about one host.
fn host(top: &Top, name: &str, style: Style) -> String {
    let Some(host) = top.hosts().iter().find(|host| host.name == name) else {
        return format!("{} is not in the config any more\n", clean(name, style.ascii));
    };
    let (live, traffic) = (host.live_flows, host.traffic);
    let mut lines = vec![format!(
        "{name}: {}, {}; weight {}, {} of the slots",
        status::admin(host),
        status::oper(host),
        host.weight,
        percent(host.share)
    )];
    if !host.down_for.is_empty() {
        lines.push(format!("DOWN for {}", host.down_for.join(", ")));
    }
    let least = if live.hidden { "at least " } else { "" };
    let phases = if live.total > 0 { format!(" ({})", drain::phases(live)) } else { String::new() };
    lines.push(format!(
        "{least}{}{phases}; {} new/s, {} pkt/s, {} B/s",
        plural(live.total, "live flow"),
        rate(traffic.new_flows_per_second),
        rate(traffic.packets_per_second),
        rate(traffic.bytes_per_second)
    ));
    if let Some(ramp) = &host.ramp {
        lines.push(format!("{}, by {}", drain::ramping(ramp), ramp.by));
    }
    let paragraph = |line: &String| wrap(&clean(line, style.ascii), usize::from(style.width), 2) + "\n";
    let mut out: String = lines.iter().map(paragraph).collect();
    out.push('\n');
    out += &status::backends(&top.look.status, Some(name), style);
    let look = &top.look;
    if look.wanted != top.wanted() {
        return out + "\n" + &looking();
    }
    if !look.drains.is_empty() {
        out = out + "\n" + &progress::drains(&look.drains, top.now.unix, style);
    }
    if let Some(report) = &look.health {
        out = out + "\n" + &health::report(report, true, style);
    }
    out
}

/// Lines that a dialog shows at once, and how far it can be scrolled.
pub fn room_of_dialog(top: &Top) -> (usize, usize) {
    let room = dialog::room(top);
    let end = match &top.dialog {
        Some(Dialog::Plan { plan, .. }) => dialog::plan_lines(top, plan).len().saturating_sub(room),
        _ => 0,
    };
    (room, end)
}

/// What the tabs say.
pub fn tabs(top: &Top) -> String {
    let mut text = String::new();
    for (index, (page, name)) in PAGES.iter().enumerate() {
        let is_open = *page == top.page || (index == 0 && matches!(top.page, Page::Host(_)));
        text += &if is_open { format!("[{} {name}]", index + 1) } else { format!(" {} {name} ", index + 1) };
    }
    match &top.page {
        Page::Hosts => {
            let list = &top.list;
            let total = top.hosts().len();
            text += &format!("  {}/{}", exact(list.position() as u64), exact(list.shown() as u64));
            if list.shown() < total {
                text += &format!(" of {}", exact(total as u64));
            }
            if !list.filter.is_empty() {
                text += &format!(", like {:?}", list.filter);
            }
            if !list.marked.is_empty() {
                text += &format!(", {} marked", list.marked.len());
            }
            text +=
                &format!(", by {}{}", list.sort.name(), if list.is_reversed { " (reversed)" } else { "" });
        }
        Page::Host(name) => text += &format!("  {name}"),
        _ if top.text.len() > layout::of(top).body() => {
            let last = (top.scroll + layout::of(top).body()).min(top.text.len());
            text += &format!("  lines {}-{last} of {}", top.scroll + 1, top.text.len());
        }
        _ => {}
    }
    text
}

//! The screen, drawn from the state: nothing is decided here.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;

use super::key::HINT;
use super::state::{Page, Top};
use crate::cli::render::text::{clean, cut};
use paint::Paint;

pub mod dialog;
pub mod head;
pub mod hosts;
pub mod layout;
pub mod page;
pub mod paint;
pub mod work;

/// Draws all of it.
pub fn draw(frame: &mut Frame, top: &Top) {
    let area = frame.area();
    let buffer = frame.buffer_mut();
    // Between a new size and its news both count.
    if layout::is_too_small((area.width, area.height)) || layout::is_too_small(top.size) {
        too_small(buffer, area);
        return;
    }
    let (mut lines, paint) = (head::lines(top), Paint::of(top));
    let (layout, width) = (layout::of(top), usize::from(area.width));
    lines.push(Line::styled(cut(&clean(&page::tabs(top), top.settings.ascii), width), paint.header()));
    match top.page {
        Page::Hosts => {
            let mut page = hosts::lines(top);
            page.resize(1 + layout.rows(), Line::default());
            if layout.work > 0 {
                page.extend(work::lines(top, layout.work).iter().map(|line| paint.words(line)));
            }
            lines.extend(page);
        }
        _ => {
            let shown = top.text.iter().skip(top.scroll).take(layout.body());
            lines.extend(shown.map(|line| paint.words(line)));
        }
    }
    for (y, line) in (area.y..).zip(&lines).take(usize::from(area.height) - 1) {
        buffer.set_line(area.x, y, line, area.width);
    }
    let foot = area.bottom() - 1;
    buffer.set_line(area.x, foot, &self::foot(top, width), area.width);
    let mut cursor =
        top.is_typing.then(|| (1 + top.list.filter.chars().count().min(width - 2), usize::from(foot)));
    if let Some(dialog) = &top.dialog {
        cursor = draw_box(buffer, area, top, dialog);
    }
    if let Some((x, y)) = cursor {
        frame.set_cursor_position((x as u16, y as u16));
    }
}

/// Over the middle of the screen; where one types in it.
fn draw_box(
    buffer: &mut Buffer,
    area: Rect,
    top: &Top,
    dialog: &super::dialog::Dialog,
) -> Option<(usize, usize)> {
    let (lines, cursor) = dialog::lines(top, dialog);
    let width = lines.iter().map(Line::width).max().unwrap_or(0).min(usize::from(area.width)) as u16;
    let height = lines.len().min(usize::from(area.height)) as u16;
    let (left, up) = ((area.width - width) / 2, (area.height - height) / 2);
    for (y, line) in (area.y + up..).zip(&lines).take(usize::from(height)) {
        for x in left..left + width {
            buffer[(area.x + x, y)].reset();
        }
        buffer.set_line(area.x + left, y, line, width);
    }
    cursor.map(|(x, y)| (usize::from(left) + x, usize::from(up) + y))
}

/// What is typed, what was said last, or which keys there are.
fn foot(top: &Top, width: usize) -> Line<'static> {
    let paint = Paint::of(top);
    if top.is_typing {
        return Line::raw(cut(&format!("/{}", clean(&top.list.filter, top.settings.ascii)), width));
    }
    match &top.said {
        Some((words, _)) => Line::styled(cut(&clean(words, top.settings.ascii), width), paint.title()),
        None => Line::styled(cut(HINT, width), paint.dim()),
    }
}

fn too_small(buffer: &mut Buffer, area: Rect) {
    let size = format!("{} x {}", area.width, area.height);
    let lines = [
        format!("this terminal has {size},"),
        format!("{} x {} are needed", layout::COLUMNS, layout::LINES),
        "(q quits)".to_owned(),
    ];
    for (y, line) in (area.y..area.bottom()).zip(&lines) {
        buffer.set_stringn(area.x, y, line, usize::from(area.width), ratatui::style::Style::new());
    }
}

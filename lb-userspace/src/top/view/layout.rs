//! How many lines each part of the screen has.

use super::super::state::{Page, Top};
use super::{head, work};

/// Less than this shows nothing that helps.
pub const COLUMNS: u16 = 60;
pub const LINES: u16 = 20;

/// Lines from top to bottom: head, tabs, the page (on the first one a table with its header and what is under way), foot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Layout {
    pub head: usize,
    /// Of the page as a whole.
    page: usize,
    /// Of what is under way, with its title; 0 where nothing is, and on other pages.
    pub work: usize,
}

pub fn is_too_small((columns, lines): (u16, u16)) -> bool {
    columns < COLUMNS || lines < LINES
}

pub fn of(top: &Top) -> Layout {
    if is_too_small(top.size) {
        return Layout::default();
    }
    let head = head::lines(top).len();
    let page = usize::from(top.size.1).saturating_sub(head + 2);
    let work = match (&top.page, work::count(top)) {
        (Page::Hosts, count @ 1..) => {
            // A third, or what the hosts leave.
            let free = page.saturating_sub(1 + top.list.shown().max(1));
            (count + 1).min(free.max(page / 3))
        }
        _ => 0,
    };
    Layout { head, page, work }
}

impl Layout {
    /// For hosts, below the header.
    pub fn rows(self) -> usize {
        self.page.saturating_sub(1 + self.work)
    }

    /// For the text of other pages.
    pub fn body(self) -> usize {
        self.page
    }
}

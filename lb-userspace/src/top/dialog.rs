//! What stands over the screen: questions, refusals, plans and the help.

use crate::api::types::{BrokenRule, DrainPlan, DrainRequest, PlanRequest, UndrainRequest};

use super::key::Key;
use super::order::{Order, Refusal};

/// Characters of the longest reason that can be typed.
const LONGEST: usize = 400;
/// What is typed to break rules.
pub const FORCE: &str = "force";

/// What is done to hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Drain,
    Undrain,
}

impl Verb {
    pub fn name(self) -> &'static str {
        match self {
            Verb::Drain => "drain",
            Verb::Undrain => "undrain",
        }
    }
}

/// A verb with its hosts and reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    pub verb: Verb,
    pub hosts: Vec<String>,
    pub reason: String,
    /// Live flows of the hosts; null: not known.
    pub live: Option<u64>,
    /// Of the hosts, how many the list's filter hides.
    pub hidden: usize,
}

impl Deed {
    pub fn order(&self, by: Option<&str>, force: bool) -> Order {
        let reason = Some(self.reason.trim()).filter(|reason| !reason.is_empty()).map(str::to_owned);
        let (hosts, by) = (self.hosts.clone(), by.map(str::to_owned));
        match self.verb {
            Verb::Drain => Order::Drain(DrainRequest { hosts, reason, by, force, ..DrainRequest::default() }),
            Verb::Undrain => {
                Order::Undrain(UndrainRequest { hosts, reason, by, ..UndrainRequest::default() })
            }
        }
    }

    /// `web-2`, or `12 hosts`.
    pub fn whom(&self) -> String {
        whom(&self.hosts)
    }
}

pub fn whom(hosts: &[String]) -> String {
    match hosts {
        [one] => one.clone(),
        many => format!("{} hosts", many.len()),
    }
}

pub fn plan_of(hosts: &[String]) -> Order {
    Order::Plan(PlanRequest { hosts: hosts.to_vec(), service: None, clients: None, share: None })
}

#[derive(Debug, Clone)]
pub enum Dialog {
    Help,
    /// Is it meant, and why?
    Ask(Deed),
    /// The daemon was asked; its answer has this number.
    Sent {
        number: u64,
        what: String,
        deed: Option<Deed>,
    },
    /// It would break rules: is it meant all the same?
    Rules {
        deed: Deed,
        rules: Vec<BrokenRule>,
        typed: String,
    },
    /// It was not done, whatever is said now.
    Refused {
        what: String,
        refusal: Refusal,
    },
    /// A plan, as `sluice plan drain` prints it.
    Plan {
        hosts: Vec<String>,
        plan: Box<DrainPlan>,
        scroll: usize,
    },
}

/// What a key does to a dialog.
#[derive(Debug)]
pub enum Then {
    Stay,
    Close,
    /// The daemon is asked.
    Send {
        deed: Deed,
        force: bool,
    },
    /// A question takes the place.
    Ask(Verb, Vec<String>),
}

impl Dialog {
    /// `page`: lines of a page, `end`: the farthest that there is to scroll.
    pub fn key(&mut self, key: Key, page: usize, end: usize) -> Then {
        if key == Key::Escape {
            return Then::Close;
        }
        match self {
            Dialog::Ask(deed) => match key {
                Key::Enter => Then::Send { deed: deed.clone(), force: false },
                _ => typed(&mut deed.reason, key),
            },
            Dialog::Rules { deed, typed: word, .. } => match key {
                Key::Enter if word.trim() == FORCE => Then::Send { deed: deed.clone(), force: true },
                Key::Enter => Then::Stay,
                _ => typed(word, key),
            },
            Dialog::Sent { .. } => Then::Stay,
            Dialog::Plan { hosts, scroll, .. } => match key {
                Key::Char('d') => Then::Ask(Verb::Drain, hosts.clone()),
                Key::Char('q') | Key::Enter => Then::Close,
                _ => {
                    *scroll = scrolled(*scroll, key, page).min(end);
                    Then::Stay
                }
            },
            Dialog::Help | Dialog::Refused { .. } => Then::Close,
        }
    }
}

fn typed(text: &mut String, key: Key) -> Then {
    edit(text, key);
    Then::Stay
}

/// Takes a key into a line that is typed.
pub fn edit(text: &mut String, key: Key) {
    match key {
        Key::Char(c) if !c.is_control() && text.chars().count() < LONGEST => text.push(c),
        Key::Backspace => {
            text.pop();
        }
        Key::Clear => text.clear(),
        _ => {}
    }
}

/// Where a text stands that is scrolled by a key; the caller keeps it within its bounds.
pub fn scrolled(at: usize, key: Key, page: usize) -> usize {
    match key {
        Key::Up | Key::Char('k') => at.saturating_sub(1),
        Key::Down | Key::Char('j') => at.saturating_add(1),
        Key::PageUp => at.saturating_sub(page),
        Key::PageDown | Key::Char(' ') => at.saturating_add(page),
        Key::Home | Key::Char('g') => 0,
        Key::End | Key::Char('G') => usize::MAX,
        _ => at,
    }
}

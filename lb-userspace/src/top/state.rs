//! All that the screen shows, and what keys and answers make of it. Nothing here knows of terminals, sockets or clocks.

use std::collections::VecDeque;
use std::time::Duration;

use crate::api::types::{AdminState, DrainStatus, Event, HostStatus};
use crate::cli::render;
use crate::cli::terminal::Style;

use super::dialog::{Deed, Dialog, Then, Verb, edit, plan_of, scrolled, whom};
use super::key::Key;
use super::list::List;
use super::order::{Answer, Look, News, Order, Refusal, Wanted};
use super::view::{layout, page};

/// Events that are kept.
const EVENTS: usize = 1000;
/// So long a message stands in the lowest line.
const SAID_FOR: Duration = Duration::from_secs(15);

/// What the command line said, and what the terminal can.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// `sluice` with the options that lead to this daemon, for hints.
    pub command: String,
    pub by: Option<String>,
    /// Of drains and undrains, unless another is typed.
    pub reason: String,
    /// Between two looks.
    pub every: Duration,
    pub colour: bool,
    /// Other characters than ASCII are escaped.
    pub ascii: bool,
}

/// A moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Now {
    /// Since the program's start; it never jumps.
    pub up: Duration,
    /// Unix seconds.
    pub unix: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Page {
    Hosts,
    Drains,
    Health,
    Runs,
    Events,
    /// All about one host.
    Host(String),
}

/// Pages in the order of their digits.
pub const PAGES: [(Page, &str); 5] = [
    (Page::Hosts, "hosts"),
    (Page::Drains, "drains"),
    (Page::Health, "health"),
    (Page::Runs, "runs"),
    (Page::Events, "events"),
];

/// What is to be done after some news.
#[derive(Debug)]
pub enum Step {
    Stay,
    /// Everything is drawn again.
    Redraw,
    Ask(u64, Order),
    Quit,
}

#[derive(Debug)]
pub struct Top {
    pub settings: Settings,
    /// Columns and lines.
    pub size: (u16, u16),
    pub now: Now,
    pub look: Look,
    /// When it was seen.
    pub seen: Duration,
    /// Why no look has succeeded since.
    pub away: Option<String>,
    pub list: List,
    pub page: Page,
    /// Of the page, and the first of them on the screen.
    pub text: Vec<String>,
    pub scroll: usize,
    /// There is news that the text does not have.
    is_stale: bool,
    pub dialog: Option<Dialog>,
    /// The filter is being typed.
    pub is_typing: bool,
    /// Of the lowest line, and when it was said.
    pub said: Option<(String, Duration)>,
    /// The latest last.
    pub events: VecDeque<Event>,
    orders: u64,
}

impl Top {
    pub fn new(settings: Settings, size: (u16, u16), look: Look, now: Now) -> Self {
        let mut top = Top {
            settings,
            size,
            now,
            look,
            seen: now.up,
            away: None,
            list: List::default(),
            page: Page::Hosts,
            text: Vec::new(),
            scroll: 0,
            is_stale: false,
            dialog: None,
            is_typing: false,
            said: None,
            events: VecDeque::new(),
            orders: 0,
        };
        top.list.arrange(&top.look.status.hosts);
        top.settle();
        top
    }

    pub fn hosts(&self) -> &[HostStatus] {
        &self.look.status.hosts
    }

    /// How the renderers of the other verbs write for this screen; colours come later.
    pub fn style(&self) -> Style {
        Style { control: false, ascii: self.settings.ascii, width: self.size.0, height: self.size.1 }
    }

    /// How old the figures are.
    pub fn age(&self) -> Duration {
        self.now.up.saturating_sub(self.seen)
    }

    /// What the next look is to ask for.
    pub fn wanted(&self) -> Wanted {
        match &self.page {
            Page::Hosts | Page::Runs | Page::Events => Wanted::default(),
            Page::Drains => Wanted { drains: true, ..Wanted::default() },
            Page::Health => Wanted { health: true, ..Wanted::default() },
            Page::Host(host) => Wanted { drains: true, health: true, host: Some(host.clone()) },
        }
    }

    pub fn take(&mut self, news: News, now: Now) -> Step {
        self.now = now;
        let mut step = Step::Stay;
        match news {
            News::Key(key) => step = self.key(key),
            News::Size(columns, lines) => {
                self.size = (columns, lines);
                self.is_stale = true;
            }
            News::Look(look) => {
                // Of a page that was left meanwhile it has all the same what is on every page.
                self.look = *look;
                (self.seen, self.away) = (now.up, None);
                self.list.arrange(&self.look.status.hosts);
                self.is_stale = true;
            }
            News::Away(why) => self.away = Some(why),
            News::Event(event) => {
                if self.events.len() == EVENTS {
                    self.events.pop_front();
                }
                self.events.push_back(*event);
                // At the start a thousand come at once: what follows them settles.
                self.is_stale = true;
                return Step::Stay;
            }
            News::Answer(number, answer) => self.answered(number, *answer),
            News::Tick => {}
        }
        if self.said.as_ref().is_some_and(|(_, at)| now.up.saturating_sub(*at) > SAID_FOR) {
            self.said = None;
        }
        self.settle();
        step
    }

    /// Fits everything into the screen.
    fn settle(&mut self) {
        let rows = layout::of(self).rows();
        self.list.fit(rows);
        if std::mem::take(&mut self.is_stale) {
            self.text = page::text(self);
        }
        self.scroll = self.scroll.min(self.farthest());
    }

    fn farthest(&self) -> usize {
        self.text.len().saturating_sub(layout::of(self).body())
    }

    fn say(&mut self, words: impl Into<String>) {
        self.said = Some((words.into(), self.now.up));
    }

    fn key(&mut self, key: Key) -> Step {
        match key {
            Key::Interrupt => return Step::Quit,
            Key::Redraw => return Step::Redraw,
            // What is not seen is not done.
            _ if layout::is_too_small(self.size) => {
                return if key == Key::Char('q') { Step::Quit } else { Step::Stay };
            }
            _ => {}
        }
        if self.dialog.is_some() {
            return self.dialog_key(key);
        }
        if self.is_typing {
            return self.filter_key(key);
        }
        self.said = None;
        match key {
            Key::Char('q') => return Step::Quit,
            Key::Char('?') => self.dialog = Some(Dialog::Help),
            Key::Char(digit @ '1'..='5') => self.open(PAGES[digit as usize - '1' as usize].0.clone()),
            Key::Tab => self.turn(1),
            Key::BackTab => self.turn(PAGES.len() - 1),
            Key::Escape if self.page != Page::Hosts => self.open(Page::Hosts),
            Key::Char('d') => self.ask(Verb::Drain, self.meant()),
            Key::Char('u') => self.ask(Verb::Undrain, self.meant()),
            Key::Char('p') => return self.plan(),
            _ if self.page == Page::Hosts => self.list_key(key),
            _ => {
                let page = layout::of(self).body();
                self.scroll = scrolled(self.scroll, key, page).min(self.farthest());
            }
        }
        Step::Stay
    }

    fn list_key(&mut self, key: Key) {
        let hosts = &self.look.status.hosts;
        let page = isize::try_from(self.list.rows().max(1)).unwrap_or(isize::MAX);
        match key {
            Key::Up | Key::Char('k') => self.list.step(-1, hosts),
            Key::Down | Key::Char('j') => self.list.step(1, hosts),
            Key::PageUp => self.list.step(-page, hosts),
            Key::PageDown => self.list.step(page, hosts),
            Key::Home | Key::Char('g') => self.list.step(isize::MIN, hosts),
            Key::End | Key::Char('G') => self.list.step(isize::MAX, hosts),
            Key::Char(' ') => self.list.mark(hosts),
            Key::Char('/') => self.is_typing = true,
            Key::Char('s') => self.list.sort_by_next(hosts),
            Key::Char('r') => {
                self.list.is_reversed = !self.list.is_reversed;
                self.list.arrange(hosts);
            }
            Key::Escape if !self.list.filter.is_empty() => {
                self.list.filter.clear();
                self.list.arrange(hosts);
            }
            Key::Escape => self.list.marked.clear(),
            Key::Enter => {
                if let Some(host) = self.list.chosen(hosts) {
                    self.open(Page::Host(host.name.clone()));
                }
            }
            _ => {}
        }
    }

    fn filter_key(&mut self, key: Key) -> Step {
        match key {
            Key::Enter => self.is_typing = false,
            Key::Escape => {
                self.is_typing = false;
                self.list.filter.clear();
            }
            Key::Up | Key::Down | Key::PageUp | Key::PageDown => self.list_key(key),
            key => edit(&mut self.list.filter, key),
        }
        self.list.arrange(&self.look.status.hosts);
        Step::Stay
    }

    fn dialog_key(&mut self, key: Key) -> Step {
        let (page, end) = page::room_of_dialog(self);
        let Some(dialog) = &mut self.dialog else { return Step::Stay };
        match dialog.key(key, page, end) {
            Then::Stay => {}
            Then::Close => self.dialog = None,
            Then::Ask(verb, hosts) => self.ask(verb, hosts),
            Then::Send { deed, force } => {
                let order = deed.order(self.settings.by.as_deref(), force);
                let what = format!("{} {}", deed.verb.name(), deed.whom());
                return self.send(order, what, Some(deed));
            }
        }
        Step::Stay
    }

    fn open(&mut self, page: Page) {
        (self.page, self.scroll, self.is_stale) = (page, 0, true);
    }

    fn turn(&mut self, by: usize) {
        let at = PAGES.iter().position(|(page, _)| *page == self.page).unwrap_or(0);
        self.open(PAGES[(at + by) % PAGES.len()].0.clone());
    }

    /// Hosts that a verb is about: none that the screen does not show as chosen.
    fn meant(&self) -> Vec<String> {
        match &self.page {
            Page::Host(host) => vec![host.clone()],
            Page::Hosts => self.list.meant(self.hosts()),
            Page::Drains | Page::Health | Page::Runs | Page::Events => Vec::new(),
        }
    }

    fn ask(&mut self, verb: Verb, hosts: Vec<String>) {
        if hosts.is_empty() {
            self.say("no host is chosen: 1 shows them");
            return;
        }
        let meant = self.hosts().iter().filter(|host| hosts.contains(&host.name));
        let live = meant.map(|host| (!host.live_flows.hidden).then_some(host.live_flows.total)).sum();
        let reason = self.settings.reason.clone();
        let hidden = if self.page == Page::Hosts { self.list.hidden(&hosts, self.hosts()) } else { 0 };
        self.dialog = Some(Dialog::Ask(Deed { verb, hosts, reason, live, hidden }));
    }

    fn plan(&mut self) -> Step {
        let hosts = self.meant();
        if hosts.is_empty() {
            self.say("no host is chosen: 1 shows them");
            return Step::Stay;
        }
        let what = format!("plan drain {}", whom(&hosts));
        self.send(plan_of(&hosts), what, None)
    }

    fn send(&mut self, order: Order, what: String, deed: Option<Deed>) -> Step {
        self.orders += 1;
        self.dialog = Some(Dialog::Sent { number: self.orders, what, deed });
        Step::Ask(self.orders, order)
    }

    /// An answer to a dialog that was closed meanwhile is told in the lowest line.
    fn answered(&mut self, number: u64, answer: Result<Answer, Refusal>) {
        let sent = match self.dialog.take() {
            Some(Dialog::Sent { number: of, what, deed }) if of == number => Some((what, deed)),
            other => {
                self.dialog = other;
                None
            }
        };
        match (answer, sent) {
            (Ok(Answer::Plan(plan)), Some(_)) => {
                let hosts = plan.hosts.iter().map(|host| host.host.clone()).collect();
                self.dialog = Some(Dialog::Plan { hosts, plan, scroll: 0 });
            }
            (Ok(Answer::Plan(_)), None) => {}
            (Ok(Answer::Drained(drains)), _) => self.done(&drains, "out", render::drain::began),
            (Ok(Answer::Undrained(drains)), _) => self.done(&drains, "back", render::drain::undrained),
            (Err(refusal), Some((_, Some(deed))))
                if !refusal.rules.is_empty() && deed.verb == Verb::Drain =>
            {
                self.dialog = Some(Dialog::Rules { deed, rules: refusal.rules, typed: String::new() });
            }
            (Err(refusal), Some((what, _))) => self.dialog = Some(Dialog::Refused { what, refusal }),
            (Err(refusal), None) => self.say(refusal.message),
        }
    }

    /// As the verb of the command line says it, if it was one host.
    fn done(&mut self, drains: &[DrainStatus], where_to: &str, words: fn(&DrainStatus, Style) -> String) {
        self.list.marked.clear();
        let said = match drains {
            [one] => words(one, Style { width: u16::MAX, ..self.style() }).replace('\n', " "),
            many => format!("{} hosts are {where_to}", many.len()),
        };
        self.say(said.trim_end());
    }

    /// Hosts by what the operator wants of them.
    pub fn count(&self, admin: AdminState) -> usize {
        self.hosts().iter().filter(|host| host.admin == admin).count()
    }
}

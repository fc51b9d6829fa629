//! `sluice flows`: pages of one table, so that a million flows stream through.

use crate::api::types::Flow;
use crate::cli::terminal::Style;

use super::number::duration;
use super::text::clean;

const HEADERS: [&str; 7] = ["CLIENT", "SERVICE", "HOST", "PHASE", "AGE", "IDLE", "SLOT"];
/// Columns that hold numbers, from this one on.
const FIRST_NUMBER: usize = 4;

/// Remembers how wide the columns are, so that the pages line up; columns grow only.
#[derive(Debug)]
pub struct Pages {
    style: Style,
    widths: Option<[usize; HEADERS.len()]>,
}

impl Pages {
    pub fn new(style: Style) -> Self {
        Pages { style, widths: None }
    }

    /// The lines of one page, with the headers before the first.
    pub fn page(&mut self, flows: &[Flow]) -> String {
        let rows: Vec<[String; 7]> = flows.iter().map(|f| self.row(f)).collect();
        let first = self.widths.is_none();
        // The first page is likely to be typical; an IPv4 client and common figures always fit.
        let mut widths = self.widths.unwrap_or([21, 7, 5, 11, 5, 5, 5]);
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        self.widths = Some(widths);
        let mut out = String::new();
        if first {
            line(&mut out, &HEADERS, &widths);
        }
        for row in &rows {
            line(&mut out, row, &widths);
        }
        out
    }

    fn row(&self, flow: &Flow) -> [String; 7] {
        let clean = |text: &str| clean(text, self.style.ascii);
        [
            clean(&flow.client),
            clean(&flow.service),
            clean(&flow.host),
            clean(&flow.phase),
            duration(flow.age),
            duration(flow.idle),
            flow.slot.to_string(),
        ]
    }
}

fn line<T: AsRef<str>>(out: &mut String, cells: &[T; 7], widths: &[usize; 7]) {
    let start = out.len();
    for (i, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let (cell, gap) = (cell.as_ref(), if i == 0 { "" } else { "  " });
        let text =
            if i < FIRST_NUMBER { format!("{gap}{cell:<width$}") } else { format!("{gap}{cell:>width$}") };
        out.push_str(&text);
    }
    out.truncate(start + out[start..].trim_end().len());
    out.push('\n');
}

/// The words for an empty answer.
pub fn none(host: Option<&str>, service: Option<&str>, style: Style) -> String {
    let mut text = "no live flows".to_owned();
    if let Some(host) = host {
        text += &format!(" on host {host}");
    }
    if let Some(service) = service {
        text += &format!(" of service {service}");
    }
    clean(&text, style.ascii) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(client: &str, slot: u32) -> Flow {
        Flow {
            protocol: "tcp".to_owned(),
            client: client.to_owned(),
            vip: "192.0.2.10:443".to_owned(),
            service: "web".to_owned(),
            host: "web-1".to_owned(),
            phase: "established".to_owned(),
            age: 7500,
            idle: 3,
            slot,
        }
    }

    #[test]
    fn pages_line_up() {
        let mut pages = Pages::new(Style::PLAIN);
        assert_eq!(
            pages.page(&[flow("198.51.100.7:50000", 1), flow("198.51.100.255:50001", 65_536)]),
            "\
CLIENT                 SERVICE  HOST   PHASE          AGE   IDLE   SLOT
198.51.100.7:50000     web      web-1  established  2h05m     3s      1
198.51.100.255:50001   web      web-1  established  2h05m     3s  65536
"
        );
        assert_eq!(
            pages.page(&[flow("198.51.100.8:1", 3)]),
            "198.51.100.8:1         web      web-1  established  2h05m     3s      3\n"
        );
    }

    #[test]
    fn the_longest_client_fits() {
        let client = "[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535";
        let text = Pages::new(Style::PLAIN).page(&[flow(client, 65_536)]);
        assert!(text.lines().all(|l| l.len() <= 100), "{text}");
    }

    #[test]
    fn nothing_is_said_in_words() {
        assert_eq!(none(None, None, Style::PLAIN), "no live flows\n");
        assert_eq!(none(Some("a"), Some("b"), Style::PLAIN), "no live flows on host a of service b\n");
    }
}

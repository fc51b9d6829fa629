//! Read on a telephone, by keys, in the dark, and by a screen reader.

use std::time::Duration;

use sluice_tests::browser::{Browser, key};
use sluice_tests::site::{Plan, Site};
use sluice_tests::topology::Topology;

use super::{UI, cell, opened, picture, token};

/// What is wrong for who does not see it all, or not well: names, labels, contrast (WCAG 2.2, 1.4.3), and what is too wide.
const FAULTS: &str = r#"
const faults = [];
const seen = element => element.getClientRects().length > 0 && getComputedStyle(element).visibility === 'visible';
const parse = text => { const n = text.match(/[\d.]+/g)?.map(Number) ?? [0, 0, 0, 0]; if (text.startsWith('color(srgb')) return [n[0] * 255, n[1] * 255, n[2] * 255, n[3] ?? 1]; return [n[0], n[1], n[2], n[3] ?? 1]; };
const over = (top, below) => top.slice(0, 3).map((c, i) => c * top[3] + below[i] * (1 - top[3])).concat(1);
const ground = element => { const layers = []; for (let e = element; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor)); return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255, 1]); };
const light = c => { const [r, g, b] = c.map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const measured = new Set();
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.textContent.trim() || measured.has(element) || !seen(element) || element.closest('svg, .unseen, .skip, :disabled')) continue;
  const box = element.getBoundingClientRect();
  if (box.width < 2 || box.height < 2) continue;
  measured.add(element);
  const style = getComputedStyle(element);
  const [a, b] = [light(over(parse(style.color), ground(element)).slice(0, 3)), light(ground(element).slice(0, 3))];
  const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const size = parseFloat(style.fontSize);
  const least = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
  if (contrast < least) faults.push(`contrast ${contrast.toFixed(2)} of "${walker.currentNode.textContent.trim().slice(0, 30)}" (${element.className || element.tagName})`);
}
const ids = [...document.querySelectorAll('[id]')].map(of => of.id);
for (const id of new Set(ids)) if (ids.filter(of => of === id).length > 1) faults.push(`id ${id} twice`);
for (const name of ['main', 'nav', 'header', 'footer', 'h1']) if (!document.querySelector(name)) faults.push(`no ${name}`);
if (document.querySelectorAll('h1').length !== 1) faults.push('not one h1');
for (const of of document.querySelectorAll('[aria-labelledby], [aria-describedby]')) for (const name of ['aria-labelledby', 'aria-describedby']) if (of.hasAttribute(name) && !document.getElementById(of.getAttribute(name))) faults.push(`${name} leads nowhere`);
// A telephone shrinks what is too wide for it: its own width counts.
const width = arguments[0];
if (document.documentElement.clientWidth !== width) faults.push(`laid out for ${document.documentElement.clientWidth}`);
if (document.documentElement.scrollWidth > width) {
  const wide = [...document.querySelectorAll('body *')].filter(of => seen(of) && of.getBoundingClientRect().right > width + 1 && !of.closest('.unseen, thead'));
  faults.push(`${document.documentElement.scrollWidth} wide: ${wide.slice(0, 3).map(of => of.className || of.tagName)}`);
}
return faults;
"#;

/// Marks what can be used and is seen.
const MARK: &str = "
for (const of of document.querySelectorAll('[data-seen]')) of.removeAttribute('data-seen');
for (const of of document.querySelectorAll('a, button, input, select, summary')) {
  if (of.checkVisibility() && !of.closest('[aria-hidden]')) of.setAttribute('data-seen', '');
}";

/// What has the focus must show it.
const FOCUS: &str = "const style = getComputedStyle(document.activeElement); return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;";

/// Of what is seen now, which is so many pixels wide.
fn seen_faults(browser: &Browser, width: u32) -> Vec<String> {
    let found = browser.script(FAULTS, &[width.into()]).unwrap();
    found.as_array().unwrap().iter().map(ToString::to_string).collect()
}

/// Role and name of all that can be used. A view that follows something may draw an element anew before it is asked what it is.
fn usable(browser: &Browser) -> Vec<(String, String)> {
    let mut last = None;
    for _ in 0..10 {
        browser.script(MARK, &[]).unwrap();
        match browser.all("[data-seen]") {
            Ok(all) => return all,
            Err(error) => last = Some(error),
        }
    }
    panic!("{:#}", last.unwrap())
}

/// What is wrong with the view as it stands: on a telephone and on a screen, by day and in the dark, and for who is told roles and names.
pub fn faults(browser: &Browser, view: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (width, dark) in [(360, false), (360, true), (1280, false), (1280, true)] {
        browser.view(width, 800, dark).unwrap();
        let found = seen_faults(browser, width);
        faults.extend(found.iter().map(|fault| format!("{view} {width} dark={dark}: {fault}")));
    }
    // Whatever can be used has a role and a name.
    for (role, name) in usable(browser) {
        if name.trim().is_empty() || matches!(role.as_str(), "generic" | "none" | "") {
            faults.push(format!("{view}: {role} {name:?}"));
        }
    }
    faults
}

#[test]
fn each_view_fits_a_telephone_and_is_read_by_whoever_reads_otherwise() {
    let mut plan = Plan::new("l2", 4);
    plan.top = UI;
    let site = Site::start(Topology::builder(), &plan).unwrap();
    site.daemon
        .cli_ok(&[
            "drain",
            "h2",
            "--reason",
            "a reason that is as long as reasons are when somebody has much to say",
        ])
        .unwrap();
    site.daemon.cli_ok(&["drain", "h3", "--service", "web-v4"]).unwrap();
    site.daemon.cli_ok(&["wait", "h2", "--for", "drained", "--timeout", "60s"]).unwrap();
    let browser = opened(&site.topology, &token(&site.daemon));
    let mut found = Vec::new();
    for view in [
        "hosts",
        "hosts/h2",
        "services",
        "services/web-v4",
        "drains",
        "shares",
        "health",
        "history",
        "receipts",
        "receipts/1",
        "maintenance",
        "events",
    ] {
        browser.script(&format!("location.hash = '#/{view}'"), &[]).unwrap();
        browser.wait("document.querySelectorAll('main *').length > 4").unwrap();
        // What it asks for is there, and nothing moves any more.
        std::thread::sleep(Duration::from_millis(700));
        browser.wait("document.getAnimations().length === 0").unwrap();
        found.extend(faults(&browser, view));
        if view == "hosts" {
            browser.view(360, 800, false).unwrap();
            picture(&browser, "page-telephone");
        }
    }
    // The question, too; and what has the focus shows it.
    browser.script("location.hash = '#/hosts'", &[]).unwrap();
    browser.wait(&cell("h1", "State")).unwrap();
    for (width, dark) in [(360, false), (1280, true)] {
        browser.view(width, 800, dark).unwrap();
        browser.script("document.querySelector('[aria-label=\"Drain h1\"]').focus()", &[]).unwrap();
        browser.press(&[key::ENTER]).unwrap();
        browser.wait("document.querySelector('dialog .facts')").unwrap();
        found.extend(seen_faults(&browser, width).iter().map(|fault| format!("question {width}: {fault}")));
        for _ in 0..3 {
            browser.press(&[key::TAB]).unwrap();
            if browser.script(FOCUS, &[]).unwrap() != true {
                found.push(format!("the focus is not seen on {:?}", browser.focused().unwrap()));
            }
        }
        browser.press(&[key::ESCAPE]).unwrap();
        browser.wait("!document.querySelector('dialog')").unwrap();
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    let landmarks: Vec<String> =
        browser.all("header, nav.tabs, main, footer").unwrap().into_iter().map(|(role, _)| role).collect();
    assert_eq!(landmarks, ["banner", "navigation", "main", "contentinfo"]);
    let rows =
        browser.all("table, thead th:nth-child(2), tbody tr:first-child, tbody tr:first-child th").unwrap();
    let roles: Vec<&str> = rows.iter().map(|(role, _)| role.as_str()).collect();
    assert_eq!(roles, ["table", "columnheader", "row", "rowheader"]);
    assert_eq!(browser.log().unwrap(), Vec::<String>::new());
}

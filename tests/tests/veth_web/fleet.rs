//! A thousand hosts and a thousand services on the page.

use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use sluice_tests::browser::Browser;
use sluice_tests::servers::SluiceDaemon;
use sluice_tests::topology::Topology;

use super::{PAGE, UI, cell};

/// Counts, from here on, cells of the table that are touched, and rows that are built. The bars of shares are all as long as the longest
/// makes them, so they are counted by themselves.
const COUNT: &str = "window.touched = new Set(); window.bars = new Set(); window.built = 0; \
     new MutationObserver(all => { for (const one of all) { \
     const cell = (one.target.closest ? one.target : one.target.parentElement)?.closest('td, th'); \
     if (cell) (cell.dataset.name === 'Share' ? window.bars : window.touched).add(cell); \
     window.built += [...one.addedNodes].filter(of => of.matches?.('tr')).length; } }) \
     .observe(document.querySelector('tbody'), { childList: true, characterData: true, subtree: true })";

/// Bytes of each look that the server tells while something is done: first of everything, then of what has changed.
fn looks(topology: &Topology, meanwhile: impl FnOnce()) -> Vec<usize> {
    let mut command = Command::new("curl");
    // Of no event that was before.
    command.args(["-sN", "--max-time", "16", &format!("{PAGE}/page/live?after={}", u64::MAX)]);
    let ns = &topology.balancer().ns;
    let told = std::thread::scope(|scope| {
        let reader = scope.spawn(|| ns.output(command).unwrap().stdout);
        std::thread::sleep(Duration::from_secs(3));
        meanwhile();
        reader.join().unwrap()
    });
    let text = String::from_utf8(told).unwrap();
    text.split_inclusive("\n\n").filter(|of| of.starts_with("event: look")).map(str::len).collect()
}

/// Of a host of the fleet.
fn address(n: usize) -> String {
    format!("10.77.{}.{}", 100 + n / 250, 1 + n % 250)
}

/// A thousand hosts, in sets of sixteen, and a thousand services.
fn fleet(topology: &Topology) -> String {
    let mut text = format!("interfaces = [\"eth0\"]\nring_size = 1709\n{UI}[flow_table]\npins = 4096\n");
    for n in 0..1000 {
        writeln!(text, "[hosts.web-{n:04}]\naddresses = [\"{}\"]", address(n)).unwrap();
    }
    for n in 0..1000 {
        let first = (n % 62) * 16;
        let hosts: Vec<String> = (first..first + 16).map(|host| format!("\"web-{host:04}\"")).collect();
        writeln!(
            text,
            "[[services]]\nname = \"svc-{n:04}\"\nvip = \"{}\"\nprotocol = \"tcp\"\nport = {}\nhosts = [{}]",
            topology.vip4(),
            1000 + n,
            hosts.join(", ")
        )
        .unwrap();
    }
    text
}

#[test]
fn a_thousand_hosts_and_services_are_shown_at_once() {
    let topology = Topology::builder().hosts(1).build().unwrap();
    // As if they were all there: to wait for a thousand neighbours that never answer is another test.
    let neighbours: String = (0..1000)
        .map(|n| format!("neigh add {} lladdr 02:00:00:00:00:01 dev eth0 nud permanent\n", address(n)))
        .collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), neighbours).unwrap();
    topology.balancer().ns.shell(&format!("ip -batch {}", file.path().display())).unwrap();
    let daemon = SluiceDaemon::start(&topology, &fleet(&topology)).unwrap();
    let browser = Browser::start(&topology.balancer().ns).unwrap();
    let began = Instant::now();
    browser.open(PAGE).unwrap();
    browser
        .script(
            "window.tasks = []; new PerformanceObserver(list => window.tasks.push(...list.getEntries().map(of => Math.round(of.duration)))).observe({type: 'longtask', buffered: true})",
            &[],
        )
        .unwrap();
    browser.wait("document.querySelectorAll('tbody tr').length === 50").unwrap();
    println!("1000 hosts: shown {:?} after the page was asked for", began.elapsed());
    assert!(
        browser
            .wait("document.querySelector('.summary').innerText")
            .unwrap()
            .as_str()
            .unwrap()
            .starts_with("1,000 hosts")
    );
    // What is not seen is not built, what has not changed is not touched, and it is told once.
    let number = |script: &str| browser.script(&format!("return {script}"), &[]).unwrap().as_u64().unwrap();
    let elements = number("document.querySelectorAll('*').length");
    println!("{elements} elements");
    assert!(elements < 2000, "{elements} elements for fifty rows");
    browser.script(COUNT, &[]).unwrap();
    let told = looks(&topology, || {});
    println!("looks of {told:?} bytes while nothing changes");
    assert!(told.len() >= 2 && told[0] > 100_000, "everything, then nothing: {told:?}");
    assert!(told[1..].iter().all(|&bytes| bytes < 200), "{told:?}");
    let touched = || ["touched.size", "bars.size", "built"].map(|of| number(&format!("window.{of}")));
    assert_eq!(touched(), [0; 3], "nothing has changed");
    let drained = looks(&topology, || {
        daemon.cli_ok(&["drain", "web-0003"]).unwrap();
    });
    browser.wait(&format!("{} === 'draining'", cell("web-0003", "State"))).unwrap();
    println!("looks of {drained:?} bytes about a drain; touched: {:?}", touched());
    assert!(drained[1..].iter().sum::<usize>() < told[0] / 10, "{drained:?}");
    let [cells, _, built] = touched();
    assert!((1..=4).contains(&cells), "{cells} cells, besides bars, for one host");
    assert_eq!(built, 0, "rows stay as they are");
    // Filtered, sorted, turned over.
    let timed = |what: &str, script: &str| {
        let took = browser.script(&format!("const from = performance.now(); {script}; document.body.offsetHeight; return performance.now() - from"), &[]);
        println!("{what}: {:.1} ms", took.unwrap().as_f64().unwrap());
    };
    timed(
        "filter",
        "const box = document.querySelector('input[type=search]'); box.value = 'web-07'; box.dispatchEvent(new Event('input'))",
    );
    browser.wait("document.querySelector('.summary').innerText.startsWith('100 of 1,000 hosts')").unwrap();
    timed(
        "no filter",
        "const box = document.querySelector('input[type=search]'); box.value = ''; box.dispatchEvent(new Event('input'))",
    );
    timed(
        "sort",
        "[...document.querySelectorAll('thead button')].find(of => of.innerText.startsWith('Share')).click()",
    );
    timed("next page", "[...document.querySelectorAll('.pager button')].at(-1).click()");
    browser.wait("document.querySelector('.where').innerText === '51 to 100 of 1,000'").unwrap();
    timed("services", "location.hash = '#/services'");
    browser.wait("document.querySelector('.summary')?.innerText.startsWith('1,000 services')").unwrap();
    timed("shares", "location.hash = '#/shares'");
    browser.wait("document.querySelector('.donut')").unwrap();
    std::thread::sleep(Duration::from_secs(5));
    let tasks = browser.script("return window.tasks", &[]).unwrap();
    let longest = tasks.as_array().unwrap().iter().filter_map(Value::as_u64).max().unwrap_or(0);
    println!("tasks of more than 50 ms: {tasks}; the longest {longest} ms");
    // One request for what is shown, one stream: not thousands.
    let asked = browser.script("return performance.getEntriesByType('resource').filter(of => /\\/(page|v1)\\//.test(of.name)).length", &[]);
    assert!(asked.unwrap().as_u64().unwrap() < 10);
    assert_eq!(browser.log().unwrap(), Vec::<String>::new());
    drop(daemon);
}

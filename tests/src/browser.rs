//! Chromium in a namespace, driven as a user would: by keys, and by what is on the screen.
//!
//! ChromeDriver speaks WebDriver (W3C), which is JSON over HTTP on the loopback: a client crate would bring fifty others for the dozen calls here.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::LIMIT;
use crate::topology::{Namespace, Process};

/// Where ChromeDriver listens in the namespace.
const PORT: u16 = 9515;
/// How long a browser may take to start, beside other work.
const START: Duration = Duration::from_secs(90);
/// Columns of pixels below which it is one.
const TELEPHONE: u32 = 600;
/// The key under which WebDriver names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Keys that are no letters, as WebDriver has them.
pub mod key {
    pub const TAB: &str = "\u{E004}";
    pub const ENTER: &str = "\u{E007}";
    pub const ESCAPE: &str = "\u{E00C}";
    pub const SPACE: &str = " ";
    pub const DOWN: &str = "\u{E015}";
    pub const END: &str = "\u{E010}";
}

/// A browser with one page; both end with it.
pub struct Browser {
    ns: Namespace,
    session: String,
    driver: Process,
    /// Its profile, and whatever else it writes.
    _folder: TempDir,
}

impl Browser {
    /// # Errors
    /// There is no Chromium here (`apt-get install chromium chromium-driver`), or it does not start.
    pub fn start(ns: &Namespace) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder for the browser")?;
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={PORT}")).arg("--log-level=SEVERE").env("TMPDIR", folder.path());
        command.env("HOME", folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let driver = ns.spawn(command)?;
        let begin = Instant::now();
        while ask(ns, "GET", "/status", None).is_err() {
            if begin.elapsed() > START {
                bail!("chromedriver does not answer after {START:?}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        // As root it has no sandbox of its own; the namespace has no way out.
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--ignore-certificate-errors",
            "--window-size=1280,860",
        ];
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let session = ask(ns, "POST", "/session", Some(&capabilities))?;
        let id = session["sessionId"].as_str().context("the browser has no session")?;
        Ok(Browser { ns: ns.clone(), session: format!("/session/{id}"), driver, _folder: folder })
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        ask(&self.ns, method, &format!("{}{path}", self.session), Some(body))
    }

    pub fn open(&self, url: &str) -> Result<()> {
        self.call("POST", "/url", &json!({ "url": url })).map(|_| ())
    }

    /// Size of what is seen, in CSS pixels, and whether the user likes it dark. One that is narrow is a telephone, which lays a page out for
    /// a desk unless the page says otherwise (`<meta name="viewport">`).
    pub fn view(&self, width: u32, height: u32, dark: bool) -> Result<()> {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < TELEPHONE});
        self.devtools("Emulation.setDeviceMetricsOverride", size)?;
        let scheme = if dark { "dark" } else { "light" };
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", features)
    }

    fn devtools(&self, command: &str, params: Value) -> Result<()> {
        self.call("POST", "/goog/cdp/execute", &json!({"cmd": command, "params": params})).map(|_| ())
    }

    /// What a function's body in JavaScript returns, which has `args` as its arguments.
    pub fn script(&self, body: &str, args: &[Value]) -> Result<Value> {
        self.call("POST", "/execute/sync", &json!({"script": body, "args": args}))
    }

    /// The first value of an expression that is true in JavaScript's eyes.
    ///
    /// # Errors
    /// It is not within half a minute: with what the page shows.
    pub fn wait(&self, expression: &str) -> Result<Value> {
        let begin = Instant::now();
        loop {
            let value = self.script(&format!("return ({expression}) || null"), &[])?;
            if !value.is_null() {
                return Ok(value);
            }
            if begin.elapsed() > LIMIT {
                let text = self.script("return document.body.innerText.slice(0, 3000)", &[])?;
                let log = self.log()?;
                bail!("never came true: {expression}\n{}\n{log:?}", text.as_str().unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until a text is on the page, in what is seen.
    pub fn wait_text(&self, text: &str) -> Result<()> {
        self.wait(&format!("document.body.innerText.includes({})", json!(text))).map(|_| ())
    }

    /// Presses keys, one after the other: of [`key`], or text that is typed letter by letter.
    pub fn press(&self, keys: &[&str]) -> Result<()> {
        let mut actions = Vec::new();
        for key in keys.iter().flat_map(|keys| keys.chars()) {
            actions.push(json!({"type": "keyDown", "value": key}));
            actions.push(json!({"type": "keyUp", "value": key}));
        }
        let body = json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]});
        self.call("POST", "/actions", &body).map(|_| ())
    }

    /// Role and name of what has the focus, as a screen reader is told them.
    pub fn focused(&self) -> Result<(String, String)> {
        let found = ask(&self.ns, "GET", &format!("{}/element/active", self.session), None)?;
        self.told(&found)
    }

    /// Goes on with the tabulator until what has the focus has this name.
    pub fn tab_to(&self, name: &str) -> Result<()> {
        let mut passed = Vec::new();
        for _ in 0..200 {
            let (role, found) = self.focused()?;
            if found == name {
                return Ok(());
            }
            passed.push(format!("{role} {found:?}"));
            self.press(&[key::TAB])?;
        }
        bail!("the tabulator never comes to {name:?}, but to {passed:?}")
    }

    /// Role and name of each element that a selector finds.
    pub fn all(&self, selector: &str) -> Result<Vec<(String, String)>> {
        let using = json!({"using": "css selector", "value": selector});
        let found = self.call("POST", "/elements", &using)?;
        found.as_array().into_iter().flatten().map(|element| self.told(element)).collect()
    }

    fn told(&self, element: &Value) -> Result<(String, String)> {
        let id = element[ELEMENT].as_str().context("WebDriver named no element")?;
        let ask = |what| ask(&self.ns, "GET", &format!("{}/element/{id}/{what}", self.session), None);
        let text = |value: Value| value.as_str().unwrap_or_default().to_owned();
        Ok((text(ask("computedrole")?), text(ask("computedlabel")?)))
    }

    /// What is seen, as PNG.
    pub fn picture(&self) -> Result<Vec<u8>> {
        let text = ask(&self.ns, "GET", &format!("{}/screenshot", self.session), None)?;
        decode(text.as_str().unwrap_or_default())
    }

    /// What the browser complains of, as refused content or an error in a script.
    pub fn log(&self) -> Result<Vec<String>> {
        let lines = self.call("POST", "/se/log", &json!({"type": "browser"}))?;
        let bad = lines.as_array().into_iter().flatten().filter(|line| line["level"] != "INFO");
        Ok(bad.map(|line| line["message"].as_str().unwrap_or_default().to_owned()).collect())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium ends with its session; what does not is of the driver's process group.
        let _ = ask(&self.ns, "DELETE", &self.session, None);
        self.driver.kill();
    }
}

/// One call, on a connection of its own.
fn ask(ns: &Namespace, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let (status, answer) = ns.enter(|| exchange(method, path, &body))??;
    let mut value: Value =
        serde_json::from_str(&answer).with_context(|| format!("chromedriver gave no JSON: {answer}"))?;
    let value = value["value"].take();
    if status != 200 {
        bail!("{method} {path}: {} {}", value["error"], value["message"]);
    }
    Ok(value)
}

/// Status and body. ChromeDriver leaves the connection open, whatever it is asked for.
fn exchange(method: &str, path: &str, body: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", PORT))?;
    stream.set_read_timeout(Some(START))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{PORT}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )?;
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    lines.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.with_context(|| format!("chromedriver gave no status: {line:?}"))?;
    let mut length = 0;
    while line != "\r\n" {
        line.clear();
        if lines.read_line(&mut line)? == 0 {
            bail!("chromedriver broke off");
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse()?;
        }
    }
    let mut answer = vec![0; length];
    lines.read_exact(&mut answer)?;
    Ok((status, String::from_utf8(answer)?))
}

/// Base64 (RFC 4648).
fn decode(text: &str) -> Result<Vec<u8>> {
    let mut child = Command::new("base64").arg("-d").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut input = child.stdin.take().context("base64 takes nothing")?;
    let text = text.to_owned();
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output()?;
    writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
    Ok(output.stdout)
}

//! nginx, curl and h2load: HTTP/1.1 and HTTP/2, small and large bodies in both directions, connections that are kept.

use std::net::IpAddr;
use std::process::Command;

use sluice_tests::servers::{BIG_FILE_BYTES, Nginx, pattern};
use sluice_tests::site::{Extra, Plan, Site};
use tempfile::TempDir;

use crate::site::{bracketed, folder};

/// Bytes of what is posted.
const UPLOAD: usize = 5 << 20;

/// How curl speaks.
struct Http {
    version: &'static str,
    /// Of the service.
    port: u16,
    args: &'static [&'static str],
}

const VERSIONS: [Http; 2] = [
    Http { version: "1.1", port: 80, args: &["--http1.1"] },
    Http { version: "2", port: 81, args: &["--http2-prior-knowledge"] },
];

/// What the last of some answers was, and what curl says of all of them.
struct Answer {
    body: Vec<u8>,
    host: String,
    port: String,
    version: String,
    /// Connections that were made for all of them.
    connects: usize,
}

/// Asks for the paths one after the other.
fn curl(site: &Site, files: &TempDir, http: &Http, vip: IpAddr, paths: &[&str], args: &[&str]) -> Answer {
    let body = files.path().join("body");
    let mut command = Command::new("curl");
    command.args([
        "-sSf",
        "-m",
        "60",
        "-w",
        "%header{x-host} %header{x-port} %{http_version} %{num_connects}\n",
    ]);
    command.args(http.args).args(args);
    for path in paths {
        command.arg("-o").arg(&body).arg(format!("http://{}:{}{path}", bracketed(vip), http.port));
    }
    let told = site.topology.client().ns.run(command).unwrap_or_else(|error| {
        let logs: Vec<String> = site.nginx.iter().map(Nginx::error_log).collect();
        panic!("{error:#}\nservers: {logs:#?}");
    });
    let lines: Vec<Vec<&str>> = told.lines().map(|line| line.split(' ').collect()).collect();
    let [host, port, version, _] = lines.last().unwrap()[..] else { panic!("{told}") };
    Answer {
        body: std::fs::read(&body).unwrap_or_default(),
        host: host.to_owned(),
        port: port.to_owned(),
        version: version.to_owned(),
        connects: lines.iter().map(|line| line[3].parse::<usize>().unwrap()).sum(),
    }
}

/// Index of a host by its name.
fn number(host: &str) -> usize {
    host.strip_prefix('h').unwrap().parse::<usize>().unwrap() - 1
}

/// Whether all kinds of requests and bodies come through by this version.
pub fn exchange(site: &Site, forward: &str, http: usize) {
    let http = &VERSIONS[http];
    let files = folder(site, "http");
    for vip in site.vips() {
        // curl 7.88 cannot keep a connection with prior knowledge; h2load can.
        let count = if http.version == "2" { 1 } else { 20 };
        let small = curl(site, &files, http, vip, &vec!["/"; count], &[]);
        assert_eq!(String::from_utf8_lossy(&small.body), format!("{}\n", small.host));
        assert_eq!((small.version.as_str(), small.connects), (http.version, 1), "{vip}: {count} requests");
        if http.version == "2" {
            let url = format!("http://{}:{}/", bracketed(vip), http.port);
            let told = site.topology.client().ns.shell(&format!("h2load -n 500 -c 5 -m 10 {url}")).unwrap();
            assert!(told.contains("500 succeeded, 0 failed, 0 errored, 0 timeout"), "{vip}: {told}");
        }
        let port = if forward == "nat" && http.port == 80 { 8080 } else { http.port };
        assert_eq!(small.port, port.to_string(), "of nginx");

        let big = curl(site, &files, http, vip, &["/big"], &[]);
        assert!(
            big.body == pattern(BIG_FILE_BYTES),
            "{vip}: {} bytes, not those of the file",
            big.body.len()
        );

        let upload = files.path().join("upload");
        // Not the file that is there already.
        let bytes: Vec<u8> = pattern(UPLOAD).into_iter().rev().collect();
        std::fs::write(&upload, &bytes).unwrap();
        let data = format!("@{}", upload.display());
        let name = format!("{}-{}", http.port, if vip.is_ipv4() { "v4" } else { "v6" });
        let path = format!("/post?name={name}");
        let posted = curl(site, &files, http, vip, &[&path], &["-H", "Expect:", "--data-binary", &data]);
        let kept = site.nginx[number(&posted.host)].kept(&name).expect("the host kept what was posted");
        assert!(kept == bytes, "{vip}: {} bytes, not those of the upload", kept.len());
    }
}

/// Of the second version.
pub fn service() -> Extra {
    Extra { name: "http2", protocol: "\"tcp\"", port: "81", more: "" }
}

/// Bodies of all sizes come through by all versions.
pub fn exchange_all(site: &Site, plan: &Plan) {
    (0..VERSIONS.len()).for_each(|http| exchange(site, plan.forward, http));
}

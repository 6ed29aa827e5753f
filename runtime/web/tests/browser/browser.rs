//! A browser that opens the page from the disk, without a window, and tells what it has seen.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::case::Case;
use crate::native::Outcome;

/// Longer than the slowest machine takes.
const PATIENCE: Duration = Duration::from_secs(300);

/// What the script in `script.js` tells.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// One for each case.
    pub outcomes: Vec<Outcome>,
    pub milliseconds_to_start: f64,
    pub milliseconds_to_open: f64,
    /// The digit that was clicked, and what the page then showed, as pixels of a canvas.
    pub clicked_digit: Vec<u8>,
    pub shown: Vec<u8>,
    /// What the page said of a truncated model.
    pub said: String,
    /// The error of a purification that was stopped, and the image of the next one.
    pub stopped: Option<String>,
    pub after_stop: Vec<f32>,
    /// The seeds of two purifications that were given none.
    pub fresh_seeds: [String; 2],
}

/// The page that was built.
pub fn page() -> PathBuf {
    variable("EBM_BROWSER_PAGE")
}

fn variable(name: &str) -> PathBuf {
    match std::env::var_os(name) {
        Some(value) => value.into(),
        None => panic!("{name} is not set: `cargo xtask test` sets it"),
    }
}

/// Opens the page with a script at its end that does what the cases ask for.
pub fn see(cases: &[Case]) -> Seen {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let page = folder.path().join("page.html");
    let script = include_str!("script.js")
        .replace("{{address}}", &listener.local_addr().unwrap().to_string())
        .replace(
            "{{truncated}}",
            &serde_json::to_string(&crate::case::truncated()).unwrap(),
        )
        .replace("{{cases}}", &serde_json::to_string(cases).unwrap());
    let whole = std::fs::read_to_string(self::page()).unwrap();
    let (before, after) = whole.rsplit_once("</body>").unwrap();
    std::fs::write(
        &page,
        format!("{before}<script>{script}</script></body>{after}"),
    )
    .unwrap();
    let _browser = Browser::open(&page, folder.path());
    let told = receive(&listener);
    match serde_json::from_slice(&told) {
        Ok(seen) => seen,
        Err(error) => panic!("{error} in {}", String::from_utf8_lossy(&told)),
    }
}

/// A browser that ends with this value.
struct Browser(Child);

impl Browser {
    fn open(page: &Path, folder: &Path) -> Self {
        let browser = Command::new(variable("EBM_CHROMIUM"))
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                // Nothing is looked up on the network.
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--disable-quic",
            ])
            // The page tells its results to this machine, which newer versions would ask about.
            .arg("--disable-features=LocalNetworkAccessChecks")
            .arg(format!(
                "--user-data-dir={}",
                folder.join("profile").display()
            ))
            .arg(format!("file://{}", page.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(browser.unwrap())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The body of the first request that has one.
fn receive(listener: &TcpListener) -> Vec<u8> {
    listener.set_nonblocking(true).unwrap();
    let started = Instant::now();
    loop {
        match listener.accept() {
            Ok((connection, _)) => {
                if let Some(body) = body(connection) {
                    return body;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                assert!(started.elapsed() < PATIENCE, "the browser has told nothing");
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn body(mut connection: TcpStream) -> Option<Vec<u8>> {
    connection.set_nonblocking(false).unwrap();
    connection
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut request = Vec::new();
    let mut part = vec![0; 1 << 16];
    loop {
        let n_read = connection.read(&mut part).ok().filter(|&n| n > 0)?;
        request.extend_from_slice(&part[..n_read]);
        let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let headers = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
        let length = headers
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))?;
        let length: usize = length.trim().parse().unwrap();
        if request.len() == end + 4 + length {
            connection
                .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                .ok();
            return Some(request.split_off(end + 4));
        }
    }
}

//! The smallest HTTP client that proves a pod answers.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(3);

/// `GET path`; the status code and the body.
pub fn get(ip: &str, port: u16, path: &str) -> Result<(u16, String), String> {
    let address: IpAddr = ip.parse().map_err(|e| format!("{ip}: {e}"))?;
    let text = |e: std::io::Error| format!("{ip}:{port}: {e}");
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address, port), LIMIT).map_err(text)?;
    stream.set_read_timeout(Some(LIMIT)).map_err(text)?;
    stream.set_write_timeout(Some(LIMIT)).map_err(text)?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {ip}\r\n\r\n").map_err(text)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(text)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("no header end in {answer:?}"))?;
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(|| format!("no status in {head:?}"))?;
    Ok((status, body.to_owned()))
}

/// A port that nobody listens on now.
pub fn free_port() -> u16 {
    TcpListener::bind("0.0.0.0:0").and_then(|l| l.local_addr()).expect("a free port").port()
}

//! A tunnel through an HTTP proxy: CONNECT, and an answer of which only the status matters.

use super::error::Cause;
use super::proxy::Proxy;
use super::wire::{Bounded, Until, carried};
use std::io::{Read, Write};
use std::net::TcpStream;

/// Far above any proxy's answer, in bytes.
const ANSWER_BYTES_MAX: usize = 8 * 1024;

/// After this, the socket belongs to `host`.
pub(super) fn open(socket: &TcpStream, proxy: &Proxy, host: &str, port: u16, until: Until) -> Result<(), ureq::Error> {
    let mut bounded = Bounded { socket, until };
    let request = request(proxy, host, port);
    bounded.write_all(request.as_bytes()).map_err(|error| carried(error, until, None))?;
    let mut answer = Vec::new();
    // By single bytes, since what follows the answer is the server's.
    while !answer.ends_with(b"\r\n\r\n") && !answer.ends_with(b"\n\n") {
        let mut byte = [0];
        let read = bounded.read(&mut byte).map_err(|error| carried(error, until, None))?;
        answer.extend_from_slice(&byte[..read]);
        if read == 0 || answer.len() > ANSWER_BYTES_MAX {
            return Err(fault(proxy, "does not answer CONNECT as an HTTP proxy does".to_owned()));
        }
    }
    judge(&answer).map_err(|what| fault(proxy, what))
}

fn fault(proxy: &Proxy, what: String) -> ureq::Error {
    Cause::Proxy { proxy: proxy.to_string(), what }.carried()
}

fn request(proxy: &Proxy, host: &str, port: u16) -> String {
    let authorization = proxy.authorization.as_ref().map(|value| format!("Proxy-Authorization: {value}\r\n"));
    let authorization = authorization.unwrap_or_default();
    format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{authorization}\r\n")
}

fn judge(answer: &[u8]) -> Result<(), String> {
    let first = String::from_utf8_lossy(answer).lines().next().unwrap_or_default().to_owned();
    let mut words = first.splitn(3, ' ');
    let spoken = words.next().is_some_and(|word| word.starts_with("HTTP/1."));
    match words.next().and_then(|code| code.parse::<u16>().ok()).filter(|_| spoken) {
        Some(200..=299) => Ok(()),
        Some(407) => Err("wants other credentials than its URL holds (407)".to_owned()),
        Some(code) => {
            Err(format!("refuses the connection: {code} {}", words.next().unwrap_or_default()).trim().to_owned())
        }
        None => Err("does not answer CONNECT as an HTTP proxy does".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_what_proxies_take() {
        let proxy = Proxy::parse("http://u:p@proxy:3128").unwrap();
        let wanted =
            "CONNECT [fd00::1]:6443 HTTP/1.1\r\nHost: [fd00::1]:6443\r\nProxy-Authorization: Basic dTpw\r\n\r\n";
        assert_eq!(request(&proxy, "[fd00::1]", 6443), wanted);
    }

    #[test]
    fn answers_are_judged_by_their_status() {
        assert_eq!(judge(b"HTTP/1.0 200 Connection established\r\n\r\n"), Ok(()));
        assert_eq!(judge(b"HTTP/1.1 503\r\n\r\n"), Err("refuses the connection: 503".to_owned()));
        assert!(judge(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").unwrap_err().contains("407"));
        assert!(judge(b"SSH-2.0-x\r\n\r\n").is_err());
        assert!(judge(b"\r\n\r\n").is_err());
    }
}

//! The port: taken once, given up and taken again while the double is down and up, always on loopback.

use super::{Shared, connection, wire};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

/// Small, since there may be thousands.
const STACK: usize = 512 * 1024;

pub fn bind(port: u16) -> TcpListener {
    let place = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    // The old listener may still be on its way out.
    for _ in 0..200 {
        match TcpListener::bind(place) {
            Ok(listener) => return listener,
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
    panic!("{place} is taken")
}

/// Accepts until [`close`]; one thread for each connection.
pub fn open(shared: &Arc<Shared>, listener: TcpListener) -> thread::JoinHandle<()> {
    shared.listening.store(true, Ordering::SeqCst);
    let shared = shared.clone();
    let accept = move || {
        for stream in listener.incoming() {
            if !shared.listening.load(Ordering::SeqCst) {
                return;
            }
            let Ok(stream) = stream else { continue };
            let Some(id) = shared.connections.add(&stream) else { continue };
            let ours = shared.clone();
            let serve = move || {
                let _ = run(&ours, stream, id);
                ours.connections.remove(id);
            };
            if thread::Builder::new().stack_size(STACK).spawn(serve).is_err() {
                shared.connections.remove(id);
            }
        }
    };
    thread::Builder::new().name("apiserver".into()).spawn(accept).expect("a thread")
}

fn run(shared: &Shared, stream: TcpStream, id: u64) -> std::io::Result<()> {
    if shared.hangs.load(Ordering::SeqCst) {
        shared.park(id);
        return Ok(());
    }
    let mut stream: Box<dyn wire::Duplex> = match &shared.wrap {
        Some(wrap) => wrap(stream)?,
        None => Box::new(stream),
    };
    connection::serve(shared, &mut *stream, id)
}

/// Closes the port and every connection.
pub fn close(shared: &Shared, port: u16, acceptor: thread::JoinHandle<()>) {
    shared.listening.store(false, Ordering::SeqCst);
    // Wakes the thread out of accept.
    let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
    let _ = acceptor.join();
    shared.connections.close_all();
}

/// Lets the process hold as many sockets as it ever may: each connection costs two here, and as many in its client.
pub fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("the limit is known");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("a soft limit may be raised");
}

/// The sockets that are open, by the number of their connection.
#[derive(Default)]
pub struct Connections {
    open: std::sync::Mutex<(u64, std::collections::BTreeMap<u64, TcpStream>)>,
}

impl Connections {
    fn add(&self, stream: &TcpStream) -> Option<u64> {
        let mut open = self.open.lock().expect("no holder panics");
        open.0 += 1;
        let id = open.0;
        open.1.insert(id, stream.try_clone().ok()?);
        Some(id)
    }

    fn remove(&self, id: u64) {
        if let Some(socket) = self.open.lock().expect("no holder panics").1.remove(&id) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    pub fn close_all(&self) {
        for socket in std::mem::take(&mut self.open.lock().expect("no holder panics").1).into_values() {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    pub fn is_open(&self, id: u64) -> bool {
        self.open.lock().expect("no holder panics").1.contains_key(&id)
    }

    pub fn count(&self) -> usize {
        self.open.lock().expect("no holder panics").1.len()
    }

    /// How many there ever were; the newest has this number.
    pub fn total(&self) -> u64 {
        self.open.lock().expect("no holder panics").0
    }
}

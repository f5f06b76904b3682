//! A machine and its boots: an emulated Debian 12 with a disk of its own, driven over a virtio port. Emulation in
//! software is slow and uneven, so every wait has a deadline far beyond the expected time, and nothing here measures.

use super::disk::Disk;
use super::payload;
use base64::{decode, encode};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// From the emulator's start to the agent's first word; 15 s when nothing else runs.
const BOOT: Duration = Duration::from_secs(240);
/// What one command may take unless said otherwise.
pub const COMMAND_SECONDS: u32 = 90;
/// How often a condition in the guest is looked at.
const POLL: Duration = Duration::from_millis(500);

/// Which init runs, and with which cgroups.
#[derive(Clone, Copy, PartialEq)]
pub enum Init {
    /// What a fresh Debian 12 has: systemd, cgroup v2 alone.
    Systemd,
    /// `systemd.unified_cgroup_hierarchy=0`: v1 hierarchies, and a v2 one without controllers.
    SystemdHybrid,
    /// sysvinit, which mounts no cgroups.
    Sysvinit,
}

/// A machine that is off; its disk keeps what was flushed.
pub struct Machine {
    name: &'static str,
    disk: Disk,
    folder: PathBuf,
    boots: u32,
}

/// A machine that is on.
pub struct Guest {
    emulator: Child,
    port: BufReader<UnixStream>,
    log: PathBuf,
    next: u64,
    disk: Disk,
}

/// How a command in the guest ended.
pub struct Outcome {
    pub status: i32,
    pub text: String,
}

impl Machine {
    pub fn new(name: &'static str) -> Machine {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = root.join("target/vm").join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder for the machine");
        let disk =
            Disk::over(&root.join(".cache/vm/disk.img")).expect(".cache/vm/disk.img: tests/vm/image.sh makes it");
        payload::make(&folder);
        Machine { name, disk, folder, boots: 0 }
    }

    pub fn boot(&mut self, init: Init) -> Guest {
        self.boots += 1;
        let file = |suffix: &str| self.folder.join(format!("{}.{suffix}", self.boots));
        let (disk_socket, port_socket, log) = (file("disk"), file("port"), file("log"));
        self.disk.serve(&disk_socket).expect("the disk's socket");
        let listener = UnixListener::bind(&port_socket).expect("the port's socket");
        eprintln!("{}: boot {}, console in {}", self.name, self.boots, log.display());

        let emulator = emulator(init, &disk_socket, &port_socket, &self.folder.join(payload::IMAGE), &log)
            .spawn()
            .expect("qemu starts");
        let begin = Instant::now();
        listener.set_nonblocking(true).expect("a socket");
        let stream = loop {
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(error) if begin.elapsed() > BOOT => panic!("qemu does not connect: {error}"),
                Err(_) => std::thread::sleep(POLL),
            }
        };
        stream.set_nonblocking(false).expect("a socket");
        let mut guest = Guest { emulator, port: BufReader::new(stream), log, next: 0, disk: self.disk.clone() };
        let hello = guest.line(BOOT);
        assert!(hello.starts_with("hello "), "{hello}");
        guest.ok("mkdir -p /payload; mount -o ro /dev/vdb /payload");
        guest
    }

    /// A file of the machine that was shut down, read without booting it.
    pub fn read(&self, path: &str) -> Option<String> {
        let image = self.folder.join("off.img");
        self.disk.export(&image).expect("an image of the disk");
        let output = Command::new("/sbin/debugfs").args(["-R", &format!("cat {path}")]).arg(&image).output();
        let output = output.expect("debugfs runs");
        std::fs::remove_file(&image).expect("the image was written");
        let complaints = String::from_utf8_lossy(&output.stderr);
        let missing = complaints.contains("File not found");
        (!missing).then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn emulator(init: Init, disk: &Path, port: &Path, payload: &Path, log: &Path) -> Command {
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/vm");
    let (system, console, machine) = match std::env::consts::ARCH {
        "aarch64" => ("qemu-system-aarch64", "ttyAMA0", "virt"),
        _ => ("qemu-system-x86_64", "ttyS0", "q35"),
    };
    let (program, more) = match init {
        Init::Systemd => ("/lib/systemd/systemd", ""),
        Init::SystemdHybrid => ("/lib/systemd/systemd", " systemd.unified_cgroup_hierarchy=0"),
        Init::Sysvinit => ("/sbin/init", ""),
    };
    let mut command = Command::new(system);
    command
        .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024", "-machine", machine])
        .args(["-nodefaults", "-display", "none", "-no-reboot"])
        .args(["-device", "virtio-rng-pci", "-nic", "user,model=virtio-net-pci,restrict=on"])
        .arg("-kernel")
        .arg(images.join("vmlinuz"))
        .arg("-initrd")
        .arg(images.join("initrd.img"))
        .args(["-append", &format!("root=/dev/vda rw console={console} quiet init={program}{more}")])
        .args(["-serial", &format!("file:{}", log.display())])
        .args(["-blockdev", &format!("driver=nbd,node-name=root,server.type=unix,server.path={}", disk.display())])
        .args(["-device", "virtio-blk-pci,drive=root,write-cache=on"])
        .args(["-drive", &format!("file={},if=virtio,format=raw,readonly=on", payload.display())])
        .args(["-device", "virtio-serial-pci", "-device", "virtserialport,chardev=tests,name=tests"])
        .args(["-chardev", &format!("socket,id=tests,path={}", port.display())])
        .stdin(Stdio::null());
    command
}

impl Guest {
    fn line(&mut self, deadline: Duration) -> String {
        self.port.get_ref().set_read_timeout(Some(deadline)).expect("a socket");
        let mut line = String::new();
        if let Err(error) = self.port.read_line(&mut line) {
            panic!("the guest says nothing for {deadline:?}: {error}\n{}", self.console());
        }
        assert!(!line.is_empty(), "the guest is gone\n{}", self.console());
        line.trim_end().to_owned()
    }

    /// The last lines of the console.
    fn console(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(4000)..]).into_owned()
    }

    pub fn run_within(&mut self, script: &str, seconds: u32) -> Outcome {
        self.next += 1;
        let request = format!("{} {seconds} {}\n", self.next, encode(script.as_bytes()));
        self.port.get_mut().write_all(request.as_bytes()).expect("the guest listens");
        let line = self.line(Duration::from_secs(u64::from(seconds)) + BOOT);
        let mut words = line.split(' ');
        assert_eq!(words.next(), Some(self.next.to_string().as_str()), "{line}");
        let status = words.next().and_then(|word| word.parse().ok()).expect("a status");
        let text = decode(words.next().unwrap_or_default());
        Outcome { status, text: String::from_utf8_lossy(&text).into_owned() }
    }

    pub fn run(&mut self, script: &str) -> Outcome {
        self.run_within(script, COMMAND_SECONDS)
    }

    /// The output of a command that must succeed.
    pub fn ok(&mut self, script: &str) -> String {
        let outcome = self.run(script);
        assert_eq!(outcome.status, 0, "$ {script}\n{}", outcome.text);
        outcome.text
    }

    /// Waits until the script succeeds, and gives back what it printed then.
    pub fn wait(&mut self, what: &str, seconds: u64, script: &str) -> String {
        let begin = Instant::now();
        loop {
            let outcome = self.run(script);
            if outcome.status == 0 {
                return outcome.text;
            }
            if begin.elapsed() > Duration::from_secs(seconds) {
                let more = self.run(REPORT).text;
                panic!("no {what} within {seconds} s: {}\n{more}", outcome.text);
            }
            std::thread::sleep(POLL);
        }
    }

    /// The power goes, and with it all that was not flushed.
    pub fn cut(mut self) {
        self.emulator.kill().expect("qemu runs");
        self.emulator.wait().expect("qemu is our child");
        self.disk.cut();
    }

    /// Asks for a shutdown and waits for the end of it; how long that took.
    pub fn shut_down(mut self, script: &str, within: Duration) -> Duration {
        let begin = Instant::now();
        // The answer may be cut off by what it asks for.
        let request = format!("0 {COMMAND_SECONDS} {}\n", encode(script.as_bytes()));
        self.port.get_mut().write_all(request.as_bytes()).expect("the guest listens");
        loop {
            if let Some(status) = self.emulator.try_wait().expect("qemu is our child") {
                assert!(status.success(), "qemu: {status}");
                return begin.elapsed();
            }
            assert!(begin.elapsed() < within, "still on after {within:?}\n{}", self.console());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// What to know when a wait fails.
const REPORT: &str = "pinlet explain; pinlet get pods -o wide; systemctl --no-pager status pinlet pinlet-pods; \
    journalctl --no-pager -n 80 -u pinlet; tail -n 80 /var/log/pinlet.log; ps axf -o pid,ppid,stat,args | tail -n 40";

impl Drop for Guest {
    fn drop(&mut self) {
        // Only what this guest started; a guest that was shut down or cut is waited for already.
        let _ = self.emulator.kill();
        let _ = self.emulator.wait();
        if std::thread::panicking() {
            eprintln!("the guest's console, in {}:\n{}", self.log.display(), self.console());
        }
    }
}

/// Base64, enough for a line-based port.
mod base64 {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    pub fn encode(bytes: &[u8]) -> String {
        let mut text = String::new();
        for chunk in bytes.chunks(3) {
            let word = (0..3).fold(0_u32, |word, i| word << 8 | u32::from(*chunk.get(i).unwrap_or(&0)));
            for i in 0..4 {
                let letter = ALPHABET[(word >> (18 - 6 * i) & 63) as usize] as char;
                text.push(if i <= chunk.len() { letter } else { '=' });
            }
        }
        text
    }

    pub fn decode(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let (mut word, mut bits) = (0_u32, 0);
        for letter in text.bytes().filter(|letter| *letter != b'=') {
            let value = ALPHABET.iter().position(|known| *known == letter).expect("base64") as u32;
            word = (word << 6 | value) & 0xffffff;
            bits += 6;
            if bits >= 8 {
                bits -= 8;
                bytes.push((word >> bits & 0xff) as u8);
            }
        }
        bytes
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for bytes in [&b""[..], b"a", b"ab", b"abc", &[0, 255, 16, 8]] {
            assert_eq!(decode(&encode(bytes)), bytes);
        }
        assert_eq!(encode(b"pinlet\n"), "cGlubGV0Cg==");
    }
}

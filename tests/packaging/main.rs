//! What is shipped beside the binary: the units say what the contract says and systemd understands every line, and
//! the init scripts keep an agent running, and stop pods only when the machine goes down. The
//! agent here is a small shell script that writes down what it was asked; the real one meets both in the vm-test.

mod init_script;
mod openrc;
mod units;

use std::path::PathBuf;

/// A folder that goes when the test ends, however it ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("pinlet-packaging-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a folder for the test");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn shipped(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

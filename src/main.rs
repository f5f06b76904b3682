//! argv -> role. Everything else is in the library.

use std::path::Path;

fn main() {
    let mut args = std::env::args_os().skip(1);
    let role = args.next().unwrap_or_default();
    if role == pinlet::runtime::exec::EXEC_ROLE {
        let dir = args.next().unwrap_or_default();
        pinlet::runtime::exec_role::main(Path::new(&dir));
    }
    if role == pinlet::runtime::spawn::MONITOR_ROLE {
        let dir = args.next().unwrap_or_default();
        pinlet::runtime::monitor::main(Path::new(&dir));
    }
}

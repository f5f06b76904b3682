//! argv -> role. Everything else is in the library.

fn main() {}

//! `make bench`: the figures of README's table, in one run beside the peers that are installed, as ratios. Nothing here
//! passes or fails: what is slow today is a number today, and tests have deadlines instead.
//!
//! Starts are measured from just before the start is asked for to the workload's first instruction, which the workload
//! itself writes down. "Back to back" starts follow each other at once, "rested" ones after 200 ms without work: the
//! kernel's own costs differ by a factor of two and more between them, for everybody.

#[path = "../support/mod.rs"]
mod support;

mod field;
mod peers;
mod resident;
mod starts;
mod workload;

use std::time::Duration;

/// Starts per figure: the median of an odd number is one of them. PINLET_BENCH_SAMPLES gives another number.
const SAMPLES: usize = 15;
/// What "rested" means.
const REST: Duration = Duration::from_millis(200);

fn samples() -> usize {
    std::env::var("PINLET_BENCH_SAMPLES").ok().and_then(|text| text.parse().ok()).filter(|n| *n > 0).unwrap_or(SAMPLES)
}

/// A row of the table: what, how much, and beside whom.
struct Row {
    what: String,
    value: String,
    beside: String,
}

fn row(what: &str, value: impl Into<String>, beside: impl Into<String>) -> Row {
    Row { what: what.to_owned(), value: value.into(), beside: beside.into() }
}

/// The median, in milliseconds.
fn median(mut samples: Vec<f64>) -> f64 {
    assert!(!samples.is_empty(), "a figure needs samples");
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// "1.32 x crun run (4.4 ms)", or why there is nothing beside it.
fn ratio(ours: f64, name: &str, theirs: &Result<f64, String>) -> String {
    match theirs {
        Ok(theirs) => format!("{:.2} x {name} ({theirs:.1} ms)", ours / theirs),
        Err(reason) => format!("{name}: not measured: {reason}"),
    }
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some(peers::CRUN_ROLE) => peers::answer_with_crun(),
        Some(field::MEASURED) => measure(),
        _ => std::process::exit(field::run_measured()),
    }
}

fn measure() {
    let workload = workload::Workload::new();
    let mut rows = Vec::new();
    let size = std::fs::metadata(support::binary()).expect("the program under test").len();
    rows.push(row("size of the binary", format!("{:.1} MiB", size as f64 / f64::from(1 << 20)), ""));
    starts::measure(&workload, &mut rows);
    resident::measure(&workload, &mut rows);

    println!("\n| figure | here | beside it |\n|---|---|---|");
    for Row { what, value, beside } in rows {
        println!("| {what} | {value} | {beside} |");
    }
    println!("\n{}: {} samples per start", support::binary().display(), samples());
}

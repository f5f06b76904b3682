//! libcontainer's own words: its errors name the step that failed, and only its tracing says why.

use super::progress::Progress;
use crate::sys::socket::Leaked;
use std::fmt::{self, Write};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

/// From now on errors that libcontainer traces in this process and its children go to `line`, and so does a panic's
/// text. For processes that call libcontainer and do nothing else.
pub(super) fn report_to(line: Leaked) {
    // Set already: then an earlier line of the same process gets them.
    let _ = tracing::subscriber::set_global_default(Reporter { line });
    std::panic::set_hook(Box::new(move |panic| Progress::Trace(panic.to_string()).send_or_drop(line)));
}

struct Reporter {
    line: Leaked,
}

impl Subscriber for Reporter {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() == Level::ERROR
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::ERROR)
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let words = if text.fields.is_empty() { text.message } else { format!("{}:{}", text.message, text.fields) };
        Progress::Trace(words).send_or_drop(self.line);
    }

    // Spans are not enabled.
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

//! Tables on the core: facts in, exact actions and statuses out.

mod adoption;
mod bounds;
mod fixture;
mod golden;
mod images;
mod removal;
mod restarts;
mod starts;
mod stops;

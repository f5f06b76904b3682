//! Images: their names, the archives that bring them, and the store of unpacked layers.
//!
//! A worker imports; the loop only asks [`store::Store::find`]. Nothing of an image counts as present before it would
//! survive a power cut, and no byte of a layer is interpreted in the agent: that is the role `internal-unpack`.

pub mod archive;
pub mod catalogue;
pub mod compression;
pub mod digest;
mod fixture;
pub mod import;
pub mod layer;
pub mod platform;
pub mod preload;
pub mod reference;
pub mod store;
pub mod tar_stream;
pub mod unpack;
pub mod wire;

//! Sizes of the data path's maps.

use crate::dataplane::Sizes;
use crate::model::Model;

/// What a config asks for.
pub fn sizes(model: &Model) -> Sizes {
    Sizes { overflow: model.flow_table.overflow, ..Sizes::new(model.ring_size, model.flow_table.pins) }
}

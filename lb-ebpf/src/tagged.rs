//! VLAN tags of the frame in hand: taken off before it is looked at, put back if it goes on as it came.

use aya_ebpf::helpers::bpf_xdp_adjust_head;
use aya_ebpf::programs::XdpContext;
use lb_common::parse::tags::{self, Tags};
use lb_common::reason::Reason;

use crate::frame_of;

/// Takes them off.
#[inline(always)]
pub fn strip(ctx: &XdpContext) -> Result<Tags, Reason> {
    let (frame, _) = frame_of::<false>(ctx);
    let tags = Tags::of(&frame)?;
    if !tags.is_empty() {
        // SAFETY: the frame is this program run's own.
        unsafe { tags::strip(&frame, &tags)? };
        grow(ctx, -(tags.len() as i32))?;
    }
    Ok(tags)
}

/// Puts tags, of which there is one at least, on the frame in hand.
#[inline(always)]
pub fn put(ctx: &XdpContext, tags: &Tags) -> Result<(), Reason> {
    grow(ctx, tags.len() as i32)?;
    let (frame, _) = frame_of::<false>(ctx);
    // SAFETY: as above.
    unsafe { tags::put(&frame, tags) }
}

/// Makes the frame longer in front.
#[inline(always)]
pub fn grow(ctx: &XdpContext, bytes: i32) -> Result<(), Reason> {
    // SAFETY: the context is the program's own, and no pointer into the frame is used after this.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, -bytes) } != 0 { Err(Reason::DropInternal) } else { Ok(()) }
}

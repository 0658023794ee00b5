//! Heads of HTTP/2 frames (RFC 9113 section 4.1), with the kinds and flags that matter here.

pub(super) const HEAD_BYTES: usize = 9;
/// No frame is larger, because Bursar asks for none.
pub(super) const MAX_FRAME_BYTES: usize = 16_384;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const ACK: u8 = 1;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;
pub(super) const PRIORITY: u8 = 32;

/// A frame's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl FrameHead {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let [l1, l2, l3, kind, flags, s1, s2, s3, s4] = *bytes.first_chunk::<HEAD_BYTES>()?;
        Some(Self {
            length: u32::from_be_bytes([0, l1, l2, l3]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([s1, s2, s3, s4]) & 0x7fff_ffff,
        })
    }

    pub(super) fn write(self, to: &mut Vec<u8>) {
        let [_, .., l1, l2, l3] = (self.length as u64).to_be_bytes();
        to.extend_from_slice(&[l1, l2, l3, self.kind, self.flags]);
        to.extend_from_slice(&self.stream.to_be_bytes());
    }

    /// Whether its payload has to be whole before it goes on.
    pub(super) fn is_looked_at(self) -> bool {
        let is_kind = matches!(
            self.kind,
            HEADERS | CONTINUATION | RST_STREAM | SETTINGS | PUSH_PROMISE | GOAWAY | WINDOW_UPDATE
        );
        is_kind && self.length <= MAX_FRAME_BYTES
    }
}

/// Adds to a frame's head, and says how much that was.
pub(super) fn known_more(head: &mut [u8; HEAD_BYTES], known: &mut usize, bytes: &[u8]) -> usize {
    let more = bytes.len().min(HEAD_BYTES - *known);
    let place = head.iter_mut().skip(*known);
    place.zip(bytes).for_each(|(place, byte)| *place = *byte);
    *known += more;
    more
}

//! HPACK (RFC 7541): the fields of HTTP/2's header blocks, decoded byte by byte, whatever is in them.
//!
//! It knows nothing of HTTP: what a name or a value may be is checked by whoever asks. A block that is no HPACK leaves
//! its connection without a table that both sides agree on, so that it has to end.

mod error;
mod fixed;
mod huffman;

use std::collections::VecDeque;

pub use error::Malformed;

/// What every connection begins with; Bursar asks for no other.
const TABLE_BYTES: usize = 4096;
/// What a field counts in the table besides its bytes (RFC 7541 section 4.1).
const FIELD_COSTS: usize = 32;
/// A number is no longer; five bytes are enough for any that is true.
const MAX_NUMBER_BYTES: u32 = 5;

/// Decodes the blocks of one direction of a connection, in their order.
#[derive(Debug)]
pub struct Decoder {
    /// The latest first.
    table: VecDeque<Entry>,
    table_bytes: usize,
    max_table_bytes: usize,
    /// Of the field at hand.
    name: Vec<u8>,
    value: Vec<u8>,
}

/// A field, its value behind its name.
#[derive(Debug)]
struct Entry {
    bytes: Box<[u8]>,
    name: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            table: VecDeque::new(),
            table_bytes: 0,
            max_table_bytes: TABLE_BYTES,
            name: Vec::new(),
            value: Vec::new(),
        }
    }
}

impl Decoder {
    /// Hands the fields of a block to `field`, in their order.
    ///
    /// # Errors
    /// Where it is malformed; no other block can be decoded then.
    pub fn decode(
        &mut self,
        block: &[u8],
        mut field: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), Malformed> {
        let mut rest = block;
        let mut may_resize = true;
        while let Some(first) = rest.first().copied() {
            let is_size = first & 0b1110_0000 == 0b0010_0000;
            if is_size {
                let size = number(&mut rest, 5)?;
                if !may_resize || size > TABLE_BYTES {
                    return Err(Malformed);
                }
                self.max_table_bytes = size;
                self.shrink(0);
                continue;
            }
            may_resize = false;
            self.name.clear();
            self.value.clear();
            if first & 0b1000_0000 != 0 {
                let index = number(&mut rest, 7)?;
                self.read(index, true)?;
            } else {
                let is_kept = first & 0b0100_0000 != 0;
                match number(&mut rest, if is_kept { 6 } else { 4 })? {
                    0 => string(&mut rest, &mut self.name)?,
                    index => self.read(index, false)?,
                }
                string(&mut rest, &mut self.value)?;
                if is_kept {
                    self.keep();
                }
            }
            field(&self.name, &self.value);
        }
        Ok(())
    }

    /// Looks up a field, or its name alone.
    fn read(&mut self, index: usize, is_whole: bool) -> Result<(), Malformed> {
        let index = index.checked_sub(1).ok_or(Malformed)?;
        let (name, value) = match fixed::FIELDS.get(index) {
            Some((name, value)) => (name.as_bytes(), value.as_bytes()),
            None => {
                let entry = self.table.get(index - fixed::FIELDS.len());
                let Entry { bytes, name } = entry.ok_or(Malformed)?;
                bytes.split_at(*name)
            }
        };
        self.name.extend_from_slice(name);
        if is_whole {
            self.value.extend_from_slice(value);
        }
        Ok(())
    }

    /// Adds the field at hand to the table; one that is larger than the table empties it.
    fn keep(&mut self) {
        let size = self.name.len() + self.value.len() + FIELD_COSTS;
        self.shrink(size);
        if size <= self.max_table_bytes {
            let bytes = [&*self.name, &*self.value].concat().into();
            let name = self.name.len();
            self.table.push_front(Entry { bytes, name });
            self.table_bytes += size;
        }
    }

    /// Drops the oldest fields until there is room for that many bytes.
    fn shrink(&mut self, room: usize) {
        while self.table_bytes + room > self.max_table_bytes {
            let Some(oldest) = self.table.pop_back() else {
                return;
            };
            self.table_bytes -= oldest.bytes.len() + FIELD_COSTS;
        }
    }
}

/// Appends a field that neither side adds to its table.
pub fn encode(name: &[u8], value: &[u8], block: &mut Vec<u8>) {
    block.push(0);
    for text in [name, value] {
        encode_number(text.len(), block);
        block.extend_from_slice(text);
    }
}

/// A string's length, with the bit that says that it is no Huffman code.
fn encode_number(number: usize, block: &mut Vec<u8>) {
    const PREFIX: usize = 127;
    let low = |number: usize| (number & 127).to_le_bytes()[0];
    if number < PREFIX {
        block.push(low(number));
        return;
    }
    block.push(127);
    let mut rest = number - PREFIX;
    while rest >= 128 {
        block.push(low(rest) | 128);
        rest >>= 7;
    }
    block.push(low(rest));
}

/// Takes a number that begins in the last `prefix` bits of a byte.
fn number(rest: &mut &[u8], prefix: u32) -> Result<usize, Malformed> {
    let mask = (1 << prefix) - 1;
    let first = usize::from(take(rest, 1)?.first().copied().ok_or(Malformed)?);
    if first & mask < mask {
        return Ok(first & mask);
    }
    let mut number = mask;
    for place in 0..MAX_NUMBER_BYTES {
        let byte = usize::from(take(rest, 1)?.first().copied().ok_or(Malformed)?);
        number += (byte & 127) << (7 * place);
        if byte < 128 {
            return Ok(number);
        }
    }
    Err(Malformed)
}

/// Takes a string and appends what it says.
fn string(rest: &mut &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    let is_coded = rest.first().is_some_and(|first| first & 128 != 0);
    let length = number(rest, 7)?;
    let bytes = take(rest, length)?;
    if is_coded {
        return huffman::decode(bytes, text);
    }
    text.extend_from_slice(bytes);
    Ok(())
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Result<&'a [u8], Malformed> {
    let (taken, left) = rest.split_at_checked(bytes).ok_or(Malformed)?;
    *rest = left;
    Ok(taken)
}

#[cfg(test)]
mod tests;

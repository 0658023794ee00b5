//! Hash slots of a cluster: which slot a key is in, and which node serves a slot.
//!
//! Pure functions and values, after the cluster's specification.

use redis::Value;

use super::super::dial::Place;

/// A cluster has as many.
pub(super) const SLOTS: u16 = 16384;

/// A node that serves slots, from the first to the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: u16,
    pub(super) last: u16,
    /// Of the node that takes writes.
    pub(super) place: Place,
}

/// The slot of a key: where a part of it stands in braces, that part decides.
pub(super) fn slot_of(key: &[u8]) -> u16 {
    crc16(tag_of(key)) % SLOTS
}

/// Between the first `{` and the first `}` after it, where something is.
fn tag_of(key: &[u8]) -> &[u8] {
    let tag = || {
        let open = key.iter().position(|byte| *byte == b'{')?;
        let rest = key.get(open + 1..)?;
        let close = rest.iter().position(|byte| *byte == b'}')?;
        rest.get(..close).filter(|tag| !tag.is_empty())
    };
    tag().unwrap_or(key)
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    let mut crc = 0_u16;
    for byte in bytes {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = match crc & 0x8000 {
                0 => crc << 1,
                _ => crc << 1 ^ 0x1021,
            };
        }
    }
    crc
}

/// What CLUSTER SLOTS says; `asked` is whom. None: that is no response to it.
pub(super) fn read(value: Value, asked: &Place) -> Option<Vec<Range>> {
    let Value::Array(ranges) = value else {
        return None;
    };
    let ranges = ranges.into_iter().map(|range| range_of(range, asked));
    // A node that nobody knows an address of is not there.
    ranges
        .collect::<Option<Vec<_>>>()
        .map(|ranges| ranges.into_iter().flatten().collect())
}

/// First and last slot, the node that takes writes, its replicas.
#[expect(clippy::option_option, reason = "no range, or one without an address")]
fn range_of(value: Value, asked: &Place) -> Option<Option<Range>> {
    let Value::Array(parts) = value else {
        return None;
    };
    let mut parts = parts.into_iter();
    let (Value::Int(first), Value::Int(last), Value::Array(node)) =
        (parts.next()?, parts.next()?, parts.next()?)
    else {
        return None;
    };
    let slot = |slot: i64| u16::try_from(slot).ok().filter(|slot| *slot < SLOTS);
    let (first, last) = (slot(first)?, slot(last)?);
    let mut node = node.into_iter();
    let host = match node.next()? {
        Value::BulkString(host) => String::from_utf8(host).ok()?,
        // The one that was asked does not know its own.
        Value::Nil => String::new(),
        _ => return None,
    };
    let Value::Int(port) = node.next()? else {
        return None;
    };
    let place = u16::try_from(port)
        .ok()
        .and_then(|port| place_of(&host, port, asked));
    Some(place.map(|place| Range { first, last, place }))
}

/// A node's place as another one names it. None: nobody knows it.
pub(super) fn place_of(host: &str, port: u16, asked: &Place) -> Option<Place> {
    if host == "?" || port == 0 {
        return None;
    }
    let host = match host {
        "" => asked.host.clone(),
        host => host.into(),
    };
    Some(Place { host, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_slots_that_servers_give_them() {
        // As `CLUSTER KEYSLOT` says.
        for (key, slot) in [
            ("", 0),
            ("123456789", 0x31c3),
            ("foo", 12182),
            ("{user1000}.following", 3443),
            ("{user1000}.followers", 3443),
            ("foo{}{bar}", 8363),
            ("foo{{bar}}zap", 4015),
            ("foo{bar}{zap}", 5061),
        ] {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
    }

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn range(first: i64, last: i64, host: Value, port: i64) -> Value {
        let node = Value::Array(vec![
            host,
            Value::Int(port),
            text("id"),
            Value::Array(vec![]),
        ]);
        Value::Array(vec![
            Value::Int(first),
            Value::Int(last),
            node.clone(),
            node,
        ])
    }

    #[test]
    fn a_response_is_ranges_with_the_nodes_that_take_writes() {
        let asked = Place {
            host: "seed".into(),
            port: 7,
        };
        let shown = |ranges: &[Value]| {
            let read = read(Value::Array(ranges.to_vec()), &asked)?;
            let shown = read
                .iter()
                .map(|range| format!("{}-{} {}", range.first, range.last, range.place));
            Some(shown.collect::<Vec<_>>().join(", "))
        };
        let some = [
            range(0, 100, text("10.0.0.1"), 7000),
            range(101, 16383, Value::Nil, 7001),
            range(7, 7, text(""), 7002),
            range(8, 8, text("?"), 7003),
            range(9, 9, text("::1"), 7004),
            range(9, 9, text("gone"), 0),
        ];
        let expected = "0-100 10.0.0.1:7000, 101-16383 seed:7001, 7-7 seed:7002, 9-9 [::1]:7004";
        assert_eq!(shown(&some).as_deref(), Some(expected));
        assert_eq!(shown(&[]).as_deref(), Some(""));
        for odd in [
            Value::Nil,
            Value::Array(vec![]),
            range(0, 16384, text("x"), 1),
            range(-1, 5, text("x"), 1),
            range(0, 5, Value::Int(1), 1),
            Value::Array(vec![Value::Int(0), Value::Int(1), Value::Array(vec![])]),
        ] {
            assert_eq!(shown(&[odd]), None);
        }
        assert_eq!(read(Value::Okay, &asked), None);
    }
}

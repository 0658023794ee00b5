use proptest::prelude::*;

use super::*;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Fields, Malformed> {
    let mut fields = Vec::new();
    decoder
        .decode(block, |name, value| {
            fields.push((name.to_vec(), value.to_vec()))
        })
        .map(|()| fields)
}

fn fields(text: &[(&str, &str)]) -> Fields {
    let bytes =
        |(name, value): &(&str, &str)| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
    text.iter().map(bytes).collect()
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|char| *char != ' ').collect();
    let digit = |char: char| u8::try_from(char.to_digit(16).unwrap()).unwrap();
    let bytes = digits
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]));
    bytes.collect()
}

/// RFC 7541 appendices C.5 and C.6, whose table of 256 bytes evicts; here a size update says so.
#[test]
fn the_responses_of_the_rfc_are_read_with_huffman_code_and_without() {
    let plain = [
        "3fe101 4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
    ];
    let coded = [
        "3fe101 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ];
    let at = |second| format!("Mon, 21 Oct 2013 20:13:{second} GMT");
    let (early, late) = (at(21), at(22));
    let head = |status: &'static str| {
        fields(&[
            (":status", status),
            ("cache-control", "private"),
            ("date", &early),
            ("location", "https://www.example.com"),
        ])
    };
    let last = fields(&[
        (":status", "200"),
        ("cache-control", "private"),
        ("date", &late),
        ("location", "https://www.example.com"),
        ("content-encoding", "gzip"),
        (
            "set-cookie",
            "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
        ),
    ]);
    for blocks in [plain, coded] {
        let mut decoder = Decoder::default();
        for (block, expected) in blocks.iter().zip([head("302"), head("307"), last.clone()]) {
            assert_eq!(decode(&mut decoder, &hex(block)), Ok(expected));
        }
        assert_eq!(decoder.table_bytes, 215);
    }
}

#[test]
fn a_field_larger_than_the_table_empties_it_and_is_read_all_the_same() {
    let mut decoder = Decoder::default();
    decode(&mut decoder, &hex("40 01 61 01 62")).unwrap();
    let mut large = hex("40 01 61 7f");
    large.extend([0x81, 0x1f]);
    large.extend([b'x'; 127 + 1 + 31 * 128]);
    let read = decode(&mut decoder, &large).unwrap();
    assert_eq!(read[0].1.len(), 4096);
    assert_eq!((decoder.table.len(), decoder.table_bytes), (0, 0));
}

#[test]
fn what_is_no_hpack_is_refused() {
    for block in [
        "80",
        "be",
        "40",
        "4001",
        "40016105",
        "00",
        "0f",
        "ff ff ff ff ff ff 00",
        "88 20",
        "3f e2 1f",
        "00 01 61 81 ff",
    ] {
        assert_eq!(
            decode(&mut Decoder::default(), &hex(block)),
            Err(Malformed),
            "{block}"
        );
    }
}

proptest! {
    #[test]
    fn what_was_encoded_is_read_again(
        fields in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..300), prop::collection::vec(any::<u8>(), 0..20_000)), 0..4)
    ) {
        let mut block = Vec::new();
        for (name, value) in &fields {
            encode(name, value, &mut block);
        }
        prop_assert_eq!(decode(&mut Decoder::default(), &block), Ok(fields));
    }

    #[test]
    fn nothing_panics_and_the_table_stays_in_its_bounds(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8)) {
        let mut decoder = Decoder::default();
        for block in blocks {
            drop(decode(&mut decoder, &block));
            let bytes = decoder.table.iter().map(|entry| entry.bytes.len() + FIELD_COSTS);
            prop_assert_eq!(bytes.sum::<usize>(), decoder.table_bytes);
            prop_assert!(decoder.table_bytes <= TABLE_BYTES);
        }
    }
}

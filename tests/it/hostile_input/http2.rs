//! The same over HTTP/2, frame by frame, because no library would send most of it: what HTTP/1 cannot
//! say must not be said to the provider.

use super::Fate::{self, Broken, Closed, Cut, Once, Refused};
use super::strict_parser::{self, Arrived};
use super::topologies::{Entry, Fixture, TOPOLOGIES, Topology};
use super::{bytes, report};

/// `name=value` lines in the order of the header block, with a body, or without one.
struct Vector {
    block: &'static str,
    body: Option<&'static str>,
    fate: Fate,
}

const fn get(block: &'static str, fate: Fate) -> Vector {
    Vector {
        block,
        body: None,
        fate,
    }
}

const fn post(block: &'static str, fate: Fate) -> Vector {
    Vector {
        block,
        body: Some("hello"),
        fate,
    }
}

/// `§` is a usual beginning. Lines end with `|`, because both CR and LF occur in them.
const VECTORS: [Vector; 51] = [
    get("§", Once("")),
    get("§x=y", Once("")),
    get("§x=a\rb", Refused),
    get("§x=a\nb", Refused),
    get("§x=a\r\nb", Refused),
    get(
        "§x=a\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: api.test\r\n\r\n",
        Refused,
    ),
    get("§x=a\0b", Refused),
    get("§x= a", Once("")),
    get("§x=a:b", Once("")),
    get("§x\r\ny=z", Refused),
    get("§x\ny=z", Refused),
    get("§x\0y=z", Refused),
    get("§x:y=z", Refused),
    get("§x y=z", Refused),
    get("§X=z", Refused),
    get("§tRansfer-encoding=chunked", Refused),
    get("§x: y\r\ntransfer-encoding=chunked", Refused),
    get("§=z", Refused),
    get("§transfer-encoding=chunked", Refused),
    get("§transfer_encoding=chunked", Refused),
    post("§content_length=3", Refused),
    post("§content--length=3", Refused),
    get("§connection=keep-alive", Refused),
    get("§connection=x", Refused),
    get("§proxy-connection=keep-alive", Refused),
    get("§keep-alive=5", Refused),
    get("§upgrade=h2c", Refused),
    get("§te=gzip", Refused),
    get("§te=trailers", Once("")),
    get("§content-length=5", Refused),
    get("§content-length=0", Once("")),
    get(
        "§authorization=Bearer mine|authorization=Bearer mine too",
        Once(""),
    ),
    get("§host=api.test", Once("")),
    get("§host=evil.test", Refused),
    get("§host=api.test|host=api.test", Refused),
    get("§host=", Refused),
    get("§x=y|:path=/late", Refused),
    get("§:path=/twice", Refused),
    get("§:unknown=x", Refused),
    get("§:status=200", Refused),
    get("§:protocol=websocket", Refused),
    post("§", Once("hello")),
    post("§content-length=5", Once("hello")),
    post("§content-length=4", Cut),
    post("§content-length=6", Cut),
    post("§content-length=5|content-length=6", Refused),
    post("§content-length=5, 5", Refused),
    post("§content-length=+5", Refused),
    post("§content-length=x", Refused),
    post("§transfer-encoding=chunked|content-length=5", Refused),
    post("§expect=100-continue", Once("hello")),
];

/// Instead of the usual beginning.
const PSEUDO: [Vector; 26] = [
    get(
        ":method=GET|:scheme=http|:path=/v|:authority=api.test|",
        Once(""),
    ),
    get(
        ":method=GET|:scheme=https|:path=/v|:authority=api.test|",
        Once(""),
    ),
    get(":method=GET|:scheme=http|:path=/v|host=api.test|", Once("")),
    get(":method=GET|:scheme=http|:path=/v|", Refused),
    get(
        ":method=GET|:scheme=http|:path=v|:authority=api.test|",
        Refused,
    ),
    get(
        ":method=GET|:scheme=http|:path=|:authority=api.test|",
        Refused,
    ),
    get(":method=GET|:scheme=http|:authority=api.test|", Refused),
    get(":method=GET|:path=/v|:authority=api.test|", Refused),
    get(":scheme=http|:path=/v|:authority=api.test|", Refused),
    get(
        ":method=OPTIONS|:scheme=http|:path=*|:authority=api.test|",
        Once(""),
    ),
    get(
        ":method=GET|:scheme=http|:path=*|:authority=api.test|",
        Refused,
    ),
    get(
        ":method=GET|:scheme=http|:path=http://api.test/v|:authority=api.test|",
        Refused,
    ),
    get(
        ":method=GET|:scheme=http|:path=/v HTTP/1.1\r\nX: y|:authority=api.test|",
        Refused,
    ),
    get(
        ":method=GET|:scheme=http|:path=/v HTTP/1.1|:authority=api.test|",
        Refused,
    ),
    get(
        ":method=GET|:scheme=http|:path=/v\t|:authority=api.test|",
        Refused,
    ),
    get(
        ":method=GET|:scheme=http|:path=/v\0|:authority=api.test|",
        Refused,
    ),
    get(
        ":method=GET|:scheme=http|:path=/\u{ff}|:authority=api.test|",
        Refused,
    ),
    get(
        ":method=GET|:scheme=http|:path=/v#x|:authority=api.test|",
        Once(""),
    ),
    get(
        ":method=GET /smuggled HTTP/1.1\r\nX: y|:scheme=http|:path=/v|:authority=api.test|",
        Refused,
    ),
    get(
        ":method=GET /x|:scheme=http|:path=/v|:authority=api.test|",
        Refused,
    ),
    get(
        ":method=|:scheme=http|:path=/v|:authority=api.test|",
        Refused,
    ),
    get(
        ":method=GET|:scheme=http|:path=/v|:authority=user@api.test|",
        Refused,
    ),
    get(
        ":method=GET|:scheme=http|:path=/v|:authority=api.test/x|",
        Refused,
    ),
    get(
        ":method=GET|:scheme=http|:path=/v|:authority=api.test\r\nX: y|",
        Refused,
    ),
    get(
        ":method=GET|:scheme=ftp|:path=/v|:authority=api.test|",
        Refused,
    ),
    get(":method=CONNECT|:authority=api.test:443|", Refused),
];

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [
        length[1], length[2], length[3], kind, flags, 0, 0, 0, stream,
    ];
    [&head, payload].concat()
}

/// Literal fields without indexing and without Huffman coding (RFC 7541 section 6.2.2).
fn block(text: &str, entry: Entry) -> Vec<u8> {
    let usual = ":method=POST|:scheme=http|:path=/v|:authority=api.test|";
    let text = text.replace('§', usual);
    // Over TLS that is the usual one.
    let text = match entry {
        Entry::Tls => text.replace(":scheme=http|", ":scheme=https|"),
        Entry::Direct | Entry::Tunnel => text,
    };
    let mut block = Vec::new();
    let password = format!("proxy-authorization=Basic {}", strict_parser::PASSWORD);
    let fields = text.split('|').filter(|field| !field.is_empty());
    for field in fields.chain([&*password]) {
        // A pseudo field begins with a colon; a name may hold any byte but `=`.
        let (name, value) = field.split_once('=').unwrap();
        block.push(0);
        for text in [name, value] {
            let text = bytes(text);
            block.push(u8::try_from(text.len()).unwrap());
            assert!(text.len() < 127);
            block.extend(text);
        }
    }
    block
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const ACK_OR_END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Sends it as the only stream of a connection, and waits for its end: an answer, a reset, or the
/// connection's.
async fn arrived(
    fixture: &Fixture,
    topology: Topology,
    vector: &Vector,
) -> Result<Arrived, String> {
    let rig = fixture.rig(topology).await;
    let mut caller = fixture.enter(&rig, topology.0, "h2").await;
    let mut sent = [PREFACE, &frame(SETTINGS, 0, 0, b"")].concat();
    let (block, ends) = (
        block(vector.block, topology.0),
        u8::from(vector.body.is_none()),
    );
    sent.extend(frame(HEADERS, END_HEADERS | ends, 1, &block));
    if let Some(body) = vector.body {
        sent.extend(frame(DATA, ACK_OR_END_STREAM, 1, body.as_bytes()));
    }
    caller.write(sent).await;
    loop {
        let Ok(head) = caller.try_read_exact(9).await else {
            break;
        };
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let payload = caller
            .try_read_exact(usize::try_from(length).unwrap())
            .await;
        if payload.is_err() {
            break;
        }
        let (kind, flags, stream) = (head[3], head[4], head[8]);
        let answered = [DATA, HEADERS].contains(&kind) && flags & ACK_OR_END_STREAM != 0;
        match kind {
            SETTINGS if flags == 0 => {
                caller
                    .write(frame(SETTINGS, ACK_OR_END_STREAM, 0, b""))
                    .await;
            }
            GOAWAY | RST_STREAM => break,
            _ if stream == 1 && answered => break,
            _ => {}
        }
    }
    rig.arrived()
}

#[tokio::test]
async fn nothing_that_only_http_2_can_say_is_said_to_the_provider() {
    let fixture = Fixture::new().await;
    let mut failures = Vec::new();
    let all = || VECTORS.iter().chain(&PSEUDO);
    for (topology, vector) in TOPOLOGIES
        .into_iter()
        .flat_map(|topology| all().map(move |vector| (topology, vector)))
    {
        let outcome = arrived(&fixture, topology, vector).await;
        let as_foretold = outcome.as_ref().is_ok_and(|arrived| {
            let bodies: Vec<_> = arrived.complete.iter().map(|seen| &*seen.body).collect();
            match vector.fate {
                Refused | Closed => arrived.is_nothing(),
                Once(body) => bodies == [body.as_bytes()] && arrived.cut == 0,
                Cut | Broken => bodies.is_empty(),
            }
        });
        if !as_foretold {
            let Vector { block, fate, .. } = vector;
            failures.push(format!("{topology:?} {block:?} {fate:?}: {outcome:?}\n"));
        }
    }
    report(&failures, TOPOLOGIES.len() * all().count());
}

use super::*;

fn said(code: &str, detail: &str) -> StoreError {
    let value = redis::parse_redis_value(format!("-{code} {detail}\r\n").as_bytes()).unwrap();
    StoreError::of(value.extract_error().unwrap_err())
}

/// Code and text, their kind, and whether nothing was changed.
const SAID: [(&str, &str, Kind, bool); 21] = [
    (
        "WRONGPASS",
        "invalid username-password pair or user is disabled.",
        Kind::WrongPassword,
        true,
    ),
    (
        "NOAUTH",
        "Authentication required.",
        Kind::WrongPassword,
        true,
    ),
    (
        "NOPERM",
        "User bursar has no permissions to run the 'eval' command",
        Kind::NoPermission,
        true,
    ),
    (
        "NOPERM",
        "No permissions to access a key",
        Kind::NoPermission,
        true,
    ),
    (
        "NOPERM",
        "User bursar has no permissions to run the 'set' command script: 1f, on @user_script:3.",
        Kind::NoPermission,
        false,
    ),
    (
        "ERR",
        "Error running script (call to f_1f): @user_script:1: @user_script: 1: The user executing the script can't run this command or subcommand",
        Kind::NoPermission,
        false,
    ),
    (
        "READONLY",
        "You can't write against a read only replica.",
        Kind::ReadOnly,
        true,
    ),
    (
        "MASTERDOWN",
        "Link with MASTER is down",
        Kind::ReadOnly,
        true,
    ),
    (
        "OOM",
        "command not allowed when used memory > 'maxmemory'.",
        Kind::OutOfMemory,
        true,
    ),
    (
        "MISCONF",
        "Redis is configured to save RDB snapshots",
        Kind::WritesRefused,
        true,
    ),
    (
        "NOREPLICAS",
        "Not enough good replicas to write.",
        Kind::WritesRefused,
        true,
    ),
    (
        "LOADING",
        "Redis is loading the dataset in memory",
        Kind::Loading,
        true,
    ),
    (
        "BUSY",
        "Redis is busy running a script.",
        Kind::ScriptRunning,
        true,
    ),
    (
        "CLUSTERDOWN",
        "The cluster is down",
        Kind::ClusterDown,
        true,
    ),
    (
        "ERR",
        "max number of clients reached",
        Kind::TooManyClients,
        true,
    ),
    (
        "ERR",
        "This instance has cluster support disabled",
        Kind::NoCluster,
        true,
    ),
    (
        "ERR",
        "unknown command `HELLO`, with args beginning with: `3`, ",
        Kind::TooOld,
        true,
    ),
    (
        "ERR",
        "unknown command 'EVAL', with args beginning with: 'return' ",
        Kind::UnknownCommand,
        true,
    ),
    (
        "ERR",
        "Unknown Redis command called from script script: 1f, on @user_script:3.",
        Kind::UnknownCommand,
        false,
    ),
    (
        "ERR",
        "Unknown command called from script script: 1f, on @user_script:3.",
        Kind::UnknownCommand,
        false,
    ),
    (
        "ERR",
        "user_script:12: attempt to index a nil value script: 1f",
        Kind::Script,
        false,
    ),
];

#[test]
fn what_a_server_says_is_a_kind_and_whether_something_was_changed() {
    for (code, detail, kind, is_unsent) in SAID {
        let error = said(code, detail);
        let found = (error.kind(), error.is_unsent());
        assert_eq!(found, (kind, is_unsent), "{code} {detail}");
    }
}

#[test]
fn what_a_server_repeats_is_not_shown() {
    for (code, detail, shown) in [
        (
            "ERR",
            "unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `secret`",
            "ERR: hello",
        ),
        (
            "ERR",
            "unknown command 'secret', with args beginning with: 'EVAL' ",
            "ERR",
        ),
        (
            "ERR",
            "user_script:12: secret script: 1f, on @user_script:12.",
            "ERR at line 12",
        ),
        (
            "NOPERM",
            "User secret has no permissions to run the 'subscribe' command",
            "NOPERM: subscribe",
        ),
        (
            "NOPERM",
            "User secret has no permissions to run the 'Secret secret' command",
            "NOPERM",
        ),
        ("secret", "secret", "an error"),
    ] {
        let error = said(code, detail);
        let source = std::error::Error::source(&error).unwrap();
        assert_eq!(source.to_string(), shown);
        assert!(!format!("{error:?}{error}").contains("ecret"), "{error:?}");
    }
}

#[test]
fn the_first_command_that_a_script_was_refused_is_told() {
    let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
    let first = |parts: &[&str]| {
        let parts = parts.iter().map(|part| text(part));
        let reply = [Value::Int(1)].into_iter().chain(parts).collect();
        StoreError::first_of(&Value::Array(reply))
    };
    assert!(first(&[]).is_ok());
    for (said, kind) in [
        (
            "ERR The user executing the script can't run this command or subcommand",
            Kind::NoPermission,
        ),
        (
            "@user_script: 12: The user executing the script can't run this command or subcommand",
            Kind::NoPermission,
        ),
        (
            "ERR ACL failure in script: User secret has no permissions to run the 'zrem' command",
            Kind::NoPermission,
        ),
        (
            "ERR ACL failure in script: No permissions to access a key",
            Kind::NoPermission,
        ),
        (
            "@user_script: 12: Unknown Redis command called from Lua script",
            Kind::UnknownCommand,
        ),
        (
            "OOM command not allowed when used memory > 'maxmemory'.",
            Kind::OutOfMemory,
        ),
        (
            "@user_script: 12: -OOM command not allowed when used memory > 'maxmemory'.",
            Kind::OutOfMemory,
        ),
        ("secret\r\n+OK", Kind::Script),
    ] {
        let error = first(&["ZREM", said, "DEL", "another"]).unwrap_err();
        assert_eq!(
            (error.kind(), error.command()),
            (kind, Some("zrem")),
            "{said}"
        );
        assert!(!format!("{error:?}{error}").contains("ecret"), "{error:?}");
    }
}

//! The person at the command line, as others are told of them: `user@host`. It is said, not proven.

use std::ffi::OsString;

use bursar_base::process;

/// Who runs the command. Behind `sudo` it is who has called that.
pub(crate) fn name() -> String {
    let variables = ["SUDO_USER", "USER", "LOGNAME"];
    let found = variables.iter().filter_map(std::env::var_os);
    let user = found
        .filter_map(|user| OsString::into_string(user).ok())
        .find(|user| !user.is_empty());
    // As in a container, where nobody has a name.
    let user = user.unwrap_or_else(|| process::user_id().to_string());
    format!("{user}@{}", process::host_name())
}

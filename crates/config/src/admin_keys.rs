//! The keys of the admin port alone, for commands that have to work while the rest of the file is broken.

use std::net::SocketAddr;
use std::path::Path;

use crate::compile::admin_token;
use crate::defaults;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::file;
use crate::files::Files;
use crate::load::{Reading, any_text};
use bursar_base::secret::Secret;

/// `admin` and `admin_token` of a file. Each is read whatever is wrong with the other and with the rest of the file.
#[derive(Debug)]
pub struct AdminKeys {
    /// Where the admin port is, or why the file does not tell.
    pub admin: Result<SocketAddr, Vec<Diagnostic>>,
    /// None: the file has no token.
    pub admin_token: Result<Option<Secret>, Vec<Diagnostic>>,
}

impl AdminKeys {
    /// Where the admin port is unless a file says otherwise.
    pub const DEFAULT: SocketAddr = defaults::ADMIN;

    /// Reads them.
    #[must_use]
    pub fn load(path: &Path) -> Self {
        let mut files = Files::default();
        let text = match any_text(path, &mut files) {
            Ok(text) => text,
            Err(problems) => {
                return Self {
                    admin: Err(problems.clone()),
                    admin_token: Err(problems),
                };
            }
        };
        let mut reading = Reading::of(&text, path, &mut files);
        let admin = reading.key("admin", |file, _| file.admin);
        Self {
            admin: admin.map(|admin| admin.map_or(Self::DEFAULT, |admin| admin.0)),
            admin_token: reading.key("admin_token", |file, problems| {
                admin_token(file.admin_token, problems)
            }),
        }
    }
}

impl Reading<'_> {
    /// What one key of the top level says; nothing else is looked at.
    pub(super) fn key<T>(
        &mut self,
        key: &str,
        compile: impl FnOnce(file::Proxy, &mut Diagnostics) -> Option<T>,
    ) -> Result<Option<T>, Vec<Diagnostic>> {
        let mut problems = Diagnostics::default();
        let file = self.only(key, &mut problems);
        let value = file.and_then(|file| compile(file, &mut problems));
        if problems.is_empty() {
            Ok(value)
        } else {
            Err(problems.into_found())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: impl AsRef<[u8]>) -> AdminKeys {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        AdminKeys::load(file.path())
    }

    #[test]
    fn whatever_is_wrong_elsewhere_the_keys_are_read() {
        let token = "admin_token: 0123456789-admin-token";
        for rest in [
            "",
            "providers: {acme: {client_secret: \"${BURSAR_TEST_UNSET}\"}}",
            "listne: 1\nlistne: 2",
            "providers:\n  acme: [\n",
            "a: b: c",
            "\tproviders:",
            "providers: *none",
            "  providers: {",
        ] {
            for text in [
                format!("{rest}\nadmin: \"[::1]:7\"\n{token}\n"),
                format!("{token}\nadmin: '[::1]:7'\n{rest}\n"),
            ] {
                let keys = load(&text);
                let admin = keys
                    .admin
                    .unwrap_or_else(|error| panic!("{error:?}\n{text}"));
                assert_eq!(admin, "[::1]:7".parse().unwrap(), "{text}");
                let found = keys.admin_token.unwrap().unwrap();
                assert_eq!(found.expose(), "0123456789-admin-token", "{text}");
            }
        }
    }

    #[test]
    fn another_encoding_hides_no_key() {
        let text = "# für\nadmin: '[::1]:7'\nadmin_token: 0123456789-admin-token\n";
        let latin = text
            .chars()
            .map(|char| u8::try_from(char).unwrap())
            .collect();
        let utf16 = text.encode_utf16().flat_map(u16::to_le_bytes);
        let utf16 = [0xff, 0xfe].into_iter().chain(utf16).collect::<Vec<u8>>();
        for bytes in [latin, utf16] {
            let keys = load(bytes);
            assert_eq!(keys.admin.unwrap(), "[::1]:7".parse().unwrap());
            let token = keys.admin_token.unwrap().unwrap();
            assert_eq!(token.expose(), "0123456789-admin-token");
        }
    }

    #[test]
    fn one_key_that_is_wrong_does_not_hide_the_other() {
        let keys = load("admin: nowhere\nadmin_token: 0123456789-admin-token\n");
        assert!(keys.admin.is_err() && keys.admin_token.is_ok());
        let keys = load("admin: 127.0.0.1:7\nadmin_token: ${BURSAR_TEST_UNSET}\n");
        assert!(keys.admin.is_ok());
        let problems = keys.admin_token.unwrap_err();
        assert_eq!((problems.len(), problems[0].line), (1, Some(2)));
        assert!(load("admin_token: short").admin_token.is_err());
    }

    #[test]
    fn the_default_is_taken_where_the_file_is_silent_and_not_where_it_cannot_be_read() {
        let keys = load("providers: {}\n");
        assert_eq!(keys.admin.unwrap(), AdminKeys::DEFAULT);
        assert!(keys.admin_token.unwrap().is_none());
        let broken = load("providers: {\n");
        assert!(broken.admin.is_err() && broken.admin_token.is_err());
        let missing = AdminKeys::load(Path::new("/no/such/file"));
        assert!(missing.admin.is_err() && missing.admin_token.is_err());
    }
}

//! The line of the log that says what a reload has changed: names of providers, callers, keys and files, never values.

use bursar_base::listing::first_of;
use bursar_config::Changes;

/// So many names are in the line; how many more there are is said.
const MAX_NAMES: usize = 50;

/// Says that a configuration is in force, and what is different in it.
pub(super) fn log(changes: &Changes, providers: usize) {
    let Changes {
        callers,
        files,
        keys,
        providers: changed,
    } = changes;
    tracing::info!(
        providers,
        providers_added = names(&changed.added),
        providers_changed = names(&changed.changed),
        providers_removed = names(&changed.removed),
        callers_added = names(&callers.added),
        callers_changed = names(&callers.changed),
        callers_removed = names(&callers.removed),
        keys_changed = names(keys),
        files_changed = names(files),
        "the configuration was read again and is in force"
    );
}

/// None, so that there is no such field, where there are none.
fn names(names: &[String]) -> Option<String> {
    (!names.is_empty()).then(|| first_of(names, MAX_NAMES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_names_are_cut_and_counted() {
        let of = |count: usize| names(&(0..count).map(|at| at.to_string()).collect::<Vec<_>>());
        assert_eq!((of(0), of(2).as_deref()), (None, Some("0, 1")));
        assert!(of(50).unwrap().ends_with("48, 49"));
        assert!(of(53).unwrap().ends_with("48, 49 and 3 more"));
    }
}

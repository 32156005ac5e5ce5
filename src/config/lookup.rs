//! Options by their names, also by former and by misspelt ones.

use super::options::OPTIONS;
use super::table::OptionSpec;

/// The option of this name.
pub(super) fn find(name: &str) -> Option<&'static OptionSpec> {
    OPTIONS.iter().find(|spec| spec.name == name)
}

/// The option whose former name this is, whatever its case.
pub(super) fn find_by_old_name(name: &str) -> Option<&'static OptionSpec> {
    OPTIONS.iter().find(|spec| spec.old_name.is_some_and(|old_name| old_name.eq_ignore_ascii_case(name)))
}

/// The option that a wrong name was probably meant for, whatever its case: at most a third of the letters differ.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let is_near = |distance: usize, known: &str| distance * 3 <= known.len().max(name.len());
    OPTIONS
        .iter()
        .map(|spec| spec.name)
        // Lengths are compared first, since comparing the letters of a very long name takes memory in proportion.
        .filter(|known| is_near(known.len().abs_diff(name.len()), known))
        .map(|known| (strsim::damerau_levenshtein(known, &name), known))
        .filter(|(distance, known)| is_near(*distance, known))
        .min()
        .map(|(_, known)| known)
}

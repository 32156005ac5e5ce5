//! What a row of the table of options is, and the macros that make code from the rows.
//!
//! A row is
//!
//! ```text
//! "name" { flag: value, .. } => field: Type = how(parser) or "default",
//!     "what a value looks like",
//!     "what the option is for, in Markdown";
//! ```
//!
//! with the flags of [`OptionSpec`]. `how` is one of
//! - `one`: one value; the row has a default in the notation of mosquitto.conf;
//! - `optional`: one value, or `Type::default()` where the option is not given;
//! - `each`: any number of values, in a `Vec`.

/// One option: a row of the table.
#[derive(Debug)]
pub struct OptionSpec {
    /// The name that follows `plugin_opt_`.
    pub name: &'static str,
    /// The default in the notation of mosquitto.conf; empty if there is none.
    pub default: &'static str,
    /// A description of the values that the option takes.
    pub expected: &'static str,
    /// The purpose of the option, in Markdown.
    pub meaning: &'static str,
    /// Whether the option may be given more than once.
    pub(super) repeatable: bool,
    /// Whether a wrong value may be a secret that must not stand in a log.
    pub(super) secret: bool,
    /// The separator of an option whose value is itself a list; TOML may write such a value as a list.
    pub(super) separator: Option<&'static str>,
    /// Whether the value names a file with more options.
    pub(super) includes: bool,
    /// Whether a ` #` in a value can only be a comment that does not belong there.
    pub(super) comments: bool,
    /// The former name of the option.
    pub(super) old_name: Option<&'static str>,
    /// Whether it names a file that may hold secrets. That it names a file its type says.
    pub(super) holds_secrets: bool,
    /// Whether a new value counts from the broker's next start on, and not from a SIGHUP on.
    pub at_start: bool,
    /// What would be so if a SIGHUP lost the option. It has to be taken back by `none`, or by its default.
    pub if_lost: Option<&'static str>,
    /// Whether the questions and answers of another plugin have no room for it.
    pub(super) of_contract: bool,
}

impl OptionSpec {
    /// The flags of a row that names none.
    pub(super) const PLAIN: Self = Self {
        name: "",
        default: "",
        expected: "",
        meaning: "",
        repeatable: false,
        secret: false,
        separator: None,
        includes: false,
        comments: true,
        old_name: None,
        holds_secrets: false,
        at_start: false,
        if_lost: None,
        of_contract: false,
    };
}

/// Makes an array of [`OptionSpec`]s from rows.
macro_rules! specs {
    ($(
        $name:literal $({ $($flag:ident: $set:expr),+ })? => $field:ident: $type:ty =
            $how:ident($parse:expr) $(or $default:literal)?, $expected:literal, $meaning:literal;
    )+) => {
        [$(OptionSpec {
            name: $name,
            default: concat!($($default)?),
            expected: $expected,
            meaning: $meaning,
            repeatable: specs!(@repeatable $how),
            $($($flag: $set,)+)?
            ..OptionSpec::PLAIN
        }),+]
    };
    (@repeatable each) => { true };
    (@repeatable $how:ident) => { false };
}

/// Makes a struct with a field for each row, and a field for each further part with an `understand` of its own.
macro_rules! fields {
    (
        $(#[$about:meta])* $struct:ident {$(
            $name:literal $({ $($flag:tt)+ })? => $field:ident: $type:ty =
                $how:ident($parse:expr) $(or $default:literal)?, $expected:literal, $meaning:literal;
        )+}
        $($(#[$about_part:meta])* $vis:vis $part:ident: $part_type:ident)*
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $struct {
            $(#[doc = $meaning] pub $field: $type,)+
            $($(#[$about_part])* $vis $part: $part_type,)*
        }

        impl $struct {
            /// Stage two of reading: parses the texts. `None` if any of them is wrong; each wrong text adds a mistake,
            /// and hides no other.
            pub(super) fn understand(texts: &mut Texts) -> Option<Self> {
                $(let $field = texts.$how($name, $parse);)+
                $(let $part = $part_type::understand(texts);)*
                Some(Self { $($field: $field?,)+ $($part: $part?,)* })
            }

            /// The names of the options that have another meaning in `other`.
            pub(super) fn differing(&self, other: &Self) -> Vec<&'static str> {
                let mut names = Vec::new();
                $(if self.$field != other.$field {
                    names.push($name);
                })+
                $(names.extend(self.$part.differing(&other.$part));)*
                names
            }
        }
    };
}

/// Makes the method that finds the files which options name, by the types of their fields. Options in groups name none: these
/// can be copied.
macro_rules! paths {
    ($(
        $name:literal $({ $($flag:tt)+ })? => $field:ident: $type:ty =
            $how:ident($parse:expr) $(or $default:literal)?, $expected:literal, $meaning:literal;
    )+) => {
        impl Config {
            /// The files that options name, each with the name of its option.
            pub fn paths(&self) -> Vec<(&'static str, &PathBuf)> {
                let mut paths = Vec::new();
                $(if let Some(Some(path)) = (&self.$field as &dyn Any).downcast_ref::<Option<PathBuf>>() {
                    paths.push(($name, path));
                })+
                paths
            }
        }
    };
}

/// Makes the whole table: rows that are fields of [`Config`] itself, groups of rows that become a struct for one part
/// of the plugin, and then further rows that are fields of [`Config`].
macro_rules! options {
    (
        { $($first:tt)+ }
        $($(#[$about:meta])* $group:ident: $group_type:ident { $($grouped:tt)+ })+
        { $($last:tt)+ }
    ) => {
        /// All options, in the order of docs/configuration.md.
        pub const OPTIONS: &[OptionSpec] = &specs!($($first)+ $($($grouped)+)+ $($last)+);

        $(fields! { $(#[$about])* #[derive(Copy, Eq)] $group_type { $($grouped)+ } })+

        fields! {
            /// The values of all options, checked. Files that options name are read elsewhere, except `config_file`.
            Config { $($first)+ $($last)+ }
            $($(#[$about])* pub $group: $group_type)+
            /// How the API is spoken to, where another plugin's options say it.
            pub dialect: Dialect
            /// The locations and texts of the options, for messages.
            pub(super) written: Written
        }

        paths! { $($first)+ $($last)+ }
    };
}

pub(super) use {fields, options, paths, specs};

/// What docs/configuration.md says of an option, which `tests/readme/generated.rs` writes and checks.
pub fn option_as_markdown(spec: &OptionSpec) -> String {
    let default = match spec.default {
        "" => "not set".to_owned(),
        default => format!("`{default}`"),
    };
    let repeatable = if spec.repeatable { " May be given several times." } else { "" };
    let meaning = with_links(spec.meaning);
    format!(
        "#### `{}`\n{meaning}{repeatable}\n\nValue: {}. Default: {default}.\n\n",
        spec.name, spec.expected
    )
}

/// The text with the names of pages in docs/ as links from one page to another.
fn with_links(text: &str) -> String {
    let link = |word: &str| {
        let page = word.trim_start_matches('`').strip_prefix("docs/")?;
        let (name, rest) = page.split_once(".md")?;
        Some(format!("[{name}]({name}.md){}", rest.trim_start_matches('`')))
    };
    text.split(' ').map(|word| link(word).unwrap_or_else(|| word.to_owned())).collect::<Vec<_>>().join(" ")
}

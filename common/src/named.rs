//! Enums whose members have names.

/// An enum without parameters, with the names by which commands and files know its members: `ALL` has all of them, `Display` writes the name of
/// one, and `FromStr` reads it. The first word says what they are: `unknown rewrite "magic"; there are …`.
#[macro_export]
macro_rules! named {
    ($what:literal; $(#[$about:meta])* pub enum $type:ident { $($(#[$of_member:meta])* $member:ident = $name:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $type {
            $($(#[$of_member])* $member,)+
        }

        impl $type {
            /// All of them.
            pub const ALL: [$type; [$($name),+].len()] = [$($type::$member),+];

            /// Its name in commands and files.
            pub fn name(self) -> &'static str {
                match self {
                    $($type::$member => $name,)+
                }
            }
        }

        impl ::std::fmt::Display for $type {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl ::std::str::FromStr for $type {
            type Err = String;

            fn from_str(name: &str) -> Result<$type, String> {
                let known = $type::ALL.into_iter().find(|known| known.name() == name);
                known.ok_or_else(|| {
                    let names = $type::ALL.map($type::name).join(", ");
                    format!("unknown {} {name:?}; there are {names}", $what)
                })
            }
        }
    };
}

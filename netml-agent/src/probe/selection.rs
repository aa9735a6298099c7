//! Which interfaces are asked for: names, patterns, all of them, and exceptions.

use super::interfaces::Interface;

/// What is written before a name or pattern that is left out.
const EXCEPT: char = '!';

/// Interfaces asked for. Pure: what matches is a matter of the name alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    all: bool,
    include: Vec<String>,
    exclude: Vec<String>,
}

impl Selection {
    /// Of names or patterns (`*` any characters, `?` one), each left out where `!` stands before
    /// it; with `all`, or where everything given is left out, all interfaces but the loopback.
    #[must_use]
    pub fn new(given: &[String], all: bool) -> Self {
        let (mut include, mut exclude) = (Vec::new(), Vec::new());
        for pattern in given {
            match pattern.strip_prefix(EXCEPT) {
                Some(excepted) => exclude.push(excepted.to_owned()),
                None => include.push(pattern.clone()),
            }
        }
        Self {
            all: all || (include.is_empty() && !exclude.is_empty()),
            include,
            exclude,
        }
    }

    /// Of exactly these interfaces, by name.
    #[must_use]
    pub fn of_names(interfaces: &[Interface]) -> Self {
        Self {
            all: false,
            include: interfaces.iter().map(|i| i.name.clone()).collect(),
            exclude: Vec::new(),
        }
    }

    /// True where nothing was asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.all && self.include.is_empty()
    }

    /// True where interfaces may match that do not exist yet.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.all || self.include.iter().any(|pattern| is_pattern(pattern))
    }

    /// True where the interface is asked for by its very name.
    #[must_use]
    pub fn names(&self, interface: &Interface) -> bool {
        self.include.contains(&interface.name)
    }

    /// True where the interface is asked for. The loopback is only by its very name.
    #[must_use]
    pub fn takes(&self, interface: &Interface) -> bool {
        let matches = |pattern: &String| matches(pattern, &interface.name);
        let included = self.names(interface)
            || (!interface.loopback && (self.all || self.include.iter().any(matches)));
        included && !self.exclude.iter().any(matches)
    }

    /// Names asked for that no interface has.
    pub fn missing<'a>(
        &'a self,
        existing: &'a [Interface],
    ) -> impl Iterator<Item = &'a String> + 'a {
        self.include.iter().filter(|name| {
            !is_pattern(name) && !existing.iter().any(|interface| interface.name == **name)
        })
    }

    /// Interfaces asked for, in the order in which they were, those of one pattern by index.
    #[must_use]
    pub fn of(&self, existing: &[Interface]) -> Vec<Interface> {
        let mut chosen: Vec<Interface> = Vec::new();
        let all = self.all.then(|| "*".to_owned());
        for pattern in self.include.iter().chain(&all) {
            for interface in existing {
                if matches(pattern, &interface.name)
                    && self.takes(interface)
                    && !chosen.contains(interface)
                {
                    chosen.push(interface.clone());
                }
            }
        }
        chosen
    }
}

impl std::fmt::Display for Selection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts: Vec<String> = self.include.clone();
        if self.all {
            parts.push("all".into());
        }
        parts.extend(self.exclude.iter().map(|name| format!("{EXCEPT}{name}")));
        f.write_str(&parts.join(", "))
    }
}

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// Matches a name by a pattern of `*` and `?`: linear in the name for each `*` passed.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    // Where to go on after a mismatch: behind the latest `*`, one more byte of the name taken.
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, n));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match retry {
                Some((behind, taken)) => {
                    retry = Some((behind, taken + 1));
                    (p, n) = (behind, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use netml_common::Link;
    use proptest::prelude::*;

    use super::*;

    fn interfaces(names: &[&str]) -> Vec<Interface> {
        (1..)
            .zip(names)
            .map(|(ifindex, name)| Interface {
                ifindex,
                name: (*name).to_owned(),
                link: Link::Ethernet,
                up: true,
                loopback: *name == "lo",
                mtu_bytes: 1500,
                xdp_program_id: None,
            })
            .collect()
    }

    fn chosen(given: &[&str], all: bool) -> Vec<String> {
        let given: Vec<_> = given.iter().map(|name| (*name).to_owned()).collect();
        Selection::new(&given, all)
            .of(&interfaces(&["lo", "eth0", "veth1", "veth2", "wlan0"]))
            .into_iter()
            .map(|interface| interface.name)
            .collect()
    }

    #[test]
    fn names_and_patterns_choose_in_their_order_and_each_once() {
        assert_eq!(
            chosen(&["wlan0", "eth0", "wlan0"], false),
            ["wlan0", "eth0"]
        );
        assert_eq!(
            chosen(&["veth*", "e??0", "veth2"], false),
            ["veth1", "veth2", "eth0"]
        );
    }

    #[test]
    fn all_leaves_the_loopback_out_unless_it_is_named() {
        let all = ["eth0", "veth1", "veth2", "wlan0"];
        assert_eq!(chosen(&[], true), all);
        assert_eq!(chosen(&["lo"], true)[0], "lo");
        assert_eq!(chosen(&["*"], false), all);
        assert_eq!(chosen(&["l*"], false), [""; 0]);
    }

    #[test]
    fn what_is_excepted_is_left_out_of_the_rest() {
        assert_eq!(chosen(&["!veth*"], false), ["eth0", "wlan0"]);
        assert_eq!(chosen(&["veth*", "!veth1"], false), ["veth2"]);
        assert_eq!(chosen(&["eth0", "!eth0"], false), [""; 0]);
    }

    #[test]
    fn only_full_names_can_be_missing() {
        let given = ["veth*".to_owned(), "eth9".to_owned()];
        let selection = Selection::new(&given, false);
        let existing = interfaces(&["eth0"]);
        let missing: Vec<_> = selection.missing(&existing).collect();
        assert_eq!(missing, ["eth9"]);
        assert!(selection.is_open() && !Selection::new(&given[1..], false).is_open());
    }

    proptest! {
        /// Against the definition, written as recursion.
        #[test]
        fn a_pattern_matches_what_its_definition_says(pattern in "[ab*?]{0,7}", name in "[ab]{0,7}") {
            fn defined(pattern: &[u8], name: &[u8]) -> bool {
                match (pattern.split_first(), name.split_first()) {
                    (None, _) => name.is_empty(),
                    (Some((b'*', rest)), None) => defined(rest, name),
                    (Some((b'*', rest)), Some((_, behind))) => {
                        defined(rest, name) || defined(pattern, behind)
                    }
                    (Some((byte, rest)), Some((first, behind))) => {
                        (*byte == b'?' || byte == first) && defined(rest, behind)
                    }
                    (Some(_), None) => false,
                }
            }
            prop_assert_eq!(
                matches(&pattern, &name),
                defined(pattern.as_bytes(), name.as_bytes())
            );
        }
    }
}

//! Rust source as words, without comments, strings and tests: enough to count lines and to find imports.

use std::ops::RangeInclusive;

/// A name, a number, `::` or one other character, with the number of its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    pub text: &'a str,
    pub line: usize,
}

/// One file, split into what is for tests only and the rest.
#[derive(Debug)]
pub struct RustSource<'a> {
    /// The tokens outside tests.
    pub tokens: Vec<Token<'a>>,
    /// The lines of each item under `#[cfg(test)]`.
    pub test_lines: Vec<RangeInclusive<usize>>,
    /// Modules with files of their own that `#[cfg(test)] mod NAME;` declares.
    pub test_modules: Vec<&'a str>,
}

impl<'a> RustSource<'a> {
    pub fn new(text: &'a str) -> Self {
        let all = tokens(text);
        let mut source = Self {
            tokens: Vec::new(),
            test_lines: Vec::new(),
            test_modules: Vec::new(),
        };
        let mut at = 0;
        while at < all.len() {
            let item = after_attributes(&all, at);
            if item == at {
                source.tokens.push(all[at]);
                at += 1;
            } else if (at..item).any(|at| is_for_tests(&all[at..])) {
                let end = end_of_item(&all, item);
                source
                    .test_lines
                    .push(all[at].line..=all[end.min(all.len()) - 1].line);
                source.test_modules.extend(declared_module(&all[item..end]));
                at = end;
            } else {
                source.tokens.extend(&all[at..item]);
                at = item;
            }
        }
        source
    }
}

/// Where the attributes that begin at `at` end; `at` itself if none begins there.
fn after_attributes(tokens: &[Token<'_>], mut at: usize) -> usize {
    while is(tokens, at, "#") && is(tokens, at + 1, "[") {
        at = after_group(tokens, at + 1);
    }
    at
}

/// Whether the tokens begin `cfg(test)` or `cfg(all(test`.
fn is_for_tests(tokens: &[Token<'_>]) -> bool {
    let begins = |words: &[&str]| (0..words.len()).all(|at| is(tokens, at, words[at]));
    begins(&["cfg", "(", "test", ")"]) || begins(&["cfg", "(", "all", "(", "test"])
}

/// Where what begins at `at` ends: an item behind its braces or its semicolon, a field or an argument behind its comma.
fn end_of_item(tokens: &[Token<'_>], mut at: usize) -> usize {
    const ITEMS: [&str; 6] = ["enum", "fn", "impl", "struct", "trait", "type"];
    let begins = tokens[at..].iter().take(6);
    let is_item = begins.filter(|token| ITEMS.contains(&token.text)).count() > 0;
    while at < tokens.len() {
        match tokens[at].text {
            ";" => return at + 1,
            "," if !is_item => return at + 1,
            "{" => return after_group(tokens, at),
            "(" | "[" => at = after_group(tokens, at),
            _ => at += 1,
        }
    }
    at
}

/// Where the group ends that opens at `at`.
fn after_group(tokens: &[Token<'_>], mut at: usize) -> usize {
    let mut depth = 0;
    while at < tokens.len() {
        match tokens[at].text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            break;
        }
    }
    at
}

fn is(tokens: &[Token<'_>], at: usize, text: &str) -> bool {
    tokens.get(at).is_some_and(|token| token.text == text)
}

/// The name in `mod NAME;`.
fn declared_module<'a>(item: &[Token<'a>]) -> Option<&'a str> {
    match item {
        [.., keyword, name, end] if keyword.text == "mod" && end.text == ";" => Some(name.text),
        _ => None,
    }
}

/// All tokens, tests included.
pub fn tokens(text: &str) -> Vec<Token<'_>> {
    let (mut at, mut line) = (0, 1);
    let mut tokens = Vec::new();
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let (length, is_token) = match skipped(rest) {
            Some(length) => (length, false),
            None if is_of_word(first) => (word_length(rest), true),
            None if rest.starts_with("::") => (2, true),
            None => (first.len_utf8(), !first.is_whitespace()),
        };
        let text = &rest[..length];
        tokens.extend(is_token.then_some(Token { text, line }));
        line += text.matches('\n').count();
        at += length;
    }
    tokens
}

fn is_of_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn word_length(rest: &str) -> usize {
    rest.find(|c| !is_of_word(c)).unwrap_or(rest.len())
}

/// The length of the comment, string, character or lifetime that `rest` begins with.
fn skipped(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(block_comment_length(rest));
    }
    if let Some(quoted) = rest.strip_prefix('\'') {
        return Some(1 + after_quote(quoted));
    }
    string_length(rest)
}

/// Block comments nest.
fn block_comment_length(rest: &str) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < rest.len() {
        match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (at, depth) = (at + 2, depth + 1),
            [b'*', b'/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// How much of a character literal (`x'`, `\n'`) or of a lifetime (`a`) is behind its first quote.
fn after_quote(quoted: &str) -> usize {
    let mut characters = quoted.char_indices().skip(1);
    if quoted.starts_with('\\') {
        let end = characters.skip(1).find(|(_, character)| *character == '\'');
        return end.map_or(quoted.len(), |(at, _)| at + 1);
    }
    match characters.next() {
        Some((at, '\'')) => at + 1,
        _ => word_length(quoted),
    }
}

fn string_length(rest: &str) -> Option<usize> {
    let prefix = rest.len() - rest.trim_start_matches(['b', 'c', 'r']).len();
    let is_raw = rest[..prefix].contains('r');
    let hashes = rest[prefix..].len() - rest[prefix..].trim_start_matches('#').len();
    let opening = prefix + hashes + 1;
    if prefix > 2 || (hashes > 0 && !is_raw) || !rest[prefix + hashes..].starts_with('"') {
        return None;
    }
    let body = &rest[opening..];
    if is_raw {
        let closing = format!("\"{}", "#".repeat(hashes));
        return Some(
            body.find(&closing)
                .map_or(rest.len(), |at| opening + at + closing.len()),
        );
    }
    let mut characters = body.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some(opening + at + 1),
            '\\' => _ = characters.next(),
            _ => {}
        }
    }
    Some(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&str> {
        tokens(text).iter().map(|token| token.text).collect()
    }

    #[test]
    fn comments_strings_and_lifetimes_are_left_out() {
        let cases: [(&str, &[&str]); 9] = [
            ("a // b\nc", &["a", "c"]),
            ("a /* b /* c */ d */ e", &["a", "e"]),
            (r#"f("a \" b", c)"#, &["f", "(", ",", "c", ")"]),
            (r###"r#"a " b"# c br"x\" d"###, &["c", "d"]),
            (r"'a' b '\'' c '\u{1}' d", &["b", "c", "d"]),
            ("<'a> 'x", &["<", ">"]),
            ("'ö' crate::a", &["crate", "::", "a"]),
            ("brr barc::c", &["brr", "barc", "::", "c"]),
            ("\"open", &[]),
        ];
        for (text, expected) in cases {
            assert_eq!(words(text), expected, "{text}");
        }
        let lines: Vec<usize> = tokens("a\n/*\n*/ b\n\"\n\" c")
            .iter()
            .map(|t| t.line)
            .collect();
        assert_eq!(lines, [1, 3, 5]);
    }

    #[test]
    fn what_is_for_tests_only_is_set_apart() {
        let text = "mod a;\n#[cfg(test)]\nmod testing;\n#[allow(x)]\n#[cfg(test)]\nimpl A {\n  fn f() {}\n}\n\
                    #[cfg(feature = \"x\")]\nfn g() {}\n#[cfg(all(test, unix))]\nmod tests {\n}\n#[cfg(not(test))]\nfn h() {}\n\
                    #[cfg(test)]\nfn i<A, B>() {\n}\nstruct J {\n  #[cfg(test)]\n  k: u8,\n  a: u8 }\n";
        let source = RustSource::new(text);
        assert_eq!(source.test_lines, [2..=3, 4..=8, 11..=13, 16..=18, 20..=21]);
        assert_eq!(source.test_modules, ["testing"]);
        let names = source.tokens.iter().map(|token| token.text);
        let letters: Vec<&str> = names
            .filter(|name| name.len() == 1 && is_of_word(name.chars().next().unwrap()))
            .collect();
        assert_eq!(letters, ["a", "g", "h", "J", "a"]);
    }
}

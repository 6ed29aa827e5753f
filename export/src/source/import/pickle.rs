//! Python's pickles, read as data: a stack machine that builds values and never calls anything.
//!
//! A pickle is a program. Where it would call a function, [`Item::Call`] records which one and with what; where it would import one,
//! [`Item::Global`] records its name. Values lie in one list and refer to each other by place, so that neither cycles nor depth cost
//! anything but the bytes that state them.

use std::collections::HashMap;

/// Pickles of checkpoints hold names and shapes; more than this is something else.
const MAX_BYTES: usize = 1 << 24;

/// Place of an item within its pickle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id(usize);

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Item {
    None,
    Bool(bool),
    Int(i64),
    Text(String),
    /// Bytes, and integers of more than eight bytes, lowest first.
    Bytes(Vec<u8>),
    /// A float, or a set: nothing that a state dict is made of.
    Other,
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global {
        module: String,
        name: String,
    },
    Call {
        callable: Id,
        arguments: Id,
    },
    /// A reference to something outside of the pickle, by what the pickle says about it.
    Persistent(Id),
}

/// A pickle that was read.
#[derive(Debug)]
pub(super) struct Pickle {
    items: Vec<Item>,
    root: Id,
    /// Bytes up to and with its end.
    pub length: usize,
}

impl Pickle {
    /// Reads the pickle at the start of the bytes.
    pub fn read(bytes: &[u8]) -> Result<Pickle, String> {
        let bytes = &bytes[..bytes.len().min(MAX_BYTES)];
        let mut machine = Machine {
            input: Unread { bytes, position: 0 },
            items: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        let root = machine.run().map_err(|problem| {
            let position = machine.input.position;
            format!("not a pickle that can be read: {problem}, before byte {position}")
        })?;
        Ok(Pickle {
            length: machine.input.position,
            items: machine.items,
            root,
        })
    }

    /// The value that the pickle stands for.
    pub fn root(&self) -> Id {
        self.root
    }

    pub fn item(&self, id: Id) -> &Item {
        &self.items[id.0]
    }

    /// What the pickle says about each thing outside of it.
    pub fn persistent(&self) -> impl Iterator<Item = Id> {
        self.items.iter().filter_map(|item| match item {
            Item::Persistent(name) => Some(*name),
            _ => None,
        })
    }

    /// Members of a tuple or list.
    pub fn members(&self, id: Id) -> Option<&[Id]> {
        match self.item(id) {
            Item::Tuple(members) | Item::List(members) => Some(members),
            _ => None,
        }
    }

    pub fn text(&self, id: Id) -> Option<&str> {
        match self.item(id) {
            Item::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn size(&self, id: Id) -> Option<usize> {
        match self.item(id) {
            Item::Int(value) => usize::try_from(*value).ok(),
            _ => None,
        }
    }

    /// A tuple or list of sizes.
    pub fn sizes(&self, id: Id) -> Option<Vec<usize>> {
        self.members(id)?.iter().map(|&id| self.size(id)).collect()
    }

    /// Module and name of a global.
    pub fn global(&self, id: Id) -> Option<(&str, &str)> {
        match self.item(id) {
            Item::Global { module, name } => Some((module, name)),
            _ => None,
        }
    }
}

struct Machine<'a> {
    input: Unread<'a>,
    items: Vec<Item>,
    stack: Vec<Id>,
    /// Heights of the stack that were marked.
    marks: Vec<usize>,
    memo: HashMap<usize, Id>,
}

type Step<T> = Result<T, String>;

impl Machine<'_> {
    fn run(&mut self) -> Step<Id> {
        loop {
            match self.input.byte()? {
                b'.' => return self.pop(),
                code => self.step(code)?,
            }
        }
    }

    fn step(&mut self, code: u8) -> Step<()> {
        match code {
            0x80 => self.input.take(1).map(|_| ()),
            0x95 => self.input.take(8).map(|_| ()),
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => self.pop().map(|_| ()),
            b'1' => self.pop_marked().map(|_| ()),
            b'2' => self.top().map(|top| self.stack.push(top)),
            b'N' | 0x88 | 0x89 | b'K' | b'M' | b'J' | 0x8a | 0x8b | b'I' | b'L' | b'F' | b'G' => {
                self.number(code)
            }
            b'X' | 0x8c | 0x8d | b'V' | b'U' | b'T' | b'S' | b'B' | b'C' | 0x8e | 0x96 => {
                self.string(code)
            }
            b')' | b't' | 0x85..=0x87 | b']' | b'l' | b'a' | b'e' | 0x8f..=0x91 => {
                self.sequence(code)
            }
            b'}' | b'd' | b's' | b'u' => self.dictionary(code),
            b'c' | 0x93 | b'R' | 0x81 | 0x92 | b'b' => self.object(code),
            b'Q' | b'P' => self.persistent(code),
            b'p' | b'q' | b'r' | 0x94 | b'g' | b'h' | b'j' => self.memory(code),
            _ => Err(format!("unknown instruction {code:#04x}")),
        }
    }

    fn number(&mut self, code: u8) -> Step<()> {
        let item = match code {
            b'N' => Item::None,
            0x88 => Item::Bool(true),
            0x89 => Item::Bool(false),
            b'K' => Item::Int(self.input.unsigned(1)? as i64),
            b'M' => Item::Int(self.input.unsigned(2)? as i64),
            b'J' => integer(self.input.take(4)?),
            0x8a => {
                let length = self.input.unsigned(1)?;
                integer(self.input.take(length)?)
            }
            0x8b => {
                let length = self.input.unsigned(4)?;
                integer(self.input.take(length)?)
            }
            b'I' | b'L' => match self.input.line()?.trim_end_matches('L') {
                "00" => Item::Bool(false),
                "01" => Item::Bool(true),
                digits => digits.parse().map_or(Item::Other, Item::Int),
            },
            b'F' => self.input.line().map(|_| Item::Other)?,
            _ => self.input.take(8).map(|_| Item::Other)?,
        };
        self.push(item);
        Ok(())
    }

    fn string(&mut self, code: u8) -> Step<()> {
        let length_bytes = match code {
            b'V' | b'S' => 0,
            0x8c | b'U' | b'C' => 1,
            b'X' | b'T' | b'B' => 4,
            _ => 8,
        };
        let item = match length_bytes {
            0 => Item::Text(self.input.line()?.trim_matches(['\'', '"']).to_string()),
            width => {
                let length = self.input.unsigned(width)?;
                let bytes = self.input.take(length)?;
                match code {
                    b'B' | b'C' | 0x8e | 0x96 => Item::Bytes(bytes.to_vec()),
                    _ => Item::Text(String::from_utf8_lossy(bytes).into_owned()),
                }
            }
        };
        self.push(item);
        Ok(())
    }

    fn sequence(&mut self, code: u8) -> Step<()> {
        match code {
            b')' => self.push(Item::Tuple(Vec::new())),
            b']' => self.push(Item::List(Vec::new())),
            b't' | b'l' => {
                let members = self.pop_marked()?;
                self.push(match code {
                    b't' => Item::Tuple(members),
                    _ => Item::List(members),
                });
            }
            0x85..=0x87 => {
                let count = usize::from(code - 0x84);
                let start = self.height_above(count)?;
                let members = self.stack.split_off(start);
                self.push(Item::Tuple(members));
            }
            b'a' => {
                let member = self.pop()?;
                self.extend(vec![member])?;
            }
            b'e' => {
                let members = self.pop_marked()?;
                self.extend(members)?;
            }
            0x8f => self.push(Item::Other),
            0x90 => self.pop_marked().map(|_| ())?,
            _ => {
                self.pop_marked()?;
                self.push(Item::Other);
            }
        }
        Ok(())
    }

    /// Puts members behind the list on top of the stack; objects of unknown kinds take them without effect.
    fn extend(&mut self, members: Vec<Id>) -> Step<()> {
        let list = self.top()?;
        if let Item::List(existing) = &mut self.items[list.0] {
            existing.extend(members);
        }
        Ok(())
    }

    fn dictionary(&mut self, code: u8) -> Step<()> {
        match code {
            b'}' => self.push(Item::Dict(Vec::new())),
            b'd' => {
                let entries = pairs(self.pop_marked()?)?;
                self.push(Item::Dict(entries));
            }
            _ => {
                let members = match code {
                    b's' => {
                        let start = self.height_above(2)?;
                        self.stack.split_off(start)
                    }
                    _ => self.pop_marked()?,
                };
                let entries = pairs(members)?;
                let dictionary = self.top()?;
                if let Item::Dict(existing) = &mut self.items[dictionary.0] {
                    existing.extend(entries);
                }
            }
        }
        Ok(())
    }

    fn object(&mut self, code: u8) -> Step<()> {
        match code {
            b'c' => {
                let module = self.input.line()?.to_string();
                let name = self.input.line()?.to_string();
                self.push(Item::Global { module, name });
            }
            0x93 => {
                let [name, module] = [self.pop()?, self.pop()?].map(|id| self.items[id.0].clone());
                let (Item::Text(module), Item::Text(name)) = (module, name) else {
                    return Err("a global whose name is not text".to_string());
                };
                self.push(Item::Global { module, name });
            }
            b'b' => self.pop().map(|_| ())?,
            _ => {
                if code == 0x92 {
                    self.pop()?;
                }
                let [arguments, callable] = [self.pop()?, self.pop()?];
                let item = self.called(callable, arguments);
                self.push(item);
            }
        }
        Ok(())
    }

    /// An ordered dictionary is a dictionary; every other call is only recorded.
    fn called(&self, callable: Id, arguments: Id) -> Item {
        let is_dictionary = matches!(
            &self.items[callable.0],
            Item::Global { module, name } if module == "collections" && name == "OrderedDict"
        );
        let is_empty =
            matches!(&self.items[arguments.0], Item::Tuple(members) if members.is_empty());
        match is_dictionary && is_empty {
            true => Item::Dict(Vec::new()),
            false => Item::Call {
                callable,
                arguments,
            },
        }
    }

    fn persistent(&mut self, code: u8) -> Step<()> {
        let name = match code {
            b'Q' => self.pop()?,
            _ => {
                let text = self.input.line()?.to_string();
                self.place(Item::Text(text))
            }
        };
        self.push(Item::Persistent(name));
        Ok(())
    }

    fn memory(&mut self, code: u8) -> Step<()> {
        let key = match code {
            b'p' | b'g' => {
                let line = self.input.line()?;
                line.parse()
                    .map_err(|_| format!("expected a place in memory, got {line:?}"))?
            }
            b'q' | b'h' => self.input.unsigned(1)?,
            b'r' | b'j' => self.input.unsigned(4)?,
            _ => self.memo.len(),
        };
        match code {
            b'g' | b'h' | b'j' => {
                let kept = self.memo.get(&key).copied();
                self.stack
                    .push(kept.ok_or("a place in memory that is empty")?);
            }
            _ => {
                let top = self.top()?;
                self.memo.insert(key, top);
            }
        }
        Ok(())
    }

    fn place(&mut self, item: Item) -> Id {
        self.items.push(item);
        Id(self.items.len() - 1)
    }

    fn push(&mut self, item: Item) {
        let id = self.place(item);
        self.stack.push(id);
    }

    fn top(&self) -> Step<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let above = self.stack.get(floor..).and_then(<[Id]>::last).copied();
        above.ok_or("an empty stack".to_string())
    }

    fn pop(&mut self) -> Step<Id> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    /// The height of the stack below its uppermost `count` members.
    fn height_above(&self, count: usize) -> Step<usize> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let height = self.stack.len().checked_sub(count);
        height
            .filter(|&height| height >= floor)
            .ok_or("an empty stack".to_string())
    }

    fn pop_marked(&mut self) -> Step<Vec<Id>> {
        let start = self.marks.pop().ok_or("no mark")?;
        Ok(self.stack.split_off(start))
    }
}

/// Keys and values that follow each other.
fn pairs(members: Vec<Id>) -> Step<Vec<(Id, Id)>> {
    match members.as_chunks::<2>() {
        (pairs, []) => Ok(pairs.iter().map(|&[key, value]| (key, value)).collect()),
        _ => Err("a dictionary with a key and no value".to_string()),
    }
}

/// An integer in two's complement, lowest byte first.
fn integer(bytes: &[u8]) -> Item {
    let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
    let mut padded = [if negative { 0xff } else { 0 }; 8];
    match padded.get_mut(..bytes.len()) {
        Some(low) => {
            low.copy_from_slice(bytes);
            Item::Int(i64::from_le_bytes(padded))
        }
        None => Item::Bytes(bytes.to_vec()),
    }
}

struct Unread<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Unread<'a> {
    fn take(&mut self, count: usize) -> Step<&'a [u8]> {
        let rest = &self.bytes[self.position..];
        let taken = rest.get(..count).ok_or("it ends in the middle")?;
        self.position += count;
        Ok(taken)
    }

    fn byte(&mut self) -> Step<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    /// An unsigned integer of a number of bytes, lowest first.
    fn unsigned(&mut self, width: usize) -> Step<usize> {
        let mut padded = [0; 8];
        padded[..width].copy_from_slice(self.take(width)?);
        usize::try_from(u64::from_le_bytes(padded)).map_err(|_| "a length out of range".to_string())
    }

    /// Text up to the end of the line.
    fn line(&mut self) -> Step<&'a str> {
        let rest = &self.bytes[self.position..];
        let length = rest.iter().position(|&byte| byte == b'\n');
        let length = length.ok_or("it ends in the middle")?;
        let line = self.take(length)?;
        self.position += 1;
        std::str::from_utf8(line).map_err(|_| "a line that is not text".to_string())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn root(bytes: &[u8]) -> Item {
        let pickle = Pickle::read(bytes).unwrap();
        pickle.item(pickle.root()).clone()
    }

    /// Each is what Python's `pickle.dumps` gives for the value in the comment.
    #[test]
    fn values_are_those_that_python_wrote() {
        for (bytes, wanted) in [
            (&b"\x80\x02M\xe8\x03."[..], Item::Int(1000)),
            (b"\x80\x02J\xff\xff\xff\xff.", Item::Int(-1)),
            (b"\x80\x02\x8a\x05\x00\x00\x00\x00\x01.", Item::Int(1 << 32)),
            (
                b"\x80\x02X\x02\x00\x00\x00abq\x00.",
                Item::Text("ab".into()),
            ),
            (
                b"\x80\x04\x95\x06\x00\x00\x00\x00\x00\x00\x00\x8c\x02ab\x94.",
                Item::Text("ab".into()),
            ),
            (b"I01\n.", Item::Bool(true)),
            (b"L12L\n.", Item::Int(12)),
            (b"\x80\x02G?\xb9\x99\x99\x99\x99\x99\x9a.", Item::Other),
            (b"\x80\x03C\x02abq\x00.", Item::Bytes(b"ab".to_vec())),
        ] {
            assert_eq!(root(bytes), wanted, "{bytes:?}");
        }
    }

    /// `{"a": (1, 2, 3, 4), "b": ["a", None]}` in protocols 2 and 4.
    #[test]
    fn containers_refer_to_their_members() {
        for bytes in [
            &b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01(K\x01K\x02K\x03K\x04tq\x02X\x01\x00\x00\x00bq\x03]q\x04(h\x01Neu."[..],
            b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a\x94(K\x01K\x02K\x03K\x04t\x94\x8c\x01b\x94]\x94(h\x01Neu.",
        ] {
            let pickle = Pickle::read(bytes).unwrap();
            let Item::Dict(entries) = pickle.item(pickle.root()) else {
                panic!("no dictionary");
            };
            assert_eq!(pickle.text(entries[0].0), Some("a"));
            assert_eq!(pickle.sizes(entries[0].1), Some(vec![1, 2, 3, 4]));
            let members = pickle.members(entries[1].1).unwrap();
            assert_eq!(pickle.text(members[0]), Some("a"));
            assert_eq!(pickle.item(members[1]), &Item::None);
        }
    }

    /// `os.system("true")` is a record, not a call.
    #[test]
    fn calls_are_recorded_and_never_made() {
        let pickle = Pickle::read(b"cos\nsystem\n(S'true'\ntR.").unwrap();
        let Item::Call {
            callable,
            arguments,
        } = *pickle.item(pickle.root())
        else {
            panic!("no call");
        };
        assert_eq!(pickle.global(callable), Some(("os", "system")));
        let arguments = pickle.members(arguments).unwrap();
        assert_eq!(pickle.text(arguments[0]), Some("true"));
    }

    #[test]
    fn damage_is_named() {
        for (bytes, wanted) in [
            (&b"\x80\x02X\x05\x00\x00\x00ab"[..], "it ends in the middle"),
            (b"\x80\x02.", "an empty stack"),
            (b"\x80\x02K\x01\xff.", "unknown instruction 0xff"),
            (b"K\x01t.", "no mark"),
            (b"}(K\x01u.", "a key and no value"),
            (b"h\x07.", "a place in memory that is empty"),
        ] {
            let error = Pickle::read(bytes).unwrap_err();
            assert!(error.contains(wanted), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_value_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Pickle::read(&bytes);
        }

        #[test]
        fn any_instructions_give_a_value_or_an_error(
            codes in prop::collection::vec(prop::sample::select(&b"(012NK\x01)t\x85\x86]ae}sud\x93Rbq\x00h\x00Q.\x88\x8f\x90\x91\x94"[..]), 0..200)
        ) {
            let _ = Pickle::read(&codes);
        }
    }
}

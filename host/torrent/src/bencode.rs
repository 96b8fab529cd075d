//! Bencoding (BEP 3) read without copying, so that the bytes of a part can be kept as they came.
//!
//! Our own because an infohash needs the raw bytes of one entry, and because the depth and the number
//! of items read from strangers are bounded here.

use crate::Error;

/// Deeper nesting than any torrent has.
const MAX_DEPTH: usize = 24;
/// More items than a torrent of half a million files has.
const MAX_ITEMS: usize = 2_000_000;

/// One value and the bytes it came from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Item<'a> {
    /// Its bytes.
    pub(crate) raw: &'a [u8],
    /// What they say.
    pub(crate) value: Value<'a>,
}

/// What an item says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// `i…e`
    Int(i64),
    /// `n:…`
    Bytes(&'a [u8]),
    /// `l…e`
    List(Vec<Item<'a>>),
    /// `d…e`, in the order it came.
    Dict(Vec<(&'a [u8], Item<'a>)>),
}

impl<'a> Item<'a> {
    /// The entry of a dictionary; the first one if a key is there twice.
    pub(crate) fn get(&self, key: &str) -> Option<&Item<'a>> {
        match &self.value {
            Value::Dict(entries) => entries.iter().find(|(k, _)| *k == key.as_bytes()).map(|(_, item)| item),
            _ => None,
        }
    }

    pub(crate) fn bytes(&self) -> Option<&'a [u8]> {
        match self.value {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    pub(crate) fn int(&self) -> Option<i64> {
        match self.value {
            Value::Int(n) => Some(n),
            _ => None,
        }
    }

    /// The items of a list; nothing for anything else.
    pub(crate) fn list(&self) -> &[Item<'a>] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    pub(crate) fn is_dict(&self) -> bool {
        matches!(self.value, Value::Dict(_))
    }
}

/// Reads one value that takes all of `bytes`.
///
/// # Errors
/// [`Error::Bencode`] when it is not one.
pub(crate) fn parse(bytes: &[u8]) -> Result<Item<'_>, Error> {
    let (item, rest) = parse_prefix(bytes)?;
    if rest.is_empty() { Ok(item) } else { Err(malformed("bytes after its end", bytes.len() - rest.len())) }
}

/// Reads one value, and gives what follows it.
///
/// # Errors
/// [`Error::Bencode`] when there is none.
pub(crate) fn parse_prefix(bytes: &[u8]) -> Result<(Item<'_>, &[u8]), Error> {
    let mut reader = Reader { all: bytes, at: 0, items: 0 };
    let item = reader.item(0)?;
    Ok((item, bytes.get(reader.at..).unwrap_or_default()))
}

/// Writes a byte string.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes.len().to_string().as_bytes());
    out.push(b':');
    out.extend_from_slice(bytes);
}

/// Writes an integer.
pub(crate) fn put_int(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(format!("i{n}e").as_bytes());
}

fn malformed(what: &'static str, at: usize) -> Error {
    Error::Bencode { what, at }
}

struct Reader<'a> {
    all: &'a [u8],
    at: usize,
    items: usize,
}

impl<'a> Reader<'a> {
    fn item(&mut self, depth: usize) -> Result<Item<'a>, Error> {
        let start = self.at;
        self.items += 1;
        if depth > MAX_DEPTH || self.items > MAX_ITEMS {
            return Err(malformed("nested too deep, or too many parts", start));
        }
        let value = match self.peek()? {
            b'i' => {
                self.at += 1;
                Value::Int(self.number(b'e')?)
            }
            b'l' => Value::List(self.list(depth)?),
            b'd' => Value::Dict(self.dict(depth)?),
            b'0'..=b'9' => Value::Bytes(self.string()?),
            _ => return Err(malformed("an unknown kind of value", start)),
        };
        let raw = self.all.get(start..self.at).unwrap_or_default();
        Ok(Item { raw, value })
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Item<'a>>, Error> {
        self.at += 1;
        let mut items = Vec::new();
        while self.peek()? != b'e' {
            items.push(self.item(depth + 1)?);
        }
        self.at += 1;
        Ok(items)
    }

    fn dict(&mut self, depth: usize) -> Result<Vec<(&'a [u8], Item<'a>)>, Error> {
        self.at += 1;
        let mut entries = Vec::new();
        while self.peek()? != b'e' {
            let key = self.string()?;
            entries.push((key, self.item(depth + 1)?));
        }
        self.at += 1;
        Ok(entries)
    }

    fn string(&mut self) -> Result<&'a [u8], Error> {
        let start = self.at;
        let length: usize =
            self.number(b':')?.try_into().map_err(|_| malformed("a string of negative length", start))?;
        let end = self.at.checked_add(length).ok_or_else(|| malformed("a string too long", start))?;
        let bytes = self.all.get(self.at..end).ok_or_else(|| malformed("cut off inside a string", start))?;
        self.at = end;
        Ok(bytes)
    }

    fn number(&mut self, end: u8) -> Result<i64, Error> {
        let start = self.at;
        let rest = self.all.get(start..).unwrap_or_default();
        // An i64 has at most 20 characters.
        let length = rest.iter().take(21).position(|b| *b == end);
        let length = length.ok_or_else(|| malformed("a number without an end", start))?;
        let digits = rest.get(..length).and_then(|d| std::str::from_utf8(d).ok()).unwrap_or_default();
        self.at += length + 1;
        if digits.starts_with('+') {
            return Err(malformed("not a number", start));
        }
        digits.parse().map_err(|_| malformed("not a number", start))
    }

    fn peek(&self) -> Result<u8, Error> {
        self.all.get(self.at).copied().ok_or_else(|| malformed("cut off", self.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_bytes_are_kept_even_when_keys_are_out_of_order() {
        let item = parse(b"d4:infod1:zi1e1:ai-2ee1:xl1:aee").unwrap();
        assert_eq!(item.get("info").unwrap().raw, b"d1:zi1e1:ai-2ee");
        assert_eq!(item.get("info").unwrap().get("a").unwrap().int(), Some(-2));
        assert_eq!(item.get("x").unwrap().list()[0].text(), Some("a"));
    }

    #[test]
    fn every_truncation_is_an_error() {
        let whole = b"d4:infod1:zi1e1:ai2ee1:xl1:aee";
        for cut in 0..whole.len() {
            assert!(parse(&whole[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn what_is_not_bencoded_is_refused() {
        for bad in [
            &b"x"[..],
            b"i1",
            b"ie",
            b"i1.5e",
            b"i+1e",
            b"5:abc",
            b"-1:a",
            b"99999999999999999999999:a",
            b"d1:ae",
            b"di1ei2ee",
            b"i1ei2e",
        ] {
            assert!(parse(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn depth_is_bounded() {
        let mut deep = vec![b'l'; 100_000];
        deep.extend(vec![b'e'; 100_000]);
        assert!(parse(&deep).is_err());
    }
}

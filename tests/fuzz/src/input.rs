//! Choices out of bytes. Where they end, every choice is 0, so that any input is one.

/// What is left of an input.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    pub(crate) fn word(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::from(self.word()) % end.max(1)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let taken = self.take(N);
        bytes[..taken.len()].copy_from_slice(taken);
        bytes
    }

    /// The next `count` bytes, or what there is.
    pub(crate) fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Bytes with their length in front.
    pub(crate) fn field(&mut self) -> &'a [u8] {
        let length = usize::from(self.word());
        self.take(length)
    }

    pub(crate) const fn rest(self) -> &'a [u8] {
        self.0
    }

    /// Damage: up to seven bytes changed at places of the input's choice, and now and then another length.
    pub(crate) fn damage(&mut self, bytes: &mut Vec<u8>) {
        let how = self.byte();
        for _ in 0..how & 7 {
            let at = self.below(bytes.len());
            let change = self.byte();
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= change;
            }
        }
        if how & 8 != 0 {
            bytes.truncate(self.below(bytes.len() + 1));
        }
        if how & 16 != 0 {
            bytes.extend_from_slice(self.field());
        }
    }
}

/// Bytes as [`Input::field`] reads them.
pub(crate) fn field(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
    [&length[..], bytes].concat()
}

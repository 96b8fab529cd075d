/// What a module says of itself, for people and for whoever decides whether it may follow another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Description {
    /// What it is, at most 64 bytes.
    pub name: String,
    /// Its version, at most 64 bytes.
    pub version: String,
    /// Handshake suites it speaks, best first: at most 16.
    pub suites: Vec<u8>,
    /// Version of the state that it exports; 0 when it exports none.
    pub writes_state: u16,
    /// Versions of a state that it imports: at most 64.
    pub reads_state: Vec<u16>,
}

impl Description {
    /// A module that speaks no suite and hands no state over.
    #[must_use]
    pub fn new(name: &str, version: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            suites: Vec::new(),
            writes_state: 0,
            reads_state: Vec::new(),
        }
    }
}

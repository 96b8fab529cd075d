//! What the configuration of each `tor` says.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::authority::Authority;
use crate::network::Role;

/// Addresses of relays, the authority among them: 127.77.1.0/24. Of exits: 127.77.2.0/24.
const RELAYS: [u8; 3] = [127, 77, 1];
const EXITS: [u8; 3] = [127, 77, 2];

/// Everybody's. `Schedulers Vanilla` writes cells as they come: KIST, the default, waits for its 10 ms tick and
/// asks the kernel how much TCP would take.
const COMMON: &str = "\
TestingTorNetwork 1
Schedulers Vanilla
AssumeReachable 1
ExitPolicyRejectPrivate 0
DisableDebuggerAttachment 0
";

/// Votes each 20 s: often enough that the network stands soon, rarely enough not to be seen in a measurement.
/// `cc_alg=2` is congestion control with Vegas (tor-spec, proposal 324).
const AUTHORITY: &str = "\
AuthoritativeDirectory 1
V3AuthoritativeDirectory 1
ContactInfo nobody@localhost
TestingV3AuthInitialVotingInterval 20
TestingV3AuthInitialVoteDelay 2
TestingV3AuthInitialDistDelay 2
V3AuthVotingInterval 20
V3AuthVoteDelay 2
V3AuthDistDelay 2
TestingDirAuthVoteExit *
TestingDirAuthVoteGuard *
TestingDirAuthVoteHSDir *
TestingMinExitFlagThreshold 0
ConsensusParams cc_alg=2
ExitPolicy reject *:*
";

/// One `tor` process to be.
pub(super) struct Node {
    pub(super) role: Role,
    name: String,
    own: String,
}

/// A free TCP port of a loopback address.
pub(super) fn free(address: [u8; 4]) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::from(address), 0));
    Ok(listener.with_context(|| format!("no free port of {}", Ipv4Addr::from(address)))?.local_addr()?)
}

/// The address of a relay, counted from 1; the first is the authority.
pub(super) const fn relay_address(number: u8) -> [u8; 4] {
    let [a, b, c] = RELAYS;
    [a, b, c, number]
}

fn door(or: SocketAddr) -> String {
    format!("SocksPort 0\nORPort {or}\nAddress {}\n", or.ip())
}

impl Node {
    /// The one that signs the consensus; it relays too.
    pub(super) fn authority(authority: &Authority) -> Self {
        let own = format!("{}DirPort {}\n{AUTHORITY}", door(authority.or), authority.dir);
        Self { role: Role::Relay, name: "authority".to_owned(), own }
    }

    pub(super) fn relay(number: u8) -> anyhow::Result<Self> {
        let own = format!("{}ExitPolicy reject *:*\n", door(free(relay_address(number))?));
        Ok(Self { role: Role::Relay, name: format!("relay{number}"), own })
    }

    pub(super) fn exit(number: u8) -> anyhow::Result<Self> {
        let [a, b, c] = EXITS;
        let own = format!("{}ExitRelay 1\nExitPolicy accept *:*\n", door(free([a, b, c, number])?));
        Ok(Self { role: Role::Exit, name: format!("exit{number}"), own })
    }

    pub(super) fn client(socks: SocketAddr) -> Self {
        let net = |[a, b, c]: [u8; 3]| format!("{a}.{b}.{c}.0/24");
        let (relays, exits) = (net(RELAYS), net(EXITS));
        let own = format!(
            "SocksPort {socks}\nClientOnly 1\nEntryNodes {relays}\nMiddleNodes {relays}\nExitNodes {exits}\n"
        );
        Self { role: Role::Originator, name: "client".to_owned(), own }
    }

    /// Writes it into a folder of its own, and returns its path.
    pub(super) fn write(&self, dir: &Path, authority: &Authority) -> anyhow::Result<PathBuf> {
        let folder = dir.join(&self.name);
        make_private(&folder)?;
        let (folder_name, name) = (folder.display(), &self.name);
        let (torrc, own) = (folder.join("torrc"), &self.own);
        let text = format!(
            "{COMMON}{}\nDataDirectory {folder_name}\nNickname {name}\nLog notice file {folder_name}/log\n{own}",
            authority.lines()
        );
        fs::write(&torrc, text).with_context(|| format!("cannot write {}", torrc.display()))?;
        Ok(torrc)
    }
}

/// A folder that only its owner can enter: tor wants it so.
pub(super) fn make_private(folder: &Path) -> anyhow::Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("cannot create {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_has_addresses_of_its_own_and_the_client_keeps_them_apart() {
        let (relay, exit) = (Node::relay(2).unwrap(), Node::exit(1).unwrap());
        assert!(relay.own.contains("ORPort 127.77.1.2:") && relay.own.contains("reject *:*"));
        assert!(exit.own.contains("ORPort 127.77.2.1:") && exit.own.contains("accept *:*"));
        let client = Node::client("127.0.0.1:9".parse().unwrap());
        assert!(
            client.own.contains("MiddleNodes 127.77.1.0/24")
                && client.own.contains("ExitNodes 127.77.2.0/24")
        );
    }
}

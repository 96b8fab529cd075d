"""One IPv8 node with ipv8-rust-tunnels, on loopback, for `cargo xtask bench peers`.

It joins a tunnel community through the nodes it is told of. A client keeps circuits and opens a SOCKS5 door
(UDP ASSOCIATE only, as ipv8-rust-tunnels has it). It talks in lines of JSON on stdout:
{"event":"ready","address":"127.0.0.1:port"} once it listens, and a client
{"event":"circuits","ready":n,"socks":"127.0.0.1:port"} whenever the number of ready circuits changed.
It ends on SIGTERM, and when its stdin is closed.
"""

import argparse
import asyncio
import json
import signal
import sys

from ipv8.community import CommunitySettings
from ipv8.keyvault.crypto import default_eccrypto
from ipv8.messaging.anonymization.community import TunnelCommunity
from ipv8.messaging.anonymization.tunnel import PEER_FLAG_EXIT_BT, PEER_FLAG_RELAY
from ipv8.messaging.interfaces.udp.endpoint import UDPv4Address
from ipv8.peer import Peer
from ipv8.peerdiscovery.network import Network
from ipv8_rust_tunnels.endpoint import Endpoint

FLAGS = {"relay": {PEER_FLAG_RELAY}, "exit": {PEER_FLAG_EXIT_BT}, "client": set()}
STEP = 0.1
REFRESH = 5


def say(**event: object) -> None:
    print(json.dumps(event), flush=True)


def settings_of(role: str, endpoint: Endpoint, circuits: int) -> CommunitySettings:
    settings = TunnelCommunity.settings_class(
        my_peer=Peer(default_eccrypto.generate_key("curve25519"), UDPv4Address(*endpoint.get_address())),
        endpoint=endpoint,
        network=Network(),
        min_circuits=circuits,
        max_circuits=circuits,
    )
    settings.peer_flags = FLAGS[role]
    return settings


async def introduce(overlay: TunnelCommunity, others: list[tuple[str, int]], missing: set) -> None:
    """Asks every node we were told of until each has answered, and then everybody now and then: a node extends
    circuits only to those it heard of within a minute."""
    while True:
        known = {tuple(peer.address) for peer in overlay.get_peers()}
        missing.clear()
        missing.update(set(others) - known)
        for address in missing or known:
            overlay.walk_to(UDPv4Address(*address))
        await asyncio.sleep(STEP if missing else REFRESH)


async def keep_circuits(overlay: TunnelCommunity, wanted: tuple[int, int], socks: str, missing: set) -> None:
    """Builds circuits, `wanted` many of so many hops, and tells how many are ready as often as that changes."""
    count, hops = wanted
    told = -1
    while True:
        ready = len(overlay.find_circuits(hops=hops))
        if ready != told:
            told = ready
            say(event="circuits", ready=ready, socks=socks)
        exits = overlay.get_candidates(PEER_FLAG_EXIT_BT)
        if exits and not missing and len(overlay.find_circuits(state=None, hops=hops)) < count:
            overlay.create_circuit(hops, exit_flags=[PEER_FLAG_EXIT_BT])
        await asyncio.sleep(STEP)


async def stdin_closed() -> None:
    """Returns when whoever started this has gone."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


async def run(arguments: argparse.Namespace) -> None:
    endpoint = Endpoint(0, "127.0.0.1")
    await endpoint.open()
    endpoint.set_exit_address(("127.0.0.1", 0))
    overlay = TunnelCommunity(settings_of(arguments.role, endpoint, arguments.circuits))
    overlay.my_estimated_wan = overlay.my_estimated_lan = UDPv4Address(*endpoint.get_address())
    host, port = endpoint.get_address()
    say(event="ready", address=f"{host}:{port}")
    others = [(host, int(port)) for host, port in (other.split(":") for other in arguments.other)]
    missing = set(others)
    tasks = [asyncio.ensure_future(introduce(overlay, others, missing)), asyncio.ensure_future(stdin_closed())]
    if arguments.role == "client":
        socks = f"127.0.0.1:{endpoint.create_socks5_server(0, arguments.hops)}"
        tasks.append(asyncio.ensure_future(keep_circuits(overlay, (arguments.circuits, arguments.hops), socks, missing)))
    for end in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(end, tasks[1].cancel)
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        if task.done() and not task.cancelled():
            task.result()
    # Circuits are not taken down one by one: the network ends as a whole.


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--role", choices=sorted(FLAGS), required=True)
    parser.add_argument("--other", action="append", default=[], metavar="HOST:PORT", help="a node to know")
    parser.add_argument("--hops", type=int, default=3)
    parser.add_argument("--circuits", type=int, default=4)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()

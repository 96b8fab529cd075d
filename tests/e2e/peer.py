"""A BitTorrent peer that we did not write: libtorrent, over TCP, on loopback, with nothing else on.

    peer.py seed FILE [--port P] [--rate R]   makes a torrent of FILE beside it and seeds it, at R bytes a second
    peer.py leech TORRENT DIR [--port P]      waits for peers and downloads; TORRENT is a .torrent or a magnet

Prints JSON objects, one a line: `listening` first (magnet, infohash, torrent, port), `peer` for each
new peer, `done` when a leech has it all. Runs until it is killed.
"""

import argparse
import json
import os
import sys
import time

import libtorrent as lt

SETTINGS = {
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_incoming_utp": False,
    "enable_outgoing_utp": False,
    "allow_multiple_connections_per_ip": True,
    "send_socket_buffer_size": 4 << 20,
    "recv_socket_buffer_size": 4 << 20,
    "send_buffer_watermark": 8 << 20,
    "max_out_request_queue": 2000,
    "max_allowed_in_request_queue": 4000,
    "upload_rate_limit": 0,
    "alert_mask": lt.alert.category_t.error_notification
    | lt.alert.category_t.status_notification
    | lt.alert.category_t.storage_notification
    | lt.alert.category_t.peer_notification
    | lt.alert.category_t.connect_notification,
}


def say(event, **more):
    print(json.dumps({"event": event, **more}), flush=True)


def make_torrent(path):
    """The torrent of one file, v1, written beside it."""
    torrent = lt.create_torrent(lt.list_files(path), 256 * 1024, lt.create_torrent.v1_only)
    lt.set_piece_hashes(torrent, os.path.dirname(path))
    beside = path + ".torrent"
    with open(beside, "wb") as file:
        file.write(lt.bencode(torrent.generate()))
    return beside


def parameters(arguments):
    """What to add to the session, and the .torrent if there is one."""
    if arguments.role == "seed":
        path = os.path.abspath(arguments.what)
        torrent = make_torrent(path)
        params = lt.add_torrent_params()
        params.ti = lt.torrent_info(torrent)
        params.save_path = os.path.dirname(path)
        params.flags |= lt.torrent_flags.seed_mode
        return params, torrent
    if arguments.what.startswith("magnet:"):
        params, torrent = lt.parse_magnet_uri(arguments.what), None
    else:
        params, torrent = lt.add_torrent_params(), arguments.what
        params.ti = lt.torrent_info(torrent)
    params.save_path = os.path.abspath(arguments.dir)
    return params, torrent


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["seed", "leech"])
    parser.add_argument("what")
    parser.add_argument("dir", nargs="?", default=".")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--rate", type=int, default=0)
    parser.add_argument("--tracker", action="append", default=[])
    arguments = parser.parse_args()

    params, torrent = parameters(arguments)
    if arguments.tracker:
        params.trackers = arguments.tracker
    params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    session = lt.session({**SETTINGS, "listen_interfaces": f"{arguments.address}:{arguments.port}"})
    deadline = time.monotonic() + 30
    while not session.listen_port():
        if time.monotonic() > deadline:
            sys.exit("libtorrent does not listen")
        time.sleep(0.01)
    handle = session.add_torrent(params)
    handle.set_upload_limit(arguments.rate or -1)
    infohash = str(handle.info_hashes().v1)
    port = session.listen_port()
    magnet = f"magnet:?xt=urn:btih:{infohash}&x.pe={arguments.address}:{port}"
    say("listening", magnet=magnet, infohash=infohash, torrent=torrent, port=port)

    done = arguments.role == "seed"
    while True:
        session.wait_for_alert(200)
        for alert in session.pop_alerts():
            if isinstance(alert, lt.peer_connect_alert):
                say("peer", endpoint=f"{alert.endpoint[0]}:{alert.endpoint[1]}")
            elif isinstance(alert, (lt.file_error_alert, lt.torrent_error_alert)):
                sys.exit(alert.message())
            elif isinstance(alert, lt.save_resume_data_alert):
                say("done", bytes=handle.status().total_done)
        if not done and handle.status().is_seeding:
            # What was downloaded is on disk only after a flush; an alert tells when.
            handle.save_resume_data(lt.save_resume_flags_t.flush_disk_cache)
            done = True


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        # Whoever started it was interrupted, and says so.
        sys.exit(130)

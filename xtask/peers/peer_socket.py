"""Makes the connection of a peer, which listens (`--listen`) or connects (`--connect HOST:PORT`)."""

import socket
import sys


def connection(arguments):
    """Parses the first arguments of a command line, and returns a connected socket and the other arguments."""
    if arguments[0] == "--listen":
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        print("listening on 127.0.0.1:%d" % listener.getsockname()[1], file=sys.stderr, flush=True)
        peer, _ = listener.accept()
        listener.close()
        return peer, arguments[1:]
    host, port = arguments[1].rsplit(":", 1)
    return socket.create_connection((host, int(port))), arguments[2:]


def read_to_end(peer):
    pieces = []
    while piece := peer.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)

# SPDX-License-Identifier: Apache-2.0
"""Holds SMTP connections open: idle_connections.py HOST PORT COUNT NETWORK

Greets on each, prints how many stand, and ends when its input does. Source addresses are NETWORK.1 and so on, so that neither
ports nor a limit per client run out.
"""
import resource
import socket
import sys

PER_ADDRESS = 4000


def main():
    host, port, count, network = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    connections = []
    for number in range(count):
        connection = socket.create_connection((host, port), 60, (f"{network}.{number // PER_ADDRESS + 1}", 0))
        if connection.recv(1000)[:4] != b"220 ":
            break
        connection.sendall(b"EHLO idle.test\r\n")
        if connection.recv(1000)[:4] != b"250-":
            break
        connections.append(connection)
    print(len(connections), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Holds SMTP connections open: idle_connections.py HOST PORT COUNT NETWORK COMMANDS UNANSWERED

Greets on each, says the COMMANDS, which must be answered with 2xx, and those UNANSWERED, without waiting (both are JSON lists). Prints
how many stand, and ends when its input does. Source addresses are NETWORK.1 and so on, so that neither ports nor a limit per client
run out.
"""
import json
import resource
import socket
import sys

PER_ADDRESS = 4000


def is_granted(connection, command):
    connection.sendall(command.encode() + b"\r\n")
    return connection.recv(1000)[:1] == b"2"


def main():
    host, port, count, network = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    commands, unanswered = json.loads(sys.argv[5]), json.loads(sys.argv[6])
    connections = []
    for number in range(count):
        connection = socket.create_connection((host, port), 60, (f"{network}.{number // PER_ADDRESS + 1}", 0))
        if connection.recv(1000)[:4] != b"220 ":
            break
        if not all(is_granted(connection, command) for command in ["EHLO idle.test", *commands]):
            break
        connection.sendall(b"".join(command.encode() + b"\r\n" for command in unanswered))
        connections.append(connection)
    print(len(connections), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()

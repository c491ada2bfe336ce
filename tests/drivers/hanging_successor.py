"""Says that it is the successor of the pgwake that serves a folder, takes its lock, and hangs: closes the conversation when
it is told to, and keeps the lock."""

import fcntl
import socket
import sys
import time

folder = sys.argv[1]
channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
channel.connect(folder + "/successor")
channel.send(b"replace\n1\na test")
while channel.recv(65536) != b"yours":
    pass
lock = open(folder + "/lock", "r+")
fcntl.flock(lock, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.readline()
channel.close()
while True:
    time.sleep(60)

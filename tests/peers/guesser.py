#!/usr/bin/env python3
"""A guesser of passwords, from many addresses of loopback at once: guesser.py PORT COUNT ADDRESSES
[FIRST]

Each guess is a connection of its own, from an address of 127.FIRST.0.0/16 and as one of a thousand
users, with a password of its own. It prints how often it heard which code, as JSON; 0 stands for a
connection that ended.
"""
import asyncio
import base64
import collections
import json
import sys

AT_ONCE_MAX = 900


async def guess(port, number, addresses, first, heard):
    at = number % addresses
    code = 0
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(
            "127.%d.%d.%d" % (first, at // 250, at % 250 + 1), 0))
        try:
            banner = await reader.readline()
            code = int(banner[:3] or 0)
            if code == 220:
                word = base64.b64encode(b"\0user%d@src.test\0guess %d" % (number % 1000,
                                                                          number)).decode()
                writer.write(("EHLO guess.test\r\nAUTH PLAIN %s\r\n" % word).encode())
                line = await reader.readline()
                while line[:3] == b"250":
                    line = await reader.readline()
                code = int(line[:3] or 0)
        finally:
            writer.close()
    except OSError:
        code = 0
    heard[code] += 1


async def main(port, count, addresses, first=1):
    heard, numbers = collections.Counter(), iter(range(count))

    async def one():
        for number in numbers:
            await guess(port, number, addresses, first, heard)
    await asyncio.gather(*(one() for _ in range(min(AT_ONCE_MAX, max(200, count // 100)))))
    print(json.dumps(heard))


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))

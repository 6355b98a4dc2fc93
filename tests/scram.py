# SPDX-License-Identifier: MIT
"""The client's half of SCRAM (RFC 5802 §3), for tests that say each message themselves."""
import base64
import functools
import hashlib
import hmac

salted_password = functools.lru_cache(hashlib.pbkdf2_hmac)          # a client may keep it (§3)


def encoded(data):
    return base64.b64encode(data).decode()


def final(hash_name, password, bare, header, challenge):
    """What answers the challenge, and what the server must say then: ("c=…,r=…,p=…", "v=…"). bare: the first message without its
    GS2 header; header: that header's bytes and the channel binding."""
    values = dict(part.split("=", 1) for part in challenge.split(","))
    salted = salted_password(hash_name, password, base64.b64decode(values["s"]), int(values["i"]))
    key = hmac.digest(salted, b"Client Key", hash_name)
    without = "c=%s,r=%s" % (encoded(header), values["r"])
    auth = ("%s,%s,%s" % (bare, challenge, without)).encode()
    proof = bytes(a ^ b for a, b in zip(key, hmac.digest(hashlib.new(hash_name, key).digest(), auth, hash_name)))
    signature = hmac.digest(hmac.digest(salted, b"Server Key", hash_name), auth, hash_name)
    return "%s,p=%s" % (without, encoded(proof)), "v=" + encoded(signature)

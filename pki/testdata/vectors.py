#!/usr/bin/env python3
"""Writes serials.json: an implementation of Signet's serial numbers, version 1, that shares no code with pki.

Run it in this directory. The values follow from the names below, so every run writes the same file.
"""
import hashlib
import hmac
import json
from datetime import datetime, timezone

ZERO, WEEK, FOREVER = 1578268800, 604800, 65535


def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def mac(key, *parts):
    return hmac.new(key, b"".join(parts), hashlib.sha256).digest()


def epoch_at(not_after):
    return min((not_after - ZERO) // WEEK, FOREVER)


def position(epoch, index):
    return epoch.to_bytes(2, "big") + index.to_bytes(5, "big")


def range_key(k, nonce, issuer, epoch, first):
    return mac(k, b"signet range 1", nonce, issuer, position(epoch, first))


def serial(key, issuer, epoch, index):
    rnd = mac(key, index.to_bytes(5, "big"))[:12]
    pad = sha(b"signet serial 1", issuer, rnd)[:7]
    return b"\x41" + bytes(a ^ b for a, b in zip(position(epoch, index), pad)) + rnd


def unix(text):
    return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc).timestamp())


def rfc3339(seconds):
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def main():
    last_week = ZERO + 65534 * WEEK
    epochs = [
        {"notAfter": rfc3339(s), "unix": s, "epoch": epoch_at(s)}
        for s in [
            ZERO, ZERO + 1, ZERO + WEEK - 1, ZERO + WEEK,
            unix("2026-11-15T23:59:59Z"), unix("2026-11-16T00:00:00Z"), unix("2026-11-22T23:59:59Z"), unix("2026-11-23T00:00:00Z"),
            unix("2049-12-31T23:59:59Z"), unix("2050-01-01T00:00:00Z"), unix("2312-04-11T23:47:16Z"),
            last_week - 1, last_week, last_week + WEEK - 1, last_week + WEEK, unix("9999-12-31T23:59:59Z"),
        ]
    ]
    refused = [{"notAfter": rfc3339(s), "unix": s} for s in [ZERO - 1, 0, -1]]

    serials = []
    for name in ["issuer one", "issuer two"]:
        issuer = sha(b"subject public key info of ", name.encode())
        k = sha(b"K of ", name.encode())
        for epoch in [0, 1, 357, 65534, 65535]:
            for first, index in [(0, 0), (0, 15), (16, 16), (0, 4095), (16383, 16383), (16384, 16384), (2**32, 2**32 + 1), (2**40 - 16, 2**40 - 1)]:
                nonce = sha(b"nonce", name.encode(), position(epoch, first))[:16]
                key = range_key(k, nonce, issuer, epoch, first)
                serials.append({
                    "issuerKeyHash": issuer.hex(), "k": k.hex(), "nonce": nonce.hex(), "from": first,
                    "epoch": epoch, "index": index, "block": index // 2**14,
                    "rangeKey": key.hex(), "serial": serial(key, issuer, epoch, index).hex(),
                })
    with open("serials.json", "w") as out:
        json.dump({
            "about": "Signet serial numbers, version 1. Octets are hexadecimal; issuerKeyHash is the SHA-256 of the issuer's SubjectPublicKeyInfo; "
                     "from is the first index of the reserved range; epochs are weeks since 2020-01-06 UTC of notAfter.",
            "epochs": epochs, "refusedNotAfter": refused, "serials": serials,
        }, out, indent=1)
        out.write("\n")


main()

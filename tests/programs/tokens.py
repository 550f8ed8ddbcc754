"""Makes keys and JSON Web Tokens: tokens.py JSON.

The argument has `keys`, algorithms by name (RS256, ES256, EdDSA), and `tokens`, by name a list of a key's name, claims, and
perhaps fields of the header that are to be others. Times in claims count from now. Prints `keys`, for each its JSON Web Key
(RFC 7517), and `tokens`.
"""

import base64
import json
import sys
import time

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value, length):
    return value.to_bytes(length, "big")


class Rsa:
    def __init__(self):
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def sign(self, message):
        return self.key.sign(message, padding.PKCS1v15(), hashes.SHA256())

    def public(self):
        numbers = self.key.public_key().public_numbers()
        return {"kty": "RSA", "n": encoded(number(numbers.n, 256)), "e": encoded(number(numbers.e, 3))}


class P256:
    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())

    def sign(self, message):
        # Two numbers side by side (RFC 7518 section 3.4).
        r, s = utils.decode_dss_signature(self.key.sign(message, ec.ECDSA(hashes.SHA256())))
        return number(r, 32) + number(s, 32)

    def public(self):
        numbers = self.key.public_key().public_numbers()
        x, y = (encoded(number(value, 32)) for value in (numbers.x, numbers.y))
        return {"kty": "EC", "crv": "P-256", "x": x, "y": y}


class Ed25519:
    def __init__(self):
        self.key = ed25519.Ed25519PrivateKey.generate()

    def sign(self, message):
        return self.key.sign(message)

    def public(self):
        x = self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return {"kty": "OKP", "crv": "Ed25519", "x": encoded(x)}


KINDS = {"RS256": Rsa, "ES256": P256, "EdDSA": Ed25519}


def main():
    asked = json.loads(sys.argv[1])
    keys = {name: (algorithm, KINDS[algorithm]()) for name, algorithm in asked["keys"].items()}
    now = int(time.time())

    def token(name, claims, header=None):
        algorithm, key = keys[name]
        for time_claim in ("exp", "nbf", "iat"):
            if time_claim in claims:
                claims[time_claim] += now
        header = {"typ": "JWT", "alg": algorithm, "kid": name} | (header or {})
        message = ".".join(encoded(json.dumps(part).encode()) for part in (header, claims))
        signature = b"" if header["alg"] == "none" else key.sign(message.encode())
        return f"{message}.{encoded(signature)}"

    public = {name: {"kid": name, "use": "sig"} | key.public() for name, (_, key) in keys.items()}
    tokens = {name: token(*said) for name, said in asked["tokens"].items()}
    print(json.dumps({"keys": public, "tokens": tokens}))


main()

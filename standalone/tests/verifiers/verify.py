"""Checks one webhook with the public `standardwebhooks` package from PyPI.

Reads {"secret", "headers", "body_base64"} as JSON from standard input and prints
`accepted` or `refused`. Exit code 2: the input could not be used.
"""

import base64
import json
import sys

from standardwebhooks.webhooks import Webhook, WebhookVerificationError


def main() -> int:
    try:
        document = json.load(sys.stdin)
        webhook = Webhook(document["secret"])
        headers = {str(name): str(value) for name, value in document["headers"].items()}
        body = base64.b64decode(document["body_base64"], validate=True)
    except Exception as error:  # whatever is wrong with it, the caller made it
        print(f"unusable input: {error!r}", file=sys.stderr)
        return 2
    try:
        # Only the signature is in question here, not what the body says.
        webhook.verify(body, headers, json_parse=False)
    except (WebhookVerificationError, ValueError) as error:
        # The package raises ValueError for a signature header that it cannot take apart.
        print(error, file=sys.stderr)
        print("refused")
    else:
        print("accepted")
    return 0


if __name__ == "__main__":
    sys.exit(main())
